"""Prune: delete retired roots, then free what nothing refers to; a record for each location.

It has an identity of its own: the daemon never runs it. What the ledger does not know to be retired stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reconciler.clock import Clock
from reconciler.daemon.desired import Desired
from reconciler.daemon.locations import Locations
from reconciler.daemon.settings import Settings
from reconciler.errors import RefusedError
from reconciler.kinds.model import API_VERSION, Metadata
from reconciler.kinds.platform import Location
from reconciler.kinds.record import PruneRecord, PruneRecordSpec, Retired, RetirementRecord
from reconciler.ledger.ledger import Entry, Ledger, LedgerView
from reconciler.retention.retirement import kept_by
from reconciler.store.port import PointName
from reconciler.store.prune import PrunePlan, PruneReport, plan_prune, run_prune


@dataclass(frozen=True)
class Pruned:
    """What prune planned for a location, and did unless it was a dry run."""

    location: str
    plan: PrunePlan
    report: PruneReport | None


def prune(
    desired: Desired,
    *,
    settings: Settings,
    domain: str,
    ledger: Ledger,
    locations: Locations,
    clock: Clock,
    dry_run: bool,
) -> Iterable[Pruned]:
    """Prune this cluster's domain in every location, one after the other.

    Raises:
        RefusedError: the ledger is empty, so nothing says what was retired.
        ReconcilerError: a location cannot be read or written.
    """
    view = ledger.view()
    if view.tip is None:
        raise RefusedError(
            "prune: the ledger has no records, so nothing says what may go",
            hint="look at ledger.url of the configuration",
        )
    for location in desired.locations:
        store = locations.open(location)
        plan = plan_prune(
            store,
            domain,
            keep=_keep(
                location, desired=desired, settings=settings, domain=domain, view=view, clock=clock
            ),
            min_age=settings.prune.min_age,
            grace=settings.prune.grace,
        )
        report = None if dry_run else run_prune(store, plan)
        if report is not None and (report.points_deleted or report.packs_deleted):
            ledger.append([Entry(_record(location, report, settings=settings, clock=clock))])
        yield Pruned(location=location.metadata.name, plan=plan, report=report)


def _keep(
    location: Location,
    *,
    desired: Desired,
    settings: Settings,
    domain: str,
    view: LedgerView,
    clock: Clock,
) -> Callable[[PointName], bool]:
    name = location.metadata.name
    retired: list[Retired] = []
    for record in view.records("RetirementRecord"):
        assert isinstance(record, RetirementRecord)
        retired.extend(record.spec.points)
    left_here = {entry.point for entry in retired if name in entry.locations}
    # A live record may name a location that its point has left since.
    live = {
        f"{entry.application}/{entry.slot}"
        for entry in view.points()
        if f"{entry.application}/{entry.slot}" not in left_here
    }
    return kept_by(
        location=name,
        domain=domain,
        cluster=settings.cluster.name,
        retired=retired,
        live=live,
        holds=[hold.spec for hold in desired.holds],
        now=clock.now(),
    )


def _record(
    location: Location, report: PruneReport, *, settings: Settings, clock: Clock
) -> PruneRecord:
    now = clock.now()
    return PruneRecord(
        api_version=API_VERSION,
        metadata=Metadata(name=f"prune-{location.metadata.name}-{now:%Y%m%dt%H%M%S}z"),
        spec=PruneRecordSpec(
            cluster=settings.cluster.name,
            location=location.metadata.name,
            pruned_at=now,
            points_deleted=report.points_deleted,
            packs_deleted=report.packs_deleted,
            freed_bytes=report.freed_bytes,
        ),
    )
