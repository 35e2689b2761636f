"""Logic and the macros: what decides whether an operand is evaluated at all, and how often.

`||`, `&&`, `exists` and `all` stop at the first value that decides, and a fault elsewhere does not matter then
(cel-spec's langdef, "Logical Operators"). Conditions must be booleans; anything else is a fault. What a turn of a
loop costs is what cel-go charges for the accumulator that the macro stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cel import syntax
from reconciler.cel.error import Fault
from reconciler.cel.library.table import OURS
from reconciler.cel.part import Part, Run, placed
from reconciler.cel.types import (
    BOOL,
    DYN,
    INT,
    Type,
    is_dyn,
    list_of,
    map_of,
    optional_of,
    settled,
)
from reconciler.cel.values import (
    NONE,
    BoolKey,
    BoolKeys,
    Frame,
    Optional,
    keys_of,
    make_map,
    no_overload,
    shown_type,
)

if TYPE_CHECKING:
    from reconciler.cel.compiler import Compiler

LOOPS_MAX = 3
Macro = Callable[["Compiler", syntax.Call], Part]


def boolean(value: Any, name: str) -> bool:
    """Insist on a boolean.

    Raises:
        Fault: it is none.
    """
    if value is True or value is False:
        return bool(value)
    raise Fault(f"{name} needs a boolean, got {shown_type(value)}")


def logic(runs: Sequence[Run], *, decisive: bool, name: str) -> Run:
    """`||` (True decides) and `&&` (False decides)."""
    other = not decisive

    def decide(frame: Frame) -> bool:
        fault: Fault | None = None
        for run in runs:
            try:
                value = run(frame)
            except Fault as error:
                fault = fault or error
                continue
            if value is decisive:
                return bool(decisive)
            if value is not other:
                fault = fault or Fault(f"{name} needs a boolean, got {shown_type(value)}")
        if fault is not None:
            raise fault
        return not decisive

    return decide


def shape(name: str, count: int) -> str:
    """What is wrong with a macro that got `count` arguments."""
    wanted = " or ".join(map(str, sorted(MACROS[name])))
    return f"{name} takes a variable and an expression ({wanted} arguments), got {count} arguments"


class _Loop:
    """The common part of the macros over lists and maps."""

    def __init__(self, compiler: Compiler, node: syntax.Call, *, variables: int) -> None:
        assert node.target is not None, "a macro over a container has one"
        self.compiler, self.node, self.name = compiler, node, node.name
        target = compiler.part(node.target)
        self.source = target.run
        names = [_plain(compiler, node, argument) for argument in node.arguments[:variables]]
        if len(set(names)) < len(names):
            compiler.refuse(node, f"{self.name} needs two different names")
        kinds = self._kinds(target.kind, two=variables == 2)
        self.item_kind, self.key_kind = kinds[-1], kinds[0]
        if compiler.loops >= LOOPS_MAX:
            compiler.refuse(node, f"more than {LOOPS_MAX} macros over lists inside each other")
        compiler.loops += 1
        with compiler.scope.binding(dict(zip(names, kinds, strict=True))) as slots:
            self.slots = slots
            self.bodies = [self._body(one) for one in node.arguments[variables:]]
        compiler.loops -= 1

    def _body(self, node: syntax.Node) -> tuple[syntax.Node, Part]:
        return node, self.compiler.part(node)

    def _kinds(self, kind: Type, *, two: bool) -> list[Type]:
        kind = settled(kind)
        if kind.name == "list":
            return [INT, kind.params[0]] if two else [kind.params[0]]
        if kind.name == "map":
            return list(kind.params) if two else [kind.params[0]]
        if not is_dyn(kind) and not kind.name[0].isupper():
            self.compiler.refuse_type(self.node, f"no such overload: {self.name} of {kind.name}")
        return [DYN, DYN] if two else [DYN]

    def predicate(self, number: int = 0) -> Run:
        """A body that must give a boolean."""
        node, part = self.bodies[number]
        if not (is_dyn(part.kind) or settled(part.kind).name == "bool"):
            shown = settled(part.kind).name
            self.compiler.refuse_type(node, f"{self.name} needs a boolean, got {shown}")
        return part.run

    def placed(self, kind: Type, run: Run) -> Part:
        return Part(kind, placed(self.compiler.place(self.node), run))

    def turns(self, cost: int) -> Callable[[Frame], Any]:
        """An iterator over the elements, each bound to the variables before it is given; each turn is paid for."""
        source, name = self.source, self.name
        if len(self.slots) == 1:
            slot = self.slots[0]

            def single(frame: Frame) -> Any:
                slots = frame.slots
                for item in elements(name, source(frame)):
                    frame.left -= cost
                    if frame.left < frame.check_at:
                        frame.check()
                    slots[slot] = item
                    yield item

            return single
        first, second = self.slots

        def double(frame: Frame) -> Any:
            slots = frame.slots
            for key, item in pairs(name, source(frame)):
                frame.left -= cost
                if frame.left < frame.check_at:
                    frame.check()
                slots[first] = key
                slots[second] = item
                yield key

        return double


def _plain(compiler: Compiler, call: syntax.Call, node: syntax.Node) -> str:
    if not isinstance(node, syntax.Name) or node.is_absolute:
        compiler.refuse(node, f"the first argument of {call.name} must be a plain name")
    return node.name


def elements(name: str, container: Any) -> Collection[Any]:
    """The elements of a list, or the keys of a map; not copied, so that stopping early is cheap.

    Raises:
        Fault: it is neither.
    """
    if type(container) is BoolKeys:
        return list(keys_of(container))
    if isinstance(container, (list, dict)):
        items: Collection[Any] = container
        return items
    raise no_overload(name, container)


def pairs(name: str, container: Any) -> Any:
    """Index and element of a list, key and value of a map.

    Raises:
        Fault: it is neither.
    """
    if type(container) is list:
        return enumerate(container)
    if isinstance(container, dict):
        return (
            (key.value if type(key) is BoolKey else key, value) for key, value in container.items()
        )
    raise no_overload(name, container)


def _quantifier(*, decisive: bool, variables: int, cost: int) -> Macro:
    def build(compiler: Compiler, node: syntax.Call) -> Part:
        loop = _Loop(compiler, node, variables=variables)
        predicate, turns, name = loop.predicate(), loop.turns(cost), loop.name
        source, slot = loop.source, loop.slots[0]

        def run_single(frame: Frame) -> bool:
            # The loop that is in nearly every rule: written out, because a generator costs as much as a small body.
            fault: Fault | None = None
            slots = frame.slots
            for item in elements(name, source(frame)):
                frame.left -= cost
                if frame.left < frame.check_at:
                    frame.check()
                slots[slot] = item
                try:
                    value = predicate(frame)
                except Fault as error:
                    fault = fault or error
                    continue
                if value is decisive:
                    return bool(decisive)
                if value is not True and value is not False:
                    fault = fault or Fault(f"{name} needs a boolean, got {shown_type(value)}")
            if fault is not None:
                raise fault
            return not decisive

        def run(frame: Frame) -> bool:
            fault: Fault | None = None
            for _ in turns(frame):
                try:
                    value = predicate(frame)
                except Fault as error:
                    fault = fault or error
                    continue
                if value is decisive:
                    return bool(decisive)
                if value is not True and value is not False:
                    fault = fault or Fault(f"{name} needs a boolean, got {shown_type(value)}")
            if fault is not None:
                raise fault
            return not decisive

        return loop.placed(BOOL, run_single if variables == 1 else run)

    return build


def _exactly_one(*, variables: int) -> Macro:
    def build(compiler: Compiler, node: syntax.Call) -> Part:
        loop = _Loop(compiler, node, variables=variables)
        predicate, turns, name = loop.predicate(), loop.turns(1), loop.name

        def run(frame: Frame) -> bool:
            found = 0
            for _ in turns(frame):
                found += boolean(predicate(frame), name)
            frame.left -= 2
            return found == 1

        return loop.placed(BOOL, run)

    return build


def _filter(compiler: Compiler, node: syntax.Call) -> Part:
    loop = _Loop(compiler, node, variables=1)
    predicate, turns = loop.predicate(), loop.turns(1)

    def run(frame: Frame) -> list[Any]:
        kept = []
        for item in turns(frame):
            value = predicate(frame)
            if value is True:
                frame.left -= 12
                kept.append(item)
            elif value is not False:
                boolean(value, "filter")
        return kept

    return loop.placed(list_of(loop.item_kind), run)


def _transform_list(*, variables: int) -> Macro:
    """`map(x, f)`, `map(x, p, f)`, `transformList(i, v, f)`, `transformList(i, v, p, f)`."""

    def build(compiler: Compiler, node: syntax.Call) -> Part:
        loop = _Loop(compiler, node, variables=variables)
        predicate = loop.predicate() if len(loop.bodies) == 2 else None
        expression, turns, name = loop.bodies[-1][1], loop.turns(1), loop.name
        body = expression.run

        def run(frame: Frame) -> list[Any]:
            made = []
            for _ in turns(frame):
                if predicate is None or boolean(predicate(frame), name):
                    frame.left -= 11
                    made.append(body(frame))
            return made

        return loop.placed(list_of(expression.kind), run)

    return build


def _transform_map(compiler: Compiler, node: syntax.Call) -> Part:
    """`transformMap(k, v, f)`, `transformMap(k, v, p, f)`."""
    loop = _Loop(compiler, node, variables=2)
    predicate = loop.predicate() if len(loop.bodies) == 2 else None
    expression, turns = loop.bodies[-1][1], loop.turns(1)
    body = expression.run

    def run(frame: Frame) -> dict[Any, Any]:
        made = []
        for key in turns(frame):
            if predicate is None or boolean(predicate(frame), "transformMap"):
                frame.left -= 2
                made.append((key, body(frame)))
        return make_map(made)

    return loop.placed(map_of(loop.key_kind, expression.kind), run)


def _transform_entries(compiler: Compiler, node: syntax.Call) -> Part:
    """`transformMapEntry(k, v, {…})`, also with a predicate; a key that comes twice is a fault."""
    loop = _Loop(compiler, node, variables=2)
    predicate = loop.predicate() if len(loop.bodies) == 2 else None
    expression, turns, name = loop.bodies[-1][1], loop.turns(1), loop.name
    body, kind = expression.run, settled(expression.kind)
    if not (is_dyn(kind) or kind.name == "map"):
        compiler.refuse_type(node, f"{name} needs a map of one entry, got {kind.name}")

    def run(frame: Frame) -> dict[Any, Any]:
        made: list[tuple[Any, Any]] = []
        for _ in turns(frame):
            if predicate is None or boolean(predicate(frame), name):
                frame.left -= 2
                entries = body(frame)
                if not isinstance(entries, dict):
                    raise no_overload(name, entries)
                frame.spend(len(entries))
                made += pairs(name, entries)
        return make_map(made)

    return loop.placed(kind if kind.name == "map" else map_of(DYN, DYN), run)


def _sort_by(compiler: Compiler, node: syntax.Call) -> Part:
    """`list.sortBy(x, key)`."""
    loop = _Loop(compiler, node, variables=1)
    key, turns = loop.bodies[0][1].run, loop.turns(12)

    def run(frame: Frame) -> list[Any]:
        from reconciler.cel.library.lists import ordered

        items = [(key(frame), item) for item in turns(frame)]
        return [item for _, item in ordered(frame, items, key=lambda pair: pair[0])]

    return loop.placed(list_of(loop.item_kind), run)


def _on_optional(*, flat: bool) -> Macro:
    """`optMap(x, f)` and `optFlatMap(x, f)`."""

    def build(compiler: Compiler, node: syntax.Call) -> Part:
        assert node.target is not None, "the macro has a target"
        target = compiler.part(node.target)
        kind = settled(target.kind)
        if not is_dyn(kind) and kind.name != "optional":
            compiler.refuse_type(node, f"no such overload: {node.name} of {kind.name}")
        inner = kind.params[0] if kind.name == "optional" else DYN
        name = _plain(compiler, node, node.arguments[0])
        with compiler.scope.binding({name: inner}) as (slot,):
            body = compiler.part(node.arguments[1])
        source, expression = target.run, body.run

        def run(frame: Frame) -> Optional:
            before = frame.left
            value = source(frame)
            if type(value) is not Optional:
                raise no_overload(node.name, value)
            frame.left -= 1
            if not value.is_present:
                return NONE
            # Kubernetes' macro evaluates the target twice: to ask whether there is a value, and for it.
            frame.spend(before - frame.left + (1 if flat else 2))
            frame.slots[slot] = value.value
            made = expression(frame)
            if not flat:
                return Optional(made)
            if type(made) is not Optional:
                raise no_overload(node.name, made)
            return made

        result = body.kind if flat else optional_of(body.kind)
        return Part(result, placed(compiler.place(node), run))

    return build


def _bind(compiler: Compiler, node: syntax.Call) -> Part:
    """`cel.bind(name, value, expression)`."""
    if len(node.arguments) != 3:
        compiler.refuse(node, f"cel.bind takes 3 arguments, got {len(node.arguments)}")
    name = _plain(compiler, node, node.arguments[0])
    value = compiler.part(node.arguments[1])
    with compiler.scope.binding({name: value.kind}) as (slot,):
        body = compiler.part(node.arguments[2])
    bound, expression = value.run, body.run

    def run(frame: Frame) -> Any:
        frame.slots[slot] = bound(frame)
        return expression(frame)

    return Part(body.kind, run)


MACROS: dict[str, dict[int, Macro]] = {
    "all": {
        2: _quantifier(decisive=False, variables=1, cost=3),
        3: _quantifier(decisive=False, variables=2, cost=3),
    },
    "exists": {
        2: _quantifier(decisive=True, variables=1, cost=4),
        3: _quantifier(decisive=True, variables=2, cost=4),
    },
    "exists_one": {2: _exactly_one(variables=1), 3: _exactly_one(variables=2)},
    "existsOne": {2: _exactly_one(variables=1), 3: _exactly_one(variables=2)},
    "filter": {2: _filter},
    "map": {2: _transform_list(variables=1), 3: _transform_list(variables=1)},
    "transformList": {3: _transform_list(variables=2), 4: _transform_list(variables=2)},
    "transformMap": {3: _transform_map, 4: _transform_map},
    "transformMapEntry": {3: _transform_entries, 4: _transform_entries},
    "sortBy": {2: _sort_by},
    "optMap": {2: _on_optional(flat=False)},
    "optFlatMap": {2: _on_optional(flat=True)},
}
NAMESPACED: dict[str, Macro] = {"cel.bind": _bind}
FORMS = {
    "has(e.field)": "1.23",
    "e.all(x, condition)": "1.23",
    "e.exists(x, condition)": "1.23",
    "e.exists_one(x, condition)": "1.23",
    "e.filter(x, condition)": "1.23",
    "e.map(x, value)": "1.23",
    "e.map(x, condition, value)": "1.23",
    "optional.optMap(x, value)": "1.28",
    "optional.optFlatMap(x, optional)": "1.28",
    "e.all(i, v, condition)": "1.32",
    "e.exists(i, v, condition)": "1.32",
    "e.existsOne(i, v, condition)": "1.32",
    "e.transformList(i, v, value)": "1.32",
    "e.transformList(i, v, condition, value)": "1.32",
    "e.transformMap(k, v, value)": "1.32",
    "e.transformMap(k, v, condition, value)": "1.32",
    "e.transformMapEntry(k, v, entry)": "1.32",
    "e.transformMapEntry(k, v, condition, entry)": "1.32",
    "list.sortBy(x, key)": "1.34",
    "cel.bind(name, value, expression)": OURS,
}
"""The macros as they are documented, with the version of Kubernetes that has them."""
