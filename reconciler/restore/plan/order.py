"""The order in which objects are written back, and what an object needs before it can stand.

Levels follow one another; objects of one level are written side by side. Claims are filled at `VOLUMES`, before
anything that could mount them, and data services at `LOADS`, before all other workloads. What
can turn away or change other writes (webhooks, aggregated APIs) comes after all of them, and what acts by itself
when the workloads are Ready. `needs_of` names the objects without which one would be wrong: they come first
whatever their level (`wiring`), a failure spreads along them, and no further.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from reconciler.objects import Manifest, ObjectKey, field, group_of, pod_spec_of


class Level(IntEnum):
    """The levels, first to last; no object is of LETTING_GO, VOLUMES, LOADS or STANDING."""

    NAMESPACES = 0
    DEFINITIONS = 1
    CLASSES = 2
    IDENTITIES = 3
    CONFIGURATION = 4
    CLAIMS = 5
    LETTING_GO = 6
    VOLUMES = 7
    SERVICES = 8
    DATA_SERVICES = 9
    LOADS = 10
    WORKLOADS = 11
    POLICIES = 12
    CUSTOM = 13
    GATES = 14
    STANDING = 15
    SELF_ACTING = 16


WORKLOAD_KINDS = frozenset(
    {
        ("apps", "Deployment"),
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("apps", "ReplicaSet"),
        ("", "ReplicationController"),
        ("", "Pod"),
        ("batch", "Job"),
        ("batch", "CronJob"),
    }
)
RBAC = "rbac.authorization.k8s.io"

_LEVELS: dict[tuple[str, str], Level] = {
    ("", "Namespace"): Level.NAMESPACES,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Level.DEFINITIONS,
    ("scheduling.k8s.io", "PriorityClass"): Level.CLASSES,
    ("storage.k8s.io", "StorageClass"): Level.CLASSES,
    ("storage.k8s.io", "CSIDriver"): Level.CLASSES,
    ("networking.k8s.io", "IngressClass"): Level.CLASSES,
    ("gateway.networking.k8s.io", "GatewayClass"): Level.CLASSES,
    ("node.k8s.io", "RuntimeClass"): Level.CLASSES,
    ("snapshot.storage.k8s.io", "VolumeSnapshotClass"): Level.CLASSES,
    ("", "ServiceAccount"): Level.IDENTITIES,
    (RBAC, "ClusterRole"): Level.IDENTITIES,
    (RBAC, "Role"): Level.IDENTITIES,
    (RBAC, "ClusterRoleBinding"): Level.CONFIGURATION,
    (RBAC, "RoleBinding"): Level.CONFIGURATION,
    ("", "Secret"): Level.CONFIGURATION,
    ("", "ConfigMap"): Level.CONFIGURATION,
    ("", "LimitRange"): Level.CONFIGURATION,
    ("", "ResourceQuota"): Level.CONFIGURATION,
    ("", "PersistentVolume"): Level.CONFIGURATION,
    ("", "PersistentVolumeClaim"): Level.CLAIMS,
    ("", "Service"): Level.SERVICES,
    ("", "Endpoints"): Level.SERVICES,
    ("discovery.k8s.io", "EndpointSlice"): Level.SERVICES,
    ("networking.k8s.io", "NetworkPolicy"): Level.SERVICES,
    ("apiregistration.k8s.io", "APIService"): Level.GATES,
    **dict.fromkeys(WORKLOAD_KINDS, Level.WORKLOADS),
    ("batch", "CronJob"): Level.SELF_ACTING,
    ("autoscaling", "HorizontalPodAutoscaler"): Level.SELF_ACTING,
}
_BUILT_IN_GROUPS = frozenset(
    {"", "apps", "batch", "autoscaling", "policy", "extensions", "events.k8s.io"}
)


_WHOLE = (("secretRef", "Secret"), ("configMapRef", "ConfigMap"))
_SINGLE = (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap"))


def level_of(key: ObjectKey, *, is_data_service: bool = False) -> Level:
    """The level at which an object is written."""
    if is_data_service:
        return Level.DATA_SERVICES
    known = _LEVELS.get((key.group, key.kind))
    if known is not None:
        return known
    if key.group == "admissionregistration.k8s.io":
        return Level.GATES
    is_built_in = key.group in _BUILT_IN_GROUPS or key.group.endswith(".k8s.io")
    return Level.POLICIES if is_built_in else Level.CUSTOM


def is_workload(key: ObjectKey) -> bool:
    """Whether readiness of this kind is waited for."""
    return (key.group, key.kind) in WORKLOAD_KINDS


def claims_of(manifest: Manifest) -> set[str]:
    """The claims that a workload mounts; of a StatefulSet also those made from its templates."""
    spec = pod_spec_of(manifest) or {}
    claims = {
        name
        for volume in spec.get("volumes") or []
        if (name := field(volume, "persistentVolumeClaim", "claimName"))
    }
    if manifest.get("kind") == "StatefulSet":
        name = field(manifest, "metadata", "name", default="")
        first = field(manifest, "spec", "ordinals", "start", default=0)
        count = field(manifest, "spec", "replicas", default=1)
        for template in field(manifest, "spec", "volumeClaimTemplates", default=[]):
            prefix = f"{field(template, 'metadata', 'name', default='')}-{name}"
            claims |= {f"{prefix}-{ordinal}" for ordinal in range(first, first + count)}
    return claims


def needs_of(manifest: Manifest) -> Iterator[ObjectKey]:
    """Name the objects without which this one would be wrong; they need not exist anywhere."""
    key = ObjectKey.of(manifest)
    if key.namespace:
        yield ObjectKey("", "Namespace", "", key.namespace)
    yield from _needs_of_pods(manifest, key.namespace)
    if key.kind in {"RoleBinding", "ClusterRoleBinding"} and key.group == RBAC:
        kind = field(manifest, "roleRef", "kind", default="Role")
        name = field(manifest, "roleRef", "name", default="")
        yield ObjectKey(RBAC, kind, key.namespace if kind == "Role" else "", name)
    if key.kind == "HorizontalPodAutoscaler":
        target = field(manifest, "spec", "scaleTargetRef", default={})
        group = group_of(target.get("apiVersion", ""))
        yield ObjectKey(group, target.get("kind", ""), key.namespace, target.get("name", ""))
    for reference in field(manifest, "metadata", "ownerReferences", default=[]):
        yield from owner_keys(reference, key.namespace)


def _needs_of_pods(manifest: Manifest, namespace: str) -> Iterator[ObjectKey]:
    spec = pod_spec_of(manifest)
    if spec is None:
        return
    for claim in claims_of(manifest):
        yield ObjectKey("", "PersistentVolumeClaim", namespace, claim)
    account = spec.get("serviceAccountName")
    if account and account != "default":
        yield ObjectKey("", "ServiceAccount", namespace, account)
    for volume in spec.get("volumes") or []:
        sources = [volume, *field(volume, "projected", "sources", default=[])]
        for source in sources:
            yield from _needs_of_source(source, namespace)
    for part in ("containers", "initContainers"):
        for container in spec.get(part) or []:
            for entry in container.get("envFrom") or []:
                yield from _references(entry, namespace, _WHOLE)
            for entry in container.get("env") or []:
                yield from _references(entry.get("valueFrom") or {}, namespace, _SINGLE)


def _needs_of_source(source: dict[str, Any], namespace: str) -> Iterator[ObjectKey]:
    for part, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
        inside = source.get(part)
        if isinstance(inside, dict) and not inside.get("optional"):
            name = inside.get("secretName") or inside.get("name")
            if name:
                yield ObjectKey("", kind, namespace, name)


def _references(
    entry: dict[str, Any], namespace: str, parts: tuple[tuple[str, str], ...]
) -> Iterator[ObjectKey]:
    for part, kind in parts:
        inside = entry.get(part)
        if isinstance(inside, dict) and inside.get("name") and not inside.get("optional"):
            yield ObjectKey("", kind, namespace, inside["name"])


def owner_keys(reference: dict[str, Any], namespace: str) -> list[ObjectKey]:
    """The keys that an owner reference may mean: in the same namespace, or cluster-scoped."""
    group = group_of(reference.get("apiVersion", ""))
    kind, name = reference.get("kind", ""), reference.get("name", "")
    keys = [ObjectKey(group, kind, namespace, name)] if namespace else []
    return [*keys, ObjectKey(group, kind, "", name)]


def services_of(manifest: Manifest) -> Iterator[ObjectKey]:
    """The Services that a definition, a webhook configuration or an APIService sends requests to."""
    clients = [field(manifest, "spec", "conversion", "webhook", "clientConfig", default={})]
    clients += [hook.get("clientConfig") or {} for hook in manifest.get("webhooks") or []]
    if manifest.get("kind") == "APIService":
        clients.append(field(manifest, "spec", default={}))
    for client in clients:
        service = client.get("service") or {}
        if service.get("name"):
            yield ObjectKey("", "Service", service.get("namespace", ""), service["name"])
