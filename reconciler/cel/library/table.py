"""Tables of functions, and the choice of an overload by the types of its arguments.

A library is a `Table`; each function is added with its signatures, so that the same line serves the check before a
run, the dispatch in it, and the documentation. Functions take the frame, then the arguments, of the types that the
signature says; the items of containers and `dyn` they look at themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reconciler.cel.error import Fault
from reconciler.cel.moments import Duration, Timestamp
from reconciler.cel.types import Signature, read_signature
from reconciler.cel.values import (
    Foreign,
    Frame,
    Optional,
    TypeName,
    Uint,
    no_overload,
)

Function = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])
OURS = "ours"
"""Marks a function that Kubernetes 1.36 does not have."""
_CLASSES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "uint": (Uint,),
    "double": (float,),
    "string": (str,),
    "bytes": (bytes,),
    "list": (list,),
    "timestamp": (Timestamp,),
    "duration": (Duration,),
    "type": (TypeName,),
    "optional": (Optional,),
    "null_type": (type(None),),
}


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature of a function. `since` is the version of Kubernetes that has it, or `OURS`."""

    signature: Signature
    run: Function
    since: str


@dataclass(slots=True)
class Group:
    """The overloads that one call can mean: of one name, one form and one number of arguments."""

    name: str
    overloads: list[Overload]
    chosen: dict[Any, Function] = field(default_factory=dict)

    def choose(self, values: tuple[Any, ...]) -> Function:
        """The function for these arguments; what was chosen is kept by their types in `chosen`.

        Raises:
            Fault: there is none.
        """
        for overload in self.overloads:
            pairs = zip(overload.signature.params, values, strict=True)
            if all(_is_of(param.name, value) for param, value in pairs):
                kinds = tuple(map(type, values))
                self.chosen[kinds if len(kinds) != 1 else kinds[0]] = overload.run
                return overload.run
        raise no_overload(self.name, *values)


def _is_of(name: str, value: Any) -> bool:
    if name == "dyn" or len(name) == 1:
        return True
    classes = _CLASSES.get(name)
    if name == "map":
        return isinstance(value, dict)
    if classes is not None:
        return type(value) in classes
    return isinstance(value, Foreign) and type(value).__name__ == name


class Table:
    """The functions of one library."""

    def __init__(self, name: str, *, since: str) -> None:
        self.name = name
        self.since = since
        self.overloads: list[Overload] = []

    def add(self, *signatures: str, since: str = "") -> Callable[[F], F]:
        """Add a function under its signatures."""

        def keep(function: F) -> F:
            for text in signatures:
                signature = read_signature(text)
                self.overloads.append(Overload(signature, function, since or self.since))
            return function

        return keep


class Functions:
    """Everything that can be called: functions by name, methods by name, each by number of arguments."""

    def __init__(self, overloads: Iterable[Overload]) -> None:
        self.functions: dict[str, dict[int, Group]] = {}
        self.methods: dict[str, dict[int, Group]] = {}
        self.all = list(overloads)
        for overload in self.all:
            signature = overload.signature
            table = self.methods if signature.is_method else self.functions
            counts = table.setdefault(signature.name, {})
            group = counts.setdefault(len(signature.params), Group(signature.name, []))
            group.overloads.append(overload)
        self.namespaces = {name.rpartition(".")[0] for name in self.functions} - {""}

    def names(self, *, methods: bool) -> Iterator[str]:
        """The names of all functions, or of all methods."""
        return iter(self.methods if methods else self.functions)


def traversal(frame: Frame, size: int, *, factor: int = 1) -> None:
    """Pay for walking over `size` characters, `factor` times: a tenth of a unit each, as in cel-go.

    The unit that every call costs is part of it.
    """
    frame.spend(max(0, (size * factor + 9) // 10 - 1))


def strings(name: str, items: list[Any]) -> None:
    """Insist on a list of strings.

    Raises:
        Fault: one is none.
    """
    for item in items:
        if type(item) is not str:
            raise no_overload(name, items, item)


def within(at: int, size: int) -> None:
    """Insist on an index from 0 to `size`.

    Raises:
        Fault: it is outside.
    """
    if not 0 <= at <= size:
        raise Fault(f"index {at} is out of range")
