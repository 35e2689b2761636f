"""Live objects of the target namespace that the restore point lacks: told, and left alone.

Told is what a person or a tool put there. Not told is what comes by itself: what has an owner (its owner's
controller makes it), what every namespace is given, what servers and built-in controllers write aside, what ended,
what is excluded by label, and what the capture left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from reconciler.objects import (
    LABEL_EXCLUDE,
    LABEL_MANAGED,
    Manifest,
    ObjectKey,
    annotations_of,
    field,
    labels_of,
    owners_of,
)

_GIVEN = frozenset(
    {
        ("ServiceAccount", "default"),
        ("ConfigMap", "kube-root-ca.crt"),
        ("ConfigMap", "openshift-service-ca.crt"),
    }
)
NEVER_TOLD = frozenset(
    {
        ("", "Event"),
        ("events.k8s.io", "Event"),
        ("apps", "ControllerRevision"),
        ("metrics.k8s.io", "PodMetrics"),
        ("coordination.k8s.io", "LeaseCandidate"),
        ("snapshot.storage.k8s.io", "VolumeSnapshot"),
        ("groupsnapshot.storage.k8s.io", "VolumeGroupSnapshot"),
    }
)
"""Kinds that are never an application's state."""
_SLICE_MANAGERS = frozenset(
    {"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"}
)
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_TOKEN = re.compile(r"-token-[a-z0-9]{5}$")


def extras_of(
    objects: Mapping[ObjectKey, Manifest],
    *,
    namespace: str,
    known: Collection[ObjectKey],
) -> list[ObjectKey]:
    """Name the extra objects of a namespace, sorted.

    Args:
        objects: the live objects.
        namespace: the target's.
        known: what the plan has, and what the capture left out by intent.
    """
    selecting = {
        key.name
        for key, manifest in objects.items()
        if key.kind == "Service" and not key.group and key.namespace == namespace
        if field(manifest, "spec", "selector")
    }
    return sorted(
        key
        for key, manifest in objects.items()
        if key.namespace == namespace
        and key not in known
        and not is_made(key, manifest, selecting_services=selecting)
    )


def is_made(
    key: ObjectKey, manifest: Manifest, *, selecting_services: Collection[str] = ()
) -> bool:
    """Whether an object comes by itself; `selecting_services` are the Services with a selector beside it."""
    if (key.group, key.kind) in NEVER_TOLD or (not key.group and (key.kind, key.name) in _GIVEN):
        return True
    marks = (labels_of(manifest).get(LABEL_EXCLUDE), annotations_of(manifest).get(LABEL_EXCLUDE))
    if owners_of(manifest) or LABEL_MANAGED in labels_of(manifest) or "true" in marks:
        return True
    question = _QUESTIONS.get((key.group, key.kind))
    return question is not None and question(key, manifest, selecting_services)


def _is_made_slice(_: ObjectKey, manifest: Manifest, selecting: Collection[str]) -> bool:
    labels = labels_of(manifest)
    is_managed = labels.get("endpointslice.kubernetes.io/managed-by") in _SLICE_MANAGERS
    return is_managed or labels.get("kubernetes.io/service-name") in selecting


def _is_made_endpoints(key: ObjectKey, manifest: Manifest, selecting: Collection[str]) -> bool:
    return key.name in selecting or _LEADER in annotations_of(manifest)


def _is_lease_held(_: ObjectKey, manifest: Manifest, __: Collection[str]) -> bool:
    spec = manifest.get("spec") or {}
    return "holderIdentity" in spec or "leaseDurationSeconds" in spec


def _is_given_token(key: ObjectKey, manifest: Manifest, _: Collection[str]) -> bool:
    account = annotations_of(manifest).get("kubernetes.io/service-account.name", "")
    is_token = manifest.get("type") == "kubernetes.io/service-account-token"
    return is_token and bool(_TOKEN.search(key.name)) and _TOKEN.sub("", key.name) == account


def _is_over(_: ObjectKey, manifest: Manifest, __: Collection[str]) -> bool:
    conditions = field(manifest, "status", "conditions", default=[])
    return any(
        c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions
    )


_QUESTIONS: dict[tuple[str, str], Callable[[ObjectKey, Manifest, Collection[str]], bool]] = {
    ("discovery.k8s.io", "EndpointSlice"): _is_made_slice,
    ("", "Endpoints"): _is_made_endpoints,
    ("coordination.k8s.io", "Lease"): _is_lease_held,
    ("", "Secret"): _is_given_token,
    ("batch", "Job"): _is_over,
}
