"""Points without a record: published by a process that died before it could write to the ledger.

The store is the witness: whatever lies there of this cluster and is neither live in the ledger nor retired is
recorded now, as it says of itself, scheduled and manual points alike. This comes after the restores of a pass: while
the ledger is behind the store nothing is accepted, because it may have forgotten restores too.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from reconciler.capture.publish import found
from reconciler.errors import ReconcilerError
from reconciler.kinds.model import API_VERSION, Metadata
from reconciler.kinds.record import RestorePoint
from reconciler.ledger.ledger import Entry, Ledger
from reconciler.store.port import PointName, Store

log = structlog.get_logger(__name__)


def record_orphans(ledger: Ledger, stores: Mapping[str, Store], *, domain: str) -> list[str]:
    """Record what the ledger does not know; give back the points' names."""
    view = ledger.view()
    known = {f"{entry.application}/{entry.slot}" for entry in view.points()}
    names: dict[str, PointName] = {}
    for store in stores.values():
        names.update({n.path: n for n in store.points(domain) if n.path not in known})
    if not names:
        return []
    for retired in view.retired():
        names.pop(f"{retired.application}/{retired.slot}", None)
    recorded = []
    for path, name in sorted(names.items()):
        try:
            captured = found(name, stores)
        except ReconcilerError as error:
            log.error("point without record not readable", point=path, message=error.message)
            continue
        record = RestorePoint(
            api_version=API_VERSION,
            metadata=Metadata(name=name.slot.lower(), namespace=name.namespace),
            spec=captured.record,
        )
        ledger.append([Entry(record)])
        log.warning("recorded a point without record", point=path)
        recorded.append(path)
    return recorded
