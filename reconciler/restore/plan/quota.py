"""What a plan takes out of the ResourceQuotas of its namespace, beside what is free.

Counted are objects, claims and their storage, node ports, and the pods that workloads make with their requests and
limits; an update counts by its difference. Quotas with scopes count only some pods, which is not worked out.

Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from reconciler.cluster.port import Discovery, ResourceType
from reconciler.objects import Manifest, ObjectKey, field, pod_spec_of
from reconciler.restore.plan.amount import amount, written
from reconciler.restore.plan.entry import WRITES, Entry
from reconciler.restore.plan.live import Live

_COUNTED = {
    ("", "Pod"): "pods",
    ("", "Service"): "services",
    ("", "Secret"): "secrets",
    ("", "ConfigMap"): "configmaps",
    ("", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("", "ReplicationController"): "replicationcontrollers",
    ("", "ResourceQuota"): "resourcequotas",
}


def quota_warnings(
    entries: Sequence[Entry], *, live: Live, discovery: Discovery, namespace: str
) -> list[str]:
    """Say which quota would be exceeded, what is needed and what is free."""
    quotas = _quotas(entries, live, namespace)
    if not quotas:
        return []
    needed: dict[str, Decimal] = {}
    for entry in entries:
        kind = discovery.find(entry.target.group, entry.target.kind)
        if entry.verdict in WRITES and entry.desired is not None and kind is not None:
            if entry.target.namespace != namespace:
                continue
            _add(needed, _use(entry.target, entry.desired, kind), 1)
            there = live.get(entry.target)
            if there is not None:
                _add(needed, _use(entry.target, there, kind), -1)
    told = []
    for name, hard, used in quotas:
        for resource, most in sorted(hard.items()):
            need = needed.get(resource, Decimal(0))
            free = amount(most) - amount(used.get(resource, "0"))
            if need > 0 and need > free:
                like = str(most)
                told.append(
                    f"QuotaExceeded: ResourceQuota {namespace}/{name}: {resource} needs "
                    f"{written(need, like)}, {written(max(free, Decimal(0)), like)} of {most} is free"
                )
    return told


def _quotas(
    entries: Sequence[Entry], live: Live, namespace: str
) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """(name, hard, used) of each quota without scopes, as it will be when workloads are written."""
    found: dict[str, Manifest] = {}
    for manifest in live.of_kind("", "ResourceQuota", namespace):
        found[manifest["metadata"]["name"]] = manifest
    for entry in entries:
        key = entry.target
        is_here = (key.group, key.kind, key.namespace) == ("", "ResourceQuota", namespace)
        if is_here and entry.verdict in WRITES and entry.desired is not None:
            status = {"status": field(found.get(key.name, {}), "status", default={})}
            found[key.name] = {**entry.desired, **status}
    return [
        (
            name,
            field(manifest, "spec", "hard", default={}),
            field(manifest, "status", "used", default={}),
        )
        for name, manifest in sorted(found.items())
        if not field(manifest, "spec", "scopes") and not field(manifest, "spec", "scopeSelector")
    ]


def _use(key: ObjectKey, manifest: Manifest, kind: ResourceType) -> dict[str, Decimal]:
    """What one object uses, with the pods that it makes."""
    use: dict[str, Decimal] = {}
    one = {_count_name(kind.group, kind.plural): Decimal(1)}
    counted = _COUNTED.get((key.group, key.kind))
    if counted:
        one[counted] = Decimal(1)
    _add(use, one, 1)
    if counted == "services":
        _add(use, dict(_of_service(manifest)), 1)
    elif counted == "persistentvolumeclaims":
        _add(use, dict(_of_claim(manifest)), 1)
    pods = _pods(key, manifest)
    spec = pod_spec_of(manifest)
    if spec is not None and pods:
        each = dict(_of_pod(spec))
        if key.kind != "Pod":
            each |= {"pods": Decimal(1), "count/pods": Decimal(1)}
        _add(use, each, pods)
        if key.kind == "Deployment":
            _add(use, {"count/replicasets.apps": Decimal(1)}, 1)
    return use


def _count_name(group: str, plural: str) -> str:
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def _pods(key: ObjectKey, manifest: Manifest) -> int:
    """How many pods a workload makes; of a DaemonSet that depends on the nodes, so none are counted."""
    match key.kind:
        case "Pod":
            return 1
        case "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController":
            return int(field(manifest, "spec", "replicas", default=1))
        case "Job":
            is_idle = bool(field(manifest, "spec", "suspend"))
            return 0 if is_idle else int(field(manifest, "spec", "parallelism", default=1))
    return 0


def _of_pod(spec: Manifest) -> Iterator[tuple[str, Decimal]]:
    """Requests and limits of a pod: those of its containers together, or of its largest init container."""
    for part in ("requests", "limits"):
        totals: dict[str, Decimal] = {}
        for container in spec.get("containers") or []:
            for name, quantity in field(container, "resources", part, default={}).items():
                totals[name] = totals.get(name, Decimal(0)) + amount(quantity)
        for container in spec.get("initContainers") or []:
            for name, quantity in field(container, "resources", part, default={}).items():
                totals[name] = max(totals.get(name, Decimal(0)), amount(quantity))
        for name, total in totals.items():
            yield f"{part}.{name}", total
            if part == "requests" and name in ("cpu", "memory", "ephemeral-storage"):
                yield name, total


def _of_claim(claim: Manifest) -> Iterator[tuple[str, Decimal]]:
    size = amount(field(claim, "spec", "resources", "requests", "storage", default="0"))
    yield "requests.storage", size
    name = field(claim, "spec", "storageClassName")
    if name:
        place = f"{name}.storageclass.storage.k8s.io"
        yield f"{place}/requests.storage", size
        yield f"{place}/persistentvolumeclaims", Decimal(1)


def _of_service(service: Manifest) -> Iterator[tuple[str, Decimal]]:
    kind = field(service, "spec", "type")
    if kind == "LoadBalancer":
        yield "services.loadbalancers", Decimal(1)
    allocates = field(service, "spec", "allocateLoadBalancerNodePorts", default=True)
    if kind == "NodePort" or (kind == "LoadBalancer" and allocates):
        yield "services.nodeports", Decimal(len(field(service, "spec", "ports", default=[])))


def _add(total: dict[str, Decimal], some: dict[str, Decimal], times: int) -> None:
    for name, value in some.items():
        total[name] = total.get(name, Decimal(0)) + value * times
