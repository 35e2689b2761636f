"""Values of the language as plain Python, and what the operators do with them.

null None, bool bool, int int (64 bits), double float, string str, list list, map dict with string keys,
timestamp aware datetime, duration timedelta, and `TypeName` for what `type(x)` gives. Equality and order follow
cel-spec's langdef: numbers compare across int and double; values of different types are unequal, not an error.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reconciler.cel.error import Fault, Stop

STEPS_MAX = 1_000_000
SIZE_MAX = 1024 * 1024
DURATION_MAX = timedelta(microseconds=(2**63 - 1) // 1000)
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class TypeName:
    """What `type(x)` gives; compares with the names `int`, `string` and so on."""

    name: str


TYPES = {
    name: TypeName(name)
    for name in ("null_type", "bool", "int", "double", "string", "list", "map", "type")
}


class Frame:
    """One evaluation: the variables, and the steps that are left."""

    __slots__ = ("left", "patterns", "values")

    def __init__(self, values: dict[str, Any], *, steps: int = STEPS_MAX) -> None:
        self.values = values
        self.left = steps
        self.patterns: set[str] = set()

    def spend(self, steps: int = 1) -> None:
        """Pay for work that is about to be done.

        Raises:
            Stop: more than the budget.
        """
        self.left -= steps
        if self.left < 0:
            raise Stop(f"the expression took more than {STEPS_MAX} steps")

    def fit(self, size: int) -> None:
        """Pay for a value of `size` characters or items that is about to be made.

        Raises:
            Stop: it would be too large.
        """
        if size > SIZE_MAX:
            raise Stop(f"a value grew larger than {SIZE_MAX} characters or items")
        self.spend(1 + size // 16)


def type_of(value: Any) -> str:
    """The name of a value's type in the language."""
    match value:
        case None:
            return "null_type"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "double"
        case str():
            return "string"
        case list():
            return "list"
        case dict():
            return "map"
        case datetime():
            return "timestamp"
        case timedelta():
            return "duration"
        case TypeName():
            return "type"
        case _:
            raise Stop(f"a value of the host type {type(value).__name__} is no JSON")


