"""Calls: which function or macro a call means, and the closure that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cel import macros, select, syntax
from reconciler.cel.error import Fault, Interrupt
from reconciler.cel.library.table import Group
from reconciler.cel.moments import Duration, Timestamp
from reconciler.cel.part import Part, Place, Run, placed
from reconciler.cel.scope import suggest
from reconciler.cel.types import BOOL
from reconciler.cel.values import Frame, Optional, no_overload

if TYPE_CHECKING:
    from reconciler.cel.compiler import Compiler

_CHECKED = frozenset(("duration", "timestamp", "int", "uint", "double", "bool", "bytes", "string"))
_NAMESPACED_MACROS = ("cel.bind",)


def call(compiler: Compiler, node: syntax.Call) -> Part:
    """`f(x)`, `x.f(y)`, `space.f(x)`, and the macros."""
    if node.target is None and node.name == "has" and not node.is_absolute:
        return _has(compiler, node)
    if node.target is not None:
        part = _in_namespace(compiler, node, node.target)
        if part is not None:
            return part
        counts = macros.MACROS.get(node.name)
        if counts is not None:
            build = counts.get(len(node.arguments))
            if build is not None:
                return build(compiler, node)
            if node.name not in compiler.functions.methods:
                compiler.refuse(node, macros.shape(node.name, len(node.arguments)))
    return _overload(compiler, node)


def _in_namespace(compiler: Compiler, node: syntax.Call, target: syntax.Node) -> Part | None:
    """`math.abs(x)`: the target is a name that is no variable, and the function exists."""
    space = syntax.dotted(target)
    if space is None or compiler.scope.bound(space.partition(".")[0]):
        return None
    if compiler.scope.variable(space) is not None:
        return None
    name = f"{space}.{node.name}".lstrip(".")
    if name in macros.NAMESPACED:
        return macros.NAMESPACED[name](compiler, node)
    if name in compiler.functions.functions:
        return _made(compiler, node, name, compiler.functions.functions[name], node.arguments)
    if space in compiler.functions.namespaces and "." not in space:
        known = [*compiler.functions.names(methods=False), *macros.NAMESPACED]
        inside = [one for one in known if one.startswith(f"{space}.")]
        compiler.refuse(node, f"unknown function {name!r}", hint=suggest(name, inside))
    return None


def _overload(compiler: Compiler, node: syntax.Call) -> Part:
    is_method = node.target is not None
    functions = compiler.functions
    table = functions.methods if is_method else functions.functions
    name = node.name
    if name not in table:
        known = list(functions.names(methods=is_method))
        known += list(macros.MACROS) if is_method else ["has"]
        hint = suggest(name, known)
        if not hint and name in (functions.functions if is_method else functions.methods):
            form = f"{name}(…)" if is_method else f"….{name}(…)"
            hint = f"it is called as {form}"
        if not compiler.environment.checks:
            return compiler.unknown(node, f"unknown function {name!r}")
        compiler.refuse(node, f"unknown function {name!r}", hint=hint)
    arguments = [node.target, *node.arguments] if node.target else node.arguments
    return _made(compiler, node, name, table[name], arguments)


def _made(
    compiler: Compiler,
    node: syntax.Call,
    name: str,
    counts: dict[int, Group],
    arguments: Sequence[syntax.Node],
) -> Part:
    group = counts.get(len(arguments))
    if group is None:
        hidden = 1 if node.target is not None and "." not in name else 0
        wanted = " or ".join(str(count - hidden) for count in sorted(counts))
        given = len(arguments) - hidden
        if not compiler.environment.checks:
            return compiler.unknown(node, f"no such overload: {name} of {given} arguments")
        compiler.refuse(node, f"{name} takes {wanted} arguments, got {given}")
    parts = [compiler.part(argument) for argument in arguments]
    kind = compiler.result(node, group, [part.kind for part in parts])
    converted = _converted(compiler, node, group, parts)
    if converted is not Ellipsis:
        return Part(kind, lambda _: converted, converted)
    runs = [part.run for part in parts]
    if name in ("or", "orValue") and node.target is not None:
        return Part(kind, placed(compiler.place(node), _or(name, *runs)))
    return Part(kind, closure(group, runs, compiler.place(node)))


def _or(name: str, target: Run, other: Run) -> Run:
    """`or` and `orValue`, which evaluate their argument only when the optional holds nothing."""

    def run(frame: Frame) -> Any:
        value = target(frame)
        if type(value) is not Optional:
            raise no_overload(name, value)
        if value.is_present:
            return value if name == "or" else value.value
        made = other(frame)
        if name == "or" and type(made) is not Optional:
            raise no_overload(name, value, made)
        return made

    return run


def _converted(compiler: Compiler, node: syntax.Call, group: Group, parts: Sequence[Part]) -> Any:
    """The value of a conversion of a literal, else Ellipsis.

    Those are made once, before the expression is first used, as Kubernetes does; regular expressions that are
    literals are checked.
    """
    pattern = parts[1].constant if group.name in ("matches", "find", "findAll") else None
    given = parts[0].constant if group.name in _CHECKED else None
    try:
        if isinstance(given, (str, int, float, bytes, Timestamp, Duration)):
            return group.choose((given,))(Frame({}), given)
        if isinstance(pattern, str):
            values = ("", pattern, *([0] * (len(parts) - 2)))
            group.choose(values)(Frame({}), *values)
    except Fault as error:
        compiler.refuse_type(node, error.message)
    return Ellipsis


def closure(group: Group, runs: Sequence[Run], spot: Place) -> Run:
    """The call of a group."""
    if len(runs) == 1:
        return one(group, runs[0], spot)
    if len(runs) == 2:
        return two(group, runs[0], runs[1], spot)
    chosen = group.chosen

    def run(frame: Frame) -> Any:
        values = tuple([argument(frame) for argument in runs])
        frame.left -= 1
        try:
            function = chosen.get(tuple(map(type, values))) or group.choose(values)
            return function(frame, *values)
        except Interrupt as error:
            error.place = error.place or spot
            raise

    return run


def one(group: Group, argument: Run, spot: Place) -> Run:
    """The call of a group with one argument."""
    chosen = group.chosen

    def run(frame: Frame) -> Any:
        value = argument(frame)
        frame.left -= 1
        try:
            function = chosen.get(type(value)) or group.choose((value,))
            return function(frame, value)
        except Interrupt as error:
            error.place = error.place or spot
            raise

    return run


def two(group: Group, first: Run, second: Run, spot: Place) -> Run:
    """The call of a group with two arguments."""
    chosen = group.chosen

    def run(frame: Frame) -> Any:
        left, right = first(frame), second(frame)
        frame.left -= 1
        try:
            function = chosen.get((type(left), type(right))) or group.choose((left, right))
            return function(frame, left, right)
        except Interrupt as error:
            error.place = error.place or spot
            raise

    return run


def _has(compiler: Compiler, node: syntax.Call) -> Part:
    inner = node.arguments[0] if len(node.arguments) == 1 else None
    if not isinstance(inner, syntax.Select):
        compiler.refuse(node, "has() takes one field such as has(object.spec)")
    operand = compiler.part(inner.operand)
    compiler.field_kind(inner, operand.kind, inner.name)
    run, name = operand.run, inner.name
    spot = compiler.place(inner)
    return Part(BOOL, placed(spot, lambda frame: select.has_field(run(frame), name)))
