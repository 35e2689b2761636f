"""What a real cluster's controllers do with objects at rest: namespaces, owners, CRDs, claims.

Every event marks what it may concern; marked keys are looked at again until nothing changes. Each look
reads the state and writes the difference, so that order and repetition do not matter.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

from reconciler.cluster.sandbox.api import CLEANUP, Api
from reconciler.cluster.sandbox.fields import Write
from reconciler.cluster.sandbox.state import Entry, Event
from reconciler.cluster.sandbox.status import StatusError
from reconciler.objects import Manifest
from reconciler.objects import field as follow

PROVISIONER = "sandbox.local"
_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_BOUND = ("pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller")
CLAIMS, VOLUMES, PODS = ("", "persistentvolumeclaims"), ("", "persistentvolumes"), ("", "pods")
_NAMESPACES, _CLASSES = ("", "namespaces"), ("storage.k8s.io", "storageclasses")
_CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")
_HOW = Write("kube-controller-manager")
_BIRTH = {
    ("", "serviceaccounts"): {"metadata": {"name": "default"}},
    ("", "configmaps"): {
        "metadata": {"name": "kube-root-ca.crt"},
        "data": {
            "ca.crt": "-----BEGIN CERTIFICATE-----\nc2FuZGJveA==\n-----END CERTIFICATE-----\n"
        },
    },
}
Look = Callable[[Entry, Manifest], None]
_logger = structlog.get_logger(__name__)


class Lifecycle:
    """The controllers of one sandbox, but for workloads, which add their looks to `looks`."""

    def __init__(self, api: Api, directory: Path) -> None:
        self.api, self.state, self.directory = api, api.state, directory
        self.looks: dict[tuple[str, str], Look] = {
            _NAMESPACES: self._namespace,
            CLAIMS: self._claim,
            VOLUMES: self._volume,
            _CRDS: self._definition,
        }
        self._marked: dict[str, None] = {}
        self.state.listeners.append(self._observe)

    def mark(self, *entries: Entry | None) -> None:
        """Look at objects soon."""
        for entry in entries:
            if entry is not None:
                if not self._marked:
                    asyncio.get_running_loop().call_soon(self._drain)
                self._marked[entry.uid] = None

    def _drain(self) -> None:
        marked, self._marked = self._marked, {}
        for entry in filter(None, map(self.state.by_uid.get, marked)):
            try:
                look = self.looks.get(entry.bucket)
                if not self._collect(entry, entry.thaw()) and look:
                    look(entry, entry.thaw())
            except StatusError as error:  # another look follows the next event
                _logger.debug("look ended early", key=entry.key, why=str(error))
            except (KeyError, TypeError, ValueError, AttributeError):
                _logger.exception("an object has an unexpected form", key=entry.key)

    def _observe(self, event: Event) -> None:
        entry, state = event.entry, self.state
        namespace, bucket = entry.key[0], entry.bucket
        if entry.owners or bucket in self.looks:
            self.mark(entry)
        self.mark(*(state.by_uid.get(owner["uid"]) for owner in entry.owners))
        home = state.get(_NAMESPACES, "", namespace)
        if home and (home.is_ending or (event.removed and bucket in _BIRTH)):
            self.mark(home)
        if bucket == _CLASSES or (event.removed and bucket == PODS):
            self.mark(*state.select(CLAIMS, namespace))
        if event.removed:
            self.mark(*(state.by_uid.get(child) for child in state.dependents.get(entry.uid, ())))
            self.mark(*(state.select(VOLUMES) if bucket == CLAIMS else ()))
            self.mark(*(crd for crd in state.select(_CRDS) if crd.is_ending))

    def store(self, entry: Entry, body: Manifest, *, status: bool = False) -> Entry:
        """Write a changed object or its status; returns what is stored now."""
        row = self.api.catalog.by_bucket[entry.bucket]
        how = Write(_HOW.manager, "status") if status else _HOW
        self.api.write(row, entry, body | {"apiVersion": row.api_version}, how)
        return self.state.by_uid.get(entry.uid, entry)

    def create(self, bucket: tuple[str, str], namespace: str, body: Manifest) -> Entry:
        """Create an object."""
        made = self.api.create(self.api.catalog.by_bucket[bucket], body, namespace, _HOW)
        return self.state.by_uid[made["metadata"]["uid"]]

    def delete(self, *entries: Entry) -> None:
        """Delete what is not being deleted yet."""
        for entry in entries:
            if not entry.is_ending:
                self.api.delete(self.api.catalog.by_bucket[entry.bucket], *entry.key, {})

    def _release(self, entry: Entry, body: Manifest, finalizer: str) -> None:
        kept = [f for f in body["metadata"].get("finalizers") or () if f != finalizer]
        self.store(entry, body | {"metadata": body["metadata"] | {"finalizers": kept}})

    def _namespace(self, entry: Entry, body: Manifest) -> None:
        name = entry.key[1]
        if entry.is_ending:
            self.delete(*self.state.everywhere(name))
            if not any(self.state.everywhere(name)):
                self.api.finish(self.state.put(_NAMESPACES, body | {"spec": {"finalizers": []}}))
            return
        for bucket, born in _BIRTH.items():
            if self.state.get(bucket, name, born["metadata"]["name"]) is None:
                self.create(bucket, name, born | {"metadata": dict(born["metadata"])})

    def _collect(self, entry: Entry, body: Manifest) -> bool:
        """Take away dead owners, or the object with them; tells whether there were any."""
        owners, places = entry.owners, ("", entry.key[0])
        found = [(owner, self.state.by_uid.get(owner["uid"])) for owner in owners]
        solid = [o for o, at in found if at and at.key in {(p, o["name"]) for p in places}]
        if owners and not solid:
            self.delete(entry)
        elif len(solid) < len(owners):
            body["metadata"]["ownerReferences"] = solid
            self.store(entry, body)
        return len(solid) < len(owners)

    def _definition(self, entry: Entry, body: Manifest) -> None:
        spec = body["spec"]
        if entry.is_ending:
            bucket = spec["group"], spec["names"]["plural"]
            self.delete(*self.state.select(bucket))
            if not self.state.select(bucket):
                self.api.catalog.unregister(entry.key[1])
                self._release(entry, body, CLEANUP)
            return
        self.api.catalog.register(body)
        old = body.get("status") or {}
        since = follow(old, "conditions", 0, "lastTransitionTime", default=self.api.now())
        reasons = {"NamesAccepted": "NoConflicts", "Established": "InitialNamesAccepted"}
        shown = {"status": "True", "lastTransitionTime": since}
        stored = [v["name"] for v in spec["versions"] if v.get("storage")]
        body["status"] = {
            "acceptedNames": spec["names"],
            "storedVersions": old.get("storedVersions") or stored,
            "conditions": [shown | {"type": t, "reason": r} for t, r in reasons.items()],
        }
        self.store(entry, body, status=True)

    def _claim(self, entry: Entry, body: Manifest) -> None:
        spec, metadata = body["spec"], body["metadata"]
        if entry.is_ending:
            if not self.state.select(PODS, entry.key[0], lambda pod: _mounts(pod, entry.key[1])):
                self._release(entry, body, "kubernetes.io/pvc-protection")
            return
        if follow(body, "status", "phase") != "Bound":
            if (volume := self._volume_for(entry)) is None:
                return
            spec["volumeName"] = volume.key[1]
            notes = metadata.setdefault("annotations", {})
            notes |= dict.fromkeys(_BOUND, "yes") | {_PROVISIONER: PROVISIONER}
            entry = self.store(entry, body)
        size = {"storage": spec["resources"]["requests"]["storage"]}
        status = {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": size}
        self.store(entry, entry.thaw() | {"status": status}, status=True)

    def _volume_for(self, claim: Entry) -> Entry | None:
        spec = claim.manifest["spec"]
        kind = self.state.get(_CLASSES, "", spec.get("storageClassName") or "")
        sources = [spec.get(k) for k in ("volumeName", "dataSourceRef", "dataSource")]
        if any(sources) or kind is None or kind.manifest["provisioner"] != PROVISIONER:
            return None
        name, (namespace, claim_name) = f"pvc-{claim.uid}", claim.key
        folder = self.directory / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        words = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": claim.uid}
        made = {k: spec[k] for k in ("accessModes", "storageClassName", "volumeMode")} | {
            "capacity": spec["resources"]["requests"],
            "claimRef": words | {"namespace": namespace, "name": claim_name},
            "hostPath": {"path": str(folder), "type": ""},
            "persistentVolumeReclaimPolicy": kind.manifest["reclaimPolicy"],
        }
        return self.create(VOLUMES, "", {"metadata": {"name": name}, "spec": made})

    def _volume(self, entry: Entry, body: Manifest) -> None:
        uid = follow(body, "spec", "claimRef", "uid")
        phase = "Bound" if uid in self.state.by_uid else "Released" if uid else "Available"
        if follow(body, "status", "phase") != phase:
            self.store(entry, body | {"status": {"phase": phase}}, status=True)
        elif phase == "Released" and body["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            self.delete(entry)
            shutil.rmtree(self.directory / "volumes" / entry.key[1], ignore_errors=True)


def _mounts(pod: Manifest, claim: str) -> bool:
    volumes = follow(pod, "spec", "volumes", default=[])
    names = [follow(v, "persistentVolumeClaim", "claimName") for v in volumes]
    return claim in names and follow(pod, "status", "phase") not in ("Succeeded", "Failed")
