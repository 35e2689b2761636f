"""Syntax tree → closures over plain values, checked while they are built.

celpy supplies the grammar; its evaluators do not serve, because they are silently wrong where a restore depends on
them (a ternary in a message field, errors inside map literals, predicates that are no booleans) and cannot be
bounded. A node becomes a `Part`: what is known of its type, and `run(frame)`, which gives its value. What is checked
before anything runs: every name and function is known, arity, types where they are known, the shape of macros,
nesting, the number of nodes.
"""

from __future__ import annotations

from typing import Any, NoReturn

from reconciler.cel import calls, literals, macros, operators, select, syntax
from reconciler.cel.error import Fault, Interrupt
from reconciler.cel.lexer import place, refuse
from reconciler.cel.library import FUNCTIONS
from reconciler.cel.library.table import Functions, Group
from reconciler.cel.part import Part, Place, Run, placed
from reconciler.cel.scope import Environment, Scope, suggest
from reconciler.cel.source import NODES_MAX
from reconciler.cel.types import (
    BOOL,
    DYN,
    Type,
    applied,
    closed,
    fits,
    is_dyn,
    join,
    optional_of,
    settled,
    type_of_type,
)
from reconciler.cel.values import TYPE_VALUES, Frame, shown_type

ARITHMETIC = Type("dyn", (Type("arithmetic"),))
"""Of some type that can be added or multiplied: a number, text, a list, an instant or a span, never a boolean."""


