"""The plan as data: what would happen to each object and each content, and why.

A plan is made by `plan.build_plan`, read by a person, carried out by `execute.Execution`. Its digest is over
what would change and nothing that moves by itself, so that a plan reviewed an hour ago can be told from one
that no longer fits. What is only needed to carry it out (`desired`) is not part of its JSON.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.objects import Manifest, ObjectKey, canonical
from reconciler.restore.compare import FieldChange
from reconciler.restore.order import Level
from reconciler.restore.ownership import Ownership
from reconciler.store.port import Content

Verdict = Literal["create", "update", "recreate", "skip", "blocked", "unchanged"]
ContentVerdict = Literal["load", "skip", "blocked"]

WRITES: frozenset[Verdict] = frozenset({"create", "update", "recreate"})
_SHOWN_CHARACTERS = 120


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
    live_uid: str = ""
    is_scaled: bool = False
    """An autoscaler owns its replicas."""
    desired: Manifest | None = field(default=None, repr=False, compare=False)
    ownership: Ownership | None = field(default=None, repr=False, compare=False)
    needs: tuple[ObjectKey, ...] = field(default=(), repr=False, compare=False)
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
        if self.diff:
            shown["changes"] = [
                {"path": c.path, "before": _cut(c.before), "after": _cut(c.after)}
                for c in self.diff
            ]
        return shown


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
            "contents": [[entry.name, entry.into.path, entry.verdict] for entry in self.contents],
        }
        return hashlib.sha256(canonical(covered)).hexdigest()

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
            "entries": [entry.to_json() for entry in self.entries],
            "contents": [entry.to_json() for entry in self.contents],
            "extras": [extra.key.path for extra in self.extras],
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
            }
            for entry in told
        ]
        rows += [
            {"content": entry.name, "verdict": entry.verdict, "reason": entry.reason}
            for entry in self.contents
        ]
        return rows[:maximum]


def _cut(value: Any) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = value if isinstance(value, str) else canonical(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
