"""The plan as data: what would happen to each object and each content, and why.

A plan is made by `build.build_plan`, read by a person, carried out by `execution.Execution`. Its digest is over
what would change and nothing that moves by itself, so that a plan reviewed an hour ago can be told from one
that no longer fits. What is only needed to carry it out (`desired`) is not part of its JSON.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from reconciler.objects import Manifest, ObjectKey, canonical
from reconciler.objects import field as field_of
from reconciler.restore.plan.compare import FieldChange
from reconciler.restore.plan.order import Level
from reconciler.restore.plan.ownership import Ownership
from reconciler.restore.plan.pause import Pause
from reconciler.restore.plan.spared import Spared
from reconciler.store.port import Content

Verdict = Literal["create", "update", "recreate", "skip", "blocked", "unchanged"]
ContentVerdict = Literal["load", "skip", "blocked"]

WRITES: frozenset[Verdict] = frozenset({"create", "update", "recreate"})
_SHOWN_CHARACTERS = 120
_MOVING = frozenset(
    {
        ("", "Pod"),
        ("", "Event"),
        ("", "Endpoints"),
        ("apps", "ReplicaSet"),
        ("apps", "ControllerRevision"),
        ("batch", "Job"),
        ("discovery.k8s.io", "EndpointSlice"),
        ("events.k8s.io", "Event"),
    }
)
"""Kinds whose objects come and go by themselves, so that no digest can rest on them."""


@dataclass(frozen=True)
class Entry:
    """One object. `transforms` are (by, what) of what changed it on its way."""

    source: ObjectKey
    target: ObjectKey
    verdict: Verdict
    reason: str
    message: str = ""
    hint: str = ""
    level: Level = Level.POLICIES
    transforms: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    diff: tuple[FieldChange, ...] = ()
    spared: tuple[Spared, ...] = ()
    """Fields that an update leaves as they are live, with their owners."""
    deletes: tuple[ObjectKey, ...] = ()
    """What goes with the live object when it is deleted, all of it."""
    live_uid: str = ""
    is_scaled: bool = False
    """An autoscaler owns its replicas."""
    is_swept: bool = False
    """Its live object goes with another one that is recreated, and may be gone before its turn."""
    is_tried: bool = field(default=False, repr=False, compare=False)
    """The server took it in a dry run."""
    desired: Manifest | None = field(default=None, repr=False, compare=False)
    ownership: Ownership | None = field(default=None, repr=False, compare=False)
    needs: tuple[ObjectKey, ...] = field(default=(), repr=False, compare=False)
    awaits: tuple[ObjectKey, ...] = field(default=(), repr=False, compare=False)
    """Workloads of the plan, also among `needs`, that must be Ready before this is written: they serve a webhook
    that would refuse it as long as they are not."""
    state: str = ""
    """Digest of what this entry was decided from; another one at execution is drift."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for a record or a terminal; values are cut."""
        shown: dict[str, Any] = {
            "object": self.target.path,
            "verdict": self.verdict,
            "reason": self.reason,
        }
        if self.source != self.target:
            shown["source"] = self.source.path
        if self.message:
            shown["message"] = self.message
        if self.hint:
            shown["hint"] = self.hint
        if self.transforms:
            shown["transforms"] = [{"by": by, "what": what} for by, what in self.transforms]
        if self.notes:
            shown["notes"] = list(self.notes)
        if self.spared:
            shown["spared"] = [{"path": one.path, "owner": one.owner} for one in self.spared]
        if self.deletes:
            shown["deletes"] = [key.path for key in self.deletes]
        if self.diff:
            shown["changes"] = [
                {"path": c.path, "before": _cut(c.before), "after": _cut(c.after)}
                for c in self.diff
            ]
        return shown


def state_of(entry: Entry, diff: tuple[FieldChange, ...]) -> str:
    """Digest of what an entry was decided from: absence or uid, and the fields that would change.

    While an owner is still to come, references move by themselves: the garbage collector takes dead ones off.
    """
    owners = field_of(entry.desired or {}, "metadata", "ownerReferences", default=[])
    is_pending = not all(owner.get("uid") for owner in owners)
    changes = [
        [change.path, change.before, change.after]
        for change in diff
        if entry.verdict != "skip"
        and not (is_pending and change.path.startswith("metadata.ownerReferences"))
    ]
    return hashlib.sha256(canonical([entry.live_uid or "absent", changes])).hexdigest()


