"""Decides what happens to one object: absent, as captured already, or in conflict.

Objects of the cluster (not of a namespace) are created only if absent: they belong to more than one
application. Only one that an include rule names by kind and full name is treated like any other; CRDs and
Namespaces are never deleted to be made again, whoever names them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from reconciler.cluster.port import (
    ApiError,
    Cluster,
    ForbiddenError,
    InvalidError,
    ResourceType,
)
from reconciler.errors import TransientError
from reconciler.objects import FIELD_MANAGER, Manifest, ObjectKey, canonical, field, uid_of
from reconciler.restore.compare import FieldChange, differences, replacement_for
from reconciler.restore.entry import Entry
from reconciler.restore.live import Live

_CRD = "CustomResourceDefinition"
_NEVER_RECREATED = frozenset({"Namespace", _CRD})
_RECREATE_HINT = "onConflict: recreate deletes it and creates it again"


def state_of(verdict: str, *, live_uid: str, diff: tuple[FieldChange, ...]) -> str:
    """Digest of what an entry was decided from: absence or uid, and the fields that would change."""
    changes = [] if verdict == "skip" else [[c.path, c.before, c.after] for c in diff]
    return hashlib.sha256(canonical([live_uid or "absent", changes])).hexdigest()


@dataclass(frozen=True)
class Decider:
    """Gives each entry its verdict."""

    cluster: Cluster
    live: Live
    policy: str
    names_exactly: Callable[[ObjectKey], bool]
    is_tenant: bool
    since: str
    scaled: set[tuple[str, str]]

    def decide(self, entry: Entry, kind: ResourceType) -> Entry:
        """Give an entry its verdict, reason and diff."""
        decided = self._blocked(entry, kind) or self._compare(entry, kind)
        state = state_of(decided.verdict, live_uid=decided.live_uid, diff=decided.diff)
        return replace(decided, state=state)

    def _blocked(self, entry: Entry, kind: ResourceType) -> Entry | None:
        unreadable = self.live.unreadable.get(kind)
        if unreadable is not None:
            return replace(
                entry, reason=unreadable.reason, message=unreadable.message, hint=unreadable.hint
            )
        scope = self.live.get(ObjectKey("", "Namespace", "", entry.target.namespace))
        if entry.target.kind == "Namespace" and not entry.target.group:
            scope = self.live.get(entry.target)
        if scope is not None and field(scope, "metadata", "deletionTimestamp"):
            return replace(
                entry,
                reason="NamespaceTerminating",
                message=f"the namespace is being deleted; it waits for {_waits_for(scope)}",
                hint="let it end, or remove what holds it, then restore again",
            )
        there = self.live.get(entry.target)
        if there is not None and field(there, "metadata", "deletionTimestamp"):
            finalizers = ", ".join(field(there, "metadata", "finalizers", default=[])) or "its end"
            return replace(
                entry,
                live_uid=uid_of(there),
                reason="BeingDeleted",
                message=f"the live object is being deleted; it waits for {finalizers}",
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
        judged, refusal = self._judge(kind, wanted)
        if judged is not None and not differences(there, judged):
            return replace(entry, verdict="unchanged", reason="OnlyDefaultsDiffer")
        return self._conflict(replace(entry, diff=tuple(diff)), there, kind, refusal)

    def _create(self, entry: Entry, kind: ResourceType) -> Entry:
        created = replace(entry, verdict="create", reason="Absent")
        space = ObjectKey("", "Namespace", "", entry.target.namespace)
        if entry.target.namespace and self.live.get(space) is None:
            return created
        assert entry.desired is not None
        try:
            self.cluster.create(
                kind, without_pending_owners(entry.desired), manager=FIELD_MANAGER, dry_run=True
            )
        except (InvalidError, ForbiddenError) as error:
            return replace(entry, reason=error.reason, message=error.message, hint=error.hint)
        except (ApiError, TransientError):
            # The dry run itself is not possible (a kind to come, a webhook that is away): the write decides.
            return created
        return created

    def _judge(
        self, kind: ResourceType, wanted: Manifest
    ) -> tuple[Manifest | None, ApiError | None]:
        """Ask the server what a replace would give, or why it would refuse."""
        sent = without_pending_owners(wanted)
        try:
            return self.cluster.replace(kind, sent, manager=FIELD_MANAGER, dry_run=True), None
        except (InvalidError, ForbiddenError) as error:
            return None, error
        except (ApiError, TransientError):
            return None, None

    def _conflict(
        self, entry: Entry, there: Manifest, kind: ResourceType, refusal: ApiError | None
    ) -> Entry:
        policy = self.policy
        made_at = str(field(there, "metadata", "creationTimestamp", default=""))
        if self.since and made_at >= self.since:
            policy = "update"
        is_named = self.names_exactly(entry.target)
        if not kind.namespaced and (entry.target.kind == _CRD or not is_named):
            return replace(
                entry,
                verdict="skip",
                reason="ExistsInCluster",
                message="objects of the cluster are created only if absent",
            )
        match policy:
            case "skip":
                return replace(
                    entry, verdict="skip", reason="Exists", message="it exists and differs"
                )
            case "update":
                return self._update(entry, refusal)
            case "recreate":
                return self._recreate(entry, there, is_named=is_named)
        return replace(
            entry,
            reason="Conflict",
            message="it exists and differs",
            hint="set onConflict to skip, update or recreate",
        )

    def _update(self, entry: Entry, refusal: ApiError | None) -> Entry:
        if refusal is None:
            return replace(entry, verdict="update", reason="Differs")
        is_refused = isinstance(refusal, InvalidError)
        return replace(
            entry,
            reason="Immutable" if is_refused else refusal.reason,
            message=refusal.message,
            hint=_RECREATE_HINT if is_refused else refusal.hint,
        )

    def _recreate(self, entry: Entry, there: Manifest, *, is_named: bool) -> Entry:
        key = entry.target
        if key.kind in _NEVER_RECREATED:
            return replace(
                entry,
                reason="NeverRecreated",
                message="deleting it would delete everything in it",
                hint="delete it yourself if that is meant, then restore again",
            )
        is_claim = key.kind == "PersistentVolumeClaim" and not key.group
        if is_claim and field(there, "spec", "volumeName") and not is_named:
            return replace(
                entry,
                reason="ClaimBound",
                message="deleting the claim would delete its volume",
                hint=f"name {key.name} under include.objects to have it deleted and made again",
            )
        return replace(entry, verdict="recreate", reason="Differs")


def without_pending_owners(manifest: Manifest) -> Manifest:
    """The manifest without references to owners that are not there yet; the argument is not changed."""
    owners: list[dict[str, Any]] = field(manifest, "metadata", "ownerReferences", default=[])
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
        *field(namespace, "spec", "finalizers", default=[]),
        *field(namespace, "metadata", "finalizers", default=[]),
    ]
    remaining = [
        str(condition.get("message", ""))
        for condition in field(namespace, "status", "conditions", default=[])
        if condition.get("status") == "True" and "Remaining" in str(condition.get("type"))
    ]
    text = ", ".join([*(f"finalizer {name}" for name in finalizers), *remaining])
    return text[:200] or "its end"
