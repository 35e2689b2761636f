"""Why a workload is not Ready: what the status of its pods says, or else the newest warning about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reconciler.cluster.port import Cluster, ResourceType
from reconciler.errors import ReconcilerError
from reconciler.objects import Manifest, ObjectKey, field, name_of, owners_of
from reconciler.restore.execute.ready import condition_of


def cause_of(
    workload: ObjectKey, *, cluster: Cluster, kind_of: Callable[[ObjectKey], ResourceType]
) -> str:
    """The first cause to be found on the cluster; empty when there is none, or it cannot be read."""
    try:
        pods = [
            pod
            for page in cluster.pages(
                kind_of(ObjectKey("", "Pod", "", "")), namespace=workload.namespace
            )
            for pod in page.items
            if name_of(pod) == workload.name
            or any(str(owner.get("name", "")).startswith(workload.name) for owner in owners_of(pod))
        ]
        cause = first_cause(pods)
        if cause:
            return cause
        events = [
            event
            for page in cluster.pages(
                kind_of(ObjectKey("", "Event", "", "")), namespace=workload.namespace
            )
            for event in page.items
        ]
    except ReconcilerError:
        return ""
    return event_cause(events, workload.name)


def first_cause(pods: Iterable[Manifest]) -> str:
    """Why pods are not Ready, as their status says it; empty when it does not."""
    for pod in pods:
        for name in ("initContainerStatuses", "containerStatuses"):
            for status in field(pod, "status", name, default=[]):
                for state in ("waiting", "terminated"):
                    cause = field(status, "state", state, default={})
                    if cause.get("reason") not in (None, "Completed", "ContainerCreating"):
                        where = f"container {status.get('name')}"
                        return f"{where}: {cause['reason']}: {cause.get('message', '')}"[:200]
        unplaced = condition_of(pod, "PodScheduled")
        if unplaced.get("status") == "False":
            return f"not scheduled: {unplaced.get('message', '')}"[:200]
    return ""


def event_cause(events: Iterable[Manifest], name: str) -> str:
    """The newest warning about a workload or what it made: a quota, a mount, a webhook that says no."""
    warnings = [
        event
        for event in events
        if event.get("type") == "Warning"
        and f"{field(event, 'involvedObject', 'name', default='')}-".startswith(f"{name}-")
    ]
    if not warnings:
        return ""
    newest = max(warnings, key=_seen_at)
    return f"{newest.get('reason', '')}: {newest.get('message', '')}"[:200]


def _seen_at(event: Manifest) -> str:
    seen = event.get("lastTimestamp") or event.get("eventTime")
    return str(seen or field(event, "metadata", "creationTimestamp", default=""))
