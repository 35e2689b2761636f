"""How far a restore is, and what it waits for, for whoever looks on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

_SAYS_AFTER_S = 5.0
_SAYS_EVERY_S = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Progress:
    """A moment of a restore."""

    done: int
    """Objects and contents that ended, however they did."""
    total: int
    waits: tuple[str, ...] = ()
    """What is waited for and what it lacks, longest first: `Deployment.apps/web: 0 of 1 replicas are Ready`."""


Watch = Callable[[Progress], None]


def watched_by_nobody(_: Progress) -> None:
    """Nobody looks on."""


class Waits:
    """What a restore waits for now. Long waits are said in the log, and then from time to time."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._problems: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def __call__(self, what: str, problem: str) -> None:
        """Something lacks this; empty when it is not waited for any more."""
        now = time.monotonic()
        with self._lock:
            is_new = self._problems.get(what, "") != problem
            if problem:
                self._problems[what] = problem
                began = self._began.setdefault(what, now)
                told = self._told.get(what, began + _SAYS_AFTER_S - _SAYS_EVERY_S)
                is_due = now - told >= _SAYS_EVERY_S
                if is_due:
                    self._told[what] = now
            else:
                self._problems.pop(what, None)
                began, is_due = self._began.pop(what, now), False
                self._told.pop(what, None)
        if is_due:
            log.info("restore waits", object=what, problem=problem, seconds=round(now - began))
        if is_new:
            self._changed()

    def lines(self) -> tuple[str, ...]:
        """One for each, the longest wait first."""
        with self._lock:
            return tuple(f"{what}: {problem}" for what, problem in self._problems.items())
