"""Which restore points of one application stay in one location: buckets of grandfather, father, son.

The newest Succeeded point of each of the last N periods stays, by slot; periods without a point do not count. Days,
ISO weeks, months and years are those of the policy's time zone; hours are counted in UTC, so that the hour which
comes twice in autumn is two hours. What is kept says why; so does what is not.

Whatever the buckets say, these stay: the newest Succeeded point, held points, Partial points until a newer
Succeeded one exists, points whose slot lies ahead of the clock, and everything while nothing has Succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from reconciler.kinds.policy import Retention
from reconciler.kinds.record import Phase

BEYOND = "BeyondRetention"
SUPERSEDED = "SupersededPartial"


@dataclass(frozen=True, slots=True)
class PointFacts:
    """What retention knows of a point. Slots are unique within an application."""

    slot: datetime
    phase: Phase
    manual: bool = False
    held: bool = False
    captured_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a point stays, and why: `Hourly`, `Daily`, …, `Held`, `NewestSucceeded`, or why not."""

    keep: bool
    reasons: tuple[str, ...]


def decide(
    points: Iterable[PointFacts], retention: Retention, *, zone: str, now: datetime
) -> dict[datetime, Decision]:
    """Decide about every point of an application in one location, by slot."""
    newest_first = sorted(points, key=lambda point: point.slot, reverse=True)
    reasons: dict[datetime, list[str]] = {point.slot: [] for point in newest_first}
    usable = [point for point in newest_first if point.slot <= now]
    succeeded = [point for point in usable if point.phase == "Succeeded"]
    _keep_always(newest_first, succeeded=succeeded, now=now, reasons=reasons)
    scheduled = [point.slot for point in succeeded if not point.manual]
    for name, count, period in _buckets(retention, zone):
        for slot in _newest_of_each(scheduled, period)[:count]:
            reasons[slot].append(name)
    for point in [point for point in succeeded if point.manual][: retention.manual]:
        reasons[point.slot].append("Manual")
    return {point.slot: _decision(point, reasons[point.slot]) for point in newest_first}


def _keep_always(
    points: Sequence[PointFacts],
    *,
    succeeded: Sequence[PointFacts],
    now: datetime,
    reasons: Mapping[datetime, list[str]],
) -> None:
    newest = succeeded[0].slot if succeeded else None
    for point in points:
        why = reasons[point.slot]
        if point.held:
            why.append("Held")
        if point.slot > now:
            why.append("AheadOfClock")
        elif newest is None:
            why.append("NothingSucceeded")
        elif point.slot == newest:
            why.append("NewestSucceeded")
        elif point.phase != "Succeeded" and point.slot > newest:
            why.append("NewerThanSucceeded")


def _decision(point: PointFacts, why: Sequence[str]) -> Decision:
    if why:
        return Decision(keep=True, reasons=tuple(why))
    return Decision(keep=False, reasons=(BEYOND if point.phase == "Succeeded" else SUPERSEDED,))


def _newest_of_each(
    newest_first: Sequence[datetime], period: Callable[[datetime], Hashable]
) -> list[datetime]:
    seen: dict[Hashable, datetime] = {}
    for slot in newest_first:
        seen.setdefault(period(slot), slot)
    return list(seen.values())


def _buckets(
    retention: Retention, zone: str
) -> list[tuple[str, int, Callable[[datetime], Hashable]]]:
    local: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)

    def on(read: Callable[[datetime], Hashable]) -> Callable[[datetime], Hashable]:
        return lambda slot: read(slot.astimezone(local))

    return [
        ("Last", retention.last, lambda slot: slot),
        ("Hourly", retention.hourly, lambda slot: int(slot.timestamp()) // 3600),
        ("Daily", retention.daily, on(lambda at: at.date())),
        ("Weekly", retention.weekly, on(lambda at: at.isocalendar()[:2])),
        ("Monthly", retention.monthly, on(lambda at: (at.year, at.month))),
        ("Yearly", retention.yearly, on(lambda at: at.year)),
    ]
