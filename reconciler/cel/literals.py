"""Lists, maps and typed literals, with optional items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from reconciler.cel import syntax
from reconciler.cel.error import Fault
from reconciler.cel.part import Part, Run, placed
from reconciler.cel.scope import suggest
from reconciler.cel.types import DYN, Open, Type, is_dyn, join, list_of, map_of, settled
from reconciler.cel.values import Frame, Message, Optional, make_map, shown_type

if TYPE_CHECKING:
    from reconciler.cel.compiler import Compiler

LIST_COST, MAP_COST, MESSAGE_COST = 10, 30, 40
_KEYS = frozenset(("string", "int", "uint", "bool"))


def items(compiler: Compiler, node: syntax.Items) -> Part:
    """`[a, ?b]`."""
    parts = [(compiler.part(item), maybe) for item, maybe in node.items]
    kind: Type = Open()
    for (part, maybe), (item, _) in zip(parts, node.items, strict=True):
        kind = join(kind, _inner(compiler, item, part.kind) if maybe else part.kind) or DYN
    runs = [part.run for part, _ in parts]
    if all(part.is_constant and not maybe for part, maybe in parts):
        made = [part.constant for part, _ in parts]
        return Part(list_of(kind), lambda _: made, made)
    if not any(maybe for _, maybe in parts):

        def build(frame: Frame) -> list[Any]:
            frame.left -= LIST_COST
            return [run(frame) for run in runs]

        return Part(list_of(kind), build)

    def build_present(frame: Frame) -> list[Any]:
        frame.left -= LIST_COST
        made: list[Any] = []
        for part, maybe in parts:
            value = part.run(frame)
            if not maybe:
                made.append(value)
            elif is_present(value):
                made.append(value.value)
        return made

    return Part(list_of(kind), placed(compiler.place(node), build_present))


def _inner(compiler: Compiler, node: syntax.Node, kind: Type) -> Type:
    """The type inside the optional that a `?` item must be."""
    kind = settled(kind)
    if kind.name == "optional":
        return kind.params[0]
    if not is_dyn(kind):
        compiler.refuse_type(node, f"an item with ? needs an optional, got {kind.name}")
    return DYN


def is_present(value: Any) -> bool:
    """Whether the optional of a `?` item holds something.

    Raises:
        Fault: it is no optional.
    """
    if type(value) is not Optional:
        raise Fault(f"an item with ? needs an optional, got {shown_type(value)}")
    return value.is_present


def entries(compiler: Compiler, node: syntax.Entries) -> Part:
    """`{k: a, ?l: b}`."""
    key_kind: Type = Open()
    value_kind: Type = Open()
    parts: list[tuple[Run, Run, bool]] = []
    is_constant = True
    for key_node, value_node, maybe in node.entries:
        key, value = compiler.part(key_node), compiler.part(value_node)
        if not is_dyn(key.kind) and settled(key.kind).name not in _KEYS:
            name = settled(key.kind).name
            compiler.refuse_type(key_node, f"a value of type {name} is no key of a map")
        inner = _inner(compiler, value_node, value.kind) if maybe else value.kind
        key_kind, value_kind = join(key_kind, key.kind) or DYN, join(value_kind, inner) or DYN
        parts.append((key.run, value.run, maybe))
        is_constant = is_constant and key.is_constant and value.is_constant and not maybe

    def pairs(frame: Frame) -> Iterator[tuple[Any, Any]]:
        for key, value, maybe in parts:
            made = key(frame), value(frame)
            if not maybe:
                yield made
            elif is_present(made[1]):
                yield made[0], made[1].value

    if is_constant:
        made = _constant(compiler, node, pairs)
        if made is not None:
            return Part(map_of(key_kind, value_kind), lambda _: made, made)

    def build(frame: Frame) -> dict[Any, Any]:
        frame.left -= MAP_COST
        return make_map(pairs(frame))

    return Part(map_of(key_kind, value_kind), placed(compiler.place(node), build))


def _constant(
    compiler: Compiler, node: syntax.Entries, pairs: Callable[[Frame], Iterator[tuple[Any, Any]]]
) -> dict[Any, Any] | None:
    """A map of literals, made once as cel-go does; None where it would be a fault that is not to be refused now."""
    try:
        return make_map(pairs(Frame({})))
    except Fault as error:
        compiler.refuse_type(node, error.message)
        return None


def message(compiler: Compiler, node: syntax.Message) -> Part:
    """`Object.spec{replicas: 1}`, `JSONPatch{op: "remove", path: "/a"}`."""
    known = compiler.environment.messages
    name = next((one for one in compiler.environment.candidates(node.name)), node.name)
    root = name.partition(".")[0]
    if root not in known or (root != name and known[root] is not None):
        compiler.refuse(
            node,
            f"literals of type {name} are not supported by this version; write a map",
            hint=suggest(name, known),
        )
    allowed = known[root]
    parts: list[tuple[str, Run, bool]] = []
    for field, value, maybe in node.fields:
        if allowed is not None and field not in allowed:
            hint = suggest(field, allowed) or f"known are {', '.join(allowed)}"
            compiler.refuse(node, f"{name} has no field {field!r}", hint=hint)
        if field in (one for one, _, _ in parts):
            compiler.refuse(node, f"the field {field!r} is given twice")
        parts.append((field, compiler.part(value).run, maybe))

    def build(frame: Frame) -> Message:
        frame.left -= MESSAGE_COST
        made: dict[str, Any] = {}
        for field, run, maybe in parts:
            value = run(frame)
            if not maybe:
                made[field] = value
            elif is_present(value):
                made[field] = value.value
        return Message(name, made)

    return Part(Type(name), placed(compiler.place(node), build))
