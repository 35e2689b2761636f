"""Whether the pods of a plan's workloads would be let in: a Deployment is taken even when its pods are not.

Where the namespace exists, the server is asked by a dry run of one pod of each workload: that asks Pod Security,
LimitRanges, webhooks and policies at once. Where it does not, the labels that it will have are held against the
Pod Security Standards. What is found is a warning: the workload is written, and would not become Ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from reconciler.cluster.port import Cluster, Discovery, ResourceType
from reconciler.errors import ReconcilerError
from reconciler.objects import (
    FIELD_MANAGER,
    Manifest,
    ObjectKey,
    duplicate,
    field,
    labels_of,
    name_of,
    pod_spec_of,
)
from reconciler.restore.plan.entry import WRITES, Entry
from reconciler.restore.plan.live import READERS, Live
from reconciler.restore.plan.objection import objection_of
from reconciler.restore.plan.order import is_workload
from reconciler.restore.plan.podsecurity import ENFORCE, violations

PODS_REFUSED = "its pods would be refused"
_TOLD = frozenset({"PodSecurity", "LimitRange", "WebhookDenied", "PolicyDenied", "Invalid"})
"""Objections that stay; a quota may be free again once the old pods are gone."""


def judge_pods(
    entries: Sequence[Entry], *, cluster: Cluster, discovery: Discovery, live: Live
) -> list[Entry]:
    """Note on each workload what would keep its pods away."""
    kind = discovery.find("", "Pod")
    levels = {
        entry.target.name: _level_of(entry, live) for entry in entries if _is_space(entry.target)
    }

    def judge(entry: Entry) -> Entry:
        if not _makes_pods(entry) or entry.desired is None or kind is None:
            return entry
        space = ObjectKey("", "Namespace", "", entry.target.namespace)
        if live.get(space) is None:
            found = _by_standard(entry.desired, levels.get(entry.target.namespace, ""))
        else:
            found = _by_server(entry.desired, cluster, kind)
        return replace(entry, notes=(*entry.notes, f"{PODS_REFUSED}: {found}")) if found else entry

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(judge, entries))


def pod_of(workload: Manifest) -> Manifest | None:
    """The pod that a workload makes, as its controller would send it; None when it makes none."""
    spec = field(workload, "spec", default={})
    if workload.get("kind") == "CronJob":
        spec = field(spec, "jobTemplate", "spec", default={})
    template = field(spec, "template", default={})
    if not pod_spec_of({"kind": "", "spec": {"template": template}}):
        return None
    pod = duplicate(template)
    for claim in field(workload, "spec", "volumeClaimTemplates", default=[]):
        name = name_of(claim)
        source = {"claimName": f"{name}-{name_of(workload)}-0"}
        pod["spec"].setdefault("volumes", []).append(
            {"name": name, "persistentVolumeClaim": source}
        )
    metadata = pod.get("metadata") or {}
    kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    kept |= {
        "generateName": f"{name_of(workload)[:50]}-",
        "namespace": workload["metadata"]["namespace"],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": pod["spec"]}


def _is_space(key: ObjectKey) -> bool:
    return (key.group, key.kind) == ("", "Namespace")


def _level_of(entry: Entry, live: Live) -> str:
    manifest = entry.desired if entry.verdict in WRITES else live.get(entry.target)
    return labels_of(manifest or {}).get(ENFORCE, "")


def _makes_pods(entry: Entry) -> bool:
    is_pod = entry.target.kind == "Pod"
    return entry.verdict in WRITES and is_workload(entry.target) and not is_pod


def _by_standard(workload: Manifest, level: str) -> str:
    spec = pod_spec_of(workload)
    found = violations(spec, level) if spec else []
    return f'PodSecurity "{level}": {", ".join(found)[:300]}' if found else ""


def _by_server(workload: Manifest, cluster: Cluster, kind: ResourceType) -> str:
    pod = pod_of(workload)
    if pod is None:
        return ""
    try:
        cluster.create(kind, pod, manager=FIELD_MANAGER, dry_run=True)
    except ReconcilerError as error:
        objection = objection_of(error)
        if objection is not None and objection.reason in _TOLD:
            return f"{objection.reason}: {objection.message}"
    return ""
