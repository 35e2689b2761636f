"""Equality, order, membership and arithmetic, by cel-spec's langdef and as cel-go has them.

Numbers compare across int, uint and double (an integer as the double next to it, as cel-go does); values of different
types are unequal, not an error. Integers overflow with an error, division truncates towards zero, doubles follow
IEEE 754.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from reconciler.cel.error import Fault
from reconciler.cel.library.table import Table, traversal
from reconciler.cel.moments import Duration, Timestamp, duration, timestamp
from reconciler.cel.values import (
    INT_MIN,
    Frame,
    Message,
    Optional,
    Uint,
    find,
    no_overload,
    unsigned,
    whole,
)

OPERATORS = Table("operators", since="1.23")
_NUMBERS = frozenset((int, Uint, float))
_MISSING = object()


def equal(frame: Frame, left: Any, right: Any) -> bool:
    """`==`, which never fails. Costs a tenth of a unit for each character or item compared, at least one."""
    frame.left -= 1
    return _equal(frame, left, right)


def _equal(frame: Frame, left: Any, right: Any) -> bool:
    kind = type(left)
    if kind is not type(right):
        if kind in _NUMBERS and type(right) in _NUMBERS:
            is_mixed = kind is float or type(right) is float
            return float(left) == float(right) if is_mixed else bool(left == right)
        is_map = (
            isinstance(left, dict)
            and isinstance(right, dict)
            and Message not in (kind, type(right))
        )
        return is_map and _equal_maps(frame, left, right)
    if kind is str or kind is bytes:
        traversal(frame, min(len(left), len(right)))
        return bool(left == right)
    if kind is list:
        if len(left) != len(right):
            return False
        frame.spend(len(left) // 10)
        return all(_equal(frame, one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict):
        if isinstance(left, Message) and left.type_name != right.type_name:
            return False
        return _equal_maps(frame, left, right)
    if kind is Optional:
        if not (left.is_present and right.is_present):
            return left.is_present is right.is_present
        return _equal(frame, left.value, right.value)
    return bool(left == right)


def _equal_maps(frame: Frame, left: Any, right: Any) -> bool:
    if len(left) != len(right):
        return False
    frame.spend(len(left) // 10)
    for key, value in left.items():
        other = right.get(key, _MISSING)
        if other is _MISSING or not _equal(frame, value, other):
            return False
    return True


def contains(frame: Frame, item: Any, container: Any) -> bool:
    """`in`, for the items of a list and the keys of a map.

    Raises:
        Fault: the right side is neither.
    """
    kind = type(container)
    frame.left -= 1
    if kind is list:
        frame.spend(max(0, len(container) - 1))
        if type(item) is str:
            return item in container
        return any(_equal(frame, item, each) for each in container)
    if isinstance(container, dict):
        if type(item) in (list, dict, type(None), bytes) or type(item) not in _KEYS:
            return False
        return find(container, item, _MISSING) is not _MISSING
    raise no_overload("in", item, container)


_KEYS = frozenset((str, int, Uint, float, bool))
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED = ("bool", "string", "bytes", "timestamp", "duration")
_NUMERIC = ("int", "uint", "double")


def _comparison(name: str, test: Callable[[Any, Any], Any]) -> None:
    def compare(frame: Frame, left: Any, right: Any) -> bool:
        return bool(test(left, right))

    def compare_doubles(frame: Frame, left: Any, right: Any) -> bool:
        return bool(test(float(left), float(right)))

    def compare_texts(frame: Frame, left: Any, right: Any) -> bool:
        traversal(frame, min(len(left), len(right)))
        return bool(test(left, right))

    for kind in _ORDERED:
        run = compare_texts if kind in ("string", "bytes") else compare
        OPERATORS.add(f"{name}({kind}, {kind}) -> bool")(run)
    for left in _NUMERIC:
        for right in _NUMERIC:
            run = compare_doubles if "double" in (left, right) else compare
            since = "" if left == right else "1.28"
            OPERATORS.add(f"{name}({left}, {right}) -> bool", since=since)(run)


for _name, _test in _COMPARISONS.items():
    _comparison(_name, _test)


@OPERATORS.add("+(int, int) -> int")
def _(frame: Frame, left: int, right: int) -> int:
    return whole(left + right)


@OPERATORS.add("+(uint, uint) -> uint")
def _(frame: Frame, left: Uint, right: Uint) -> Uint:
    return unsigned(int(left) + int(right))


@OPERATORS.add("+(double, double) -> double")
def _(frame: Frame, left: float, right: float) -> float:
    return left + right


@OPERATORS.add("+(string, string) -> string", "+(bytes, bytes) -> bytes")
def _(frame: Frame, left: Any, right: Any) -> Any:
    size = len(left) + len(right)
    frame.fit(size)
    traversal(frame, size)
    return left + right


@OPERATORS.add("+(list(A), list(A)) -> list(A)")
def _(frame: Frame, left: list[Any], right: list[Any]) -> list[Any]:
    # cel-go chains two lists without copying, for one unit; here they are copied.
    frame.fit(len(left) + len(right))
    frame.spend((len(left) + len(right)) // 100)
    return left + right


@OPERATORS.add("+(timestamp, duration) -> timestamp")
@OPERATORS.add("+(duration, timestamp) -> timestamp")
def _(frame: Frame, left: Any, right: Any) -> Timestamp:
    zone = left if isinstance(left, Timestamp) else right
    return timestamp(left.nanos + right.nanos, zone.offset_s)


@OPERATORS.add("+(duration, duration) -> duration")
def _(frame: Frame, left: Duration, right: Duration) -> Duration:
    return duration(left.nanos + right.nanos)


@OPERATORS.add("-(int, int) -> int")
def _(frame: Frame, left: int, right: int) -> int:
    return whole(left - right)


@OPERATORS.add("-(uint, uint) -> uint")
def _(frame: Frame, left: Uint, right: Uint) -> Uint:
    return unsigned(int(left) - int(right))


@OPERATORS.add("-(double, double) -> double")
def _(frame: Frame, left: float, right: float) -> float:
    return left - right


@OPERATORS.add("-(timestamp, duration) -> timestamp")
def _(frame: Frame, left: Timestamp, right: Duration) -> Timestamp:
    return timestamp(left.nanos - right.nanos, left.offset_s)


@OPERATORS.add("-(timestamp, timestamp) -> duration", "-(duration, duration) -> duration")
def _(frame: Frame, left: Any, right: Any) -> Duration:
    return duration(left.nanos - right.nanos)


@OPERATORS.add("*(int, int) -> int")
def _(frame: Frame, left: int, right: int) -> int:
    return whole(left * right)


@OPERATORS.add("*(uint, uint) -> uint")
def _(frame: Frame, left: Uint, right: Uint) -> Uint:
    return unsigned(int(left) * int(right))


@OPERATORS.add("*(double, double) -> double")
def _(frame: Frame, left: float, right: float) -> float:
    return left * right


@OPERATORS.add("/(int, int) -> int")
def _(frame: Frame, left: int, right: int) -> int:
    if right == 0:
        raise Fault("division by zero")
    quotient = abs(left) // abs(right)
    return whole(quotient if (left < 0) == (right < 0) else -quotient)


@OPERATORS.add("/(uint, uint) -> uint")
def _(frame: Frame, left: Uint, right: Uint) -> Uint:
    if right == 0:
        raise Fault("division by zero")
    return Uint(int(left) // int(right))


@OPERATORS.add("/(double, double) -> double")
def _(frame: Frame, left: float, right: float) -> float:
    if right == 0.0:
        sign = math.copysign(1.0, left) * math.copysign(1.0, right)
        return math.nan if left == 0.0 or math.isnan(left) else sign * math.inf
    return left / right


@OPERATORS.add("%(int, int) -> int")
def _(frame: Frame, left: int, right: int) -> int:
    if right == 0:
        raise Fault("modulus by zero")
    if right == -1 and left == INT_MIN:
        raise Fault("integer overflow")
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


@OPERATORS.add("%(uint, uint) -> uint")
def _(frame: Frame, left: Uint, right: Uint) -> Uint:
    if right == 0:
        raise Fault("modulus by zero")
    return Uint(int(left) % int(right))


@OPERATORS.add("-(int) -> int")
def _(frame: Frame, value: int) -> int:
    return whole(-value)


@OPERATORS.add("-(double) -> double")
def _(frame: Frame, value: float) -> float:
    return -value
