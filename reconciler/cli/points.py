"""Restore points as the command line names and shows them.

A point is written `ns/app/<slot>`, `ns/app/latest` or `ns/app/@TIME`; `ns` alone stands for the whole namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reconciler.cli.arguments import check_namespace
from reconciler.clock import parse_instant
from reconciler.errors import ReconcilerError, RefusedError, UsageError
from reconciler.kinds.effective import WHOLE_NAMESPACE, Application
from reconciler.store.port import Point, PointName, Store

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts
    from reconciler.kinds.platform import Location
    from reconciler.kinds.record import RestorePoint
    from reconciler.ledger.ledger import LedgerView


@dataclass(frozen=True)
class PointArgument:
    """A point as it was typed; `slot` is a slot, `latest` or `@TIME`."""

    application: Application
    slot: str

    def __str__(self) -> str:
        return f"{self.application}/{self.slot}"


def parse_point(text: str) -> PointArgument:
    """Read `ns`, `ns/app`, `ns/app/slot`, `ns/slot`, with `latest` when no slot is given.

    Raises:
        UsageError: it is none of these.
    """
    parts = text.split("/")
    hint = "write namespace/application/slot, for example shop/_/20261201T110000Z or shop/_/latest"
    if not all(parts) or len(parts) > 3:
        raise UsageError(
            f"read point {text!r}: not of the form namespace/application/slot", hint=hint
        )
    namespace, rest = parts[0], parts[1:]
    check_namespace(namespace)
    slot = "latest"
    if rest and _is_slot(rest[-1]):
        slot = rest.pop()
    elif len(rest) == 2:
        raise UsageError(f"read point {text!r}: {rest[1]!r} is no slot", hint=hint)
    return PointArgument(Application(namespace, rest[0] if rest else WHOLE_NAMESPACE), slot)


def _is_slot(text: str) -> bool:
    if text == "latest":
        return True
    try:
        parse_instant(text.removeprefix("@"))
    except ValueError:
        return False
    return True


def find_record(view: LedgerView, point: PointArgument) -> RestorePoint:
    """The record of a point in the ledger.

    Raises:
        UsageError: there is none.
    """
    entries = view.points(str(point.application))
    slots = [entry.slot for entry in entries]
    slot = choose_slot(slots, point)
    record = view.point(str(point.application), slot)
    if record is None:
        raise UsageError(
            f"read point {point.application}/{slot}: its record in the ledger is broken",
            hint="see `reconciler verify --all`, or read the point with --location URL",
        )
    return record


def choose_slot(slots: list[str], point: PointArgument) -> str:
    """The slot that is meant, among those that are there.

    Raises:
        UsageError: none fits.
    """
    fitting = sorted(slots)
    if point.slot.startswith("@"):
        limit = parse_instant(point.slot[1:])
        fitting = [slot for slot in fitting if parse_instant(slot) <= limit]
    elif point.slot != "latest":
        fitting = [slot for slot in fitting if slot == point.slot]
    if not fitting:
        raise UsageError(
            f"find point {point}: there is none",
            hint=f"see `reconciler get points {point.application.short}`",
        )
    return fitting[-1]


def ledger_items(view: LedgerView) -> list[dict[str, Any]]:
    """All live points of the ledger, newest first."""
    items = []
    for entry in view.points():
        record = view.point(entry.application, entry.slot)
        if record is not None:
            items.append(record_item(record))
    return sorted(items, key=lambda item: (item["capturedAt"], item["name"]), reverse=True)


def record_item(record: RestorePoint) -> dict[str, Any]:
    """One point, as rows and JSON show it."""
    spec = record.spec
    return {
        "name": f"{spec.application}/{spec.slot}",
        "application": spec.application,
        "slot": spec.slot,
        "cluster": spec.cluster,
        "phase": spec.phase,
        "manual": spec.manual,
        "capturedAt": spec.captured_at.isoformat(),
        "objects": spec.objects,
        "fullBytes": spec.full_bytes,
        "addedBytes": sum(entry.added_bytes for entry in spec.locations),
        "policy": spec.policy.name if spec.policy else None,
        "locations": [entry.name for entry in spec.locations],
        "digest": spec.locations[0].digest[:16] if spec.locations else None,
        "missedSlots": spec.missed_slots,
    }


def location_item(parts: Parts, location: Location) -> dict[str, Any]:
    """One location: whether it opens, and what it holds."""
    from reconciler.store.content import summarise

    item: dict[str, Any] = {
        "name": location.metadata.name,
        "url": location.spec.url,
        "state": "Ready",
        "message": location.spec.description or None,
        "labels": location.metadata.labels,
        "points": None,
        "storedBytes": None,
    }
    try:
        store = parts.locations.open(location)
        facts = summarise(store)
    except ReconcilerError as error:
        item.update(state=error.reason, message=error.message)
    else:
        item.update(points=facts.points, storedBytes=facts.stored_bytes)
    return item


def read_point(parts: Parts, record: RestorePoint) -> tuple[Store, PointName, Point]:
    """Open the first location that still has a point, check its digest, and read it.

    Raises:
        RefusedError: what lies in the location is not what the record says.
        ReconcilerError: no location of the point opens.
    """
    desired = parts.desired()
    namespace, _, application = record.spec.application.partition("/")
    failure: ReconcilerError | None = None
    for ref in record.spec.locations:
        location = desired.location(ref.name)
        if location is None:
            continue
        name = PointName(ref.domain, namespace, application, record.spec.slot)
        try:
            store = parts.locations.open(location)
            point, digest = store.point(name)
        except ReconcilerError as error:
            failure = error
            continue
        if digest != ref.digest:
            raise RefusedError(
                f"read point {name.path}: its digest in {ref.name} is not that of its record",
                hint=f"look at it with `reconciler verify {name.path}`",
            )
        return store, name, point
    raise failure or UsageError(
        f"read point {record.spec.application}/{record.spec.slot}: none of its locations is configured",
        hint="bring the Location manifests back, or use --location URL",
    )
