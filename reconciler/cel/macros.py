"""Logic and the macros over lists and the keys of maps: what decides whether an operand is evaluated at all.

`||`, `&&`, `exists` and `all` stop at the first value that decides, and a fault elsewhere does not matter then
(cel-spec's langdef, "Logical Operators"). Conditions must be booleans; one that is not ends the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from reconciler.cel.error import Fault, Stop
from reconciler.cel.values import Frame, no_overload, type_of

Node = Callable[[Frame], Any]
_ABSENT = object()


def boolean(value: Any, name: str) -> bool:
    """Insist on a boolean.

    Raises:
        Stop: it is none.
    """
    if value is True or value is False:
        return bool(value)
    raise Stop(f"{name} needs a boolean, got {type_of(value)}")


def logic(nodes: Sequence[Node], *, decisive: bool, name: str) -> Node:
    """`||` (True decides) and `&&` (False decides)."""

    def run(frame: Frame) -> bool:
        fault: Fault | None = None
        for node in nodes:
            frame.spend()
            try:
                if boolean(node(frame), name) is decisive:
                    return decisive
            except Fault as error:
                fault = fault or error
        if fault is not None:
            raise fault
        return not decisive

    return run


@contextmanager
def _binding(frame: Frame, variable: str) -> Iterator[None]:
    """Put the variable back to what it was outside, whatever happens inside."""
    before = frame.values.get(variable, _ABSENT)
    try:
        yield
    finally:
        if before is _ABSENT:
            frame.values.pop(variable, None)
        else:
            frame.values[variable] = before


def _elements(frame: Frame, name: str, container: Any) -> Collection[Any]:
    """The elements of a list, or the keys of a map; not copied, so that stopping early is cheap."""
    if not isinstance(container, (list, dict)):
        raise no_overload(name, container)
    frame.spend()
    return container


def _quantifier(name: str, *, decisive: bool) -> Callable[[Node, str, Sequence[Node]], Node]:
    def build(receiver: Node, variable: str, bodies: Sequence[Node]) -> Node:
        (predicate,) = bodies

        def run(frame: Frame) -> bool:
            elements, fault = _elements(frame, name, receiver(frame)), None
            with _binding(frame, variable):
                for element in elements:
                    frame.spend()
                    frame.values[variable] = element
                    try:
                        if boolean(predicate(frame), name) is decisive:
                            return decisive
                    except Fault as error:
                        fault = fault or error
            if fault is not None:
                raise fault
            return not decisive

        return run

    return build


def _exists_one(receiver: Node, variable: str, bodies: Sequence[Node]) -> Node:
    (predicate,) = bodies

    def run(frame: Frame) -> bool:
        elements, found = _elements(frame, "exists_one", receiver(frame)), 0
        with _binding(frame, variable):
            for element in elements:
                frame.spend()
                frame.values[variable] = element
                found += boolean(predicate(frame), "exists_one")
        return found == 1

    return run


def _filter(receiver: Node, variable: str, bodies: Sequence[Node]) -> Node:
    (predicate,) = bodies

    def run(frame: Frame) -> list[Any]:
        elements, kept = _elements(frame, "filter", receiver(frame)), []
        with _binding(frame, variable):
            for element in elements:
                frame.spend()
                frame.values[variable] = element
                if boolean(predicate(frame), "filter"):
                    kept.append(element)
        return kept

    return run


def _map(receiver: Node, variable: str, bodies: Sequence[Node]) -> Node:
    """`map(x, expression)` and `map(x, predicate, expression)`."""
    predicate = bodies[0] if len(bodies) == 2 else None
    expression = bodies[-1]

    def run(frame: Frame) -> list[Any]:
        elements, made = _elements(frame, "map", receiver(frame)), []
        with _binding(frame, variable):
            for element in elements:
                frame.spend()
                frame.values[variable] = element
                if predicate is None or boolean(predicate(frame), "map"):
                    made.append(expression(frame))
        return made

    return run


MACROS: dict[str, Callable[[Node, str, Sequence[Node]], Node]] = {
    "all": _quantifier("all", decisive=False),
    "exists": _quantifier("exists", decisive=True),
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _map,
}
