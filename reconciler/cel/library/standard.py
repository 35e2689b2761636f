"""The standard functions of cel-spec's langdef: conversions, sizes, text, and the parts of instants and spans."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from reconciler.cel import moments
from reconciler.cel.error import Fault
from reconciler.cel.library.table import Table, traversal
from reconciler.cel.moments import SECOND, Duration, Timestamp
from reconciler.cel.values import INT_MAX, INT_MIN, UINT_MAX, Frame, TypeName, Uint, type_of

STANDARD = Table("standard", since="1.23")
_ZONE_COST = 100
"""Looking for a time zone reads a file."""
_NUMBER_LENGTH_MAX = 400
_INFINITIES = {"inf", "infinity", "nan"}


@STANDARD.add(
    "size(string) -> int",
    "size(bytes) -> int",
    "size(list(A)) -> int",
    "size(map(A, B)) -> int",
    "string.size() -> int",
    "bytes.size() -> int",
    "list(A).size() -> int",
    "map(A, B).size() -> int",
)
def _(frame: Frame, value: Any) -> int:
    return len(value)


@STANDARD.add("type(A) -> type(A)")
def _(frame: Frame, value: Any) -> TypeName:
    return TypeName(type_of(value))


@STANDARD.add("dyn(A) -> dyn")
def _(frame: Frame, value: Any) -> Any:
    return value


@STANDARD.add("int(int) -> int")
@STANDARD.add("uint(uint) -> uint")
@STANDARD.add("double(double) -> double")
@STANDARD.add("bool(bool) -> bool")
@STANDARD.add("string(string) -> string")
@STANDARD.add("bytes(bytes) -> bytes")
@STANDARD.add("timestamp(timestamp) -> timestamp")
@STANDARD.add("duration(duration) -> duration")
def _(frame: Frame, value: Any) -> Any:
    return value


def _digits(text: str, *, name: str) -> int:
    bare = text[1:] if text[:1] in ("-", "+") else text
    if len(text) <= 21 and bare.isascii() and bare.isdigit():
        return int(text)
    raise Fault(f"this string is no {name}")


@STANDARD.add("int(uint) -> int")
def _(frame: Frame, value: Uint) -> int:
    if value > INT_MAX:
        raise Fault("integer overflow")
    return int(value)


@STANDARD.add("int(double) -> int")
def _(frame: Frame, value: float) -> int:
    if math.isfinite(value) and INT_MIN < value < INT_MAX:
        return int(value)
    raise Fault("integer overflow")


@STANDARD.add("int(string) -> int")
def _(frame: Frame, value: str) -> int:
    number = _digits(value, name="int")
    if INT_MIN <= number <= INT_MAX:
        return number
    raise Fault("this string is no int")


@STANDARD.add("int(timestamp) -> int")
def _(frame: Frame, value: Timestamp) -> int:
    return value.nanos // SECOND


@STANDARD.add("int(duration) -> int")
def _(frame: Frame, value: Duration) -> int:
    return value.nanos


@STANDARD.add("uint(int) -> uint")
def _(frame: Frame, value: int) -> Uint:
    if value < 0:
        raise Fault("unsigned integer overflow")
    return Uint(value)


@STANDARD.add("uint(double) -> uint")
def _(frame: Frame, value: float) -> Uint:
    if math.isfinite(value) and 0 <= value < UINT_MAX:
        return Uint(int(value))
    raise Fault("unsigned integer overflow")


@STANDARD.add("uint(string) -> uint")
def _(frame: Frame, value: str) -> Uint:
    if value[:1] in ("-", "+") or _digits(value, name="uint") > UINT_MAX:
        raise Fault("this string is no uint")
    return Uint(int(value))


@STANDARD.add("double(int) -> double", "double(uint) -> double")
def _(frame: Frame, value: int) -> float:
    return float(value)


@STANDARD.add("double(string) -> double")
def _(frame: Frame, value: str) -> float:
    bare = value.lstrip("+-").lower()
    is_plain = len(value) <= _NUMBER_LENGTH_MAX and value.isascii() and "_" not in value
    try:
        if is_plain and (bare in _INFINITIES or bare[:1].isdigit() or bare[:1] == "."):
            return float(value) if value == value.strip() else float("x")
    except ValueError:
        pass
    raise Fault("this string is no double")


@STANDARD.add("bool(string) -> bool")
def _(frame: Frame, value: str) -> bool:
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Fault("this string is no bool")


@STANDARD.add("string(bool) -> string")
def _(frame: Frame, value: bool) -> str:  # noqa: FBT001  an argument of the language
    return "true" if value else "false"


@STANDARD.add("string(int) -> string", "string(uint) -> string")
def _(frame: Frame, value: int) -> str:
    return str(int(value))


def write_double(value: float) -> str:
    """Write the shortest digits as Go's `%g` does: `1`, `0.5`, `1e+06`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    # From the digits of repr: formatting the number anew rounds ties to a neighbour that reads back as another number.
    shortest = Decimal(repr(value)).normalize()
    exponent = shortest.adjusted()
    if -4 <= exponent < 6:
        return f"{shortest:f}"
    first, *rest = map(str, shortest.as_tuple().digits)
    sign = "-" if value < 0 else ""
    fraction = f".{''.join(rest)}" if rest else ""
    return f"{sign}{first}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"


