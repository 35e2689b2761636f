"""How each object and content of a restore ended, and what follows for the whole.

What failed is also kept by key, because a failure spreads to what needs the object, and no further.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from reconciler.kinds.record import Outcome
from reconciler.objects import ObjectKey
from reconciler.restore.plan.entry import Plan

OutcomeResult = Literal["Succeeded", "Skipped", "Failed"]
Phase = Literal["Succeeded", "Partial", "Failed", "Cancelled", "Stopped"]
NOT_READY = "NotReady"
_MESSAGE_CHARACTERS = 256

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Result:
    """How carrying out a plan ended. `Stopped` is not an end: the attempt is resumed later."""

    phase: Phase
    outcomes: tuple[Outcome, ...]
    message: str = ""


class Tally:
    """The outcomes of one run of a plan. Safe to use from several threads."""

    def __init__(
        self, plan: Plan, *, stop: threading.Event, changed: Callable[[], None] = lambda: None
    ) -> None:
        objects = [entry.target.path for entry in plan.entries]
        self._items = [*objects, *(content.name for content in plan.contents)]
        self._stop = stop
        self._changed = changed
        self._lock = threading.Lock()
        self._outcomes: dict[str, Outcome] = {}
        self._failed: dict[ObjectKey, str] = {}

    def end(self, item: str, result: OutcomeResult, reason: str, message: str = "") -> None:
        """Write down how an item ended; a later word counts."""
        line = " ".join(message.split())[:_MESSAGE_CHARACTERS]
        with self._lock:
            self._outcomes[item] = Outcome(item=item, result=result, reason=reason, message=line)
        self._changed()

    @property
    def counts(self) -> tuple[int, int]:
        """How many items ended, and how many there are."""
        return len(self._outcomes), len(self._items)

    def fail(self, key: ObjectKey, reason: str, message: str) -> None:
        """An object failed. Once work stops nothing is a failure: it was not tried to the end."""
        if self._stop.is_set():
            return
        log.warning("object failed", object=str(key), reason=reason)
        with self._lock:
            self._failed[key] = reason
        self.end(key.path, "Failed", reason, message)

    def fail_content(self, name: str, into: ObjectKey, reason: str, message: str) -> None:
        """A content failed. What needs its object must not start on an empty one and take it for new."""
        self.end(name, "Failed", reason, message)
        with self._lock:
            self._failed.setdefault(into, f"its content failed: {reason}")

    def failure_of(self, key: ObjectKey) -> str:
        """The reason for which an object failed; empty when it did not."""
        return self._failed.get(key, "")

    def obstacle_of(self, key: ObjectKey) -> str:
        """The reason for which an object cannot be leant on; empty when it can.

        What is there and not Ready can be: an autoscaler must not be missing because of it.
        """
        reason = self.failure_of(key)
        return "" if reason == NOT_READY else reason

    def result(self, *, is_withdrawn: bool) -> Result:
        """The end of the run; what was not reached is said item by item."""
        left = [item for item in self._items if item not in self._outcomes]
        if is_withdrawn:
            for item in left:
                self.end(item, "Skipped", "Cancelled")
            return Result("Cancelled", self._sorted(), "the request was withdrawn")
        if self._stop.is_set():
            return Result("Stopped", self._sorted(), "asked to stop")
        for item in left:
            self.end(item, "Failed", "NotReached")
        outcomes = self._sorted()
        results = {outcome.result for outcome in outcomes}
        if "Failed" not in results:
            return Result("Succeeded", outcomes)
        failed = next(outcome for outcome in outcomes if outcome.result == "Failed")
        message = f"{failed.item}: {failed.reason}: {failed.message}"[:_MESSAGE_CHARACTERS]
        return Result("Partial" if "Succeeded" in results else "Failed", outcomes, message)

    def _sorted(self) -> tuple[Outcome, ...]:
        order = {item: index for index, item in enumerate(self._items)}
        # What is no item of the plan is something that was to be held back: it comes first.
        return tuple(sorted(self._outcomes.values(), key=lambda o: order.get(o.item, -1)))