def decided(entry: Entry, **changes: Any) -> Entry:
    """The entry with another verdict, reason or diff, and the state that follows from them."""
    changed = replace(entry, **changes)
    return replace(changed, state=state_of(changed, changed.diff))


@dataclass(frozen=True)
class ContentEntry:
    """One content: a volume's files into a claim, or an artifact into a data service."""

    content: Content = field(repr=False)
    into: ObjectKey
    verdict: ContentVerdict
    reason: str
    message: str = ""
    hint: str = ""

    @property
    def name(self) -> str:
        """The content's name in the point."""
        return self.content.name

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        shown: dict[str, Any] = {
            "content": self.name,
            "into": self.into.path,
            "verdict": self.verdict,
            "reason": self.reason,
            "sizeBytes": self.content.root.size_bytes,
        }
        if self.message:
            shown["message"] = self.message
        if self.hint:
            shown["hint"] = self.hint
        return shown


@dataclass(frozen=True)
class Extra:
    """A live object of the target namespace that the restore point does not have. It is left alone."""

    key: ObjectKey
    created_at: str = ""


@dataclass(frozen=True)
class Plan:
    """What a restore would do, entry by entry, in the order in which it would do it."""

    point: str
    point_digest: str
    cluster: str
    entries: tuple[Entry, ...]
    contents: tuple[ContentEntry, ...] = ()
    extras: tuple[Extra, ...] = ()
    pauses: tuple[Pause, ...] = ()
    """What stands still while the plan is carried out."""
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    """Why the plan must not be carried out as it is: limits, conflicts under `onConflict: fail`."""
    context: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the digest covers besides the entries."""

    @property
    def digest(self) -> str:
        """SHA-256 over what would change, in hex."""
        covered = {
            "context": self.context,
            "point": [self.point, self.point_digest],
            "objects": [[entry.target.path, entry.verdict, entry.state] for entry in self.entries],
            "deletions": sorted(
                key.path for key in self.deletions if (key.group, key.kind) not in _MOVING
            ),
            "contents": [[entry.name, entry.into.path, entry.verdict] for entry in self.contents],
            **({"pauses": [pause.key.path for pause in self.pauses]} if self.pauses else {}),
        }
        return hashlib.sha256(canonical(covered)).hexdigest()

    @property
    def deletions(self) -> frozenset[ObjectKey]:
        """Every live object that would be deleted: those recreated, and what goes with them."""
        roots = [entry for entry in self.entries if entry.verdict == "recreate"]
        return frozenset(key for entry in roots for key in (entry.target, *entry.deletes))

    def verdicts(self) -> dict[str, int]:
        """Verdict → objects; contents count as `load`, `skip` and `blocked` too."""
        counts = Counter(str(entry.verdict) for entry in self.entries)
        counts.update(str(entry.verdict) for entry in self.contents)
        return dict(sorted(counts.items()))

    def to_json(self) -> dict[str, Any]:
        """Plain data; no object and no value of a Secret is in it."""
        return {
            "point": self.point,
            "pointDigest": self.point_digest,
            "cluster": self.cluster,
            "digest": self.digest,
            "verdicts": self.verdicts(),
            "deletions": len(self.deletions),
            "entries": [entry.to_json() for entry in self.entries],
            "contents": [entry.to_json() for entry in self.contents],
            "extras": [extra.key.path for extra in self.extras],
            "pauses": [pause.to_json() for pause in self.pauses],
            "warnings": list(self.warnings),
            "refusals": list(self.refusals),
        }

    def rows(self, *, maximum: int = 500) -> list[dict[str, Any]]:
        """Entries for a record: what would be written or is blocked first, changed fields by path only."""
        told = sorted(self.entries, key=lambda entry: entry.verdict in ("unchanged", "skip"))
        rows: list[dict[str, Any]] = [
            {
                "object": entry.target.path,
                "verdict": entry.verdict,
                "reason": entry.reason,
                **({"changed": [c.path for c in entry.diff][:20]} if entry.diff else {}),
                **({"deletes": [key.path for key in entry.deletes][:20]} if entry.deletes else {}),
            }
            for entry in told
        ]
        rows += [
            {"content": entry.name, "verdict": entry.verdict, "reason": entry.reason}
            for entry in self.contents
        ]
        rows += [
            {"object": pause.key.path, "verdict": "pause", "reason": pause.how}
            for pause in self.pauses
        ]
        rows += [{"object": extra.key.path, "verdict": "extra"} for extra in self.extras]
        return rows[:maximum]


def _cut(value: Any) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = value if isinstance(value, str) else canonical(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
