"""Values of the language as plain Python, and the frame of one evaluation.

    null None · bool bool · int int · uint Uint · double float · string str · bytes bytes · list list
    map dict (`BoolKeys` once a key is a boolean) · timestamp Timestamp · duration Duration · type Type
    optional Optional · typed literals Message · what the libraries have: IP, CIDR, Quantity, …

JSON is its own value, so an object is read without being converted. Python's traps are kept out here: `True == 1`
(a boolean key is wrapped), `Uint` is an int only by inheritance, and every dispatch goes by `type(value)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from reconciler.cel.error import Fault, Stop
from reconciler.cel.moments import Duration, Timestamp

COST_MAX = 1_000_000
"""Kubernetes' limit for one expression, in units of cel-go."""
SIZE_MAX = 1024 * 1024
SECONDS_MAX = 5.0
_CLOCK_EVERY = 20_000
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
UINT_MAX = 2**64 - 1


class Uint(int):
    """An unsigned integer of 64 bits."""

    __slots__ = ()


class BoolKeys(dict[Any, Any]):
    """A map with boolean keys: those are `BoolKey`s inside."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BoolKey:
    """A boolean as a key, which is no 1."""

    value: bool


class Lazy(dict[str, Any]):
    """A map whose values are made when they are first selected: `__getitem__` and its like are overridden."""

    def get(self, key: str, default: Any = None) -> Any:
        """As a map does it, by way of `__getitem__`."""
        return self[key] if key in self else default  # noqa: SIM401  that is what get does


class Message(dict[str, Any]):
    """A typed literal such as `JSONPatch{…}`: a map that knows its type."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.type_name = type_name


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that may be absent. `NONE` is the absent one."""

    value: Any = None
    is_present: bool = True


NONE = Optional(is_present=False)


@dataclass(frozen=True, slots=True)
class TypeName:
    """What `type(x)` gives."""

    name: str


class Foreign:
    """A value that a library defines; `cel_type` names its type, `__eq__` compares."""

    __slots__ = ()
    cel_type: ClassVar[str] = ""


_NAMES: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    BoolKeys: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    TypeName: "type",
    Optional: "optional_type",
}
_SHOWN = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration"}
TYPE_VALUES = {name: TypeName(name) for name in (*_NAMES.values(), "net.IP", "net.CIDR")}
"""The names of types that can be written."""


def type_of(value: Any) -> str:
    """The name of a value's type in the language."""
    name = _NAMES.get(type(value))
    if name is not None:
        return name
    if isinstance(value, Message):
        return value.type_name
    if isinstance(value, Foreign):
        return value.cel_type
    if isinstance(value, Lazy):
        return "map"
    raise Stop(f"a value of the host type {type(value).__name__} is no JSON")


def shown_type(value: Any) -> str:
    """The type's name in messages."""
    name = type_of(value)
    return _SHOWN.get(name, name)


class Frame:
    """One evaluation: variables, the values that macros bind (by slot), and what may still be spent."""

    __slots__ = ("check_at", "deadline", "left", "patterns", "slots", "trace", "variables")

    def __init__(
        self, variables: Mapping[str, Any], *, slots: int = 0, cost: int = COST_MAX
    ) -> None:
        self.variables = variables
        self.slots: list[Any] = [None] * slots
        self.left = cost
        self.check_at = cost - _CLOCK_EVERY
        self.deadline = time.monotonic() + SECONDS_MAX
        self.patterns: set[str] = set()
        self.trace: Callable[[int, int, Any], None] | None = None

    def observe(self, number: int, cost: int, outcome: Any) -> None:
        """Tell whoever traces this evaluation what a node gave, or why it gave nothing, and what it cost."""
        if self.trace is not None:
            self.trace(number, cost, outcome)

    def check(self) -> None:
        """Look whether budget and time are left; called when `left` falls below `check_at`.

        Raises:
            Stop: they are not.
        """
        if self.left < 0:
            raise Stop(f"the expression costs more than {COST_MAX} units")
        if time.monotonic() > self.deadline:
            raise Stop(f"the expression took more than {SECONDS_MAX:.0f} seconds")
        self.check_at = max(0, self.left - _CLOCK_EVERY)

    def spend(self, cost: int = 1) -> None:
        """Pay for work that is about to be done.

        Raises:
            Stop: more than the budget.
        """
        self.left -= cost
        if self.left < self.check_at:
            self.check()

    def fit(self, size: int) -> None:
        """Make sure that a value of `size` characters or items may be made; little is paid, walking costs more.

        Raises:
            Stop: it would be too large.
        """
        if size > SIZE_MAX:
            raise Stop(f"a value grew larger than {SIZE_MAX} characters or items")
        self.spend(size // 1000)


def no_overload(name: str, *values: Any) -> Fault:
    """The fault of an operator or function given types that it does not know."""
    return Fault(f"no such overload: {name} of {', '.join(shown_type(value) for value in values)}")


def whole(value: int) -> int:
    """An int within 64 bits.

    Raises:
        Fault: it is not.
    """
    if INT_MIN <= value <= INT_MAX:
        return value
    raise Fault("integer overflow")


def unsigned(value: int) -> Uint:
    """A uint within 64 bits.

    Raises:
        Fault: it is not.
    """
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise Fault("unsigned integer overflow")


def keys_of(container: Any) -> Iterable[Any]:
    """The keys of a map, as they were written."""
    if type(container) is BoolKeys:
        return [key.value if type(key) is BoolKey else key for key in container]
    keys: Iterable[Any] = container
    return keys


def find(container: dict[Any, Any], key: Any, default: Any = None) -> Any:
    """What a map has for a key; 1, 1u and 1.0 are the same key.

    Raises:
        Fault: nothing of this type can be a key.
    """
    kind = type(key)
    if kind is str or kind is int or kind is Uint or kind is float:
        return container.get(key, default)
    if kind is bool:
        return container.get(BoolKey(key), default)
    raise Fault(f"a value of type {shown_type(key)} is no key of a map")


def make_map(entries: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A map.

    Raises:
        Fault: a key comes twice, or is no string, integer or boolean.
    """
    made: dict[Any, Any] = {}
    has_booleans = False
    for key, value in entries:
        kind = type(key)
        if kind is bool:
            key, has_booleans = BoolKey(key), True  # noqa: PLW2901
        elif kind is not str and kind is not int and kind is not Uint:
            raise Fault(f"a value of type {shown_type(key)} is no key of a map")
        if key in made:
            raise Fault("a map has the same key twice")
        made[key] = value
    return BoolKeys(made) if has_booleans else made


def adopted(activation: Mapping[str, Any]) -> Mapping[str, Any]:
    """The variables from outside: instants and spans of Python become the language's. Nothing is copied deeper."""
    if not any(isinstance(value, (datetime, timedelta)) for value in activation.values()):
        return activation
    return {name: _adopted(value) for name, value in activation.items()}


def _adopted(value: Any) -> Any:
    if isinstance(value, datetime):
        return Timestamp.of(value)
    if isinstance(value, timedelta):
        return Duration(value // timedelta(microseconds=1) * 1000)
    return value
