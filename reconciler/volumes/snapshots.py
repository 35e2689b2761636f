"""CSI snapshots of claims, and claims in our namespace that hold what a snapshot holds.

Taken in the claim's namespace (`VolumeSnapshot` of its class), a snapshot is read in ours: a second, pre-provisioned
content names the same handle (`Retain`, so that its end does not take the storage along), and a claim is made from it.
Nothing runs in the application's namespace. What a snapshot is of is the instant at which it was cut; it can be read
when it is ready, which may be much later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from reconciler.clock import format_instant
from reconciler.cluster.port import Cluster, Discovery, ResourceType
from reconciler.cluster.waiting import wait_for
from reconciler.errors import ReconcilerError, TerminalError, TransientError
from reconciler.objects import (
    FIELD_MANAGER,
    Manifest,
    annotations_of,
    field,
    labels_of,
    name_of,
)
from reconciler.volumes.ours import (
    SNAPSHOTS,
    Claim,
    kind_of,
    metadata,
    new_name,
    release,
    remove,
)

LABEL_CLASS = "backup.reconciler.dev/snapshot-class"
_DEFAULT = "snapshot.storage.kubernetes.io/is-default-class"
CUT_S = 60.0
READY_S = 3600.0
log = structlog.get_logger(__name__)


class NoSnapshotError(TerminalError):
    """The claim's volume cannot be snapshotted here."""


class SnapshotFailedError(TransientError):
    """The storage did not take the snapshot, or not in time."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was begun."""

    claim: Claim
    name: str
    driver: str


@dataclass(frozen=True)
class Cut:
    """A snapshot whose contents stand."""

    snapshot: Snapshot
    cut_at: str
    """RFC 3339, as the storage says."""


