"""Timestamps and durations to the nanosecond: strict, linear readers, the writers and the ranges of Go.

A timestamp lies in the years 1 to 9999, a duration within 2**63 nanoseconds (292 years). Time zones of accessors are
IANA names or `+02:00`; the names come from the system, else from the package tzdata where it is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from reconciler.cel.error import Fault

SECOND = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = -62_135_596_800 * SECOND
_LAST = 253_402_300_800 * SECOND - 1
_SPAN_MAX = 2**63 - 1
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_PART = re.compile(r"(?:(\d{1,19})(?:\.(\d{0,18}))?|\.(\d{1,18}))(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_OFFSET = re.compile(r"([+-])?(\d\d):(\d\d)", re.ASCII)
_NANOS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_TEXT_MAX = 200


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """An instant: nanoseconds since 1970 in UTC."""

    nanos: int

    @classmethod
    def of(cls, moment: datetime) -> Timestamp:
        """Python's instant; one without a zone is UTC."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return cls((aware - _EPOCH) // timedelta(microseconds=1) * 1000)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span in nanoseconds."""

    nanos: int


def timestamp(nanos: int) -> Timestamp:
    """An instant within the range.

    Raises:
        Fault: it is not.
    """
    if _FIRST <= nanos <= _LAST:
        return Timestamp(nanos)
    raise Fault("a timestamp or duration is out of range")


def duration(nanos: int) -> Duration:
    """A span within the range.

    Raises:
        Fault: it is not.
    """
    if -_SPAN_MAX - 1 <= nanos <= _SPAN_MAX:
        return Duration(nanos)
    raise Fault("a timestamp or duration is out of range")


def read_timestamp(text: str) -> Timestamp:
    """Read RFC 3339.

    Raises:
        Fault: it is none, or of no year from 1 to 9999.
    """
    found = _TIMESTAMP.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if found is None:
        raise Fault("this is no timestamp; expected RFC 3339 such as 2026-12-01T18:00:00Z")
    ahead = 0
    if found[8]:
        hours, minutes = int(found[9]), int(found[10])
        ahead = (hours * 60 + minutes) * (-1 if found[8] == "-" else 1)
        if hours > 23 or minutes > 59:
            raise Fault("this timestamp does not exist")
    try:
        year, month, day, hour, minute, second = (int(found[n]) for n in range(1, 7))
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise Fault("this timestamp does not exist") from None
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - ahead * 60
    return timestamp(seconds * SECOND + int((found[7] or "0").ljust(9, "0")[:9]))


def write_timestamp(value: Timestamp) -> str:
    """Write RFC 3339 in UTC, with as much fraction as there is."""
    seconds, nanos = divmod(value.nanos, SECOND)
    utc = _EPOCH + timedelta(seconds=seconds)
    text = utc.strftime("%m-%dT%H:%M:%S")
    fraction = f".{nanos:09}".rstrip("0") if nanos else ""
    return f"{utc.year:04}-{text}{fraction}Z"


def read_duration(text: str) -> Duration:
    """Read `1h30m`, `-1.5s`: the units of Go, so no days.

    Raises:
        Fault: it is none, or out of range.
    """
    left = text[: _TEXT_MAX + 1].removeprefix("-" if text[:1] == "-" else "+")
    if left == "0" and len(text) <= 2:
        return Duration(0)
    nanos, at = 0, 0
    while len(text) <= _TEXT_MAX and at < len(left):
        found = _PART.match(left, at)
        if found is None:
            break
        integer, fraction, bare, unit = found.groups()
        fraction = fraction or bare or ""
        nanos += int(integer or "0") * _NANOS[unit]
        nanos += int(fraction or "0") * _NANOS[unit] // 10 ** len(fraction)
        at = found.end()
    if at == 0 or at < len(left):
        raise Fault("this is no duration; expected one such as 1h30m or 90s (no days)")
    return duration(-nanos if text[0] == "-" else nanos)


def write_duration(value: Duration) -> str:
    """Write seconds: `5400s`, `1.5s`."""
    seconds, rest = divmod(abs(value.nanos), SECOND)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{'-' if value.nanos < 0 else ''}{seconds}{fraction}s"


def local(value: Timestamp, zone: str) -> datetime:
    """The instant on the wall clocks of a zone, to the second.

    Raises:
        Fault: the zone is unknown.
    """
    try:
        moment = _EPOCH + timedelta(seconds=value.nanos // SECOND)
        return moment if zone in ("", "UTC") else moment.astimezone(_zone(zone[:_TEXT_MAX]))
    except (ZoneInfoNotFoundError, ValueError, OverflowError, OSError):
        raise Fault(
            "unknown time zone; expected an IANA name such as Europe/Berlin, or +02:00"
        ) from None


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    found = _OFFSET.fullmatch(name)
    if found:
        ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-ahead if found[1] == "-" else ahead)
    return ZoneInfo(name)
