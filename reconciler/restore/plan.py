"""Makes the plan: reads the restore point, brings each object up to date, compares it with the target.

The steps, in this order: select → strip → transform → owners → read live → decide → contents → check limits.
Nothing is written; the server's own dry run is the judge of what would be refused and of what differs only
by defaults. The same code makes the plan that a person reads and the one that is carried out.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

from reconciler.cluster.port import Cluster, Discovery
from reconciler.kinds.request import Limits
from reconciler.objects import (
    ObjectKey,
    canonical,
    field,
    owners_of,
)
from reconciler.restore.contents import plan_contents
from reconciler.restore.decide import Decider
from reconciler.restore.draft import (
    DEFINITION,
    Draft,
    add_namespace,
    make_drafts,
    settle_kinds,
    settle_owners,
)
from reconciler.restore.entry import Entry, Extra, Plan
from reconciler.restore.live import READERS, Live, listable, read_live, target_of
from reconciler.restore.order import level_of, needs_of, owner_keys
from reconciler.restore.ownership import ownership_of
from reconciler.restore.request import FoundPoint, RestoreRequest
from reconciler.restore.selection import Selection
from reconciler.transform.migrate import extend_discovery
from reconciler.transform.pipeline import Pipeline


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
    selection = Selection(request.spec.include)
    home = found.name.namespace
    into = request.spec.to.namespace or home
    drafts = _drafts(request, found=found, discovery=discovery, selection=selection, now=now)
    live = _read(
        cluster, drafts, discovery=discovery, namespace=into, found=found, whole=selection.is_whole
    )
    settle_owners(drafts, live)
    data_services = {
        content.workload for content in found.point.contents if content.blueprint is not None
    }
    decider = Decider(
        cluster=cluster,
        live=live,
        policy=request.spec.on_conflict,
        names_exactly=selection.names_exactly,
        is_tenant=bool(request.namespace),
        since=since,
        scaled=live.scaled(into) | _planned_targets(drafts),
    )
    with ThreadPoolExecutor(READERS) as pool:
        entries = list(pool.map(lambda draft: _decide(draft, decider, data_services), drafts))
    entries.sort(key=lambda entry: (entry.level, entry.target))
    contents = plan_contents(
        found.point.contents,
        named=selection.contents(found.point.contents),
        is_whole=selection.is_whole,
        entries=entries,
        home=(home, into),
        live=live,
        policy=request.spec.on_conflict,
        since=since,
    )
    plan = Plan(
        point=found.title,
        point_digest=found.digest,
        cluster=cluster.name,
        entries=tuple(entries),
        contents=tuple(contents),
        extras=_extras(live, drafts, into, found) if selection.is_whole else (),
        warnings=tuple(_warnings(found, selection, live)),
        context=_context(request, cluster=cluster, discovery=discovery, now=now),
    )
    return plan if since else replace(plan, refusals=tuple(_refusals(plan, request)))


def _drafts(
    request: RestoreRequest,
    *,
    found: FoundPoint,
    discovery: Discovery,
    selection: Selection,
    now: datetime,
) -> list[Draft]:
    captured = list(found.store.objects(found.name.domain, found.point.table))
    home = found.name.namespace
    into = request.spec.to.namespace or home
    wide = extend_discovery(
        discovery, [manifest for key, manifest in captured if (key.group, key.kind) == DEFINITION]
    )
    transforms = Pipeline(
        request.transforms, discovery=wide, now=now, namespaces={home: into} if home != into else {}
    )
    drafts = make_drafts(captured, selection=selection, transforms=transforms, home=home, into=into)
    settle_kinds(drafts, wide)
    add_namespace(drafts, into, discovery)
    return drafts


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


def _read(
    cluster: Cluster,
    drafts: list[Draft],
    *,
    discovery: Discovery,
    namespace: str,
    found: FoundPoint,
    whole: bool,
) -> Live:
    wanted = {
        draft.target: draft.kind
        for draft in drafts
        if draft.kind is not None
        and discovery.find(draft.kind.group, draft.kind.kind, draft.kind.version)
    }
    for draft in drafts:
        for reference in owners_of(draft.captured):
            for key in owner_keys(reference, draft.target.namespace):
                kind = discovery.find(key.group, key.kind)
                if kind is not None and kind.namespaced == bool(key.namespace):
                    wanted.setdefault(key, kind)
    for content in found.point.contents:
        key = _content_target(content.name, content.workload, namespace)
        kind = discovery.find(key.group, key.kind)
        if kind is not None:
            wanted.setdefault(key, kind)
    listed = [
        (kind, namespace)
        for group, name in (("", "Pod"), ("autoscaling", "HorizontalPodAutoscaler"))
        if (kind := discovery.find(group, name)) is not None
    ]
    if whole and found.name.application == "_":
        planned = {(kind.group, kind.kind) for kind in wanted.values()}
        listed += [
            (kind, namespace)
            for kind in listable(discovery)
            if (kind.group, kind.kind) not in planned
        ]
        listed += [(kind, namespace) for kind in wanted.values() if kind.namespaced]
    return read_live(cluster, wanted=wanted, listed=listed)


def _content_target(name: str, workload: str, namespace: str) -> ObjectKey:
    if workload:
        return replace(ObjectKey.parse(workload), namespace=namespace)
    return ObjectKey("", "PersistentVolumeClaim", namespace, name.removeprefix("volume/"))


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
        ownership=ownership_of(draft.captured, draft.desired),
        needs=tuple(dict.fromkeys(key for key in needs if key != draft.target)),
    )
    return decider.decide(entry, draft.kind)


def _extras(live: Live, drafts: list[Draft], into: str, found: FoundPoint) -> tuple[Extra, ...]:
    if found.name.application != "_":
        return ()
    known = {draft.target for draft in drafts}
    return tuple(
        Extra(key, str(field(live.objects[key], "metadata", "creationTimestamp", default="")))
        for key in live.extras(known, into)
    )


def _warnings(found: FoundPoint, selection: Selection, live: Live) -> list[str]:
    warnings = selection.warnings()
    phase = found.point.record.get("phase")
    if phase and phase != "Succeeded":
        warnings.append(f"the restore point is {phase}: not everything was captured")
    warnings += [
        f"{kind} cannot be read: {error.message}" for kind, error in live.unreadable.items()
    ]
    return warnings


def _refusals(plan: Plan, request: RestoreRequest) -> list[str]:
    refusals = []
    counts = plan.verdicts()
    conflicts = [entry.target for entry in plan.entries if entry.reason == "Conflict"]
    filled = [entry.name for entry in plan.contents if entry.reason == "Conflict"]
    if conflicts or filled:
        named = ", ".join([*map(str, conflicts), *filled][:5])
        refusals.append(
            f"onConflict is fail, and {len(conflicts)} objects and {len(filled)} contents are there: {named}"
        )
    limits: Limits = request.spec.limits
    for name, most in (
        ("create", limits.create),
        ("update", limits.update),
        ("recreate", limits.recreate),
    ):
        needed = sum(1 for entry in plan.entries if entry.verdict == name)
        if most is not None and needed > most:
            refusals.append(f"limits.{name} is {most}, the plan needs {needed}")
    deleted = sum(1 for entry in plan.entries if entry.verdict == "recreate")
    if limits.delete is not None and limits.recreate is None and deleted > limits.delete:
        refusals.append(f"limits.delete is {limits.delete}, recreating needs {deleted}")
    if request.spec.plan_digest not in (None, plan.digest):
        refusals.append(
            f"the plan has drifted: asked for {str(request.spec.plan_digest)[:12]}, now {plan.digest[:12]} "
            f"({', '.join(f'{count} {name}' for name, count in counts.items())})"
        )
    return refusals
