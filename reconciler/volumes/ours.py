"""What the reconciler makes in a cluster for its own work with volumes: names, marks, and taking it away again.

A process tells its own objects from those that a dead one left by a word that it draws at its start.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler.cluster.claimpod import LABEL_PURPOSE
from reconciler.cluster.port import (
    Cluster,
    Discovery,
    NotFoundError,
    NotServedError,
    Propagation,
    ResourceType,
)
from reconciler.cluster.waiting import wait_for
from reconciler.errors import ReconcilerError, TransientError
from reconciler.objects import (
    FIELD_MANAGER,
    LABEL_EXCLUDE,
    LABEL_MANAGED,
    Manifest,
    annotations_of,
    field,
    name_of,
    namespace_of,
    uid_of,
)

ANNOTATION_PROCESS = "backup.reconciler.dev/process"
ANNOTATION_CLAIM = "backup.reconciler.dev/claim"
ANNOTATION_POLICY = "backup.reconciler.dev/reclaim-policy"
PROCESS = secrets.token_hex(8)
SNAPSHOTS = "snapshot.storage.k8s.io"
GONE_S = 120.0

Purpose = Literal["snapshot", "clone", "mover", "fill"]
SELECTOR = f"{LABEL_MANAGED}={FIELD_MANAGER},{LABEL_PURPOSE} in (snapshot,clone,mover,fill)"
KINDS = (
    ("batch", "Job"),
    ("", "Pod"),
    ("", "PersistentVolumeClaim"),
    (SNAPSHOTS, "VolumeSnapshot"),
    (SNAPSHOTS, "VolumeSnapshotContent"),
    ("", "PersistentVolume"),
)
"""In the order in which they can go."""


class LeftBehindError(TransientError):
    """Something of ours did not go away in time."""


@dataclass(frozen=True)
class Claim:
    """Names a claim."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def new_name(purpose: Purpose, claim: Claim) -> str:
    """A name that nothing else has."""
    digest = hashlib.sha256(str(claim).encode()).hexdigest()[:10]
    return f"reconciler-{purpose}-{digest}-{secrets.token_hex(4)}"


def metadata(purpose: Purpose, claim: Claim, *, name: str, namespace: str = "") -> Manifest:
    """Metadata of an object of ours that stands for work on a claim."""
    made: Manifest = {
        "name": name,
        "labels": labels(purpose),
        "annotations": {ANNOTATION_PROCESS: PROCESS, ANNOTATION_CLAIM: str(claim)},
    }
    if namespace:
        made["namespace"] = namespace
    return made


def labels(purpose: Purpose) -> dict[str, str]:
    """Labels by which it is found, and by which captures leave it out."""
    return {LABEL_MANAGED: FIELD_MANAGER, LABEL_PURPOSE: purpose, LABEL_EXCLUDE: "true"}


def kind_of(discovery: Discovery, group: str, kind: str) -> ResourceType:
    """A kind as it is served.

    Raises:
        NotServedError: it is not.
    """
    found = discovery.find(group, kind)
    if found is None:
        raise NotServedError(f"work with volumes: the server serves no {kind}")
    return found


def remove(
    cluster: Cluster,
    kind: ResourceType,
    name: str,
    *,
    namespace: str = "",
    propagation: Propagation = "Background",
    gone_s: float = GONE_S,
) -> None:
    """Delete an object of ours and wait until it is gone.

    Raises:
        LeftBehindError: it is still there.
    """

    def problem() -> str:
        try:
            found = cluster.get(kind, name, namespace=namespace)
            if found is None:
                return ""
            if not field(found, "metadata", "deletionTimestamp"):
                cluster.delete(
                    kind,
                    name,
                    namespace=namespace,
                    uid=uid_of(found),
                    propagation=propagation,
                    grace_s=1 if kind.kind == "Pod" else None,
                )
        except NotFoundError:
            return ""
        except TransientError as error:
            return error.message
        return "it is still there"

    left = wait_for(problem, timeout_s=gone_s, stop=threading.Event(), what=name)
    if left:
        raise LeftBehindError(
            f"remove {kind.kind} {namespace}/{name}: {left} after {gone_s:g} s",
            hint=f"see `kubectl describe {kind.plural} {name}`; `reconciler doctor` lists what is left",
        )


