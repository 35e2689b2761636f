"""The daemon's clock: the machine's time, with waiting done by APScheduler.

Each wait is one `DateTrigger` job with no grace limit, so a wait is never dropped as a misfire, however late
the machine wakes. What is due is never kept here: every pass derives it from the ledger.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from reconciler.clock import SystemClock


class TimerClock:
    """A `Clock` on APScheduler; a context manager."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._system = SystemClock()

    def __enter__(self) -> Self:
        self._scheduler.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A scheduler that is stopped in the middle of a job's end raises in its thread. Paused, it ends what
        # it is at before its jobs can be taken away, and starts nothing new.
        self._scheduler.pause()
        self._scheduler.remove_all_jobs()
        self._scheduler.shutdown(wait=False)

    def now(self) -> datetime:
        """Return the present instant."""
        return self._system.now()

    def wait_until(self, instant: datetime, *, stop: threading.Event) -> bool:
        """Wait until `instant`, or until `stop` is set."""
        if stop.is_set():
            return False
        if instant <= self.now():
            return True
        come = threading.Event()
        job = self._scheduler.add_job(
            come.set, DateTrigger(run_date=instant), misfire_grace_time=None, coalesce=True
        )
        try:
            # A short nap between looks keeps SIGTERM prompt: `stop` is set by a signal handler.
            while not come.wait(0.2):
                if stop.is_set():
                    return False
        finally:
            if not come.is_set():
                # It may end by itself between the two.
                with suppress(JobLookupError):
                    job.remove()
        return not stop.is_set()
