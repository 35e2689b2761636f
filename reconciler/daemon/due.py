"""What is due: derived from the ledger and the calendar at every pass, kept nowhere.

An application's last slot is the newest, up to now, that has a scheduled point; its latest slot is tried again
after a failure, later each time. Points made by hand do not count, nor do those that lie ahead of the clock: one
jump of a clock into the future must not stop captures until that day comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.clock import format_slot, parse_instant
from reconciler.daemon.calendar import due, next_slot
from reconciler.kinds.effective import Application, EffectivePolicy
from reconciler.ledger.ledger import LedgerView

RETRY_FIRST = timedelta(minutes=1)
RETRY_MOST = timedelta(hours=1)
ATTEMPTS_MAX = 8


@dataclass(frozen=True)
class DueCapture:
    """One capture to be made now."""

    application: Application
    policy: EffectivePolicy | None
    slot: str
    missed: int
    attempt: int
    manual: bool = False


@dataclass(frozen=True)
class Upcoming:
    """When an application is next due; `at` is None when it never is."""

    application: Application
    at: datetime | None


def due_captures(
    assignments: Iterable[tuple[Application, EffectivePolicy]], *, view: LedgerView, now: datetime
) -> tuple[list[DueCapture], list[Upcoming]]:
    """What to capture now, oldest slot first, and when each of the others is due."""
    captures: list[tuple[datetime, DueCapture]] = []
    upcoming: list[Upcoming] = []
    for application, policy in assignments:
        if policy.schedule is None:
            continue
        pause = policy.suspension(now)
        if pause is not None:
            upcoming.append(Upcoming(application, pause.until))
            continue
        last = last_slot(view, application, upto=now)
        found = due(policy.schedule, last_slot=last, now=now, key=str(application))
        if found is None or found.starts_at > now:
            at = found.starts_at if found else next_slot(policy.schedule, now)
            upcoming.append(Upcoming(application, at))
            continue
        slot = format_slot(found.slot)
        attempt, not_before = _attempt(view, application, slot)
        if not_before > now:
            upcoming.append(Upcoming(application, not_before))
        elif attempt <= ATTEMPTS_MAX:
            entry = DueCapture(
                application=application,
                policy=policy,
                slot=slot,
                missed=found.missed,
                attempt=attempt,
            )
            captures.append((found.slot, entry))
        else:
            upcoming.append(Upcoming(application, next_slot(policy.schedule, now)))
    captures.sort(key=lambda pair: (pair[0], pair[1].application))
    return [entry for _, entry in captures], upcoming


def last_slot(view: LedgerView, application: Application, *, upto: datetime) -> datetime | None:
    """The newest slot of an application, up to an instant, that has a live scheduled point."""
    newest = format_slot(upto)
    for entry in reversed(view.points(str(application))):
        if entry.slot > newest:
            continue
        record = view.point(entry.application, entry.slot)
        if record is not None and not record.spec.manual:
            return parse_instant(entry.slot)
    return None


def _attempt(view: LedgerView, application: Application, slot: str) -> tuple[int, datetime]:
    """The number of the next attempt at a slot, and the instant before which it is not made."""
    failures = view.failures(str(application), slot)
    if not failures:
        return 1, datetime.min.replace(tzinfo=parse_instant("20000101T000000Z").tzinfo)
    newest = max(failure.spec.failed_at for failure in failures)
    pause = min(RETRY_FIRST * 2 ** (len(failures) - 1), RETRY_MOST)
    return max(f.spec.attempt for f in failures) + 1, newest + pause
