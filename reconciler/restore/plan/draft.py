"""The objects of a restore point on their way into a plan: transformed, placed, their owners settled.

A draft starts as a captured object and ends with what will be written, or with the verdict that it will not.
CRDs of the point that the target lacks count as served, because they are written before their objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.cluster.port import Discovery, ResourceType
from reconciler.objects import Manifest, ObjectKey, owners_of, version_of
from reconciler.restore.plan.live import Live
from reconciler.restore.plan.mark import unmarked
from reconciler.restore.plan.order import owner_keys
from reconciler.restore.plan.selection import Selection
from reconciler.restore.plan.strip import refusal_of, strip
from reconciler.transform.pipeline import Pipeline

DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")


@dataclass
class Draft:
    """An object on its way through the plan."""

    source: ObjectKey
    captured: Manifest
    target: ObjectKey
    desired: Manifest | None = None
    transforms: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    kind: ResourceType | None = None
    ended: tuple[str, str, str] | None = None
    """(verdict, reason, message) when it is decided already."""

    def note(self, text: str) -> None:
        """Say something about the object in the plan."""
        self.notes = (*self.notes, text)


def make_drafts(
    captured: Sequence[tuple[ObjectKey, Manifest]],
    *,
    selection: Selection,
    transforms: Pipeline,
    home: str,
    into: str,
) -> list[Draft]:
    """Select and transform the objects of a restore point."""
    drafts: list[Draft] = []
    taken: dict[ObjectKey, ObjectKey] = {}
    for key, manifest in captured:
        is_home = key == ObjectKey("", "Namespace", "", home)
        if not is_home and not selection.has(manifest):
            continue
        if is_home and into != home and not selection.is_whole:
            continue
        draft = _transform(key, manifest, transforms)
        if draft.ended is None and draft.target in taken:
            draft.ended = (
                "blocked",
                "TargetTaken",
                f"{taken[draft.target]} goes to the same place",
            )
        taken.setdefault(draft.target, key)
        drafts.append(draft)
    return drafts


def _transform(key: ObjectKey, captured: Manifest, transforms: Pipeline) -> Draft:
    draft = Draft(source=key, captured=captured, target=key)
    refusal = refusal_of(captured)
    if refusal is not None:
        draft.ended = ("skip", *refusal)
        return draft
    # Captured while another restore held it back, it comes back as it was before that.
    done = transforms.apply(strip(unmarked(captured)))
    draft.transforms = tuple((change.by, change.what) for change in done.changes)
    if done.object is not None:
        draft.desired = strip(done.object) if done.object.get("status") else done.object
        draft.target = ObjectKey.of(done.object)
    if done.verdict == "skip":
        draft.ended = ("skip", done.reason, done.message)
    elif done.verdict == "fail" or done.object is None:
        draft.ended = ("blocked", done.reason, done.message)
    return draft


def settle_kinds(drafts: list[Draft], discovery: Discovery) -> None:
    """Find how each object is served; those that are not are blocked."""
    for draft in drafts:
        if draft.ended is not None or draft.desired is None:
            continue
        version = version_of(draft.desired["apiVersion"])
        draft.kind = discovery.find(draft.target.group, draft.target.kind, version)
        if draft.kind is None:
            served = discovery.versions(draft.target.group, draft.target.kind)
            instead = f"; it serves {', '.join(served)}" if served else ""
            draft.ended = (
                "blocked",
                "NotServed",
                f"the target does not serve {draft.desired['apiVersion']} {draft.target.kind}{instead}",
            )


def add_namespace(drafts: list[Draft], into: str, discovery: Discovery) -> None:
    """Add the target namespace when the point does not bring it along."""
    key = ObjectKey("", "Namespace", "", into)
    if any(draft.target == key for draft in drafts):
        return
    manifest: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": into}}
    drafts.append(
        Draft(
            source=key,
            captured=manifest,
            target=key,
            desired=manifest,
            kind=discovery.find("", "Namespace"),
            notes=("the restore point has no such Namespace; a plain one is made",),
        )
    )


def settle_owners(drafts: list[Draft], live: Live) -> None:
    """Rewrite owner references to what will be there; drop those whose owner will not, and say so."""
    planned = {
        draft.source: draft.target
        for draft in drafts
        if draft.ended is None and draft.desired is not None
    }
    for draft in drafts:
        if draft.desired is None or draft.ended is not None:
            continue
        kept, notes = [], []
        for reference in owners_of(draft.captured):
            owner = _owner(reference, draft, planned, live)
            if owner is None:
                notes.append(
                    f"owner {reference.get('kind')} {reference.get('name')} is not restored: reference dropped"
                )
            else:
                kept.append(owner)
        if kept:
            draft.desired = {
                **draft.desired,
                "metadata": {**draft.desired["metadata"], "ownerReferences": kept},
            }
        draft.notes = (*draft.notes, *notes)


def _owner(
    reference: dict[str, Any], draft: Draft, planned: dict[ObjectKey, ObjectKey], live: Live
) -> dict[str, Any] | None:
    """The reference as it must be in the target; its uid is empty while the owner is not there."""
    for key in owner_keys(reference, draft.source.namespace):
        target = planned.get(key)
        if target is not None:
            there = live.get(target)
            uid = there["metadata"]["uid"] if there is not None else ""
            return {**reference, "name": target.name, "uid": uid}
    for key in owner_keys(reference, draft.target.namespace):
        there = live.get(key)
        if there is not None and there["metadata"].get("uid") == reference.get("uid"):
            return dict(reference)
    return None
