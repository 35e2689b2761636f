"""Judges what others do: CRDs established, claims bound, objects gone, workloads Ready.

A check gives the problem that is left, empty when there is none. What Ready means per kind follows the Kubernetes API
conventions and kubectl's `rollout status`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reconciler.objects import Manifest, field


def definition_problem(definition: Manifest | None) -> str:
    """What keeps a CRD from being served."""
    if definition is None:
        return "it is gone"
    for wanted in ("NamesAccepted", "Established"):
        condition = condition_of(definition, wanted)
        if condition.get("status") != "True":
            return f"not {wanted}: {condition.get('message') or 'no word yet'}"[:200]
    return ""


def claim_problem(claim: Manifest | None) -> str:
    """What keeps a claim from being bound."""
    if claim is None:
        return "it is gone"
    phase = field(claim, "status", "phase", default="Pending")
    return "" if phase == "Bound" else f"the claim is {phase}"


def workload_problem(workload: Manifest | None) -> str:
    """What keeps a workload from being Ready; empty for kinds that have no such state."""
    if workload is None:
        return "it is gone"
    rule = _RULES.get(str(workload.get("kind")))
    return rule(workload) if rule else ""


def has_readiness(kind: str) -> bool:
    """Whether objects of a kind have a state of being Ready."""
    return kind in _RULES


def _is_unseen(workload: Manifest) -> bool:
    generation = field(workload, "metadata", "generation", default=0)
    return bool(field(workload, "status", "observedGeneration", default=0) < generation)


def _replicas(workload: Manifest, *counters: str) -> str:
    wanted = field(workload, "spec", "replicas", default=1)
    if _is_unseen(workload):
        return "its controller has not seen it yet"
    for counter in counters:
        count = field(workload, "status", counter, default=0)
        if count < wanted:
            return f"{count} of {wanted} replicas are {_WORDS[counter]}"
    return ""


_WORDS = {
    "updatedReplicas": "up to date",
    "readyReplicas": "Ready",
    "availableReplicas": "available",
}


def _deployment_problem(workload: Manifest) -> str:
    if field(workload, "spec", "paused"):
        return ""
    problem = _replicas(workload, "updatedReplicas", "readyReplicas", "availableReplicas")
    if problem:
        return problem
    # Ready may still be the pods of before the update: they go when those that replace them are Ready.
    old = field(workload, "status", "replicas", default=0) - field(
        workload, "status", "updatedReplicas", default=0
    )
    return f"{old} replicas of before are still there" if old > 0 else ""


def _stateful_set_problem(workload: Manifest) -> str:
    problem = _set_problem(workload)
    if problem or field(workload, "spec", "updateStrategy", "type") == "OnDelete":
        return problem
    status = workload.get("status") or {}
    kept = field(workload, "spec", "updateStrategy", "rollingUpdate", "partition", default=0)
    wanted = max(0, field(workload, "spec", "replicas", default=1) - kept)
    updated = status.get("updatedReplicas") or 0
    is_rolling = status.get("updateRevision") != status.get("currentRevision")
    if is_rolling and (updated < wanted or not kept):
        return f"{updated} of {wanted} replicas are up to date"
    return ""


def _set_problem(workload: Manifest) -> str:
    return _replicas(workload, "readyReplicas")


def _daemon_problem(workload: Manifest) -> str:
    if _is_unseen(workload):
        return "its controller has not seen it yet"
    wanted = field(workload, "status", "desiredNumberScheduled", default=0)
    if field(workload, "spec", "updateStrategy", "type") != "OnDelete":
        updated = field(workload, "status", "updatedNumberScheduled", default=0)
        if updated < wanted:
            return f"{updated} of {wanted} pods are up to date"
    count = field(workload, "status", "numberReady", default=0)
    return "" if count >= wanted else f"{count} of {wanted} pods are Ready"


def _pod_problem(pod: Manifest) -> str:
    phase = field(pod, "status", "phase", default="Pending")
    if phase == "Succeeded" or condition_of(pod, "Ready").get("status") == "True":
        return ""
    return f"the pod is {phase}"


def _job_problem(job: Manifest) -> str:
    failed = condition_of(job, "Failed")
    if failed.get("status") == "True":
        return f"the Job failed: {failed.get('message', '')}"[:200]
    is_suspended = bool(field(job, "spec", "suspend"))
    if is_suspended or condition_of(job, "Complete").get("status") == "True":
        return ""
    started = field(job, "status", "ready", default=0) or field(
        job, "status", "succeeded", default=0
    )
    return "" if started else "none of its pods is Ready"


_RULES: dict[str, Callable[[Manifest], str]] = {
    "Deployment": _deployment_problem,
    "StatefulSet": _stateful_set_problem,
    "ReplicaSet": _set_problem,
    "ReplicationController": _set_problem,
    "DaemonSet": _daemon_problem,
    "Pod": _pod_problem,
    "Job": _job_problem,
}


def condition_of(manifest: Manifest, name: str) -> dict[str, Any]:
    """A condition of an object by its type; empty when it has none such."""
    for condition in field(manifest, "status", "conditions", default=[]):
        if condition.get("type") == name:
            found: dict[str, Any] = condition
            return found
    return {}
