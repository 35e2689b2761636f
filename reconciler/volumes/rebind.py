"""Fills a claim of an application without running anything in its namespace.

A volume of the same class and size is made for a claim of ours, a mover fills it there, and then the volume is given
over: our claim goes, and the volume names the application's claim, which binds to it. This takes a claim that waits for
its first consumer; one that has a volume already is filled in place (`claimpod`).
Source of the steps: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#reserving-a-persistentvolume.
"""

from __future__ import annotations

import threading
from typing import Any

import structlog

from reconciler.cluster.port import Cluster, Discovery
from reconciler.cluster.waiting import wait_for
from reconciler.errors import ReconcilerError, TransientError
from reconciler.mover.order import Order, Place
from reconciler.objects import FIELD_MANAGER, Manifest, field, uid_of
from reconciler.volumes.movers import FILES_PATH, Mount, Movers, Told, judged
from reconciler.volumes.ours import (
    ANNOTATION_POLICY,
    ANNOTATION_PROCESS,
    PROCESS,
    Claim,
    give_back,
    kind_of,
    labels,
    metadata,
    new_name,
    remove,
)

BOUND_S = 60.0
LATE = "WaitForFirstConsumer"
log = structlog.get_logger(__name__)


class GiveOverError(TransientError):
    """The filled volume did not come to the claim."""


class Filler:
    """Fills claims that wait for their first consumer."""

    def __init__(self, cluster: Cluster, discovery: Discovery, movers: Movers) -> None:
        self._cluster = cluster
        self._movers = movers
        self._claims = kind_of(discovery, "", "PersistentVolumeClaim")
        self._volumes = kind_of(discovery, "", "PersistentVolume")
        self._classes = kind_of(discovery, "storage.k8s.io", "StorageClass")
        self._drivers = kind_of(discovery, "storage.k8s.io", "CSIDriver")

    def takes(self, claim: Claim) -> bool:
        """Whether a claim can be filled in this way: unbound, of a class of a CSI driver that binds late."""
        found = self._cluster.get(self._claims, claim.name, namespace=claim.namespace)
        name = field(found or {}, "spec", "storageClassName")
        if found is None or not name or field(found, "spec", "volumeName"):
            return False
        if field(found, "spec", "volumeMode") == "Block" or field(found, "spec", "selector"):
            return False
        storage = self._cluster.get(self._classes, str(name))
        return (
            storage is not None
            and storage.get("volumeBindingMode") == LATE
            and self._cluster.get(self._drivers, str(storage.get("provisioner"))) is not None
        )

    def fill(
        self, claim: Claim, place: Place, *, stop: threading.Event, told: Told = lambda _: None
    ) -> None:
        """Make the files of a claim those of the root that `place` names.

        Raises:
            GiveOverError: the claim did not bind to the volume.
            ReconcilerError: what went wrong with the mover, or on the cluster.
        """
        wanted = self._cluster.get(self._claims, claim.name, namespace=claim.namespace)
        if wanted is None:
            raise GiveOverError(f"fill {claim}: the claim is gone")
        mine = Claim(self._movers.settings.namespace, new_name("fill", claim))
        self._cluster.create(self._claims, _like(wanted, mine, claim), manager=FIELD_MANAGER)
        volume = ""
        try:
            status = self._movers.run(
                Order("load-files", FILES_PATH, (place,)),
                Mount(
                    mine,
                    storage_class=str(field(wanted, "spec", "storageClassName", default="")),
                    stands_for=claim,
                ),
                stop=stop,
                told=told,
            )
            judged(status)
            volume = self._keep(mine)
            remove(self._cluster, self._claims, mine.name, namespace=mine.namespace)
            self._give_over(volume, wanted, claim, stop)
        except BaseException:
            self._undo(mine, volume)
            raise

    def _keep(self, mine: Claim) -> str:
        """Keep the volume when our claim goes; its name."""
        found = self._cluster.get(self._claims, mine.name, namespace=mine.namespace)
        volume = str(field(found or {}, "spec", "volumeName", default=""))
        if not volume:
            raise GiveOverError(f"fill {mine}: it has no volume")
        kept = self._cluster.get(self._volumes, volume)
        policy = str(field(kept or {}, "spec", "persistentVolumeReclaimPolicy", default="Delete"))
        mark: Manifest = {
            "labels": labels("fill"),
            "annotations": {ANNOTATION_PROCESS: PROCESS, ANNOTATION_POLICY: policy},
        }
        self._patch(volume, {"metadata": mark, "spec": {"persistentVolumeReclaimPolicy": "Retain"}})
        return volume

    def _give_over(
        self, volume: str, wanted: Manifest, claim: Claim, stop: threading.Event
    ) -> None:
        to: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": uid_of(wanted),
            "resourceVersion": None,
        }
        self._patch(volume, {"spec": {"claimRef": to}})

        def problem() -> str:
            found = self._cluster.get(self._claims, claim.name, namespace=claim.namespace)
            if found is None or uid_of(found) != uid_of(wanted):
                raise GiveOverError(f"fill {claim}: the claim is gone")
            bound = field(found, "spec", "volumeName")
            if bound and bound != volume:
                raise GiveOverError(f"fill {claim}: it took another volume, {bound}")
            phase = field(found, "status", "phase")
            return "" if phase == "Bound" else f"the claim is {phase}"

        left = wait_for(problem, timeout_s=BOUND_S, stop=stop, what=str(claim))
        if left:
            raise GiveOverError(
                f"fill {claim}: {left} after {BOUND_S:g} s",
                hint=f"see `kubectl describe pvc -n {claim.namespace} {claim.name}`",
            )
        give_back(self._cluster, self._volumes, volume)

    def _undo(self, mine: Claim, volume: str) -> None:
        """Take away what was filled in vain."""
        try:
            if volume:
                remove(self._cluster, self._claims, mine.name, namespace=mine.namespace)
                give_back(self._cluster, self._volumes, volume)
            remove(self._cluster, self._claims, mine.name, namespace=mine.namespace)
        except ReconcilerError as error:
            log.warning("left behind", kind="PersistentVolume", name=volume, why=error.message)

    def _patch(self, volume: str, body: Manifest) -> None:
        self._cluster.patch(self._volumes, volume, body, manager=FIELD_MANAGER)


def _like(wanted: Manifest, mine: Claim, claim: Claim) -> Manifest:
    """A claim of ours for a volume as the application's claim asks for."""
    spec = wanted.get("spec") or {}
    kept = (
        "accessModes",
        "resources",
        "storageClassName",
        "volumeMode",
        "volumeAttributesClassName",
    )
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata("fill", claim, name=mine.name, namespace=mine.namespace),
        "spec": {name: spec[name] for name in kept if name in spec},
    }
