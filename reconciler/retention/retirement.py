"""From decisions to what is retired, behind a breaker; and from retirements to what prune may delete.

A point leaves a location when that location's retention says so, and the list of live points when it has left
every location. A location that no decision speaks of keeps its points: deleting a policy retires nothing.

The breaker stops everything when too much would go at once, because that is what a mistyped policy, a wrong clock
or a lost ledger looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.clock import format_slot, parse_instant
from reconciler.kinds.record import Retired
from reconciler.kinds.request import HoldSpec
from reconciler.retention.buckets import Decision
from reconciler.retention.holds import holding
from reconciler.store.port import PointName


@dataclass(frozen=True, slots=True)
class LivePoint:
    """A point of the ledger's live list. `locations` are those that hold a copy; `digest` is its record's."""

    slot: datetime
    locations: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class ApplicationPoints:
    """An application's live points, and what each location's retention decided, by location and slot."""

    application: str
    points: Sequence[LivePoint]
    decisions: Mapping[str, Mapping[datetime, Decision]]


@dataclass(frozen=True, slots=True)
class Retirement:
    """A point that leaves some locations."""

    application: str
    slot: datetime
    locations: tuple[str, ...]
    digest: str
    reason: str
    leaves_list: bool
    """It has no location left."""

    @property
    def retired(self) -> Retired:
        """As the entry of a RetirementRecord."""
        return Retired(
            point=f"{self.application}/{format_slot(self.slot)}",
            locations=list(self.locations),
            digest=self.digest,
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True)
class Breaker:
    """The most that may be retired at once: of all points, and of one application's.

    It trips above `max_share` of the points, but never for up to `max_points` of all or `few` of one application.
    """

    max_share: float = 0.5
    max_points: int = 50
    few: int = 5


@dataclass(frozen=True)
class RetirementPlan:
    """What to retire, applications in order, oldest point first. When `tripped` says why, nothing."""

    retire: list[Retirement]
    tripped: str = ""


def plan_retirement(
    applications: Iterable[ApplicationPoints], *, breaker: Breaker | None
) -> RetirementPlan:
    """Gather what retention lets go. Without a breaker (somebody allowed it explicitly) nothing stops it."""
    found: list[Retirement] = []
    live = 0
    for entry in sorted(applications, key=lambda entry: entry.application):
        own = [
            retirement
            for point in sorted(entry.points, key=lambda point: point.slot)
            if (retirement := _retirement(entry, point)) is not None
        ]
        live += len(entry.points)
        found += own
        if breaker and _too_many(len(own), len(entry.points), breaker, breaker.few):
            return _tripped(f"{len(own)} of the {len(entry.points)} points of {entry.application}")
    if breaker and _too_many(len(found), live, breaker, breaker.max_points):
        return _tripped(f"{len(found)} of all {live} points")
    return RetirementPlan(retire=found)


def _too_many(retired: int, live: int, breaker: Breaker, free: int) -> bool:
    return retired > free and retired > live * breaker.max_share


def _tripped(what: str) -> RetirementPlan:
    return RetirementPlan(retire=[], tripped=f"retention would retire {what} at once")


def _retirement(entry: ApplicationPoints, point: LivePoint) -> Retirement | None:
    gone = {
        location: decision
        for location in point.locations
        if (decision := entry.decisions.get(location, {}).get(point.slot)) is not None
        and not decision.keep
    }
    if not gone:
        return None
    return Retirement(
        application=entry.application,
        slot=point.slot,
        locations=tuple(gone),
        digest=point.digest,
        reason=next(iter(gone.values())).reasons[0],
        leaves_list=len(gone) == len(point.locations),
    )


def kept_by(
    *,
    location: str,
    domain: str,
    cluster: str,
    retired: Iterable[Retired],
    live: Collection[str],
    holds: Sequence[HoldSpec],
    now: datetime,
) -> Callable[[PointName], bool]:
    """Make the test that prune asks before it deletes a root: True means keep.

    A point may go only when a RetirementRecord names it for this location, no live record still has a copy there
    (`live`: their `namespace/application/slot`), and no hold covers it. What the ledger never heard of, and what
    belongs to another domain, stays.
    """
    gone = {entry.point for entry in retired if location in entry.locations} - set(live)

    def keep(name: PointName) -> bool:
        if name.domain != domain or name.path not in gone:
            return True
        try:
            slot = parse_instant(name.slot)
        except ValueError:
            return True
        application = f"{name.namespace}/{name.application}"
        hold = holding(holds, cluster=cluster, application=application, slot=slot, now=now)
        return hold is not None

    return keep
