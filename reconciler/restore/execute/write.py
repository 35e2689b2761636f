"""Writes one object as its plan entry says, and only if it is still what the plan was made from.

A lost answer does not say whether a write happened, so a write is repeated only after reading again: what is
there already as captured counts as written. An update is a replace guarded by uid and resourceVersion; a
recreation deletes only the uid that was planned. References to owners that are not there yet are left out
and reported as pending.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from reconciler.clock import SystemClock
from reconciler.cluster.port import (
    AlreadyExistsError,
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    ResourceType,
)
from reconciler.cluster.waiting import wait_for
from reconciler.errors import TerminalError, TransientError
from reconciler.objects import FIELD_MANAGER, Manifest, ObjectKey, uid_of
from reconciler.objects import field as field_of
from reconciler.restore.execute.pausing import end_runs, give_owners_back
from reconciler.restore.plan.compare import replacement_for
from reconciler.restore.plan.decide import without_pending_owners
from reconciler.restore.plan.drift import DriftedError, drift_of
from reconciler.restore.plan.entry import Entry
from reconciler.restore.plan.mark import mark_of, unmarked
from reconciler.restore.plan.order import owner_keys
from reconciler.restore.plan.ownership import given_back
from reconciler.restore.plan.selfacting import runs_done

ATTEMPTS = 5
_NAP_S = 0.1
_MADE_WITH_NAMESPACES = frozenset({("ServiceAccount", "default")})

log = structlog.get_logger(__name__)


class StillThereError(TerminalError):
    """A deleted object did not go within its bound."""


@dataclass(frozen=True)
class Written:
    """How a write ended: the live uid, what was done, and owners that are still to come."""

    uid: str
    reason: str
    pending: tuple[dict[str, Any], ...] = ()
    message: str = ""


class Writer:
    """Carries out single entries. Safe to use from several threads."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        uids: Mapping[ObjectKey, str],
        stop: threading.Event,
        gone_s: float,
    ) -> None:
        self._cluster = cluster
        self._uids = uids
        self._stop = stop
        self._gone_s = gone_s

    def write(self, entry: Entry, kind: ResourceType) -> Written:
        """Write an entry.

        Raises:
            DriftedError: the object is not what the plan was made from.
            ApiError: the server refuses.
            TransientError: the server did not answer, after a few attempts.
        """
        is_deleted = False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if entry.verdict == "create" and attempt == 1:
                    # It was absent a moment ago; the server says so if it is there by now.
                    return self._create(entry, kind)
                there = self._cluster.get(kind, entry.target.name, namespace=entry.target.namespace)
                if there is None:
                    is_planned = entry.verdict == "recreate" and not entry.is_swept
                    if entry.verdict == "update" or (is_planned and attempt == 1):
                        raise DriftedError(
                            f"write {entry.target}: it is gone since the plan was made"
                        )
                    return self._create(entry, kind)
                if entry.verdict == "recreate" and not is_deleted:
                    is_deleted = self._delete(entry, kind, there)
                    if is_deleted:
                        return self._create(entry, kind)
                return self._converge(entry, kind, there)
            except (AlreadyExistsError, ConflictError, NotFoundError, TransientError) as error:
                if attempt == ATTEMPTS or self._stop.wait(_NAP_S * attempt):
                    raise
                log.info("write again", object=str(entry.target), reason=error.reason)
        raise AssertionError("the loop returns or raises")

    def delete(self, entry: Entry, kind: ResourceType) -> None:
        """Delete the live object of an entry that is to be created again, and wait until it is gone.

        Raises:
            DriftedError: it is not the one that was planned.
            StillThereError: it did not go.
        """
        there = self._cluster.get(kind, entry.target.name, namespace=entry.target.namespace)
        if there is not None:
            self._delete(entry, kind, there)

    def adopt(self, entry: Entry, kind: ResourceType, written: Written) -> bool:
        """Give an object the references to owners that exist by now; False while one is missing."""
        references = self._references(entry)
        if any(not reference["uid"] for reference in references):
            return False
        body = {"metadata": {"uid": written.uid, "ownerReferences": references}}
        adopted = self._cluster.patch(
            kind,
            entry.target.name,
            body,
            namespace=entry.target.namespace,
            manager=_creator(entry),
        )
        self._give_back(entry, kind, adopted)
        return True

    def _create(self, entry: Entry, kind: ResourceType) -> Written:
        desired, pending = self._desired(entry)
        made = self._cluster.create(kind, desired, manager=_creator(entry))
        message = self._give_back(entry, kind, made)
        reason = "Recreated" if entry.verdict == "recreate" else "Created"
        return Written(uid_of(made), reason, pending, message)

    def _converge(self, entry: Entry, kind: ResourceType, there: Manifest) -> Written:
        desired, pending = self._desired(entry)
        # What this restore holds back itself is no drift; as captured means released.
        mark = mark_of(there)
        drift, is_done = drift_of(entry, unmarked(there), resolved=desired)
        if is_done and mark is None:
            message = self._give_back(entry, kind, there)
            return Written(uid_of(there), "AsCaptured", pending, message)
        is_given = (entry.target.kind, entry.target.name) in _MADE_WITH_NAMESPACES
        if drift and not (is_given and entry.verdict == "create"):
            raise DriftedError(
                f"write {entry.target}: {drift}", hint="make a new plan and look at it"
            )
        there, warning = self._hold_runs(entry, kind, there)
        wanted = replacement_for(desired, unmarked(there), is_scaled=entry.is_scaled)
        sent = without_pending_owners(wanted)
        made = self._cluster.replace(kind, sent, manager=_creator(entry))
        message = self._give_back(entry, kind, made)
        if mark is not None and not message and not (entry.ownership and entry.ownership.entries):
            message = give_owners_back(self._cluster, kind, made, mark)
        return Written(uid_of(there), "Updated", pending, warning or message)

    def _hold_runs(self, entry: Entry, kind: ResourceType, there: Manifest) -> tuple[Manifest, str]:
        """Tell a live CronJob that its runs are done, before it is released; gives it as it is then."""
        if runs_done(entry, there, now=SystemClock().now()) is None:
            return there, ""
        return end_runs(self._cluster, kind, there)

    def _delete(self, entry: Entry, kind: ResourceType, there: Manifest) -> bool:
        """Delete what is to be recreated; False when it is as captured already."""
        drift, is_done = drift_of(entry, unmarked(there), resolved=self._desired(entry)[0])
        if is_done:
            return False
        if drift:
            raise DriftedError(f"delete {entry.target}: {drift}", hint="make a new plan")
        try:
            self._cluster.delete(
                kind, entry.target.name, namespace=entry.target.namespace, uid=uid_of(there)
            )
        except NotFoundError:
            return True
        problem = wait_for(
            lambda: self._remains(entry, kind, uid_of(there)),
            timeout_s=self._gone_s,
            stop=self._stop,
        )
        if problem:
            raise StillThereError(f"delete {entry.target}: {problem}", hint="remove what holds it")
        return True

    def _remains(self, entry: Entry, kind: ResourceType, uid: str) -> str:
        try:
            there = self._cluster.get(kind, entry.target.name, namespace=entry.target.namespace)
        except TransientError as error:
            return error.message
        if there is None or uid_of(there) != uid:
            return ""
        finalizers = field_of(there, "metadata", "finalizers", default=[])
        return f"it is still there, held by {', '.join(finalizers) or 'its end'}"

    def _desired(self, entry: Entry) -> tuple[Manifest, tuple[dict[str, Any], ...]]:
        """The object with owners as far as they exist, and the references that are to come."""
        assert entry.desired is not None
        references = self._references(entry)
        if not references:
            return entry.desired, ()
        there = [reference for reference in references if reference["uid"]]
        metadata = {k: v for k, v in entry.desired["metadata"].items() if k != "ownerReferences"}
        if there:
            metadata["ownerReferences"] = there
        pending = tuple(reference for reference in references if not reference["uid"])
        return {**entry.desired, "metadata": metadata}, pending

    def _references(self, entry: Entry) -> list[dict[str, Any]]:
        references = []
        for reference in field_of(entry.desired or {}, "metadata", "ownerReferences", default=[]):
            known = [
                self._uids[key]
                for key in owner_keys(reference, entry.target.namespace)
                if self._uids.get(key)
            ]
            references.append({**reference, "uid": known[0] if known else reference["uid"]})
        return references

    def _give_back(self, entry: Entry, kind: ResourceType, written: Manifest) -> str:
        """Give fields back to several managers; a failure of that is told, and is no failed write."""
        ownership = entry.ownership
        if ownership is None or not ownership.entries:
            return ""
        body = {"metadata": {"managedFields": given_back(ownership, written)}}
        try:
            self._cluster.patch(
                kind,
                entry.target.name,
                body,
                namespace=entry.target.namespace,
                manager=ownership.creator,
            )
        except (ApiError, TransientError) as error:
            return f"field owners were not given back: {error.message}"[:256]
        return ""


def _creator(entry: Entry) -> str:
    return entry.ownership.creator if entry.ownership else FIELD_MANAGER
