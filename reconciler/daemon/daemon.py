"""The loop around passes: run one, wait for what is next, stop cleanly when told to.

SIGTERM and SIGINT set one event. Work in flight sees it between two effects: a capture ends without a point,
its blueprint's `resume` still runs, and the next start finds from ledger and store what is left to do.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import FrameType

import structlog

from reconciler.clock import Clock, format_instant
from reconciler.daemon.health import Health
from reconciler.daemon.reconcile import PassReport, Reconciler

log = structlog.get_logger(__name__)
STALE_AFTER = timedelta(minutes=15)
LONGEST_PASS = timedelta(hours=12)
"""A pass may stream databases for hours; one that takes longer than this hangs."""


class Daemon:
    """Runs passes until it is stopped."""

    def __init__(self, reconciler: Reconciler, *, clock: Clock, poll: timedelta) -> None:
        self._reconciler = reconciler
        self._clock = clock
        self._poll = poll
        self._last: PassReport | None = None
        self._started_at = clock.now()
        self._pass_since: datetime | None = None

    def run(self, *, stop: threading.Event) -> None:
        """Run passes until `stop` is set. What a pass fails at is in its report; the next one tries again."""
        while not stop.is_set():
            self._pass_since = self._clock.now()
            report = self._reconciler.run_pass(stop=stop)
            self._last, self._pass_since = report, None
            wake_at = self._clock.now() + self._poll
            if report.next_at is not None:
                wake_at = max(
                    self._clock.now() + timedelta(seconds=1), min(wake_at, report.next_at)
                )
            log.info("pass ended", next_at=format_instant(wake_at), **report.counts())
            if not self._clock.wait_until(wake_at, stop=stop):
                break
        log.info("stopped")

    def health(self) -> Health:
        """What the probes answer now."""
        last, since, now = self._last, self._pass_since, self._clock.now()
        at = last.ended_at if last else self._started_at
        alive = now - since < LONGEST_PASS if since else now - at < STALE_AFTER + self._poll
        if last is None:
            return Health(alive=alive, ready=False, message="the first pass has not ended")
        problems = "; ".join(f"{p.where}: {p.message}" for p in last.problems if p.blocks)
        message = problems or f"last pass ended {format_instant(at)}"
        return Health(alive=alive, ready=not problems, message=message)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
