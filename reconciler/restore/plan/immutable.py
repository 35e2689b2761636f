"""Fields that a server lets nobody change: known here, so that a plan can say it when no dry run is possible.

A rule is a path, and names below it that may change all the same. A dry run that a server took is worth more than
this table: newer servers let more be changed.

Source: the validation of updates in the Kubernetes API server, per kind.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.objects import Manifest, ObjectKey
from reconciler.restore.plan.compare import FieldChange

_RBAC = "rbac.authorization.k8s.io"
_STORAGE = "storage.k8s.io"

_RULES: dict[tuple[str, str], tuple[tuple[str, frozenset[str]], ...]] = {
    ("apps", "Deployment"): (("spec.selector", frozenset()),),
    ("apps", "ReplicaSet"): (("spec.selector", frozenset()),),
    ("apps", "DaemonSet"): (("spec.selector", frozenset()),),
    ("apps", "StatefulSet"): (
        (
            "spec",
            frozenset(
                {
                    "replicas",
                    "ordinals",
                    "template",
                    "updateStrategy",
                    "revisionHistoryLimit",
                    "persistentVolumeClaimRetentionPolicy",
                    "minReadySeconds",
                }
            ),
        ),
    ),
    ("batch", "Job"): tuple(
        (f"spec.{name}", frozenset())
        for name in (
            "selector",
            "template",
            "completionMode",
            "podFailurePolicy",
            "successPolicy",
            "backoffLimitPerIndex",
            "managedBy",
        )
    ),
    ("", "Service"): (
        ("spec.clusterIP", frozenset()),
        ("spec.clusterIPs", frozenset()),
        ("spec.loadBalancerClass", frozenset()),
        ("spec.healthCheckNodePort", frozenset()),
    ),
    ("", "PersistentVolumeClaim"): (
        ("spec", frozenset({"resources", "volumeAttributesClassName"})),
    ),
    ("", "Secret"): (("type", frozenset()),),
    ("discovery.k8s.io", "EndpointSlice"): (("addressType", frozenset()),),
    (_STORAGE, "StorageClass"): tuple(
        (name, frozenset())
        for name in ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")
    ),
    (_RBAC, "RoleBinding"): (("roleRef", frozenset()),),
    (_RBAC, "ClusterRoleBinding"): (("roleRef", frozenset()),),
    ("scheduling.k8s.io", "PriorityClass"): (
        ("value", frozenset()),
        ("preemptionPolicy", frozenset()),
    ),
    ("networking.k8s.io", "IngressClass"): (("spec.controller", frozenset()),),
    ("node.k8s.io", "RuntimeClass"): (("handler", frozenset()),),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        ("spec.group", frozenset()),
        ("spec.scope", frozenset()),
        ("spec.names.plural", frozenset()),
        ("spec.names.kind", frozenset()),
    ),
    ("", "Pod"): (
        (
            "spec",
            frozenset({"tolerations", "activeDeadlineSeconds", "containers", "initContainers"}),
        ),
    ),
}
_SEALED = (
    ("data", frozenset[str]()),
    ("binaryData", frozenset[str]()),
    ("immutable", frozenset[str]()),
)
"""What `immutable: true` closes in a ConfigMap or Secret."""


def immutable_paths(key: ObjectKey, live: Manifest, diff: Iterable[FieldChange]) -> list[str]:
    """Name the changes that no update can make."""
    rules = _RULES.get((key.group, key.kind), ())
    if key.kind in {"ConfigMap", "Secret"} and not key.group and live.get("immutable"):
        rules = (*rules, *_SEALED)
    return [
        change.path
        for change in diff
        if any(_is_closed(change.path, place, free) for place, free in rules)
    ]


def _is_closed(path: str, place: str, free: frozenset[str]) -> bool:
    if path != place and not path.startswith((f"{place}.", f"{place}[", f"{place}(")):
        return False
    below = path[len(place) :].lstrip(".").partition(".")[0].partition("[")[0].partition("(")[0]
    return below not in free
