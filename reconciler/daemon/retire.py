"""Retention applied to the ledger: what leaves the list of live points, as records; content is untouched.

Only applications that a policy covers now are considered: deleting a policy retires nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.clock import parse_instant
from reconciler.daemon.settings import Settings
from reconciler.kinds.effective import Application, EffectivePolicy
from reconciler.kinds.model import API_VERSION, Metadata
from reconciler.kinds.record import RetirementRecord, RetirementRecordSpec
from reconciler.kinds.request import Hold
from reconciler.ledger.ledger import Entry, Ledger, LedgerView
from reconciler.retention.buckets import PointFacts, decide
from reconciler.retention.holds import holding
from reconciler.retention.retirement import (
    ApplicationPoints,
    Breaker,
    LivePoint,
    plan_retirement,
)

RECORD_POINTS_MAX = 200


@dataclass(frozen=True)
class Retirement:
    """What retention did in a pass."""

    points: tuple[str, ...] = ()
    tripped: str = ""


def retire(
    assignments: Iterable[tuple[Application, EffectivePolicy]],
    *,
    holds: Sequence[Hold],
    settings: Settings,
    ledger: Ledger,
    now: datetime,
) -> Retirement:
    """Retire what retention lets go, unless the breaker trips."""
    view = ledger.view()
    left = _left_locations(view)
    facts = [
        _decisions(
            application,
            policy,
            view=view,
            left=left,
            holds=holds,
            cluster=settings.cluster.name,
            now=now,
        )
        for application, policy in assignments
    ]
    plan = plan_retirement(
        facts,
        breaker=Breaker(
            max_share=settings.breaker.max_share, max_points=settings.breaker.max_points
        ),
    )
    if plan.tripped:
        return Retirement(
            tripped=f"{plan.tripped}; nothing was retired. If it is meant, raise breaker.maxShare for one pass"
        )
    for start in range(0, len(plan.retire), RECORD_POINTS_MAX):
        batch = plan.retire[start : start + RECORD_POINTS_MAX]
        paths = {(e.application, e.slot): e.path for e in view.points()}
        record = RetirementRecord(
            api_version=API_VERSION,
            metadata=Metadata(name=f"retirement-{now:%Y%m%dt%H%M%S}z-{start // RECORD_POINTS_MAX}"),
            spec=RetirementRecordSpec(
                cluster=settings.cluster.name,
                retired_at=now,
                points=[entry.retired for entry in batch],
            ),
        )
        gone = [entry.retired.point.rsplit("/", 1) for entry in batch if entry.leaves_list]
        ledger.append([Entry(record, removes=tuple(paths[app, slot] for app, slot in gone))])
    return Retirement(points=tuple(entry.retired.point for entry in plan.retire))


def _decisions(
    application: Application,
    policy: EffectivePolicy,
    *,
    view: LedgerView,
    left: dict[str, set[str]],
    holds: Sequence[Hold],
    cluster: str,
    now: datetime,
) -> ApplicationPoints:
    specs = [hold.spec for hold in holds]
    points, live = [], []
    for entry in view.points(str(application)):
        record = view.point(entry.application, entry.slot)
        if record is None:
            continue
        slot = parse_instant(entry.slot)
        held = holding(specs, cluster=cluster, application=str(application), slot=slot, now=now)
        points.append(
            PointFacts(
                slot=slot,
                phase=record.spec.phase,
                manual=record.spec.manual,
                held=held is not None,
                captured_at=record.spec.captured_at,
            )
        )
        gone = left.get(f"{application}/{entry.slot}", set())
        locations = tuple(ref.name for ref in record.spec.locations if ref.name not in gone)
        live.append(LivePoint(slot=slot, locations=locations, digest=_digest(view, entry.path)))
    zone = policy.schedule.time_zone if policy.schedule else "UTC"
    decisions = {}
    for location in policy.locations:
        here = [
            fact
            for fact, point in zip(points, live, strict=True)
            if location.name in point.locations
        ]
        decisions[location.name] = decide(here, location.retention, zone=zone, now=now)
    return ApplicationPoints(application=str(application), points=live, decisions=decisions)


def _digest(view: LedgerView, path: str) -> str:
    """SHA-256 of a record's file, in hex."""
    return hashlib.sha256(view.data(path) or b"").hexdigest()


def _left_locations(view: LedgerView) -> dict[str, set[str]]:
    """Point → the locations that it was retired from while others still have it."""
    left: dict[str, set[str]] = {}
    for record in view.records("RetirementRecord"):
        assert isinstance(record, RetirementRecord)
        for entry in record.spec.points:
            left.setdefault(entry.point, set()).update(entry.locations)
    return left
