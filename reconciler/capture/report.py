"""What a capture says about itself: the record in the point, and its shorter form for the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.capture.listing import Gap
from reconciler.capture.observe import Observation
from reconciler.clock import parse_instant
from reconciler.kinds.effective import Application, EffectivePolicy
from reconciler.kinds.record import (
    OUTCOMES_MAX,
    Artifact,
    LocationRef,
    Outcome,
    RestorePointSpec,
    VersionRange,
)
from reconciler.objects import ObjectKey
from reconciler.store.port import Content, ObjectInput, Published

KINDS_MAX = 100
VERSIONS_MAX = 200


@dataclass
class Findings:
    """What a capture learned on the way: the outcomes that are not Succeeded, and counts of the others."""

    outcomes: list[Outcome] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes in; each counts."""
        for outcome in outcomes:
            self.outcomes.append(outcome)
            self.counts[f"{outcome.result}/{outcome.reason}"] += 1

    def gaps(self, gaps: Sequence[Gap], *, taken_over: int) -> None:
        """Say which kinds could not be read."""
        note = f"; {taken_over} objects were taken over from the last point" if taken_over else ""
        self.add(
            Outcome(
                item=f"kind/{gap.name}",
                result="Failed",
                reason=gap.reason,
                message=f"{gap.message}{note}"[:256],
            )
            for gap in gaps
        )


@dataclass(frozen=True)
class Occasion:
    """What a capture is for."""

    application: Application
    cluster: str
    cluster_uid: str
    policy: EffectivePolicy | None
    slot: str
    manual: bool
    missed_slots: int
    attempt: int
    captured_at: datetime


def record_of(
    occasion: Occasion,
    *,
    objects: Sequence[ObjectInput],
    contents: Sequence[Content],
    findings: Findings,
    observation: Observation,
    finished_at: datetime,
) -> RestorePointSpec:
    """Write the record that goes into the point, with all outcomes and no locations."""
    counts = Counter(findings.counts)
    counts["Succeeded/Captured"] += len(objects) + len(contents)
    is_whole = not any(outcome.result == "Failed" for outcome in findings.outcomes)
    return RestorePointSpec(
        cluster=occasion.cluster,
        cluster_uid=occasion.cluster_uid,
        application=str(occasion.application),
        slot=occasion.slot,
        manual=occasion.manual,
        scheduled_for=parse_instant(occasion.slot),
        captured_at=occasion.captured_at,
        finished_at=finished_at,
        policy=occasion.policy.ref if occasion.policy else None,
        phase="Succeeded" if is_whole else "Partial",
        objects=len(objects),
        kinds=_kinds(entry.key for entry in objects),
        full_bytes=sum(len(entry.projection) for entry in objects)
        + sum(content.root.size_bytes for content in contents),
        artifacts=[_artifact(content) for content in contents],
        outcomes=sorted(findings.outcomes, key=_failures_first),
        outcome_counts=dict(sorted(counts.items())),
        versions=_versions(objects, observation),
        server_version=observation.server_version,
        missed_slots=occasion.missed_slots,
        attempt=occasion.attempt,
    )


def ledger_form(
    record: RestorePointSpec, published: Mapping[str, Published], failures: Sequence[Outcome]
) -> RestorePointSpec:
    """Add where the copies are, and cut the outcomes to what the ledger holds, failures first.

    `failures` are locations that failed after the record was written into the other locations' points.
    """
    known = {outcome.item for outcome in record.outcomes}
    late = [outcome for outcome in failures if outcome.item not in known]
    counts = Counter(record.outcome_counts)
    counts.update(f"{outcome.result}/{outcome.reason}" for outcome in late)
    return record.model_copy(
        update={
            "locations": [
                LocationRef(
                    name=name,
                    domain=entry.name.domain,
                    digest=entry.digest,
                    added_bytes=entry.added_bytes,
                )
                for name, entry in published.items()
            ],
            "phase": "Partial" if late else record.phase,
            "outcomes": sorted([*record.outcomes, *late], key=_failures_first)[:OUTCOMES_MAX],
            "outcome_counts": dict(sorted(counts.items())),
        }
    )


def as_json(record: RestorePointSpec) -> dict[str, Any]:
    """The record as it stands in a point: no chain, no locations."""
    return record.model_dump(mode="json", exclude_none=True, exclude={"chain", "locations"})


def _failures_first(outcome: Outcome) -> tuple[bool, str, str]:
    return (outcome.result != "Failed", outcome.item, outcome.reason)


def _kinds(keys: Iterable[ObjectKey]) -> dict[str, int]:
    counts = Counter(f"{key.kind}.{key.group}" if key.group else key.kind for key in keys)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:KINDS_MAX])


def _versions(objects: Sequence[ObjectInput], observation: Observation) -> dict[str, VersionRange]:
    """The version ranges of the kinds that the point holds."""
    held = {(entry.key.group, entry.key.kind) for entry in objects}
    names = [
        f"{kind.plural}.{kind.group}" if kind.group else kind.plural
        for kind in observation.kinds
        if (kind.group, kind.kind) in held
    ]
    found = {name: observation.versions[name] for name in names if name in observation.versions}
    return dict(sorted(found.items())[:VERSIONS_MAX])


def _artifact(content: Content) -> Artifact:
    root = content.root
    assert root.form != "table", "contents are streams and trees"
    return Artifact(
        name=content.name,
        form=root.form,
        size_bytes=root.size_bytes,
        items=root.items,
        consistent_at=parse_instant(content.consistent_at) if content.consistent_at else None,
        digest=root.sha256 or root.digest,
    )
