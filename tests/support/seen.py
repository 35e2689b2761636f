"""Objects as a pass sees them, built from short words."""

from __future__ import annotations

import hashlib

from reconciler.capture.observe import CLUSTER_KINDS, Observation
from reconciler.capture.observed import remember
from reconciler.cluster.port import ResourceType
from reconciler.kinds.effective import EffectivePolicy, effective
from reconciler.kinds.policy import BackupPolicy
from reconciler.kinds.record import PolicyRef


def manifest(
    kind, name, *, namespace="shop", api="v1", labels=None, owner=None, deleting=False, **fields
):
    """A manifest; `owner` is (apiVersion, Kind, name) of its controller."""
    metadata = {
        "name": name,
        "uid": hashlib.sha256(f"{api}{kind}{namespace}{name}".encode()).hexdigest()[:16],
    }
    metadata["resourceVersion"] = "7"
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if owner:
        metadata["ownerReferences"] = [
            {
                "apiVersion": owner[0],
                "kind": owner[1],
                "name": owner[2],
                "uid": f"uid-{owner[2]}",
                "controller": True,
            }
        ]
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def observation(*manifests, gaps=(), more_kinds=()):
    """An observation of exactly these objects; their kinds, and the cluster-scoped ones, were read whole."""
    seen = [remember(m) for m in manifests]
    kinds = {(s.key.group, s.key.kind): bool(s.key.namespace) for s in seen}
    kinds |= dict.fromkeys(CLUSTER_KINDS, False) | dict.fromkeys(more_kinds, True)
    types = tuple(
        ResourceType(
            group, "v1", kind, kind.lower() + "s", namespaced, frozenset({"list", "create"})
        )
        for (group, kind), namespaced in sorted(kinds.items())
    )
    return Observation(objects={s.key: s for s in seen}, kinds=types, gaps=tuple(gaps))


def policy(name, *, namespace=None, **spec) -> EffectivePolicy:
    """A policy in force, from what stands under `spec`."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    parsed = BackupPolicy.model_validate(
        {
            "apiVersion": "backup.reconciler.dev/v1alpha1",
            "kind": "BackupPolicy",
            "metadata": metadata,
            "spec": spec,
        }
    )
    ref = PolicyRef(
        source="main", path=f"policies/{name}.yaml", name=name, revision="0" * 40, blob="1" * 40
    )
    return effective(parsed, None, ref=ref)


def pod_template(*, claims=(), config_maps=(), secrets=(), account=None, labels=None, **spec):
    """A pod template that mounts and names these things."""
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    volumes += [{"name": c, "configMap": {"name": c}} for c in config_maps]
    volumes += [{"name": s, "secret": {"secretName": s}} for s in secrets]
    body = {"containers": [{"name": "main", "image": "example/app:1"}], "volumes": volumes, **spec}
    if account:
        body["serviceAccountName"] = account
    return {"metadata": {"labels": labels or {}}, "spec": body}
