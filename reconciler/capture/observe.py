"""The one narrow door through which a cluster's objects are seen.

`observe` reads kinds, by lists or by whatever reader it is given (`watches.py`), and says for every kind whether
what it gives is complete. A kind that stays unreadable is a *gap*: named with its reason, and nothing of it counts
as removed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Protocol

from reconciler.capture.listing import Gap, Listing, list_kind, name_of_kind
from reconciler.capture.observed import Observed
from reconciler.clock import Clock
from reconciler.cluster.port import Cluster, Discovery, ResourceType
from reconciler.kinds.record import VersionRange
from reconciler.objects import Manifest, ObjectKey
from reconciler.objects import field as follow

WORKERS = 4

CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
CLUSTER_KINDS = frozenset(
    {
        ("", "Namespace"),
        CRD,
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("storage.k8s.io", "StorageClass"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("networking.k8s.io", "IngressClass"),
        ("node.k8s.io", "RuntimeClass"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("apiregistration.k8s.io", "APIService"),
    }
)
"""Cluster-scoped kinds that an application may need (`closure.py`); others are never read."""

NEVER_KINDS = frozenset(
    {
        ("", "Event"),
        ("events.k8s.io", "Event"),
        ("coordination.k8s.io", "LeaseCandidate"),
        ("snapshot.storage.k8s.io", "VolumeSnapshot"),
        ("groupsnapshot.storage.k8s.io", "VolumeGroupSnapshot"),
    }
)
"""Kinds that are no part of an application's state."""

_STABLE = re.compile(r"v\d+")


@dataclass(frozen=True, eq=False)
class Observation:
    """What was seen. Where a kind has a gap, `objects` holds what an earlier observation knew of it."""

    objects: Mapping[ObjectKey, Observed]
    kinds: tuple[ResourceType, ...]
    gaps: tuple[Gap, ...] = ()
    versions: Mapping[str, VersionRange] = field(default_factory=dict)
    """Kind → the resource versions between which it was read."""
    changed: tuple[ObjectKey, ...] = ()
    """New, or other than in the observation before; everything when there was none."""
    removed: tuple[ObjectKey, ...] = ()
    """In the observation before and certainly gone."""
    server_version: str = ""
    observed_at: datetime | None = None
    """When it began, if a clock was given."""

    @property
    def complete(self) -> dict[str, str]:
        """Kind → empty when all of it was read, else the reason why not."""
        found = {name_of_kind(kind): "" for kind in self.kinds}
        return found | {gap.name: gap.reason for gap in self.gaps}

    @cached_property
    def by_namespace(self) -> dict[str, list[Observed]]:
        """The objects of each namespace, sorted by key; cluster-scoped ones under the empty name."""
        spaces: dict[str, list[Observed]] = {}
        for seen in self.objects.values():
            spaces.setdefault(seen.key.namespace, []).append(seen)
        for members in spaces.values():
            members.sort(key=lambda seen: seen.key)
        return spaces

    def of_kind(self, group: str, kind: str, *, namespace: str = "") -> list[Observed]:
        """The objects of one kind in one namespace; cluster-scoped ones by default."""
        members = self.by_namespace.get(namespace, [])
        return [m for m in members if m.key.kind == kind and m.key.group == group]

    @cached_property
    def complete_kinds(self) -> frozenset[tuple[str, str]]:
        """(group, kind) of each kind that was read to its end."""
        broken = {(gap.group, gap.kind) for gap in self.gaps}
        return frozenset((kind.group, kind.kind) for kind in self.kinds) - broken


