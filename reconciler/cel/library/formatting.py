"""`"%s has %d".format([…])` of cel-go's strings library."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from reconciler.cel import moments
from reconciler.cel.error import Fault, Stop
from reconciler.cel.library.table import Table, traversal
from reconciler.cel.values import Frame, TypeName, Uint, keys_of, shown_type

FORMATTING = Table("strings", since="1.29")
_CLAUSE = re.compile(r"%(?:\.(\d{1,4}))?(.?)", re.DOTALL)
_PRECISION_MAX = 1000
_DEPTH_MAX = 32


@FORMATTING.add("string.format(list(dyn)) -> string")
def _(frame: Frame, text: str, arguments: list[Any]) -> str:
    traversal(frame, len(text))
    rest = iter(arguments)
    made: list[str] = []
    size, at = 0, 0
    for found in _CLAUSE.finditer(text):
        piece = text[at : found.start()]
        at = found.end()
        clause = found[2]
        if clause == "%" and found[1] is None:
            piece += "%"
        else:
            piece += _write(frame, clause, found[1], rest)
        size += len(piece)
        frame.fit(size)
        made.append(piece)
    made.append(text[at:])
    return "".join(made)


def _write(frame: Frame, clause: str, precision: str | None, rest: Any) -> str:
    if clause not in _CLAUSES or (precision is not None and clause not in "ef"):
        raise Fault(f"unknown clause %{clause} in a format")
    digits = 6 if precision is None else int(precision)
    if digits > _PRECISION_MAX:
        raise Fault(f"a format has more than {_PRECISION_MAX} digits")
    try:
        value = next(rest)
    except StopIteration:
        raise Fault("a format has more clauses than values") from None
    written = _CLAUSES[clause](frame, value, digits)
    if written is None:
        raise Fault(f"%{clause} does not take a value of type {shown_type(value)}")
    return written


def _infinite(value: float) -> str:
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _plain(value: float) -> str:
    return f"{Decimal(repr(value)).normalize():f}" if math.isfinite(value) else _infinite(value)


def _text(frame: Frame, value: Any, _: int = 0, *, depth: int = 0) -> str | None:
    frame.spend(1)
    if depth > _DEPTH_MAX:
        raise Stop("a value to be formatted is nested too deeply")
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return _plain(value)
        case bytes():
            return value.decode("utf-8", "replace")
        case moments.Timestamp():
            return moments.write_timestamp(value)
        case moments.Duration():
            return moments.write_duration(value)
        case TypeName():
            return value.name
        case list():
            return f"[{', '.join(_inner(frame, item, depth) for item in value)}]"
        case dict():
            pairs = sorted(
                (_inner(frame, key, depth), _inner(frame, item, depth))
                for key, item in zip(keys_of(value), value.values(), strict=True)
            )
            return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    return None


def _inner(frame: Frame, value: Any, depth: int) -> str:
    written = _text(frame, value, depth=depth + 1)
    if written is None:
        raise Fault(f"%s does not take a value of type {shown_type(value)}")
    frame.fit(len(written))
    return written


def _decimal(frame: Frame, value: Any, _: int) -> str | None:
    if type(value) is int or type(value) is Uint:
        return str(int(value))
    return _plain(value) if type(value) is float else None


def _fixed(frame: Frame, value: Any, digits: int) -> str | None:
    if type(value) not in (int, Uint, float):
        return None
    return f"{value:.{digits}f}" if math.isfinite(value) else _infinite(value)


def _scientific(frame: Frame, value: Any, digits: int) -> str | None:
    if type(value) not in (int, Uint, float):
        return None
    return f"{value:.{digits}e}" if math.isfinite(value) else _infinite(value)


def _radix(code: str) -> Callable[[Frame, Any, int], str | None]:
    def write(frame: Frame, value: Any, _: int) -> str | None:
        if code == "b" and type(value) is bool:
            return "1" if value else "0"
        if type(value) is int or type(value) is Uint:
            return format(int(value), code)
        if code in "xX" and type(value) in (str, bytes):
            raw = value.encode("utf-8", "replace") if type(value) is str else value
            frame.fit(2 * len(raw))
            written: str = raw.hex()
            return written.upper() if code == "X" else written
        return None

    return write


_CLAUSES: dict[str, Callable[[Frame, Any, int], str | None]] = {
    "s": _text,
    "d": _decimal,
    "f": _fixed,
    "e": _scientific,
    "b": _radix("b"),
    "o": _radix("o"),
    "x": _radix("x"),
    "X": _radix("X"),
}
