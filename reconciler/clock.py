"""Time comes in from outside: the port, the machine's clock, and a clock that is moved by hand.

`Clock.now` gives aware UTC datetimes. `wait_until` sleeps until an instant or until it is interrupted.
The daemon's own implementation on APScheduler lives in `daemon/timer.py`; the stepped clock here serves
tests and the demo, whose hours pass in milliseconds.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...

    def wait_until(self, instant: datetime, *, stop: threading.Event) -> bool:
        """Wait for `instant`; return True when it has come, False when `stop` was set first."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present instant."""
        return datetime.now(UTC)

    def wait_until(self, instant: datetime, *, stop: threading.Event) -> bool:
        """Wait in short naps, so that a clock that jumps forward is noticed within a second."""
        while (left_s := (instant - self.now()).total_seconds()) > 0:
            if stop.wait(min(left_s, 1.0)):
                return False
        return not stop.is_set()


class SteppedClock:
    """A clock that stands still until it is moved; waiting moves it."""

    def __init__(self, start: datetime) -> None:
        assert start.tzinfo is not None, "instants are aware"
        self._now = start.astimezone(UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the instant that the clock stands at."""
        with self._lock:
            return self._now

    def move_to(self, instant: datetime) -> None:
        """Put the clock to `instant`, also backwards: clocks do jump."""
        with self._lock:
            self._now = instant.astimezone(UTC)

    def advance(self, span: timedelta) -> datetime:
        """Move the clock by `span` and return the new instant."""
        with self._lock:
            self._now += span
            return self._now

    def wait_until(self, instant: datetime, *, stop: threading.Event) -> bool:
        """Move to `instant` at once when it lies ahead."""
        if stop.is_set():
            return False
        with self._lock:
            self._now = max(self._now, instant.astimezone(UTC))
        return True


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 instant, or the compact form of slots (`20261123T110000Z`), as aware UTC.

    Raises:
        ValueError: it is neither, or has no zone.
    """
    if len(text) == len("20261123T110000Z") and text[8] == "T" and text.endswith("Z"):
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write …Z for UTC")
    return instant.astimezone(UTC)


def format_instant(instant: datetime) -> str:
    """Write an instant as RFC 3339 in UTC, whole seconds unless it has a fraction."""
    utc = instant.astimezone(UTC)
    timespec = "microseconds" if utc.microsecond else "seconds"
    return utc.isoformat(timespec=timespec).replace("+00:00", "Z")


def format_slot(instant: datetime) -> str:
    """Write an instant as the name of a slot: `20261123T110000Z`."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
