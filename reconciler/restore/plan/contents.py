"""Plans contents: which volume's files go into which claim, which artifacts into which data service.

A content goes where its claim or workload goes. Into one that the plan makes it is loaded; into a live one
only when `onConflict` allows what exists to be replaced. A claim that running pods mount is never written:
they would read half-written files, and write into them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from reconciler.objects import Manifest, ObjectKey, field, name_of, owners_of
from reconciler.restore.plan.entry import ContentEntry, ContentVerdict, Entry
from reconciler.restore.plan.live import Live
from reconciler.restore.plan.order import claims_of
from reconciler.store.port import Content

VOLUME = "volume/"


def plan_contents(
    contents: Sequence[Content],
    *,
    named: list[Content] | None,
    is_whole: bool,
    entries: Sequence[Entry],
    home: tuple[str, str],
    live: Live,
    policy: str,
    since: str,
    paused: Collection[ObjectKey] = (),
) -> list[ContentEntry]:
    """Give each content its place and verdict.

    Args:
        contents: those of the restore point.
        named: those that the request names; None when it does not say.
        is_whole: the request asks for all objects, so for all contents when it does not say.
        entries: the plan's objects.
        home: the captured namespace and the one that it goes to.
        live: the target as it is now.
        policy: `onConflict`.
        since: on resuming, the server's instant at which the attempt began.
        paused: workloads that are stopped before anything is written.
    """
    by_source = {entry.source: entry for entry in entries}
    planned = []
    for content in contents:
        source = _source(content, home[0])
        entry = by_source.get(source)
        is_asked = content in named if named is not None else is_whole or entry is not None
        if not is_asked:
            continue
        into = entry.target if entry else replace(source, namespace=home[1])
        leaving = _leaving(entries) | {k.name for k in paused if k.namespace == into.namespace}
        planned.append(_plan(content, into, entry, leaving, live=live, policy=policy, since=since))
    return planned


def _source(content: Content, namespace: str) -> ObjectKey:
    if content.name.startswith(VOLUME):
        name = content.name.removeprefix(VOLUME)
        return ObjectKey("", "PersistentVolumeClaim", namespace, name)
    return ObjectKey.parse(content.workload)


def _plan(
    content: Content,
    into: ObjectKey,
    entry: Entry | None,
    leaving: set[str],
    *,
    live: Live,
    policy: str,
    since: str,
) -> ContentEntry:
    def ends(
        verdict: ContentVerdict, reason: str, message: str = "", hint: str = ""
    ) -> ContentEntry:
        return ContentEntry(content, into, verdict, reason, message, hint)

    there = live.get(into)
    if entry is not None and entry.verdict in ("create", "recreate"):
        return ends("load", "New")
    if entry is not None and entry.verdict == "blocked":
        return ends("blocked", "TargetBlocked", f"{into} is blocked: {entry.reason}")
    if there is None:
        if entry is not None and entry.verdict == "skip":
            return ends("skip", "TargetSkipped", f"{into} is left out: {entry.reason}")
        return ends("blocked", "TargetMissing", f"{into} is neither live nor in the plan")
    made_at = str(field(there, "metadata", "creationTimestamp", default=""))
    if since and made_at >= since:
        return ends("load", "Resumed")
    if policy == "skip":
        return ends("skip", "Exists", f"{into} exists, and onConflict is skip")
    if policy == "fail":
        return ends(
            "blocked",
            "Conflict",
            f"{into} exists, and its contents would be replaced",
            "set onConflict to skip, update or recreate",
        )
    if into.kind == "PersistentVolumeClaim":
        users = _staying(live.users_of(into.name, into.namespace), leaving)
        if users:
            return ends(
                "blocked",
                "VolumeInUse",
                f"mounted by {', '.join(sorted(users))[:200]}",
                "name it under spec.pause, delete it, or restore into another namespace",
            )
    return ends("load", "Replaces")


def _leaving(entries: Sequence[Entry]) -> set[str]:
    """The names of what is deleted before it is made again."""
    return {
        entry.target.name
        for entry in entries
        if entry.verdict == "recreate" and entry.desired is not None
    }


def _staying(pods: list[Manifest], leaving: set[str]) -> set[str]:
    """What runs the pods that will still be there: those of workloads to be deleted or paused are not."""
    staying = set()
    for pod in pods:
        name, kind = name_of(pod), "Pod"
        for owner in owners_of(pod):
            if owner.get("controller"):
                name, kind = owner["name"], owner["kind"]
        # A ReplicaSet is named after its Deployment, plus the hash of the template.
        if name not in leaving and not (
            kind == "ReplicaSet" and name.rpartition("-")[0] in leaving
        ):
            staying.add(f"{kind} {name}")
    return staying


def early_deletions(entries: Sequence[Entry], contents: Sequence[ContentEntry]) -> list[Entry]:
    """Workloads to be recreated that mount a claim which is filled: they go before it is filled."""
    filled = {
        (content.into.namespace, content.into.name)
        for content in contents
        if content.verdict == "load" and content.name.startswith(VOLUME)
    }
    return [
        entry
        for entry in entries
        if entry.verdict == "recreate"
        and entry.desired is not None
        and any((entry.target.namespace, claim) in filled for claim in claims_of(entry.desired))
    ]