class Compiler:
    """Compiles one expression; use it once."""

    def __init__(
        self,
        text: str,
        environment: Environment,
        *,
        functions: Functions = FUNCTIONS,
        watch: bool = False,
    ) -> None:
        self.text = text
        self.environment = environment
        self.functions = functions
        self.scope = Scope(environment)
        self.loops = 0
        self.nodes: list[syntax.Node] = []
        self.kinds: list[str] = []
        self._watch = watch
        self._nodes = 0

    def part(self, node: syntax.Node) -> Part:
        """Compile a node.

        Raises:
            CelError: a name, function or type in it is wrong, or a bound is passed.
        """
        self._nodes += 1
        if self._nodes > NODES_MAX:
            self.refuse(node, f"the expression has more than {NODES_MAX} parts")
        part = self._compile(node)
        return self._watched(node, part) if self._watch else part

    def _compile(self, node: syntax.Node) -> Part:
        match node:
            case syntax.Literal():
                return self._literal(node)
            case syntax.Name() | syntax.Select():
                return self._name(node)
            case syntax.Index():
                return self._index(node)
            case syntax.Call():
                return calls.call(self, node)
            case syntax.Chain():
                return self._chain(node)
            case syntax.Logic():
                return self._logic(node)
            case syntax.Unary():
                return self._unary(node)
            case syntax.Ternary():
                return self._ternary(node)
            case syntax.Items():
                return literals.items(self, node)
            case syntax.Entries():
                return literals.entries(self, node)
            case syntax.Message():
                return literals.message(self, node)
        raise AssertionError(f"no such node: {node}")

    def place(self, node: syntax.Node) -> Place:
        """Line and column of a node."""
        return place(self.text, node.at)

    def refuse(self, node: syntax.Node, message: str, *, hint: str = "") -> NoReturn:
        """Refuse the expression because of a node."""
        raise refuse(self.text, node.at, message, hint=hint)

    def refuse_type(self, node: syntax.Node, message: str) -> None:
        """Refuse the expression because of types, where types are checked."""
        if self.environment.checks:
            self.refuse(node, message)

    def _watched(self, node: syntax.Node, part: Part) -> Part:
        number = len(self.nodes)
        self.nodes.append(node)
        self.kinds.append(str(closed(part.kind)))
        run = part.run

        def observed(frame: Frame) -> Any:
            before = frame.left
            try:
                value = run(frame)
            except Interrupt as error:
                frame.observe(number, before - frame.left, error)
                raise
            frame.observe(number, before - frame.left, value)
            return value

        return Part(part.kind, observed, part.constant)

    def _literal(self, node: syntax.Literal) -> Part:
        value = node.value
        if type(value) is int and not -(2**63) <= value < 2**63:
            self.refuse(node, "this integer does not fit 64 bits")
        return Part(Type(shown_type(value)), lambda _: value, value)

    def _name(self, node: syntax.Name | syntax.Select) -> Part:
        """A variable, a type, or a field; the longest dotted name that is known counts."""
        whole = syntax.dotted(node)
        if whole is not None:
            root = whole.partition(".")[0]
            if isinstance(node, syntax.Name):
                bound = None if node.is_absolute else self.scope.bound(node.name)
                if bound is not None:
                    return _slot(bound.slot, bound.kind)
            if not (root and self.scope.bound(root)):
                variable = self.scope.variable(whole)
                if variable is not None:
                    kind = self.environment.variables[variable]
                    return Part(kind, _variable(variable, self.place(node)))
                if whole.lstrip(".") in TYPE_VALUES:
                    value = TYPE_VALUES[whole.lstrip(".")]
                    return Part(type_of_type(DYN), lambda _: value, value)
        if isinstance(node, syntax.Select):
            return self._select(node)
        if not self.environment.checks:
            return self.unknown(node, f"undeclared name {node.name!r}")
        return self._undeclared(node)

    def _undeclared(self, node: syntax.Name) -> NoReturn:
        known = self.scope.known()
        there = f"known here: {', '.join(known)}" if known else "no variables are known here"
        self.refuse(node, f"undeclared name {node.name!r}", hint=suggest(node.name, known) or there)

    def unknown(self, node: syntax.Node, message: str) -> Part:
        """What is unknown where nothing is checked: a fault once it is reached."""

        def fail(frame: Frame) -> Any:
            frame.left -= 1
            raise Fault(message)

        return Part(DYN, placed(self.place(node), fail))

    def _select(self, node: syntax.Select) -> Part:
        operand = self.part(node.operand)
        kind = self.field_kind(node, operand.kind, node.name)
        run, name = operand.run, node.name
        if not node.is_optional:
            return Part(kind, select.field(run, name, self.place(node)))
        if settled(kind).name == "optional":
            kind = settled(kind).params[0]

        def maybe(frame: Frame) -> Any:
            frame.left -= 1
            return select.maybe_field(run(frame), name)

        return Part(optional_of(kind), placed(self.place(node), maybe))

    def field_kind(self, node: syntax.Node, kind: Type, name: str) -> Type:
        """The type of a field, as far as it is known.

        Raises:
            CelError: nothing of this type has fields.
        """
        kind = settled(kind)
        if is_dyn(kind) or kind.name[0].isupper():
            return DYN
        if kind.name == "optional":
            return optional_of(self.field_kind(node, kind.params[0], name))
        if kind.name != "map":
            self.refuse_type(node, f"no field {name!r} in a value of type {kind.name}")
            return DYN
        return kind.params[1]

    def _index(self, node: syntax.Index) -> Part:
        operand, key = self.part(node.operand), self.part(node.key)
        kind = self._item_kind(node, operand.kind, key.kind)
        run, at, literal = operand.run, key.run, key.constant
        shown = repr(literal[:80]) if isinstance(literal, str) else ""
        if node.is_optional:

            def maybe(frame: Frame) -> Any:
                container = run(frame)
                frame.left -= 1
                return select.maybe_item(container, at(frame))

            inner = settled(kind)
            inner = inner.params[0] if inner.name == "optional" else inner
            return Part(optional_of(inner), placed(self.place(node), maybe))

        def item(frame: Frame) -> Any:
            container = run(frame)
            frame.left -= 1
            return select.item(container, at(frame), shown=shown)

        return Part(kind, placed(self.place(node), item))

    def _item_kind(self, node: syntax.Index, kind: Type, key: Type) -> Type:
        kind = settled(kind)
        if kind.name == "optional":
            return optional_of(self._item_kind(node, kind.params[0], key))
        if kind.name == "list" and (is_dyn(key) or settled(key).name in ("int", "uint", "double")):
            return kind.params[0]
        if kind.name == "map" and settled(key).name != "bytes":
            return kind.params[1]
        if not is_dyn(kind) and not kind.name[0].isupper():
            shown = f"{kind.name}, {settled(key).name}"
            self.refuse_type(node, f"no such overload: [] of {shown}")
        return DYN

    def _chain(self, node: syntax.Chain) -> Part:
        """`a + b - c`, `a < b`: folded from the left, without recursion."""
        part = self.part(node.first)
        for number, (name, at, right) in enumerate(node.steps):
            step = syntax.Chain(at, node.first, node.steps[: number + 1])
            part = self._binary(step, name, part, self.part(right))
            if self._watch and number < len(node.steps) - 1:
                part = self._watched(step, part)
        return part

    def _binary(self, node: syntax.Node, name: str, left: Part, right: Part) -> Part:
        spot, one, other = self.place(node), left.run, right.run
        if name in ("==", "!="):
            return Part(BOOL, _equality(left, right, wanted=name == "=="))
        if name == "in":
            if not (is_dyn(right.kind) or settled(right.kind).name in ("list", "map")):
                shown = f"{settled(left.kind).name}, {settled(right.kind).name}"
                self.refuse_type(node, f"no such overload: in of {shown}")
            if right.constant == []:
                return Part(
                    BOOL, lambda _: False, constant=False
                )  # decided when it is read, as in cel-go
            run = placed(spot, lambda frame: operators.contains(frame, one(frame), other(frame)))
            return Part(BOOL, run)
        group = self.functions.functions[name][2]
        kind = self.result(node, group, [left.kind, right.kind])
        is_open = name in "+-*/%" and is_dyn(kind)
        return Part(ARITHMETIC if is_open else kind, calls.two(group, one, other, spot))

    def result(self, node: syntax.Node, group: Group, kinds: list[Type]) -> Type:
        """The type of a call's value.

        Raises:
            CelError: no overload takes arguments of these types.
        """
        found: list[Type] = []
        for overload in group.overloads:
            bindings: dict[str, Type] = {}
            signature = overload.signature
            if _all_fit(signature.params, kinds, bindings):
                found.append(applied(signature.result, bindings))
                if not any(map(is_dyn, kinds)):
                    break
        if not found:
            shown = ", ".join(settled(kind).name for kind in kinds)
            self.refuse_type(node, f"no such overload: {group.name} of {shown}")
            return DYN
        kind = found[0]
        for other in found[1:]:
            if settled(other).name != settled(kind).name:
                return DYN
            kind = join(kind, other) or DYN
        return kind

    def condition(self, node: syntax.Node, name: str) -> Run:
        """Compile a node that must give a boolean; at run time `macros.boolean` insists on it."""
        part = self.part(node)
        if not (is_dyn(part.kind) or settled(part.kind).name == "bool"):
            self.refuse_type(node, f"{name} needs a boolean, got {settled(part.kind).name}")
        return part.run

    def _logic(self, node: syntax.Logic) -> Part:
        runs = [self.condition(term, node.operator) for term in node.terms]
        decisive = node.operator == "||"
        run = macros.logic(runs, decisive=decisive, name=node.operator)
        return Part(BOOL, placed(self.place(node), run))

    def _unary(self, node: syntax.Unary) -> Part:
        if node.operator == "!":
            operand = self.condition(node.operand, "!")

            def negate(frame: Frame) -> bool:
                value = operand(frame)
                frame.left -= 1
                return not macros.boolean(value, "!")

            return Part(BOOL, placed(self.place(node), negate))
        part = self.part(node.operand)
        group = self.functions.functions["-"][1]
        kind = self.result(node, group, [part.kind])
        run = calls.one(group, part.run, self.place(node))
        return Part(ARITHMETIC if is_dyn(kind) else kind, run)

    def _ternary(self, node: syntax.Ternary) -> Part:
        condition = self.condition(node.condition, "?:")
        yes, no = self.part(node.yes), self.part(node.no)
        one, other = yes.run, no.run

        def ternary(frame: Frame) -> Any:
            value = condition(frame)
            if value is True:
                return one(frame)
            return other(frame) if value is False else macros.boolean(value, "?:")

        kind = join(yes.kind, no.kind) or DYN
        return Part(kind, placed(self.place(node), ternary))


def _all_fit(wanted: tuple[Type, ...], given: list[Type], bindings: dict[str, Type]) -> bool:
    return all(fits(one, other, bindings) for one, other in zip(wanted, given, strict=True))


def _slot(slot: int, kind: Type) -> Part:
    def local(frame: Frame) -> Any:
        frame.left -= 1
        return frame.slots[slot]

    return Part(kind, local)


def _variable(name: str, spot: Place) -> Run:
    def variable(frame: Frame) -> Any:
        frame.left -= 1
        try:
            return frame.variables[name]
        except KeyError:
            fault = Fault(f"the variable {name!r} was given no value")
            fault.place = spot
            raise fault from None

    return variable


def _equality(left: Part, right: Part, *, wanted: bool) -> Run:
    one, other, constant = left.run, right.run, right.constant
    if isinstance(constant, str):
        cost = 1 if len(constant) <= 10 else 2

        def is_text(frame: Frame) -> bool:
            value = one(frame)
            frame.left -= cost
            return (type(value) is str and value == constant) is wanted

        return is_text
    return lambda frame: operators.equal(frame, one(frame), other(frame)) is wanted
