"""What of the target a plan looks at: live forms of its objects, their owners, and what lives beside them.

A namespace that does not exist holds nothing, so nothing in it is asked for. A plan of a whole namespace lists all
that can be created in it, so that what the point lacks can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.cluster.port import ApiError, Cluster, Discovery, ResourceType
from reconciler.objects import ObjectKey, owners_of
from reconciler.restore.plan.draft import Draft
from reconciler.restore.plan.live import Live, listable, read_live
from reconciler.restore.plan.order import owner_keys
from reconciler.store.port import Content

_BESIDE = (
    ("", "Pod"),
    ("", "ResourceQuota"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
)
"""Kinds of the namespace that are read whatever the plan holds."""


def survey(
    cluster: Cluster,
    drafts: Sequence[Draft],
    *,
    discovery: Discovery,
    namespace: str,
    contents: Sequence[Content],
    is_whole: bool,
) -> Live:
    """Read what a plan is compared with.

    Args:
        cluster: the target.
        drafts: the objects on their way into the plan.
        discovery: what the target serves.
        namespace: the target namespace.
        contents: those of the restore point.
        is_whole: the plan is of a whole namespace.
    """
    wanted = _wanted(drafts, discovery=discovery, namespace=namespace, contents=contents)
    if not _exists(cluster, discovery, namespace):
        return read_live(
            cluster, wanted={k: kind for k, kind in wanted.items() if k.namespace != namespace}
        )
    listed = [
        (kind, namespace)
        for group, name in _BESIDE
        if (kind := discovery.find(group, name)) is not None
    ]
    if is_whole:
        planned = {(kind.group, kind.kind) for kind in wanted.values()}
        listed += [
            (kind, namespace)
            for kind in listable(discovery)
            if (kind.group, kind.kind) not in planned
        ]
        listed += [(kind, namespace) for kind in wanted.values() if kind.namespaced]
    return read_live(cluster, wanted=wanted, listed=listed)


def _wanted(
    drafts: Sequence[Draft], *, discovery: Discovery, namespace: str, contents: Sequence[Content]
) -> dict[ObjectKey, ResourceType]:
    wanted = {
        draft.target: draft.kind
        for draft in drafts
        if draft.kind is not None
        and discovery.find(draft.kind.group, draft.kind.kind, draft.kind.version)
    }
    owners = [
        key
        for draft in drafts
        for reference in owners_of(draft.captured)
        for key in owner_keys(reference, draft.target.namespace)
    ]
    for key in [*owners, *(_content_target(content, namespace) for content in contents)]:
        kind = discovery.find(key.group, key.kind)
        if kind is not None and kind.namespaced == bool(key.namespace):
            wanted.setdefault(key, kind)
    return wanted


def _exists(cluster: Cluster, discovery: Discovery, namespace: str) -> bool:
    """Whether a namespace is there; one that cannot be asked about may be."""
    kind = discovery.find("", "Namespace")
    try:
        return kind is None or cluster.get(kind, namespace) is not None
    except ApiError:
        return True


def _content_target(content: Content, namespace: str) -> ObjectKey:
    if content.workload:
        return replace(ObjectKey.parse(content.workload), namespace=namespace)
    name = content.name.removeprefix("volume/")
    return ObjectKey("", "PersistentVolumeClaim", namespace, name)
