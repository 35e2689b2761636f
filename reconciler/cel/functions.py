"""The functions of the language: the standard ones, Kubernetes' strings library, `jsonpatch.escapeKey`, and
`lists.range` and `flatten` of cel-go's lists.

`FUNCTIONS` maps what can be called to its overloads by number of arguments; a receiver counts as the first. Types
are checked inside, so that a wrong one is a fault with the types named, never an exception of Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from reconciler.cel import moments
from reconciler.cel.error import Fault, Stop
from reconciler.cel.values import (
    INT_MAX,
    INT_MIN,
    SIZE_MAX,
    Frame,
    TypeName,
    no_overload,
    type_of,
)

Function = Callable[..., Any]
"""Takes the frame, then the arguments."""
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    chr(point) for point in range(0x2000, 0x200B)
)
_LOWER = {ord("A") + n: ord("a") + n for n in range(26)}
_UPPER = {low: high for high, low in _LOWER.items()}
_PATTERN_MAX = 1000
_PATTERNS_MAX = 32
"""Regular expressions in one evaluation: compiling one is dear, and a loop can compute many."""
_ZONE_STEPS = 100
"""Looking for a time zone may read a file."""


def _texts(name: str, *values: Any) -> None:
    if not all(isinstance(value, str) for value in values):
        raise no_overload(name, *values)


def _ints(name: str, *values: Any) -> None:
    if not all(type(value) is int for value in values):
        raise no_overload(name, *values)


def _size(frame: Frame, value: Any) -> int:
    frame.spend()
    if not isinstance(value, (str, list, dict)):
        raise no_overload("size", value)
    return len(value)


def _type(frame: Frame, value: Any) -> TypeName:
    frame.spend()
    return TypeName(type_of(value))


def _dyn(frame: Frame, value: Any) -> Any:
    frame.spend()
    return value


def _int(frame: Frame, value: Any) -> int:
    frame.spend()
    match value:
        case bool():
            pass
        case int():
            return value
        case float() if math.isfinite(value) and INT_MIN < value < INT_MAX:
            return int(value)
        case float():
            raise Fault("integer overflow")
        case str():
            digits = value[1:21] if value[:1] in ("-", "+") else value[:20]
            if len(value) <= 20 and digits.isascii() and digits.isdigit():
                number = int(value)
                if INT_MIN <= number <= INT_MAX:
                    return number
            raise Fault("this string is no int")
        case datetime():
            return math.floor(value.timestamp())
    raise no_overload("int", value)


def _double(frame: Frame, value: Any) -> float:
    frame.spend()
    match value:
        case bool():
            pass
        case int() | float():
            return float(value)
        case str():
            try:
                if len(value) <= 400 and "_" not in value and value == value.strip():
                    return float(value)
            except ValueError:
                pass
            raise Fault("this string is no double")
    raise no_overload("double", value)


def _bool(frame: Frame, value: Any) -> bool:
    frame.spend()
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        if value in ("0", "f", "F", "false", "FALSE", "False"):
            return False
        raise Fault("this string is no bool")
    raise no_overload("bool", value)


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


def _string(frame: Frame, value: Any) -> str:
    frame.spend()
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return write_double(value)
        case datetime():
            return moments.write_timestamp(value)
        case timedelta():
            return moments.write_duration(value)
    raise no_overload("string", value)


def _timestamp(frame: Frame, value: Any) -> datetime:
    frame.spend()
    if isinstance(value, datetime):
        return value
    if type(value) is int:
        try:
            return moments.read_timestamp("1970-01-01T00:00:00Z") + timedelta(seconds=value)
        except OverflowError:
            raise Fault("a timestamp or duration is out of range") from None
    _texts("timestamp", value)
    return moments.read_timestamp(value)


def _duration(frame: Frame, value: Any) -> timedelta:
    frame.spend()
    if isinstance(value, timedelta):
        return value
    _texts("duration", value)
    return moments.read_duration(value)


def _part(name: str, read: Callable[[datetime], int], span: Any = None) -> Function:
    def get(frame: Frame, value: Any, zone: Any = "UTC") -> int:
        frame.spend()
        if isinstance(value, timedelta) and span is not None and zone == "UTC":
            return int(span(value))
        if not isinstance(value, datetime) or not isinstance(zone, str):
            raise no_overload(name, value)
        frame.spend(0 if zone == "UTC" else _ZONE_STEPS)
        return read(moments.local(value, zone))

    return get


def _whole_units(span: timedelta, unit: timedelta) -> int:
    count = abs(span) // unit
    return -count if span < timedelta() else count


_PARTS: dict[str, Function] = {
    "getFullYear": _part("getFullYear", lambda t: t.year),
    "getMonth": _part("getMonth", lambda t: t.month - 1),
    "getDate": _part("getDate", lambda t: t.day),
    "getDayOfMonth": _part("getDayOfMonth", lambda t: t.day - 1),
    "getDayOfWeek": _part("getDayOfWeek", lambda t: t.isoweekday() % 7),
    "getDayOfYear": _part("getDayOfYear", lambda t: t.timetuple().tm_yday - 1),
    "getHours": _part("getHours", lambda t: t.hour, lambda d: _whole_units(d, timedelta(hours=1))),
    "getMinutes": _part(
        "getMinutes", lambda t: t.minute, lambda d: _whole_units(d, timedelta(minutes=1))
    ),
    "getSeconds": _part(
        "getSeconds", lambda t: t.second, lambda d: _whole_units(d, timedelta(seconds=1))
    ),
    "getMilliseconds": _part(
        "getMilliseconds",
        lambda t: t.microsecond // 1000,
        lambda d: _whole_units(abs(d) % timedelta(seconds=1), timedelta(milliseconds=1)),
    ),
}


def _search(name: str, test: Callable[[str, str], bool]) -> Function:
    def run(frame: Frame, text: Any, part: Any) -> bool:
        _texts(name, text, part)
        frame.spend(1 + len(text) // 64)
        return test(text, part)

    return run


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> Any:
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    if len(pattern) > _PATTERN_MAX:
        raise Fault(f"a regular expression is longer than {_PATTERN_MAX} characters")
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise Fault("this is no regular expression of RE2") from None


def _matches(frame: Frame, text: Any, pattern: Any) -> bool:
    _texts("matches", text, pattern)
    frame.spend(1 + (len(text) // 64 + 1) * (len(pattern) // 8 + 1))
    frame.patterns.add(pattern)
    if len(frame.patterns) > _PATTERNS_MAX:
        raise Stop(f"more than {_PATTERNS_MAX} regular expressions in one evaluation")
    return _pattern(pattern).search(text) is not None


def _char_at(frame: Frame, text: Any, at: Any) -> str:
    frame.spend()
    _texts("charAt", text)
    _ints("charAt", at)
    if not 0 <= at <= len(text):
        raise Fault(f"index {at} is out of range")
    return str(text[at : at + 1])


def _index_of(frame: Frame, text: Any, part: Any, start: Any = 0) -> int:
    _texts("indexOf", text, part)
    _ints("indexOf", start)
    frame.spend(1 + len(text) // 64)
    if not 0 <= start <= len(text):
        raise Fault(f"index {start} is out of range")
    return int(text.find(part, start))


def _last_index_of(frame: Frame, text: Any, part: Any, upto: Any = None) -> int:
    _texts("lastIndexOf", text, part)
    frame.spend(1 + len(text) // 16)
    if upto is None:
        return int(text.rfind(part))
    _ints("lastIndexOf", upto)
    if not 0 <= upto <= len(text):
        raise Fault(f"index {upto} is out of range")
    return int(text.rfind(part, 0, upto + len(part)))


def _substring(frame: Frame, text: Any, start: Any, end: Any = None) -> str:
    _texts("substring", text)
    end = len(text) if end is None else end
    _ints("substring", start, end)
    if not 0 <= start <= end <= len(text):
        raise Fault(f"range {start}..{end} is out of range")
    frame.fit(end - start)
    return str(text[start:end])


def _replace(frame: Frame, text: Any, old: Any, new: Any, limit: Any = -1) -> str:
    _texts("replace", text, old, new)
    _ints("replace", limit)
    frame.spend(1 + len(text) // 16)
    count = text.count(old)
    count = count if limit < 0 else min(count, limit)
    frame.fit(len(text) + count * max(0, len(new) - len(old)))
    return str(text.replace(old, new, count))


def _split(frame: Frame, text: Any, separator: Any, limit: Any = -1) -> list[str]:
    _texts("split", text, separator)
    _ints("split", limit)
    frame.spend(1 + len(text) // 16)
    if limit == 0:
        return []
    if separator:
        frame.fit(text.count(separator) + 1)
        return list(text.split(separator, -1 if limit < 0 else limit - 1))
    frame.fit(len(text))
    if limit < 0 or limit >= len(text):
        return list(text)
    return [*text[: limit - 1], text[limit - 1 :]]


def _join(frame: Frame, items: Any, separator: Any = "") -> str:
    if not isinstance(items, list):
        raise no_overload("join", items)
    frame.spend(len(items))
    _texts("join", separator, *items)
    frame.fit(sum(map(len, items)) + len(separator) * max(0, len(items) - 1))
    return str(separator.join(items))


def _rewrite(name: str, change: Callable[[str], str]) -> Function:
    def run(frame: Frame, text: Any) -> str:
        _texts(name, text)
        frame.fit(len(text))
        return change(text)

    return run


def _escape_key(frame: Frame, key: Any) -> str:
    _texts("jsonpatch.escapeKey", key)
    frame.fit(len(key))
    return str(key.replace("~", "~0").replace("/", "~1"))


def _range(frame: Frame, count: Any) -> list[int]:
    _ints("lists.range", count)
    if count > SIZE_MAX:
        raise Stop(f"a list grew larger than {SIZE_MAX} items")
    frame.spend(1 + max(0, count))
    return list(range(count))


def _flatten(frame: Frame, items: Any) -> list[Any]:
    if not isinstance(items, list):
        raise no_overload("flatten", items)
    out: list[Any] = []
    for item in items:
        part = item if isinstance(item, list) else [item]
        frame.spend(1 + len(part))
        out.extend(part)
    return out


GLOBALS: dict[str, dict[int, Function]] = {
    "size": {1: _size},
    "type": {1: _type},
    "dyn": {1: _dyn},
    "int": {1: _int},
    "double": {1: _double},
    "bool": {1: _bool},
    "string": {1: _string},
    "timestamp": {1: _timestamp},
    "duration": {1: _duration},
    "matches": {2: _matches},
}
METHODS: dict[str, dict[int, Function]] = {
    "size": {1: _size},
    "matches": {2: _matches},
    "startsWith": {2: _search("startsWith", str.startswith)},
    "endsWith": {2: _search("endsWith", str.endswith)},
    "contains": {2: _search("contains", lambda text, part: part in text)},
    "charAt": {2: _char_at},
    "indexOf": {2: _index_of, 3: _index_of},
    "lastIndexOf": {2: _last_index_of, 3: _last_index_of},
    "substring": {2: _substring, 3: _substring},
    "replace": {3: _replace, 4: _replace},
    "split": {2: _split, 3: _split},
    "join": {1: _join, 2: _join},
    "trim": {1: _rewrite("trim", lambda text: text.strip(_SPACE))},
    "lowerAscii": {1: _rewrite("lowerAscii", lambda text: text.translate(_LOWER))},
    "upperAscii": {1: _rewrite("upperAscii", lambda text: text.translate(_UPPER))},
    "flatten": {1: _flatten},
    **{name: {1: get, 2: get} for name, get in _PARTS.items()},
}
NAMESPACED: dict[str, dict[str, dict[int, Function]]] = {
    "jsonpatch": {"escapeKey": {1: _escape_key}},
    "lists": {"range": {1: _range}},
}
