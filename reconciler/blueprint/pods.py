"""Which pod of a workload commands run in: the first Ready one, by ordinal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.cluster.port import Cluster, Discovery, ExecTarget, NotServedError
from reconciler.errors import TransientError
from reconciler.objects import (
    Manifest,
    ObjectKey,
    field,
    metadata_of,
    name_of,
    namespace_of,
    owners_of,
)

_ORDINAL = re.compile(r"-(\d+)$")


class NoReadyPodError(TransientError):
    """A workload has no pod that could be asked."""


def pod_of(cluster: Cluster, discovery: Discovery, workload: Manifest) -> ExecTarget:
    """Find the pod of a workload to run commands in.

    Raises:
        NoReadyPodError: none of its pods is Ready.
    """
    kind = discovery.find("", "Pod")
    if kind is None:
        raise NotServedError("find pods: the server does not serve them")
    namespace = namespace_of(workload)
    if workload.get("kind") == "Pod":
        pod = cluster.get(kind, name_of(workload), namespace=namespace)
        found = [pod] if pod else []
    else:
        selector = selector_text(field(workload, "spec", "selector", default={}))
        pages = cluster.pages(kind, namespace=namespace, label_selector=selector)
        found = [pod for page in pages for pod in page.items if _is_made_by(pod, workload)]
    ready = sorted((pod for pod in found if is_ready(pod)), key=_order)
    if not ready:
        raise NoReadyPodError(
            f"find pod of {ObjectKey.of(workload)}: none of its {len(found)} pods is Ready",
            hint="look at `kubectl get pods` and `kubectl describe pod` in that namespace",
        )
    return ExecTarget(namespace=namespace, pod=name_of(ready[0]))


def is_ready(pod: Manifest) -> bool:
    """Whether a pod's Ready condition holds and nobody deletes it."""
    if metadata_of(pod).get("deletionTimestamp"):
        return False
    conditions = field(pod, "status", "conditions", default=())
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def selector_text(selector: Mapping[str, Any]) -> str:
    """Write a label selector as the API takes it in a query."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for clause in selector.get("matchExpressions") or ():
        key, values = clause.get("key", ""), ",".join(clause.get("values") or ())
        match clause.get("operator"):
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
    return ",".join(parts)


def _is_made_by(pod: Manifest, workload: Manifest) -> bool:
    """Whether the workload made the pod, itself or through a ReplicaSet."""
    kind, name = workload.get("kind"), name_of(workload)
    for owner in owners_of(pod):
        if owner.get("kind") == kind and owner.get("name") == name:
            return True
        is_set = kind == "Deployment" and owner.get("kind") == "ReplicaSet"
        if is_set and str(owner.get("name", "")).rpartition("-")[0] == name:
            return True
    return False


def _order(pod: Manifest) -> tuple[int, str]:
    ordinal = _ORDINAL.search(name_of(pod))
    return (int(ordinal.group(1)) if ordinal else 0, name_of(pod))
