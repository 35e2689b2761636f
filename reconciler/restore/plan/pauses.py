"""What stands still while a restore goes on: CronJobs of the application, and operators that the request names.

A live CronJob is suspended when its runs would meet the restore: it is written itself, or a workload, a content, or
something that its pods need is. Workloads that `spec.pause` names are scaled to zero. A plan that writes nothing
holds nothing back. Each write is tried by the server's dry run, so that a plan says what is not permitted.
What an earlier run of the same restore left marked is in every plan, so that it is released.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from reconciler.cluster.port import ApiError, Cluster, ConflictError, Discovery, ResourceType
from reconciler.errors import ReconcilerError, TransientError
from reconciler.kinds.request import PausedWorkload
from reconciler.objects import FIELD_MANAGER, Manifest, ObjectKey
from reconciler.objects import field as field_of
from reconciler.restore.plan.entry import WRITES, ContentEntry, Entry
from reconciler.restore.plan.live import READERS, Live
from reconciler.restore.plan.mark import is_held, mark_of, marked
from reconciler.restore.plan.order import is_workload, needs_of
from reconciler.restore.plan.pause import Pause

CRON = ("batch", "CronJob")


@dataclass(frozen=True)
class Named:
    """What a request wants paused, as it is live; `missing` are those that are not there."""

    workloads: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    missing: tuple[ObjectKey, ...] = ()
    unreadable: Mapping[ObjectKey, str] = field(default_factory=dict)


def read_named(cluster: Cluster, discovery: Discovery, asked: Sequence[PausedWorkload]) -> Named:
    """Read the workloads that a request names under `pause`."""
    workloads, missing, unreadable = {}, [], {}
    for one in asked:
        key = ObjectKey("apps", one.kind, one.namespace, one.name)
        kind = discovery.find(key.group, key.kind)
        try:
            there = cluster.get(kind, key.name, namespace=key.namespace) if kind else None
        except ApiError as error:
            unreadable[key] = error.message
            continue
        if there is None:
            missing.append(key)
        else:
            workloads[key] = there
    return Named(workloads, tuple(missing), unreadable)


@dataclass(frozen=True)
class Pauses:
    """What is held back, and what keeps something from being so."""

    planned: tuple[Pause, ...] = ()
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def plan_pauses(
    named: Named,
    *,
    restore: str,
    cluster: Cluster,
    discovery: Discovery,
    live: Live,
    entries: Sequence[Entry],
    contents: Sequence[ContentEntry],
    into: str,
    of_application: Collection[ObjectKey] | None,
) -> Pauses:
    """Decide what is held back while a plan is carried out.

    Args:
        named: the workloads that the request names.
        restore: the title of the attempt.
        cluster: the target, which tries each write.
        discovery: what it serves.
        live: the target as it is now.
        entries: the plan's objects.
        contents: the plan's contents.
        into: the target namespace.
        of_application: the application's CronJobs; None for all of the namespace.
    """
    written = {entry.target for entry in entries if entry.verdict in WRITES}
    is_writing = bool(written) or any(content.verdict == "load" for content in contents)
    touched = _Touched(written, contents)
    found: list[tuple[Manifest, bool]] = []
    for there in live.raw_of(*CRON, into):
        key, mark = ObjectKey.of(there), mark_of(there)
        is_ours = mark is not None and mark.is_of(restore)
        is_in = of_application is None or key in of_application
        if is_ours or (is_in and mark is None and not is_held(there) and touched.by(there)):
            found.append((there, False))
    refusals = [*_not_to_be_had(named, entries)]
    for there in named.workloads.values():
        mark = mark_of(there)
        if mark is not None and not mark.is_of(restore):
            refusals.append(f"pause: {ObjectKey.of(there)} is held back by restore {mark.restore}")
        elif mark is not None or (is_writing and not is_held(there)):
            found.append((there, True))
    trial = _Trial(cluster, discovery, restore)
    with ThreadPoolExecutor(READERS) as pool:
        problems = list(pool.map(lambda one: trial.problem_of(one[0]), found))
    pauses, warnings = [], []
    for (there, is_asked), problem in zip(found, problems, strict=True):
        key = ObjectKey.of(there)
        if problem and is_asked:
            refusals.append(f"pause: {key} cannot be scaled to 0: {problem}")
        elif problem:
            warnings.append(
                f"{key} cannot be suspended, so that a run which comes due starts: {problem}"
            )
        else:
            pauses.append(_pause(there))
    return Pauses(tuple(sorted(pauses)), tuple(warnings), tuple(refusals))


def _pause(there: Manifest) -> Pause:
    mark = mark_of(there)
    key = ObjectKey.of(there)
    if (key.group, key.kind) == CRON:
        running = len(field_of(there, "status", "active", default=[]))
        note = f"{running} of its runs go on" if running else ""
        return Pause(key, note=note)
    was = field_of(there, "spec", "replicas", default=1) if mark is None else mark.was
    return Pause(key, replicas=int(was or 0))


def _not_to_be_had(named: Named, entries: Iterable[Entry]) -> Iterable[str]:
    planned = {entry.target for entry in entries}
    for key in named.missing:
        yield f"pause: {key} is not there; take it out of spec.pause"
    for key, why in named.unreadable.items():
        yield f"pause: {key} cannot be read: {why}"
    for key in named.workloads:
        if key in planned:
            yield f"pause: {key} is itself restored; only what is outside of the restore can be paused"


class _Touched:
    """Which CronJobs would meet what is written."""

    def __init__(self, written: Collection[ObjectKey], contents: Sequence[ContentEntry]) -> None:
        self._written = frozenset(written)
        self._is_any = any(content.verdict == "load" for content in contents) or any(
            is_workload(key) for key in written if (key.group, key.kind) != CRON
        )

    def by(self, cron: Manifest) -> bool:
        return (
            self._is_any
            or ObjectKey.of(cron) in self._written
            or not self._written.isdisjoint(needs_of(cron))
        )


class _Trial:
    """Tries, without doing it, whether something can be held back."""

    def __init__(self, cluster: Cluster, discovery: Discovery, restore: str) -> None:
        self._cluster = cluster
        self._discovery = discovery
        self._restore = restore

    def problem_of(self, there: Manifest) -> str:
        """Why an object cannot be held back; empty when it can."""
        if mark_of(there) is not None:
            return ""
        key = ObjectKey.of(there)
        kind = self._discovery.find(key.group, key.kind)
        pods = self._discovery.find("", "Pod")
        try:
            if kind is not None:
                body = marked(there, restore=self._restore)
                self._cluster.replace(kind, body, manager=FIELD_MANAGER, dry_run=True)
        except ConflictError:
            return ""
        except (ApiError, TransientError) as error:
            return _needing(error, "update", kind, key)
        try:
            if (key.group, key.kind) != CRON and pods is not None:
                next(iter(self._cluster.pages(pods, namespace=key.namespace, page_size=1)), None)
        except (ApiError, TransientError) as error:
            return _needing(error, "list", pods, key)
        return ""


def _needing(error: ReconcilerError, verb: str, kind: ResourceType | None, key: ObjectKey) -> str:
    if error.reason != "Forbidden" or kind is None:
        return error.message
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    return f"it needs `{verb}` on {resource} in namespace {key.namespace}: {error.message}"