def capturable(
    discovery: Discovery, *, storage: Mapping[tuple[str, str], str] | None = None
) -> list[ResourceType]:
    """Choose the kinds to read: those that can be listed and created, once each.

    Args:
        discovery: What is served.
        storage: (group, kind) → storage version of custom resources, which are read at that version when it
            is served.
    """
    chosen = []
    for kind in discovery.preferred():
        identity = (kind.group, kind.kind)
        wanted = (storage or {}).get(identity)
        stored = discovery.find(*identity, wanted) if wanted else None
        candidate = stored or kind
        wanted_scope = candidate.namespaced or identity in CLUSTER_KINDS
        if wanted_scope and identity not in NEVER_KINDS and {"list", "create"} <= candidate.verbs:
            chosen.append(candidate)
    return chosen


class Reader(Protocol):
    """Where kinds are read from instead of lists."""

    def read(self, kind: ResourceType, *, stop: threading.Event | None) -> Listing:
        """All objects of a kind in all namespaces, at least as new as when the reader was made ready."""
        ...

    def defined(self, definitions: Iterable[Observed]) -> None:
        """Be told of all definitions of custom resources, before any of their kinds is read."""
        ...


def observe_cluster(
    cluster: Cluster,
    discovery: Discovery,
    *,
    since: Observation | None = None,
    clock: Clock | None = None,
    stop: threading.Event | None = None,
    reader: Reader | None = None,
) -> Observation:
    """See everything that captures may need: CRDs first, because they say which version is stored.

    Args:
        cluster: Where to look.
        discovery: What it serves.
        since: An earlier observation.
        clock: Where time comes from.
        stop: Ends the work with StoppedError.
        reader: Where kinds are read from; lists by default.

    Raises:
        ReconcilerError: the cluster cannot be read at all; StoppedError when `stop` was set.
    """
    started_at = clock.now() if clock else None
    definition = discovery.find(*CRD)
    first = [definition] if definition and "list" in definition.verbs else []
    definitions = observe(cluster, discovery, first, since=since, stop=stop, reader=reader)
    if reader is not None:
        reader.defined(definitions.objects.values())
    storage = {}
    for seen in definitions.objects.values():
        found = _stored_version(seen.manifest())
        if found:
            storage[found[0]] = found[1]
    kinds = [k for k in capturable(discovery, storage=storage) if (k.group, k.kind) != CRD]
    rest = observe(cluster, discovery, kinds, since=since, stop=stop, reader=reader)
    gone = set(definitions.removed) | set(rest.removed)
    if since:
        gone |= _of_vanished_kinds(since, discovery, {*definitions.objects, *rest.objects})
    return Observation(
        objects={**definitions.objects, **rest.objects},
        kinds=(*definitions.kinds, *rest.kinds),
        gaps=(*definitions.gaps, *(g for g in rest.gaps if g not in definitions.gaps)),
        versions={**definitions.versions, **rest.versions},
        changed=(*definitions.changed, *rest.changed),
        removed=tuple(sorted(gone)),
        server_version=discovery.server_version,
        observed_at=started_at,
    )


def observe(
    cluster: Cluster,
    discovery: Discovery,
    kinds: Sequence[ResourceType],
    *,
    since: Observation | None = None,
    namespace: str = "",
    stop: threading.Event | None = None,
    reader: Reader | None = None,
) -> Observation:
    """Read `kinds`, in one namespace or in all, and compare with what was seen before.

    Args:
        cluster: Where to look.
        discovery: What it serves; groups that failed there become gaps.
        kinds: Which kinds; one uid that is served under two groups is taken once.
        since: An earlier observation of the same scope.
        namespace: Only this namespace; cluster-scoped kinds are then left aside.
        stop: Ends the work with StoppedError.
        reader: Where kinds are read from, if not from lists; of all namespaces.

    Raises:
        UnauthorizedError: the credentials do not hold.
        UnavailableError: not one kind could be read.
    """
    wanted = [kind for kind in kinds if kind.namespaced or not namespace]
    assert not (reader and namespace), "readers know all namespaces"

    def read(kind: ResourceType) -> Listing:
        if reader is not None:
            return reader.read(kind, stop=stop)
        return list_kind(cluster, kind, namespace=namespace, stop=stop)

    with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="observe") as pool:
        listings = list(pool.map(read, wanted))
    faults = [listing.fault for listing in listings if listing.fault]
    if faults and len(faults) == len(listings) and len(listings) > 1:
        raise faults[0]
    gaps = [listing.gap for listing in listings if listing.gap]
    gaps += [_failed_group(name, why) for name, why in sorted(discovery.faults.items())]
    objects = _once(listings, discovery)
    changed, removed, kept = _compare(objects, since, namespace, listings, gaps)
    return Observation(
        objects={**kept, **objects},
        kinds=tuple(wanted),
        gaps=tuple(gaps),
        versions={name_of_kind(entry.kind): entry.versions for entry in listings if entry.versions},
        changed=changed,
        removed=removed,
        server_version=discovery.server_version,
    )


