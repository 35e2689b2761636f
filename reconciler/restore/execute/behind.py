"""Tells whether the ledger knows less than the store: then it may also have forgotten consumed restores."""

from __future__ import annotations

from reconciler.ledger.view import LedgerView
from reconciler.store.port import Store


def ledger_lag(view: LedgerView, store: Store, *, domain: str) -> str:
    """Say which of the cluster's own points the ledger has never heard of; empty when it knows the newest of each.

    A point that was just published and is recorded in the next moment counts too: the next pass sees it recorded.
    """
    newest: dict[str, str] = {}
    for name in store.points(domain):
        application = f"{name.namespace}/{name.application}"
        newest[application] = max(newest.get(application, ""), name.slot)
    if not newest:
        return ""
    known: dict[str, str] = {}
    for point in view.points():
        known[point.application] = max(known.get(point.application, ""), point.slot)
    if all(known.get(name, "") >= slot for name, slot in newest.items()):
        return ""
    for retired in view.retired():
        known[retired.application] = max(known.get(retired.application, ""), retired.slot)
    missing = sorted(
        f"{name}/{slot}" for name, slot in newest.items() if known.get(name, "") < slot
    )
    return f"{', '.join(missing[:3])} is in {store.url} and not recorded" if missing else ""