@STANDARD.add("string(double) -> string")
def _(frame: Frame, value: float) -> str:
    return write_double(value)


@STANDARD.add("string(timestamp) -> string")
def _(frame: Frame, value: Timestamp) -> str:
    return moments.write_timestamp(value)


@STANDARD.add("string(duration) -> string")
def _(frame: Frame, value: Duration) -> str:
    return moments.write_duration(value)


@STANDARD.add("string(bytes) -> string")
def _(frame: Frame, value: bytes) -> str:
    traversal(frame, len(value))
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Fault("these bytes are no UTF-8") from None


@STANDARD.add("bytes(string) -> bytes")
def _(frame: Frame, value: str) -> bytes:
    traversal(frame, len(value))
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Fault("this string has half of a surrogate pair") from None


@STANDARD.add("timestamp(string) -> timestamp")
def _(frame: Frame, value: str) -> Timestamp:
    return moments.read_timestamp(value)


@STANDARD.add("timestamp(int) -> timestamp")
def _(frame: Frame, value: int) -> Timestamp:
    return moments.timestamp(value * SECOND)


@STANDARD.add("duration(string) -> duration")
def _(frame: Frame, value: str) -> Duration:
    return moments.read_duration(value)


@STANDARD.add("duration(int) -> duration")
def _(frame: Frame, value: int) -> Duration:
    return moments.duration(value)


@STANDARD.add("string.startsWith(string) -> bool")
def _(frame: Frame, text: str, part: str) -> bool:
    traversal(frame, len(text))
    return text.startswith(part)


@STANDARD.add("string.endsWith(string) -> bool")
def _(frame: Frame, text: str, part: str) -> bool:
    traversal(frame, len(text))
    return text.endswith(part)


@STANDARD.add("string.contains(string) -> bool")
def _(frame: Frame, text: str, part: str) -> bool:
    frame.spend(max(0, ((len(text) + 9) // 10) * ((len(part) + 9) // 10) - 1))
    return part in text


def _part(name: str, read: Callable[[datetime, int], int]) -> None:
    @STANDARD.add(f"timestamp.{name}() -> int")
    def utc(frame: Frame, value: Timestamp) -> int:
        return read(*moments.local(value, "UTC"))

    @STANDARD.add(f"timestamp.{name}(string) -> int")
    def zoned(frame: Frame, value: Timestamp, zone: str) -> int:
        frame.spend(0 if moments.is_known_zone(zone) else _ZONE_COST)
        return read(*moments.local(value, zone))


_part("getFullYear", lambda t, years: t.year + years)
_part("getMonth", lambda t, _: t.month - 1)
_part("getDate", lambda t, _: t.day)
_part("getDayOfMonth", lambda t, _: t.day - 1)
_part("getDayOfWeek", lambda t, _: t.isoweekday() % 7)
_part("getDayOfYear", lambda t, _: t.timetuple().tm_yday - 1)
_part("getHours", lambda t, _: t.hour)
_part("getMinutes", lambda t, _: t.minute)
_part("getSeconds", lambda t, _: t.second)


@STANDARD.add("timestamp.getMilliseconds() -> int")
def _(frame: Frame, value: Timestamp) -> int:
    return value.nanos % SECOND // 10**6


@STANDARD.add("timestamp.getMilliseconds(string) -> int")
def _(frame: Frame, value: Timestamp, zone: str) -> int:
    frame.spend(0 if moments.is_known_zone(zone) else _ZONE_COST)
    moments.local(value, zone)
    return value.nanos % SECOND // 10**6


def _units(value: Duration, unit: int) -> int:
    count = abs(value.nanos) // unit
    return -count if value.nanos < 0 else count


@STANDARD.add("duration.getHours() -> int")
def _(frame: Frame, value: Duration) -> int:
    return _units(value, 3600 * SECOND)


@STANDARD.add("duration.getMinutes() -> int")
def _(frame: Frame, value: Duration) -> int:
    return _units(value, 60 * SECOND)


@STANDARD.add("duration.getSeconds() -> int")
def _(frame: Frame, value: Duration) -> int:
    return _units(value, SECOND)


@STANDARD.add("duration.getMilliseconds() -> int")
def _(frame: Frame, value: Duration) -> int:
    return _units(value, 10**6)
