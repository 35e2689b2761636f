"""Decides what happens to one object: absent, as captured already, or in conflict.

Objects of the cluster (not of a namespace) are created only if absent: they belong to more than one
application. Only one that an include rule names by kind and full name is treated like any other. CRDs,
Namespaces and bound claims are deleted to be made again only when `spec.recreate` names them. Where the server can
be asked by a dry run, its word counts; otherwise what is known of Kubernetes (`immutable`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.cluster.port import (
    AlreadyExistsError,
    Cluster,
    ResourceType,
)
from reconciler.errors import ReconcilerError
from reconciler.objects import FIELD_MANAGER, Manifest, ObjectKey, pod_spec_of, uid_of
from reconciler.objects import field as field_of
from reconciler.restore.plan.addresses import with_ports_of
from reconciler.restore.plan.compare import differences, replacement_for, spared_in
from reconciler.restore.plan.entry import Entry, decided
from reconciler.restore.plan.immutable import immutable_paths
from reconciler.restore.plan.live import Live
from reconciler.restore.plan.objection import UNAVAILABLE, Objection, objection_of

_CRD = "CustomResourceDefinition"
_FREED = frozenset({"AddressTaken", "QuotaExceeded"})
"""Objections to a second copy of a live object, which its deletion takes away."""


@dataclass(frozen=True)
class Decider:
    """Gives each entry its verdict."""

    cluster: Cluster
    live: Live
    policy: str
    names_exactly: Callable[[ObjectKey], bool]
    is_recreated: Callable[[ObjectKey], bool]
    """Whether the request names an object as to be recreated."""
    is_tenant: bool
    since: str
    scaled: set[tuple[str, str]]
    planned: Collection[ObjectKey] = ()
    """What the plan will have written before."""
    stopped: dict[ObjectKey, str] = field(default_factory=dict)
    """Objects whose dry run a webhook did not answer → its name. Filled by `decide`."""

    def decide(self, entry: Entry, kind: ResourceType) -> Entry:
        """Give an entry its verdict, reason and diff."""
        return decided(self._blocked(entry, kind) or self._compare(entry, kind))

    def _blocked(self, entry: Entry, kind: ResourceType) -> Entry | None:
        unreadable = self.live.unreadable.get(kind)
        if unreadable is not None:
            return replace(
                entry, reason=unreadable.reason, message=unreadable.message, hint=unreadable.hint
            )
        scope = self.live.get(ObjectKey("", "Namespace", "", entry.target.namespace))
        if entry.target.kind == "Namespace" and not entry.target.group:
            scope = self.live.get(entry.target)
        if scope is not None and field_of(scope, "metadata", "deletionTimestamp"):
            return replace(
                entry,
                reason="NamespaceTerminating",
                message=f"the namespace is being deleted; it waits for {_waits_for(scope)}",
                hint="let it end, or remove what holds it, then restore again",
            )
        there = self.live.get(entry.target)
        if there is not None and field_of(there, "metadata", "deletionTimestamp"):
            finalizers = ", ".join(field_of(there, "metadata", "finalizers", default=[]))
            return replace(
                entry,
                live_uid=uid_of(there),
                reason="BeingDeleted",
                message=f"the live object is being deleted; it waits for {finalizers or 'its end'}",
            )
        if self.is_tenant and not kind.namespaced and entry.target.kind != "Namespace":
            return replace(
                entry,
                verdict="skip",
                reason="ClusterScoped",
                message="a request of a namespace does not write objects of the cluster",
            )
        return None

    def _compare(self, entry: Entry, kind: ResourceType) -> Entry:
        desired = entry.desired
        assert desired is not None
        there = self.live.get(entry.target)
        if there is None:
            return self._create(entry, kind)
        key = entry.target
        is_scaled = (key.kind, key.name) in self.scaled
        entry = replace(entry, live_uid=uid_of(there), is_scaled=is_scaled)
        wanted = replacement_for(desired, there, is_scaled=is_scaled)
        diff = differences(there, wanted)
        if not diff:
            return replace(entry, verdict="unchanged", reason="AsCaptured")
        judged, objection = self._try_replace(entry, kind, wanted)
        if judged is not None and not differences(there, judged):
            return replace(entry, verdict="unchanged", reason="OnlyDefaultsDiffer")
        spared = spared_in(desired, there, wanted, is_scaled=is_scaled)
        entry = replace(entry, diff=tuple(diff), spared=spared, is_tried=judged is not None)
        return self._conflict(entry, there, kind, objection)

    def _create(self, entry: Entry, kind: ResourceType) -> Entry:
        created = replace(entry, verdict="create", reason="Absent")
        space = ObjectKey("", "Namespace", "", entry.target.namespace)
        if entry.target.namespace and self.live.get(space) is None:
            return created
        objection, is_tried = self._try_create(entry, kind)
        if objection is None:
            return replace(created, is_tried=is_tried)
        return _blocked_by(entry, objection)

    def _try_create(self, entry: Entry, kind: ResourceType) -> tuple[Objection | None, bool]:
        """Ask the server whether it would take an object: what it objects to, and whether it took it."""
        assert entry.desired is not None
        sent = without_pending_owners(entry.desired)
        try:
            self.cluster.create(kind, sent, manager=FIELD_MANAGER, dry_run=True)
        except AlreadyExistsError:
            return None, True
        except ReconcilerError as error:
            objection = self._heard(entry, error)
            is_open = objection is not None and objection.reason == "Forbidden"
            return (None if is_open and self._is_early(entry) else objection), False
        return None, True

    def _try_replace(
        self, entry: Entry, kind: ResourceType, wanted: Manifest
    ) -> tuple[Manifest | None, Objection | None]:
        """Ask the server what a replace would give, or why it would refuse."""
        sent = without_pending_owners(wanted)
        try:
            return self.cluster.replace(kind, sent, manager=FIELD_MANAGER, dry_run=True), None
        except ReconcilerError as error:
            objection = self._heard(entry, error)
            if objection is not None and objection.reason == "Invalid":
                # Nothing else tells "never" from "not like this": would it be taken as a new object?
                hindrance, _ = self._try_create(entry, kind)
                if hindrance is None or hindrance.reason in _FREED:
                    objection = replace(objection, reason="Immutable")
            return None, objection

    def _heard(self, entry: Entry, error: ReconcilerError) -> Objection | None:
        """What an error says about an object; a webhook that does not answer is settled later."""
        objection = objection_of(error)
        if objection is not None and objection.reason == UNAVAILABLE:
            self.stopped[entry.target] = objection.webhook
            return None
        return objection

    def _is_early(self, entry: Entry) -> bool:
        """Whether something that the plan writes first is still missing, and may be why it was refused."""
        spec = pod_spec_of(entry.desired or {}) or {}
        classes = (
            ("scheduling.k8s.io", "PriorityClass", spec.get("priorityClassName")),
            ("node.k8s.io", "RuntimeClass", spec.get("runtimeClassName")),
        )
        needs = [*entry.needs, *(ObjectKey(g, k, "", name) for g, k, name in classes if name)]
        return any(key in self.planned and self.live.get(key) is None for key in needs)

    def _conflict(
        self, entry: Entry, there: Manifest, kind: ResourceType, objection: Objection | None
    ) -> Entry:
        policy = self.policy
        made_at = str(field_of(there, "metadata", "creationTimestamp", default=""))
        is_resumed = bool(self.since) and made_at >= self.since
        is_listed = self.is_recreated(entry.target) and not is_resumed
        is_tenants = self.is_tenant and not kind.namespaced
        is_named = self.names_exactly(entry.target) and entry.target.kind != _CRD
        if not kind.namespaced and (is_tenants or not (is_named or is_listed)):
            return replace(
                entry,
                verdict="skip",
                reason="ExistsInCluster",
                message="objects of the cluster are created only if absent",
            )
        if is_listed:
            return self._recreate(entry, there, kind)
        match "update" if is_resumed else policy:
            case "skip":
                return replace(
                    entry, verdict="skip", reason="Exists", message="it exists and differs"
                )
            case "update":
                return self._update(entry, there, objection)
            case "recreate":
                return self._recreate(entry, there, kind)
        return replace(
            entry,
            reason="Conflict",
            message="it exists and differs",
            hint="set onConflict to skip, update or recreate",
        )

    def _update(self, entry: Entry, there: Manifest, objection: Objection | None) -> Entry:
        closed = immutable_paths(entry.target, there, entry.diff)
        hint = f"onConflict: recreate, or {named(entry.target)} under spec.recreate, deletes it and creates it again"
        if objection is None and (entry.is_tried or not closed):
            return replace(entry, verdict="update", reason="Differs")
        if objection is None:
            message = f"no update can change {', '.join(closed[:5])}"
            return replace(entry, reason="Immutable", message=message, hint=hint)
        if objection.reason == "Immutable":
            return replace(entry, reason="Immutable", message=objection.message, hint=hint)
        return _blocked_by(entry, objection)

    def _recreate(self, entry: Entry, there: Manifest, kind: ResourceType) -> Entry:
        key = entry.target
        entry = replace(entry, spared=())
        is_listed = self.is_recreated(key)
        is_space = (key.group, key.kind) == ("", "Namespace")
        if (is_space or key.kind == _CRD) and not is_listed:
            return replace(
                entry,
                reason="NeverRecreated",
                message="deleting it would delete everything in it",
                hint=f"name {named(key)} under spec.recreate if that is meant",
            )
        is_claim = (key.group, key.kind) == ("", "PersistentVolumeClaim")
        if is_claim and field_of(there, "spec", "volumeName") and not is_listed:
            return replace(
                entry,
                reason="ClaimBound",
                message="deleting the claim would delete its volume",
                hint=f"name {named(key)} under spec.recreate to have it deleted and made again",
            )
        if (key.group, key.kind) == ("", "Service") and entry.desired is not None:
            desired = with_ports_of(entry.desired, there)
            diff = tuple(differences(there, replacement_for(desired, there)))
            entry = replace(entry, desired=desired, diff=diff)
        objection, _ = self._try_create(entry, kind)
        if objection is not None and objection.reason not in _FREED:
            return _blocked_by(entry, objection)
        return replace(entry, verdict="recreate", reason="Differs", is_tried=objection is None)


def named(key: ObjectKey) -> str:
    """An object as `spec.recreate` names it: `Kind.group/name`."""
    kind = f"{key.kind}.{key.group}" if key.group else key.kind
    return f"{kind}/{key.name}"


def _blocked_by(entry: Entry, objection: Objection) -> Entry:
    return replace(entry, reason=objection.reason, message=objection.message, hint=objection.hint)


def without_pending_owners(manifest: Manifest) -> Manifest:
    """The manifest without references to owners that are not there yet; the argument is not changed."""
    owners: list[dict[str, Any]] = field_of(manifest, "metadata", "ownerReferences", default=[])
    if all(owner.get("uid") for owner in owners):
        return manifest
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "ownerReferences"}
    kept = [owner for owner in owners if owner.get("uid")]
    if kept:
        metadata["ownerReferences"] = kept
    return {**manifest, "metadata": metadata}


def _waits_for(namespace: Manifest) -> str:
    """What a terminating namespace waits for, as the server says."""
    finalizers = [
        *field_of(namespace, "spec", "finalizers", default=[]),
        *field_of(namespace, "metadata", "finalizers", default=[]),
    ]
    remaining = [
        str(condition.get("message", ""))
        for condition in field_of(namespace, "status", "conditions", default=[])
        if condition.get("status") == "True" and "Remaining" in str(condition.get("type"))
    ]
    text = ", ".join([*(f"finalizer {name}" for name in finalizers), *remaining])
    return text[:200] or "its end"