def _failed_group(name: str, why: str) -> Gap:
    return Gap(f"*.{name}", name.rpartition("/")[0], "", "GroupUnavailable", why[:256])


def _once(listings: Sequence[Listing], discovery: Discovery) -> dict[ObjectKey, Observed]:
    """Join the lists; an object that two groups serve is taken from the stable, newer one."""
    order = {(kind.group, kind.kind): at for at, kind in enumerate(discovery.types)}

    def rank(listing: Listing) -> tuple[bool, bool, int]:
        kind = listing.kind
        is_stable = _STABLE.fullmatch(kind.version) is not None
        return (
            kind.group == "extensions",
            not is_stable,
            order.get((kind.group, kind.kind), len(order)),
        )

    objects: dict[ObjectKey, Observed] = {}
    uids: set[str] = set()
    for listing in sorted(listings, key=rank):
        for seen in listing.objects:
            if not seen.uid or seen.uid not in uids:
                objects[seen.key] = seen
        uids.update(seen.uid for seen in listing.objects)
    return objects


def _compare(
    objects: Mapping[ObjectKey, Observed],
    since: Observation | None,
    namespace: str,
    listings: Sequence[Listing],
    gaps: Sequence[Gap],
) -> tuple[tuple[ObjectKey, ...], tuple[ObjectKey, ...], dict[ObjectKey, Observed]]:
    """What changed, what is gone, and what stays known although it could not be read again."""
    before = since.objects if since else {}
    changed = tuple(
        sorted(key for key, seen in objects.items() if not _is_same(before.get(key), seen))
    )
    complete = {(x.kind.group, x.kind.kind) for x in listings if not x.gap}
    broken = {(gap.group, gap.kind) for gap in gaps}
    broken_groups = {gap.group for gap in gaps if not gap.kind}
    removed, kept = [], {}
    for key, seen in before.items():
        if key in objects or (namespace and key.namespace != namespace):
            continue
        identity = (key.group, key.kind)
        if identity in complete:
            removed.append(key)
        elif identity in broken or key.group in broken_groups:
            kept[key] = seen
    return changed, tuple(sorted(removed)), kept


def _is_same(before: Observed | None, now: Observed) -> bool:
    return (
        before is not None
        and before.uid == now.uid
        and before.resource_version == now.resource_version
    )


def _of_vanished_kinds(
    since: Observation, discovery: Discovery, present: set[ObjectKey]
) -> set[ObjectKey]:
    """Objects of kinds that a healthy discovery no longer lists: their definition was deleted."""
    served = {(kind.group, kind.kind) for kind in discovery.types}
    failed = {name.rpartition("/")[0] for name in discovery.faults}
    return {
        key
        for key in since.objects
        if key not in present and (key.group, key.kind) not in served and key.group not in failed
    }


def _stored_version(definition: Manifest) -> tuple[tuple[str, str], str] | None:
    identity = (
        follow(definition, "spec", "group", default=""),
        follow(definition, "spec", "names", "kind", default=""),
    )
    for version in follow(definition, "spec", "versions", default=()):
        if version.get("storage") and version.get("served", True):
            return identity, str(version.get("name", ""))
    return None
