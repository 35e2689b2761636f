"""Makes the plan: reads the restore point, brings each object up to date, compares it with the target.

The steps, in this order: select → strip → transform → read live → owners, addresses, sizes → decide → dead webhooks →
what recreations take along → pods → field owners → contents → what is held back → warnings → check limits. Nothing is
written; the server's own dry run is the judge of what would be refused and of what differs only by defaults. The same
code makes the plan that a person reads and the one that is carried out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reconciler.cluster.port import Cluster, Discovery
from reconciler.objects import ObjectKey, canonical, field, join_api_version
from reconciler.restore.plan.addresses import settle_addresses
from reconciler.restore.plan.compare import replacement_for
from reconciler.restore.plan.contents import plan_contents
from reconciler.restore.plan.decide import Decider
from reconciler.restore.plan.draft import (
    DEFINITION,
    Draft,
    add_namespace,
    make_drafts,
    settle_kinds,
    settle_owners,
)
from reconciler.restore.plan.entry import WRITES, ContentEntry, Entry, Extra, Plan, decided
from reconciler.restore.plan.extras import extras_of
from reconciler.restore.plan.finalizers import note_orphaned_finalizers
from reconciler.restore.plan.gates import read_gates
from reconciler.restore.plan.limits import refusals_of
from reconciler.restore.plan.live import READERS, Live, target_of
from reconciler.restore.plan.obstacles import Obstacles, kinds_of
from reconciler.restore.plan.order import level_of, needs_of
from reconciler.restore.plan.ownership import is_unsettled, ownership_of
from reconciler.restore.plan.pauses import CRON, Named, Pauses, plan_pauses, read_named
from reconciler.restore.plan.pods import PODS_REFUSED, judge_pods
from reconciler.restore.plan.quota import quota_warnings
from reconciler.restore.plan.request import FoundPoint, RestoreRequest
from reconciler.restore.plan.selection import Recreations, Selection
from reconciler.restore.plan.selfacting import without_running_job
from reconciler.restore.plan.size import fit
from reconciler.restore.plan.survey import survey
from reconciler.restore.plan.sweep import sweep
from reconciler.transform.migrate import extend_discovery
from reconciler.transform.pipeline import Pipeline


@dataclass(frozen=True)
class _Scene:
    """What every step of one plan looks at."""

    request: RestoreRequest
    found: FoundPoint
    cluster: Cluster
    discovery: Discovery
    """What the target serves."""
    wide: Discovery
    """The same with what the plan's CRDs will serve."""
    selection: Selection
    recreations: Recreations
    since: str
    named: Named
    """The workloads that the request pauses."""

    @property
    def home(self) -> str:
        """The captured namespace."""
        return self.found.name.namespace

    @property
    def into(self) -> str:
        """The target namespace."""
        return self.request.spec.to.namespace or self.home

    @property
    def is_whole_namespace(self) -> bool:
        """Whether the plan is of all that was captured of a whole namespace."""
        return self.selection.is_whole and self.found.name.application == "_"


def build_plan(
    request: RestoreRequest,
    *,
    found: FoundPoint,
    cluster: Cluster,
    discovery: Discovery,
    now: datetime,
    since: str = "",
) -> Plan:
    """Make the plan of a request against the target as it is now.

    Args:
        request: what is asked for.
        found: the restore point.
        cluster: the target.
        discovery: what the target serves.
        now: the instant that transforms see.
        since: on resuming, the server's instant at which the attempt began: an object created since then is
            what the attempt itself made, and is brought to what was captured whatever `onConflict` says.

    Raises:
        UsageError: the request names contents that the point has not.
        TransientError: the target could not be read now.
    """
    captured = list(found.store.objects(found.name.domain, found.point.table))
    definitions = [manifest for key, manifest in captured if (key.group, key.kind) == DEFINITION]
    scene = _Scene(
        request=request,
        found=found,
        cluster=cluster,
        discovery=discovery,
        wide=extend_discovery(discovery, definitions),
        selection=Selection(request.spec.include),
        recreations=Recreations(request.spec.recreate),
        since=since,
        named=read_named(cluster, discovery, request.spec.pause),
    )
    drafts = _drafts(scene, captured, now)
    live = _survey(scene, drafts)
    _settle(scene, drafts, live)
    entries, warnings = _entries(scene, drafts, live)
    contents = plan_contents(
        found.point.contents,
        named=scene.selection.contents(found.point.contents),
        is_whole=scene.selection.is_whole,
        entries=entries,
        home=(scene.home, scene.into),
        live=live,
        policy=request.spec.on_conflict,
        since=since,
        paused=tuple(scene.named.workloads),
    )
    pauses = _pauses(scene, captured, live, entries, contents)
    plan = Plan(
        point=found.title,
        point_digest=found.digest,
        cluster=cluster.name,
        entries=tuple(entries),
        contents=tuple(contents),
        extras=_extras(scene, live, drafts, entries),
        pauses=pauses.planned,
        warnings=(*_warnings(scene, live, entries), *warnings, *pauses.warnings),
        context=_context(request, cluster=cluster, discovery=discovery, now=now),
    )
    if since:
        return plan
    return replace(plan, refusals=(*refusals_of(plan, request.spec), *pauses.refusals))


