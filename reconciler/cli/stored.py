"""Restore points read from a location and its key alone: no Git, no configuration, no cluster.

A location may hold points of several clusters, each in a domain named by the cluster's uid; what a cluster is called
stands in its points. Nothing here chooses between clusters: where several have what is asked for, all are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.cli.points import PointArgument, choose_slot
from reconciler.clock import SystemClock
from reconciler.errors import UsageError
from reconciler.kinds.effective import Application
from reconciler.store.port import DamagedError, Point, PointName, Store


@dataclass(frozen=True)
class StoredPoint:
    """A point of a location, and what the cluster that it was captured from is called."""

    name: PointName
    cluster: str

    @property
    def title(self) -> str:
        """`cluster/namespace/application/slot`."""
        return f"{self.cluster}/{self.name.path}"


def open_location(url: str, passphrase_file: Path | None) -> Store:
    """Open a location by URL and passphrase alone; one that is not there is told before the passphrase is asked for."""
    from reconciler.cli.keys import read_passphrase
    from reconciler.store.content import open_store
    from reconciler.store.keys import require_ready
    from reconciler.store.storage import open_storage

    storage = open_storage(url)
    require_ready(storage)
    return open_store(storage, read_passphrase(passphrase_file), clock=SystemClock())


def store_items(url: str, passphrase_file: Path | None) -> list[dict[str, Any]]:
    """All points of a location, newest first."""
    store = open_location(url, passphrase_file)
    items = [_item(url, name, *store.point(name)) for name in store.points()]
    return sorted(items, key=lambda item: (item["capturedAt"], item["name"]), reverse=True)


def _item(url: str, name: PointName, point: Point, digest: str) -> dict[str, Any]:
    record = point.record
    return {
        "name": name.path,
        "application": f"{name.namespace}/{name.application}",
        "slot": name.slot,
        "cluster": record["cluster"],
        "clusterUid": name.domain,
        "phase": record["phase"],
        "manual": record.get("manual", False),
        "capturedAt": record["capturedAt"],
        "objects": record["objects"],
        "fullBytes": record["fullBytes"],
        "addedBytes": None,
        "policy": (record.get("policy") or {}).get("name"),
        "locations": [url],
        "digest": digest[:16],
        "missedSlots": record.get("missedSlots", 0),
    }


def find_in_store(store: Store, point: PointArgument, *, cluster: str | None = None) -> StoredPoint:
    """Find a point in the one cluster that has its application, or in the cluster that is named by name or uid.

    Raises:
        UsageError: there is none, or several clusters have the application and none is named.
    """
    by_domain: dict[str, list[PointName]] = {}
    for name in store.points():
        if Application(name.namespace, name.application) == point.application:
            by_domain.setdefault(name.domain, []).append(name)
    called = {domain: _cluster_of(store, names) for domain, names in by_domain.items()}
    chosen = [d for d in by_domain if cluster is None or cluster in (d, called[d])]
    if cluster is not None and by_domain and not chosen:
        raise UsageError(
            f"find point {point}: cluster {cluster} has no such application here",
            hint=f"these have: {_spell(called, by_domain)}",
        )
    if len(chosen) > 1:
        raise UsageError(
            f"find point {point}: {len(chosen)} clusters have this application: {_spell(called, chosen)}",
            hint="say which with --from-cluster, by name or uid",
        )
    names = by_domain[chosen[0]] if chosen else []
    slot = choose_slot([name.slot for name in names], point)
    found = next(name for name in names if name.slot == slot)
    return StoredPoint(found, called[found.domain])


def _cluster_of(store: Store, names: Sequence[PointName]) -> str:
    """What the newest point that opens calls its cluster; the uid when none does."""
    for name in sorted(names, key=lambda one: one.slot, reverse=True):
        try:
            return str(store.point(name)[0].record.get("cluster") or name.domain)
        except DamagedError:
            continue
    return names[0].domain


def _spell(called: dict[str, str], domains: Iterable[str]) -> str:
    return ", ".join(f"{called[domain]} (uid {domain})" for domain in domains)