def is_number(value: Any) -> bool:
    """Whether a value is an int or a double; a bool is neither."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equal(frame: Frame, left: Any, right: Any) -> bool:
    """`==`, which never fails."""
    frame.spend()
    if is_number(left) and is_number(right):
        return bool(left == right)
    if type(left) is not type(right):
        return False
    if isinstance(left, str):
        frame.spend(min(len(left), len(right)) // 64)
        return bool(left == right)
    if isinstance(left, list):
        return len(left) == len(right) and all(
            equal(frame, a, b) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            key in right and equal(frame, value, right[key]) for key, value in left.items()
        )
    return bool(left == right)


_ORDERED = (bool, str, datetime, timedelta)


def compare(frame: Frame, name: str, left: Any, right: Any) -> bool:
    """`<`, `<=`, `>`, `>=`."""
    frame.spend()
    same = type(left) is type(right) and isinstance(left, _ORDERED)
    if same and isinstance(left, str):
        frame.spend(min(len(left), len(right)) // 64)
    if not same and not (is_number(left) and is_number(right)):
        raise no_overload(name, left, right)
    return bool(_COMPARE[name](left, right))


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def contains(frame: Frame, item: Any, container: Any) -> bool:
    """`in`, for lists and the keys of maps."""
    frame.spend()
    if isinstance(container, dict):
        return isinstance(item, str) and item in container
    if isinstance(container, list):
        return any(equal(frame, item, each) for each in container)
    raise no_overload("in", item, container)


def no_overload(name: str, *values: Any) -> Fault:
    """The fault of an operator or function given types that it does not know."""
    return Fault(f"no such overload: {name} of {', '.join(type_of(value) for value in values)}")


def _whole(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise Fault("integer overflow")
    return value


def _moment(make: Callable[[], Any]) -> Any:
    try:
        value = make()
        if not isinstance(value, timedelta) or abs(value) <= DURATION_MAX:
            return value
    except OverflowError:
        pass
    raise Fault("a timestamp or duration is out of range")


def add(frame: Frame, left: Any, right: Any) -> Any:
    """`+`: numbers of one type, strings, lists, timestamps and durations."""
    frame.spend()
    match left, right:
        case bool(), _:
            pass
        case int(), int() if not isinstance(right, bool):
            return _whole(left + right)
        case float(), float():
            return left + right
        case (str(), str()) | (list(), list()):
            frame.fit(len(left) + len(right))
            return left + right
        case (datetime(), timedelta()) | (timedelta(), datetime()) | (timedelta(), timedelta()):
            return _moment(lambda: left + right)
    raise no_overload("+", left, right)


def subtract(frame: Frame, left: Any, right: Any) -> Any:
    """`-`: numbers of one type, timestamps and durations."""
    frame.spend()
    match left, right:
        case bool(), _:
            pass
        case int(), int() if not isinstance(right, bool):
            return _whole(left - right)
        case float(), float():
            return left - right
        case (datetime(), timedelta() | datetime()) | (timedelta(), timedelta()):
            return _moment(lambda: left - right)
    raise no_overload("-", left, right)


def multiply(frame: Frame, left: Any, right: Any) -> Any:
    """`*`, of two ints or two doubles."""
    frame.spend()
    if _both(int, left, right):
        return _whole(left * right)
    if _both(float, left, right):
        return left * right
    raise no_overload("*", left, right)


def divide(frame: Frame, left: Any, right: Any) -> Any:
    """`/`: of ints towards zero; of doubles as IEEE 754 has it."""
    frame.spend()
    if _both(int, left, right):
        if right == 0:
            raise Fault("division by zero")
        quotient = abs(left) // abs(right)
        return _whole(quotient if (left < 0) == (right < 0) else -quotient)
    if _both(float, left, right):
        if right == 0.0:
            sign = math.copysign(1.0, left) * math.copysign(1.0, right)
            return math.nan if left == 0.0 or math.isnan(left) else sign * math.inf
        return left / right
    raise no_overload("/", left, right)


def modulo(frame: Frame, left: Any, right: Any) -> Any:
    """`%` of ints; the sign is the dividend's."""
    frame.spend()
    if _both(int, left, right):
        if right == 0:
            raise Fault("modulus by zero")
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    raise no_overload("%", left, right)


def negate(frame: Frame, value: Any) -> Any:
    """Unary `-`."""
    frame.spend()
    if isinstance(value, float):
        return -value
    if isinstance(value, int) and not isinstance(value, bool):
        return _whole(-value)
    raise no_overload("-", value)


def _both(kind: type, left: Any, right: Any) -> bool:
    return type(left) is kind and type(right) is kind


def index(frame: Frame, container: Any, key: Any, *, shown: str = "") -> Any:
    """`l[0]`, `m["key"]`. A key is named in a fault only as `shown`: one that was computed may be secret."""
    frame.spend()
    if isinstance(container, dict):
        if not isinstance(key, str):
            raise no_overload("[]", container, key)
        if key not in container:
            raise Fault(f"no such key: {shown}" if shown else "no such key")
        return container[key]
    if isinstance(container, list):
        if isinstance(key, float) and key.is_integer():
            key = int(key)
        if not isinstance(key, int) or isinstance(key, bool):
            raise no_overload("[]", container, key)
        if not 0 <= key < len(container):
            raise Fault(f"index {key} is out of range for a list of {len(container)}")
        return container[key]
    raise no_overload("[]", container, key)


def select(frame: Frame, container: Any, name: str) -> Any:
    """`m.name`."""
    frame.spend()
    if not isinstance(container, dict):
        raise Fault(f"no field {name!r} in a value of type {type_of(container)}")
    if name not in container:
        raise Fault(f"no such key: {name!r}")
    return container[name]


def has(frame: Frame, container: Any, name: str) -> bool:
    """`has(m.name)`."""
    frame.spend()
    if not isinstance(container, dict):
        raise Fault(f"no field {name!r} in a value of type {type_of(container)}")
    return name in container
