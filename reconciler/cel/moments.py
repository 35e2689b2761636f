"""Timestamps and durations: strict, linear readers and the writers that cel-go has.

Sub-second parts are kept to the microsecond. Time zones of accessors are IANA names or `+02:00`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from reconciler.cel.error import Fault

_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_PART = re.compile(r"(?:(\d{1,19})(?:\.(\d{0,18}))?|\.(\d{1,18}))(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_OFFSET = re.compile(r"([+-])?(\d\d):(\d\d)", re.ASCII)
_NANOS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION_NANOS_MAX = 2**63 - 1
_TEXT_MAX = 200


def read_timestamp(text: str) -> datetime:
    """Read RFC 3339."""
    found = _TIMESTAMP.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if found is None:
        raise Fault("this is no timestamp; expected RFC 3339 such as 2026-12-01T18:00:00Z")
    micros = int((found[7] or "0").ljust(9, "0")[:6])
    try:
        zone: tzinfo = UTC
        if found[8]:
            ahead = timedelta(hours=int(found[9]), minutes=int(found[10]))
            zone = timezone(-ahead if found[8] == "-" else ahead)
        year, month, day, hour, minute, second = (int(found[n]) for n in range(1, 7))
        moment = datetime(year, month, day, hour, minute, second, micros, tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Fault("this timestamp does not exist") from None


def write_timestamp(value: datetime) -> str:
    """Write RFC 3339 in UTC, with as much fraction as there is."""
    utc = value.astimezone(UTC)
    text = utc.strftime("%m-%dT%H:%M:%S")
    fraction = f".{utc.microsecond:06}".rstrip("0") if utc.microsecond else ""
    return f"{utc.year:04}-{text}{fraction}Z"


def read_duration(text: str) -> timedelta:
    """Read `1h30m`, `-1.5s`: the units of Go, so no days."""
    left = text[: _TEXT_MAX + 1].removeprefix("-" if text[:1] == "-" else "+")
    if left == "0":
        return timedelta()
    nanos, at = 0, 0
    while len(text) <= _TEXT_MAX and at < len(left):
        found = _PART.match(left, at)
        if found is None:
            break
        whole, fraction, bare, unit = found.groups()
        fraction = fraction or bare or ""
        nanos += int(whole or "0") * _NANOS[unit]
        nanos += int(fraction or "0") * _NANOS[unit] // 10 ** len(fraction)
        at = found.end()
    if at == 0 or at < len(left):
        raise Fault("this is no duration; expected one such as 1h30m or 90s (no days)")
    if nanos > _DURATION_NANOS_MAX:
        raise Fault("a timestamp or duration is out of range")
    span = timedelta(microseconds=nanos // 1000)
    return -span if text[0] == "-" else span


def write_duration(value: timedelta) -> str:
    """Write seconds: `5400s`, `1.5s`."""
    micros = value // timedelta(microseconds=1)
    seconds, rest = divmod(abs(micros), 10**6)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{'-' if micros < 0 else ''}{seconds}{fraction}s"


def local(value: datetime, zone: str) -> datetime:
    """The instant on the wall clocks of a zone."""
    found = _OFFSET.fullmatch(zone)
    zone = zone[:_TEXT_MAX]
    try:
        if found:
            ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
            return value.astimezone(timezone(-ahead if found[1] == "-" else ahead))
        return value.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OverflowError, OSError):
        raise Fault(
            "unknown time zone; expected an IANA name such as Europe/Berlin, or +02:00"
        ) from None
