"""Slots: the instants at which a schedule asks for a capture. Pure arithmetic, nothing is remembered.

cronsim does the calendar, in the policy's time zone, by the rules of Debian's cron at changes of daylight
saving time: a time of day that does not exist runs right after the gap, one that comes twice runs once, and `*` in
minute or hour follows real time. Everything that comes out is UTC, strictly ascending.

An application's jitter is a hash of its name, so that every process finds the same start for a slot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from reconciler.errors import TerminalError
from reconciler.kinds.policy import Schedule

MISSED_MAX = 1000
LATE_MAX = timedelta(minutes=15)
"""With `missedRuns: Skip`, a slot that did not start within this time after its start is not caught up."""

_FIRST_LOOK = timedelta(hours=1)
_FURTHEST_LOOK = timedelta(days=366 * 9)
"""Leap days are at most eight years apart."""
_STEP = timedelta(minutes=1)
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


class CronError(TerminalError):
    """A cron expression cannot be read, or never fires."""


@dataclass(frozen=True, slots=True)
class Due:
    """A slot to capture. It starts at `starts_at`, which may lie ahead by the jitter."""

    slot: datetime
    missed: int
    """Slots between the last captured one and this, at most `MISSED_MAX`."""
    starts_at: datetime


def slots(
    schedule: Schedule, *, after: datetime, upto: datetime, limit: int = MISSED_MAX
) -> list[datetime]:
    """The first `limit` slots in (after, upto], ascending.

    Raises:
        CronError: the cron expression cannot be read.
    """
    return list(islice(_between(schedule, after, upto), limit))


def next_slot(schedule: Schedule, after: datetime) -> datetime | None:
    """The first slot later than `after`; None when there is none within 50 years.

    Raises:
        CronError: the cron expression cannot be read.
    """
    return next(_forward(schedule, after), None)


def latest_slot(schedule: Schedule, upto: datetime) -> datetime | None:
    """The newest slot at or before `upto`; None when there is none in nine years."""
    look = _FIRST_LOOK
    while (found := next_slot(schedule, upto - look)) is None or found > upto:
        if look > _FURTHEST_LOOK:
            return None
        look *= 2
    beyond = upto
    while beyond - found > _STEP:  # bisect: a busy cron has too many slots to walk through
        middle = found + (beyond - found) / 2
        candidate = next_slot(schedule, middle)
        if candidate is not None and candidate <= upto:
            found = candidate
        else:
            beyond = middle
    candidate = next_slot(schedule, found)
    return candidate if candidate is not None and candidate <= upto else found


def due(schedule: Schedule, *, last_slot: datetime | None, now: datetime, key: str) -> Due | None:
    """What an application owes at `now`, given its newest slot that has a point.

    Without any point the latest slot is due at once. Otherwise it is the newest slot that may start by now; when
    there is none yet, the first that is waiting for its jitter. A slot is never older than `last_slot`, so a
    clock that jumps back makes no doubles.

    Raises:
        CronError: the cron expression cannot be read.
    """
    if last_slot is None:
        first = latest_slot(schedule, now)
        return None if first is None else Due(slot=first, missed=0, starts_at=first)
    if last_slot >= now:
        return None
    offset = jitter(schedule, key)
    ready = latest_slot(schedule, now - offset)
    if ready is not None and ready > last_slot:
        if schedule.missed_runs == "Coalesce" or now - (ready + offset) <= LATE_MAX:
            missed = len(slots(schedule, after=last_slot, upto=ready, limit=MISSED_MAX + 1)) - 1
            return Due(slot=ready, missed=missed, starts_at=ready + offset)
        last_slot = ready
    waiting = slots(schedule, after=last_slot, upto=now, limit=1)
    return Due(slot=waiting[0], missed=0, starts_at=waiting[0] + offset) if waiting else None


def jitter(schedule: Schedule, key: str) -> timedelta:
    """How long after its slot the application `key` starts: whole seconds below the schedule's jitter."""
    span_s = int(schedule.jitter.total_seconds()) if schedule.jitter else 0
    if span_s <= 0:
        return timedelta()
    digest = hashlib.sha256(key.encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8], "big") % span_s)


def _between(schedule: Schedule, after: datetime, upto: datetime) -> Iterator[datetime]:
    for slot in _forward(schedule, after):
        if slot > upto:
            return
        yield slot


def _forward(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Slots later than `after`. cronsim works on wall-clock time, which may step back or repeat an instant."""
    if len(schedule.cron.split()) != 5:
        raise CronError(
            f"read cron {schedule.cron!r}: expected five fields",
            hint="write minute, hour, day of month, month and day of week",
        )
    if _never_fires(schedule.cron):
        return
    zone: tzinfo = UTC if schedule.time_zone == "UTC" else ZoneInfo(schedule.time_zone)
    wall = CronSim(schedule.cron, after.astimezone(zone))
    last = after
    for local in wall:
        slot = local.astimezone(UTC)
        if slot > last:
            last = slot
            yield slot


def _never_fires(cron: str) -> bool:
    """Whether a well-formed expression names a day that none of its months has, such as 30 February."""
    try:
        CronSim(cron, _SOME_DAY)
    except CronSimError as error:
        minute, hour, day, month, weekday = cron.split()
        try:  # each field alone is sound: only together they never fire
            CronSim(f"{minute} {hour} {day} * {weekday}", _SOME_DAY)
            CronSim(f"{minute} {hour} * {month} {weekday}", _SOME_DAY)
        except CronSimError:
            raise CronError(f"read cron {cron!r}: {error}") from error
        return True
    return False
