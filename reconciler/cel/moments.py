"""Timestamps and durations to the nanosecond: strict, linear readers, the writers and the ranges of Go.

A timestamp lies in the years 1 to 9999, a duration within 2**63 nanoseconds (292 years). Time zones of accessors are
IANA names or `+02:00`; the names come from the system, else from the package tzdata where it is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from reconciler.cel.error import Fault

SECOND = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = -62_135_596_800 * SECOND
_LAST = 253_402_300_800 * SECOND - 1
_SPAN_MAX = 2**63 - 1
_CYCLE = 146_097 * 86_400
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
_ZONES_MAX = 1000
_zones: dict[str, tzinfo | timedelta] = {}


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """An instant: nanoseconds since 1970 in UTC. `offset_s` is the zone it was written in, as Go keeps it."""

    nanos: int
    offset_s: int = field(default=0, compare=False)

    @classmethod
    def of(cls, moment: datetime) -> Timestamp:
        """Python's instant; one without a zone is UTC."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return cls((aware - _EPOCH) // timedelta(microseconds=1) * 1000)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span in nanoseconds."""

    nanos: int


def timestamp(nanos: int, offset_s: int = 0) -> Timestamp:
    """An instant within the range.

    Raises:
        Fault: it is not.
    """
    if _FIRST <= nanos <= _LAST:
        return Timestamp(nanos, offset_s)
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
    nanos = int((found[7] or "0").ljust(9, "0")[:9])
    return timestamp(seconds * SECOND + nanos, ahead * 60)


def write_timestamp(value: Timestamp) -> str:
    """Write RFC 3339 in the zone that it was read in, with as much fraction as there is."""
    seconds, nanos = divmod(value.nanos, SECOND)
    moment, cycles = _wall(seconds + value.offset_s)
    text = moment.strftime("%m-%dT%H:%M:%S")
    fraction = f".{nanos:09}".rstrip("0") if nanos else ""
    hours, minutes = divmod(abs(value.offset_s) // 60, 60)
    sign = "-" if value.offset_s < 0 else "+"
    zone = f"{sign}{hours:02}:{minutes:02}" if value.offset_s else "Z"
    return f"{moment.year + cycles * 400:04}-{text}{fraction}{zone}"


def _wall(seconds: int) -> tuple[datetime, int]:
    """The clock `seconds` after 1970, moved by cycles of 400 years into the years that Python has."""
    cycles = -1 if seconds < _FIRST // SECOND else 1 if seconds > _LAST // SECOND else 0
    return _EPOCH + timedelta(seconds=seconds - cycles * _CYCLE), cycles


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
    """Write seconds as cel-go does, by way of a double: `5400s`, `1.5s`."""
    seconds, rest = divmod(abs(value.nanos), SECOND)
    amount = Decimal(repr(seconds + rest / SECOND)).normalize()
    return f"{'-' if value.nanos < 0 else ''}{amount:f}s"


def local(value: Timestamp, zone: str) -> tuple[datetime, int]:
    """The instant on the wall clocks of a zone, to the second, and the years to add to it.

    Raises:
        Fault: the zone is unknown.
    """
    try:
        seconds = value.nanos // SECOND
        if zone in ("", "UTC"):
            return _EPOCH + timedelta(seconds=seconds), 0
        found = _zone(zone[:_TEXT_MAX])
        if isinstance(found, timedelta):
            moment, cycles = _wall(seconds + found // timedelta(seconds=1))
            return moment, cycles * 400
        inside = min(max(seconds, _FIRST // SECOND + 86_400), _LAST // SECOND - 86_400)
        ahead = found.utcoffset((_EPOCH + timedelta(seconds=inside)).astimezone(found))
        moment, cycles = _wall(seconds + (ahead or timedelta()) // timedelta(seconds=1))
        return moment, cycles * 400
    except (ZoneInfoNotFoundError, ValueError, OverflowError, OSError):
        raise Fault(
            "unknown time zone; expected an IANA name such as Europe/Berlin, or +02:00"
        ) from None


def is_known_zone(name: str) -> bool:
    """Whether a zone has been read before."""
    return name in _zones or name in ("", "UTC")


def _zone(name: str) -> tzinfo | timedelta:
    found = _zones.get(name)
    if found is None:
        found = _read_zone(name)
        if len(_zones) < _ZONES_MAX:
            _zones[name] = found
    return found


def _read_zone(name: str) -> tzinfo | timedelta:
    found = _OFFSET.fullmatch(name)
    if found:
        ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return -ahead if found[1] == "-" else ahead
    return ZoneInfo(name)
