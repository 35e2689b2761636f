"""Settles what recreating means for the rest of the plan: what goes with each object, and comes back.

A recreation that would take along what nobody named (a bound claim, a CRD, a Namespace), whose reach cannot be read,
or after which something could not come back, is blocked. What it takes along and the plan has is recreated too. An
object that stays, but is owned by one that is recreated, gets the reference to its new owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reconciler.cluster.port import Cluster, Discovery
from reconciler.objects import ObjectKey, name_of, uid_of
from reconciler.objects import field as field_of
from reconciler.restore.plan.cascade import (
    DEFINITION,
    Population,
    is_bound,
    is_claim,
    pods_using,
    populate,
)
from reconciler.restore.plan.compare import differences, replacement_for
from reconciler.restore.plan.decide import named
from reconciler.restore.plan.entry import Entry, decided
from reconciler.restore.plan.live import Live
from reconciler.restore.plan.order import owner_keys

NEVER_RECREATED = frozenset({("", "Namespace"), DEFINITION})
_MENDED = frozenset({"Immutable", "Conflict"})
"""Reasons for which an object is blocked that its recreation takes away."""


@dataclass(frozen=True)
class _Refusal:
    reason: str
    message: str
    hint: str


def sweep(
    entries: Sequence[Entry],
    *,
    cluster: Cluster,
    discovery: Discovery,
    live: Live,
    is_named: Callable[[ObjectKey], bool],
    obstacle: Callable[[Entry], str],
) -> list[Entry]:
    """Settle the recreations of a plan; entries that none concerns come out as they are.

    Args:
        entries: the plan's objects, decided.
        cluster: the target.
        discovery: what it serves.
        live: the live objects that were read.
        is_named: whether the request names an object as to be recreated.
        obstacle: says what would keep an object from being created again; empty when nothing would.
    """
    roots = [entry for entry in entries if entry.verdict == "recreate"]
    if not roots:
        return list(entries)
    there = [(e.target, found) for e in roots if (found := live.get(e.target)) is not None]
    done = _Sweep(entries, populate(cluster, discovery, there), live, is_named, obstacle)
    done.refuse()
    done.spread()
    return [done.settled[entry.target] for entry in entries]


class _Sweep:
    """One plan's recreations on their way."""

    def __init__(
        self,
        entries: Sequence[Entry],
        population: Population,
        live: Live,
        is_named: Callable[[ObjectKey], bool],
        obstacle: Callable[[Entry], str],
    ) -> None:
        self.settled = {entry.target: entry for entry in entries}
        self._population = population
        self._live = live
        self._is_named = is_named
        self._obstacle = obstacle
        self._roots = [entry for entry in entries if entry.verdict == "recreate"]
        self._reach: dict[ObjectKey, set[str]] = {}

    def refuse(self) -> None:
        """Block recreations that reach too far, until none is left."""
        while True:
            self._reach = self._spread_of(self._roots)
            refusals = {
                root.target: refusal for root in self._roots if (refusal := self._refusal(root))
            }
            if not refusals:
                return
            for key, refusal in refusals.items():
                self.settled[key] = decided(
                    self.settled[key],
                    verdict="blocked",
                    reason=refusal.reason,
                    message=refusal.message,
                    hint=refusal.hint,
                )
            self._roots = [root for root in self._roots if root.target not in refusals]

    def spread(self) -> None:
        """Say what goes with each recreation, and have the plan's part of it come back."""
        recreated = {root.target for root in self._roots}
        for root in self._roots:
            keys = tuple(sorted(map(self._population.key, self._reach[root.target])))
            self.settled[root.target] = replace(self.settled[root.target], deletes=keys)
            for key in keys:
                entry = self.settled.get(key)
                # What is never written (`skip` without an object) is only told as deleted.
                if entry is None or entry.desired is None:
                    continue
                if key in recreated:
                    self.settled[key] = replace(entry, is_swept=True)
                    continue
                self.settled[key] = decided(
                    entry,
                    verdict="recreate",
                    reason="OwnerRecreated",
                    message=f"its live object goes with {root.target}, which is recreated",
                    hint="",
                    is_swept=True,
                )
                recreated.add(key)
        for key, entry in self.settled.items():
            self.settled[key] = _with_new_owners(entry, recreated, self._live)

    def _spread_of(self, roots: Sequence[Entry]) -> dict[ObjectKey, set[str]]:
        """Root → uids of what goes with it; what two roots own goes with the second."""
        gone: set[str] = set()
        reach: dict[ObjectKey, set[str]] = {}
        for root in roots:
            swept = self._population.swept_by(root.live_uid, gone=gone)
            reach[root.target] = swept
            gone |= swept | {root.live_uid}
        return reach

    def _refusal(self, root: Entry) -> _Refusal | None:
        population = self._population
        if population.unreadable:
            kind, why = min(population.unreadable.items())
            return _Refusal(
                "CascadeUnknown",
                f"what would go with it cannot be read: {kind}: {why}",
                "give access to it, or update in place",
            )
        for uid in sorted(self._reach[root.target], key=population.key):
            key = population.key(uid)
            is_kept = is_claim(key) and is_bound(population.manifest(uid))
            is_kind_kept = (key.group, key.kind) in NEVER_RECREATED
            if (is_kept or is_kind_kept) and not self._is_named(key):
                what = "its volume would go" if is_kept else "all that it holds would go"
                return _Refusal(
                    "ClaimBound" if is_kept else "NeverRecreated",
                    f"{key} would be deleted with it, and {what}",
                    f"name {named(key)} under spec.recreate, or keep it from going along first",
                )
            why = self._why_lost(key)
            if why:
                return _Refusal(
                    "DependentBlocked",
                    f"{key} would be deleted with it and could not come back: {why}",
                    "mend that first, or keep it from going along",
                )
        users = self._staying_users(root)
        if users:
            return _Refusal(
                "VolumeInUse",
                f"a claim that would be deleted is mounted by {users}, which stays",
                "scale it to 0 first, or recreate it too",
            )
        return None

    def _why_lost(self, key: ObjectKey) -> str:
        """Why an object that the plan has would stay away once it is deleted; empty when it would not."""
        entry = self.settled.get(key)
        if entry is None or entry.desired is None:
            return ""
        if entry.verdict == "blocked" and entry.reason not in _MENDED:
            return entry.reason
        return self._obstacle(entry)

    def _staying_users(self, root: Entry) -> str:
        """Pods that mount a claim which goes, and stay themselves: the claim would hang half deleted."""
        population = self._population
        gone = {uid for swept in self._reach.values() for uid in swept}
        gone |= {entry.live_uid for entry in self._roots}
        going = [
            population.key(uid)
            for uid in {*self._reach[root.target], root.live_uid}
            if uid in population.objects and is_claim(population.key(uid))
        ]
        names = {
            name_of(pod)
            for claim in going
            for pod in pods_using(claim, population.objects.values())
            if uid_of(pod) not in gone
        }
        return ", ".join(sorted(names)[:3])


def _with_new_owners(entry: Entry, recreated: set[ObjectKey], live: Live) -> Entry:
    """Leave the uids of owners open that are recreated: they are not known yet."""
    if entry.desired is None:
        return entry
    references = field_of(entry.desired, "metadata", "ownerReferences", default=[])
    renewed = [
        {**reference, "uid": ""}
        if any(key in recreated for key in owner_keys(reference, entry.target.namespace))
        else reference
        for reference in references
    ]
    if renewed == references:
        return entry
    metadata = {**entry.desired["metadata"], "ownerReferences": renewed}
    desired = {**entry.desired, "metadata": metadata}
    entry = replace(entry, desired=desired)
    there = live.get(entry.target)
    if there is None or entry.verdict not in ("unchanged", "update", "recreate"):
        return entry
    wanted = replacement_for(desired, there, is_scaled=entry.is_scaled)
    diff = tuple(differences(there, wanted))
    if entry.verdict == "unchanged":
        return decided(entry, verdict="update", reason="OwnerRecreated", diff=diff)
    return decided(entry, diff=diff)