Living = Callable[[], Collection[str]]
"""Says which processes work now. Asked after their objects were listed: who begins later owns none of those."""


def leftovers(
    cluster: Cluster, discovery: Discovery, *, living: Living
) -> dict[ResourceType, list[Manifest]]:
    """What processes that do not live any more made, by kind, in the order in which it can go."""
    found: dict[ResourceType, list[Manifest]] = {}
    for group, name in KINDS:
        kind = discovery.find(group, name)
        if kind is not None:
            pages = cluster.pages(kind, label_selector=SELECTOR)
            found[kind] = [each for page in pages for each in page.items]
    words = {PROCESS, *(living() if any(found.values()) else ())}
    return {
        kind: left
        for kind, all_of_it in found.items()
        if (left := [each for each in all_of_it if _process_of(each) not in words])
    }


def _process_of(found: Manifest) -> str:
    return annotations_of(found).get(ANNOTATION_PROCESS, PROCESS)


def list_leftovers(cluster: Cluster, discovery: Discovery, *, living: Living) -> list[str]:
    """Name them: `Kind namespace/name (for claim …)`."""
    return [
        f"{kind.kind} {namespace_of(each)}/{name_of(each)} "
        f"(for claim {annotations_of(each).get(ANNOTATION_CLAIM, '?')})"
        for kind, left in leftovers(cluster, discovery, living=living).items()
        for each in left
    ]


def remove_leftovers(
    cluster: Cluster, discovery: Discovery, *, living: Living
) -> tuple[list[str], list[str]]:
    """Remove what dead processes left; what went, and what did not with the reason."""
    removed: list[str] = []
    problems: list[str] = []
    for kind, left in leftovers(cluster, discovery, living=living).items():
        for each in left:
            what = f"{kind.kind} {namespace_of(each)}/{name_of(each)}".replace(" /", " ")
            try:
                if kind.kind == "PersistentVolume":
                    give_back(cluster, kind, name_of(each))
                    removed.append(what)
                    continue
                release(cluster, kind, each)
                remove(cluster, kind, name_of(each), namespace=namespace_of(each))
                removed.append(what)
            except ReconcilerError as error:
                problems.append(f"{what}: {error.message}")
    return removed, problems


def give_back(cluster: Cluster, kind: ResourceType, name: str) -> None:
    """Take our marks from a volume that was being given over.

    One that an application's claim has taken is as its class wants it; any other is released, and goes by its driver.
    """
    found = cluster.get(kind, name)
    if found is None:
        return
    claim = str(field(found, "spec", "claimRef", "name", default=""))
    is_taken = field(found, "status", "phase") == "Bound" and not claim.startswith("reconciler-")
    spec: Manifest = {
        "persistentVolumeReclaimPolicy": annotations_of(found).get(ANNOTATION_POLICY, "Retain")
    }
    if not is_taken:
        # Of a claim that is no more.
        spec = {
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"uid": PROCESS, "name": "none"},
        }
    unmarked: Manifest = {
        "labels": dict.fromkeys(labels("fill")),
        "annotations": {ANNOTATION_PROCESS: None, ANNOTATION_POLICY: None},
    }
    cluster.patch(kind, name, {"metadata": unmarked, "spec": spec}, manager=FIELD_MANAGER)


def release(cluster: Cluster, kind: ResourceType, found: Manifest) -> None:
    """Let a snapshot's storage go with it: a policy of its class that keeps snapshots is for those that users take."""
    if kind.kind != "VolumeSnapshot":
        return
    content = field(found, "status", "boundVolumeSnapshotContentName")
    if content and field(found, "spec", "source", "persistentVolumeClaimName"):
        set_deletion_policy(cluster, content_kind(cluster, kind), str(content), "Delete")


def content_kind(cluster: Cluster, snapshots: ResourceType) -> ResourceType:
    """The kind of contents, beside that of snapshots."""
    return kind_of(cluster.discover(), snapshots.group, "VolumeSnapshotContent")


def set_deletion_policy(cluster: Cluster, kind: ResourceType, name: str, policy: str) -> None:
    """Say what becomes of the storage when a content goes; nothing happens when it is gone."""
    body: Mapping[str, object] = {"spec": {"deletionPolicy": policy}}
    try:
        cluster.patch(kind, name, dict(body), manager=FIELD_MANAGER)
    except NotFoundError:
        return