def _pauses(
    scene: _Scene,
    captured: Sequence[tuple[ObjectKey, dict[str, Any]]],
    live: Live,
    entries: Sequence[Entry],
    contents: Sequence[ContentEntry],
) -> Pauses:
    """Decide what is held back; of a whole namespace every CronJob may be, else those of the application."""
    keys = (key for key, _ in captured if (key.group, key.kind) == CRON)
    ours = frozenset(replace(key, namespace=scene.into) for key in keys)
    return plan_pauses(
        scene.named,
        restore=scene.request.title,
        cluster=scene.cluster,
        discovery=scene.discovery,
        live=live,
        entries=entries,
        contents=contents,
        into=scene.into,
        of_application=None if scene.found.name.application == "_" else ours,
    )


def _survey(scene: _Scene, drafts: Sequence[Draft]) -> Live:
    return survey(
        scene.cluster,
        drafts,
        discovery=scene.discovery,
        namespace=scene.into,
        contents=scene.found.point.contents,
        is_whole=scene.is_whole_namespace,
    )


def _drafts(
    scene: _Scene, captured: Sequence[tuple[ObjectKey, dict[str, Any]]], now: datetime
) -> list[Draft]:
    home, into = scene.home, scene.into
    transforms = Pipeline(
        scene.request.transforms,
        discovery=scene.wide,
        now=now,
        namespaces={home: into} if home != into else {},
    )
    drafts = make_drafts(
        captured, selection=scene.selection, transforms=transforms, home=home, into=into
    )
    settle_kinds(drafts, scene.wide)
    add_namespace(drafts, into, scene.discovery)
    return drafts


def _settle(scene: _Scene, drafts: list[Draft], live: Live) -> None:
    """Bring drafts into the form in which they are compared and written."""
    settle_owners(drafts, live)
    settle_addresses(
        drafts,
        cluster=scene.cluster,
        discovery=scene.discovery,
        live=live.objects,
        is_same_cluster=scene.found.name.domain == scene.cluster.uid(),
    )
    for draft in drafts:
        fit(draft)
    note_orphaned_finalizers(drafts, scene.wide)


def _entries(scene: _Scene, drafts: list[Draft], live: Live) -> tuple[list[Entry], list[str]]:
    """Decide every object; gives the entries in the order of writing, and what to warn of."""
    data_services = {
        content.workload for content in scene.found.point.contents if content.blueprint is not None
    }
    decider = Decider(
        cluster=scene.cluster,
        live=live,
        policy=scene.request.spec.on_conflict,
        names_exactly=scene.selection.names_exactly,
        is_recreated=scene.recreations.has,
        is_tenant=bool(scene.request.namespace),
        since=scene.since,
        scaled=live.scaled(scene.into) | _planned_targets(drafts),
        planned={draft.target for draft in drafts if draft.ended is None},
    )
    with ThreadPoolExecutor(READERS) as pool:
        entries = list(pool.map(lambda draft: _decide(draft, decider, data_services), drafts))
    if not scene.request.spec.running_jobs:
        entries = [without_running_job(entry) for entry in entries]
    gates = read_gates(
        scene.cluster,
        scene.discovery,
        kinds=kinds_of(entries, scene.discovery),
        paused=tuple(scene.named.workloads.values()),
    )
    obstacles = Obstacles(gates, entries, live, scene.wide, decider.stopped)
    entries = sweep(
        obstacles.settle(),
        cluster=scene.cluster,
        discovery=scene.discovery,
        live=live,
        is_named=scene.recreations.has,
        obstacle=obstacles.refusal_of,
    )
    entries = judge_pods(entries, cluster=scene.cluster, discovery=scene.discovery, live=live)
    by_target = {draft.target: draft for draft in drafts if draft.ended is None}
    entries = [
        _with_owners(scene, entry, by_target[entry.target], live)
        if entry.target in by_target
        else entry
        for entry in entries
    ]
    entries.sort(key=lambda entry: (entry.level, entry.target))
    return entries, obstacles.warnings()