class Snapshots:
    """Takes snapshots, and makes claims of them in our namespace."""

    def __init__(
        self, cluster: Cluster, discovery: Discovery, *, namespace: str, is_wanted: bool = True
    ) -> None:
        self._is_wanted = is_wanted
        self._cluster = cluster
        self._discovery = discovery
        self._namespace = namespace

    @property
    def are_served(self) -> bool:
        """Whether snapshots are to be taken, and the cluster knows them at all."""
        return self._is_wanted and self._discovery.find(SNAPSHOTS, "VolumeSnapshot") is not None

    def begin(self, claim: Claim, manifest: Manifest) -> Snapshot:
        """Ask for a snapshot of a claim.

        Raises:
            NoSnapshotError: its volume is of no CSI driver, or of one without a snapshot class.
            ReconcilerError: the API server refuses.
        """
        driver = self._driver(claim, manifest)
        body = {
            "apiVersion": f"{SNAPSHOTS}/v1",
            "kind": "VolumeSnapshot",
            "metadata": metadata(
                "snapshot", claim, name=new_name("snapshot", claim), namespace=claim.namespace
            ),
            "spec": {
                "volumeSnapshotClassName": self._class(driver, claim),
                "source": {"persistentVolumeClaimName": claim.name},
            },
        }
        made = self._cluster.create(self._kind("VolumeSnapshot"), body, manager=FIELD_MANAGER)
        return Snapshot(claim, name_of(made), driver)

    def await_cut(
        self, snapshot: Snapshot, *, stop: threading.Event | None, timeout_s: float = CUT_S
    ) -> Cut:
        """Wait until the storage has cut it: from then on writers may go on.

        Raises:
            SnapshotFailedError: it did not, with what the storage said.
        """
        at: list[str] = []

        def problem() -> str:
            content, why = self._content(snapshot)
            created = field(content or {}, "status", "creationTime")
            if content is None or not created or not field(content, "status", "snapshotHandle"):
                return why or "the storage has not cut it"
            # Nanoseconds since 1970, as snapshot.storage.k8s.io/v1 has them.
            at.append(format_instant(datetime.fromtimestamp(int(created) / 1e9, UTC)))
            return ""

        self._await(problem, snapshot, timeout_s=timeout_s, stop=stop)
        return Cut(snapshot, at[-1])

    def end(self, snapshot: Snapshot) -> None:
        """Remove it, and what the storage holds of it."""
        kind = self._kind("VolumeSnapshot")
        found = self._cluster.get(kind, snapshot.name, namespace=snapshot.claim.namespace)
        if found is not None:
            release(self._cluster, kind, found)
            remove(self._cluster, kind, snapshot.name, namespace=snapshot.claim.namespace)

    @contextmanager
    def readable(
        self, cut: Cut, manifest: Manifest, *, stop: threading.Event | None
    ) -> Iterator[Claim]:
        """A claim in our namespace that holds what was cut, while the block runs.

        Raises:
            SnapshotFailedError: the snapshot did not become ready.
            ReconcilerError: the API server refuses.
        """
        snapshot = cut.snapshot
        content = self._await_ready(snapshot, stop)
        name = new_name("clone", snapshot.claim)
        mine = Claim(self._namespace, name)
        try:
            self._bind(mine, snapshot, content)
            self._cluster.create(
                self._kind("PersistentVolumeClaim"),
                _clone(mine, snapshot.claim, manifest, content),
                manager=FIELD_MANAGER,
            )
            yield mine
        finally:
            self._unbind(mine)

    def _bind(self, mine: Claim, snapshot: Snapshot, content: Manifest) -> None:
        spec = {
            "driver": snapshot.driver,
            "deletionPolicy": "Retain",
            "source": {"snapshotHandle": field(content, "status", "snapshotHandle")},
            "volumeSnapshotRef": {"namespace": mine.namespace, "name": mine.name},
        }
        if mode := field(content, "spec", "sourceVolumeMode"):
            spec["sourceVolumeMode"] = mode
        body: Manifest = {
            "apiVersion": f"{SNAPSHOTS}/v1",
            "kind": "VolumeSnapshotContent",
            "metadata": metadata("clone", snapshot.claim, name=mine.name),
            "spec": spec,
        }
        self._cluster.create(self._kind("VolumeSnapshotContent"), body, manager=FIELD_MANAGER)
        body = {
            "apiVersion": f"{SNAPSHOTS}/v1",
            "kind": "VolumeSnapshot",
            "metadata": metadata("clone", snapshot.claim, name=mine.name, namespace=mine.namespace),
            "spec": {"source": {"volumeSnapshotContentName": mine.name}},
        }
        self._cluster.create(self._kind("VolumeSnapshot"), body, manager=FIELD_MANAGER)

    def _unbind(self, mine: Claim) -> None:
        """Take away the claim, our snapshot and our content; the storage's own snapshot stays."""
        for kind, namespace in (
            ("PersistentVolumeClaim", mine.namespace),
            ("VolumeSnapshot", mine.namespace),
            ("VolumeSnapshotContent", ""),
        ):
            try:
                remove(self._cluster, self._kind(kind), mine.name, namespace=namespace)
            except ReconcilerError as error:
                log.warning("left behind", kind=kind, name=mine.name, why=error.message)

    def _await_ready(self, snapshot: Snapshot, stop: threading.Event | None) -> Manifest:
        ready: list[Manifest] = []

        def problem() -> str:
            content, why = self._content(snapshot)
            if content is None or field(content, "status", "readyToUse") is not True:
                return why or "it is not ready to be read"
            ready.append(content)
            return ""

        self._await(problem, snapshot, timeout_s=READY_S, stop=stop)
        return ready[-1]

    def _content(self, snapshot: Snapshot) -> tuple[Manifest | None, str]:
        """The content of a snapshot, as far as there is one, and what went wrong."""
        found = self._cluster.get(
            self._kind("VolumeSnapshot"), snapshot.name, namespace=snapshot.claim.namespace
        )
        if found is None:
            raise SnapshotFailedError(f"snapshot {snapshot.claim}: somebody removed it")
        why = str(field(found, "status", "error", "message", default=""))
        name = field(found, "status", "boundVolumeSnapshotContentName")
        if not name:
            return None, why or "no controller took it up"
        content = self._cluster.get(self._kind("VolumeSnapshotContent"), str(name))
        return content, why or str(field(content or {}, "status", "error", "message", default=""))

    def _await(
        self,
        problem: Callable[[], str],
        snapshot: Snapshot,
        *,
        timeout_s: float,
        stop: threading.Event | None,
    ) -> None:
        def ask() -> str:
            try:
                return problem()
            except SnapshotFailedError:
                raise
            except TransientError as error:
                return error.message

        left = wait_for(
            ask, timeout_s=timeout_s, stop=stop or threading.Event(), what=str(snapshot.claim)
        )
        if left:
            raise SnapshotFailedError(
                f"snapshot {snapshot.claim}: {left[:200]}",
                hint=f"see `kubectl describe volumesnapshot -n {snapshot.claim.namespace} {snapshot.name}`",
            )

    def _driver(self, claim: Claim, manifest: Manifest) -> str:
        name = str(field(manifest, "spec", "volumeName", default=""))
        volume = self._cluster.get(self._kind("PersistentVolume"), name) if name else None
        driver = field(volume or {}, "spec", "csi", "driver")
        if not driver:
            raise NoSnapshotError(f"snapshot {claim}: its volume is of no CSI driver")
        return str(driver)

    def _class(self, driver: str, claim: Claim) -> str:
        """The class that is named by our label, else the default one, else the only one."""
        kind = self._kind("VolumeSnapshotClass")
        classes = [
            each
            for page in self._cluster.pages(kind)
            for each in page.items
            if each.get("driver") == driver
        ]
        labelled = [each for each in classes if labels_of(each).get(LABEL_CLASS) == "true"]
        default = [each for each in classes if annotations_of(each).get(_DEFAULT) == "true"]
        for chosen in (labelled, default, classes):
            if len(chosen) == 1:
                return name_of(chosen[0])
            if chosen:
                names = ", ".join(sorted(name_of(each) for each in chosen)[:5])
                raise NoSnapshotError(
                    f"snapshot {claim}: several snapshot classes of {driver}: {names}",
                    hint=f"label one {LABEL_CLASS}=true",
                )
        raise NoSnapshotError(f"snapshot {claim}: no snapshot class of {driver}")

    def _kind(self, kind: str) -> ResourceType:
        is_core = kind in ("PersistentVolume", "PersistentVolumeClaim")
        return kind_of(self._discovery, "" if is_core else SNAPSHOTS, kind)


def _clone(mine: Claim, of: Claim, manifest: Manifest, content: Manifest) -> Manifest:
    """A claim that is made from our snapshot: of the same class, at least as large as what was cut."""
    spec = manifest.get("spec") or {}
    size = field(manifest, "status", "capacity", "storage") or field(
        spec, "resources", "requests", "storage"
    )
    restore_bytes = field(content, "status", "restoreSize")
    made: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size or str(restore_bytes)}},
        "dataSource": {"apiGroup": SNAPSHOTS, "kind": "VolumeSnapshot", "name": mine.name},
    }
    if spec.get("storageClassName"):
        made["storageClassName"] = spec["storageClassName"]
    if spec.get("volumeMode"):
        made["volumeMode"] = spec["volumeMode"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata("clone", of, name=mine.name, namespace=mine.namespace),
        "spec": made,
    }