def _context(
    request: RestoreRequest, *, cluster: Cluster, discovery: Discovery, now: datetime
) -> dict[str, Any]:
    """What the digest covers besides the entries."""
    return {
        "cluster": cluster.uid(),
        "date": now.date().isoformat(),
        "api": fingerprint_of(discovery),
        "transforms": [one.model_dump(mode="json", by_alias=True) for one in request.transforms],
    }


def fingerprint_of(discovery: Discovery) -> str:
    """SHA-256 of what a server serves, in hex."""
    served = sorted(f"{kind.api_version}/{kind.kind}" for kind in discovery.types)
    return hashlib.sha256(canonical(served)).hexdigest()


def _planned_targets(drafts: list[Draft]) -> set[tuple[str, str]]:
    return {
        target
        for draft in drafts
        if draft.target.kind == "HorizontalPodAutoscaler" and draft.desired is not None
        if (target := target_of(draft.desired)) is not None
    }


def _decide(draft: Draft, decider: Decider, data_services: set[str]) -> Entry:
    entry = Entry(
        source=draft.source,
        target=draft.target,
        verdict="blocked",
        reason="",
        level=level_of(draft.target, is_data_service=draft.source.path in data_services),
        transforms=draft.transforms,
        notes=draft.notes,
        desired=draft.desired,
    )
    if draft.ended is not None:
        verdict, reason, message = draft.ended
        hint = "name a TransformSet with `migrate`" if reason == "NotServed" else ""
        entry = replace(entry, reason=reason, message=message, hint=hint)
        return replace(entry, verdict="skip") if verdict == "skip" else entry
    assert draft.desired is not None
    assert draft.kind is not None
    needs = [*needs_of(draft.desired)]
    entry = replace(
        entry,
        needs=tuple(dict.fromkeys(key for key in needs if key != draft.target)),
    )
    return decider.decide(entry, draft.kind)


def _with_owners(scene: _Scene, entry: Entry, draft: Draft, live: Live) -> Entry:
    """Settle who owns the fields of an object once it is written."""
    if entry.desired is None or entry.verdict not in {*WRITES, "unchanged"}:
        return entry
    there = live.get(entry.target)
    key = entry.target
    served = [
        join_api_version(key.group, version) for version in scene.wide.versions(key.group, key.kind)
    ]
    if entry.verdict == "update" and there is not None:
        wanted = replacement_for(entry.desired, there, is_scaled=entry.is_scaled)
        ownership = ownership_of(
            draft.captured, entry.desired, served=served, live=there, replacement=wanted
        )
    else:
        ownership = ownership_of(draft.captured, entry.desired, served=served)
    entry = replace(entry, ownership=ownership)
    if scene.since and entry.verdict == "unchanged" and there is not None:
        made_at = str(field(there, "metadata", "creationTimestamp", default=""))
        if made_at >= scene.since and is_unsettled(ownership, there):
            # The attempt died between writing the object and giving its fields back.
            return decided(entry, verdict="update", reason="OwnersPending")
    return entry


def _extras(
    scene: _Scene, live: Live, drafts: list[Draft], entries: Sequence[Entry]
) -> tuple[Extra, ...]:
    if not scene.is_whole_namespace:
        return ()
    known = {draft.target for draft in drafts}
    # What goes with something that is recreated is told there: it is not left alone.
    known.update(key for entry in entries for key in entry.deletes)
    for outcome in scene.found.point.record.get("outcomes") or []:
        item = str(outcome.get("item", ""))
        if outcome.get("result") == "Skipped" and item.count("/") == 3:
            key = ObjectKey.parse(item)
            known.add(replace(key, namespace=scene.into) if key.namespace else key)
    return tuple(
        Extra(key, str(field(live.objects[key], "metadata", "creationTimestamp", default="")))
        for key in extras_of(live.objects, namespace=scene.into, known=known)
    )


def _warnings(scene: _Scene, live: Live, entries: Sequence[Entry]) -> list[str]:
    warnings = scene.selection.warnings()
    warnings += scene.recreations.warnings(entry.target for entry in entries)
    phase = scene.found.point.record.get("phase")
    if phase and phase != "Succeeded":
        warnings.append(f"the restore point is {phase}: not everything was captured")
    warnings += [
        f"{kind} cannot be read: {error.message}" for kind, error in live.unreadable.items()
    ]
    warnings += [
        f"{entry.target}: {note}"
        for entry in entries
        for note in entry.notes
        if note.startswith(PODS_REFUSED)
    ]
    return warnings + quota_warnings(entries, live=live, discovery=scene.wide, namespace=scene.into)
