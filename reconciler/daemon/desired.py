"""Desired state: what all sources together say is in force, sorted by kind.

Platform sources come before tenants', in the order of the configuration; where two define the same thing the
first stays. Lookups by name go from a tenant's own namespace to the platform's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from reconciler.clock import Clock
from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.effective import EffectivePolicy, effective
from reconciler.kinds.finding import Finding
from reconciler.kinds.model import Kind
from reconciler.kinds.platform import Cluster, Location
from reconciler.kinds.policy import BackupPolicy, PolicyPreset
from reconciler.kinds.record import PolicyRef
from reconciler.kinds.request import Hold, Restore
from reconciler.kinds.transformset import TransformSet
from reconciler.ledger.ledger import LedgerView
from reconciler.source.adopt import HOLD_REMOVED, Adoption
from reconciler.source.poll import Source

K = TypeVar("K", bound=Kind)


@dataclass(frozen=True)
class Requested:
    """A Restore, with where it comes from."""

    source: str
    revision: str
    restore: Restore
    namespaces: tuple[str, ...] = ()
    """Those that the source is confined to; empty for a platform source."""


@dataclass(frozen=True)
class Kept:
    """A manifest that is in force in its last good form, because its newest one has faults."""

    identity: str
    ref: PolicyRef

    def __str__(self) -> str:
        """One line for people."""
        since = f"as it was at {self.ref.revision[:10]}" if self.ref.revision else "as it last was"
        return (
            f"{self.identity} ({self.ref.path}) stays in force {since}: its newest form has faults"
        )


@dataclass(frozen=True)
class Desired:
    """What is in force."""

    policies: tuple[EffectivePolicy, ...] = ()
    locations: tuple[Location, ...] = ()
    blueprints: tuple[Blueprint, ...] = ()
    transform_sets: tuple[TransformSet, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    holds: tuple[Hold, ...] = ()
    restores: tuple[Requested, ...] = ()
    findings: tuple[Finding, ...] = ()
    kept: tuple[Kept, ...] = ()

    def location(self, name: str) -> Location | None:
        """The location of this name."""
        return next((one for one in self.locations if one.metadata.name == name), None)

    def cluster(self, name: str) -> Cluster | None:
        """The cluster of this name."""
        return next((one for one in self.clusters if one.metadata.name == name), None)

    def policy(self, name: str) -> EffectivePolicy | None:
        """The policy called `name` or `namespace/name`."""
        return next((one for one in self.policies if one.name == name), None)

    def blueprints_for(self, namespace: str) -> list[Blueprint]:
        """The namespace's own blueprints, then the platform's."""
        return _visible(self.blueprints, namespace)

    def transforms_for(self, namespace: str | None) -> dict[str, TransformSet]:
        """Transform sets by name, the namespace's own before the platform's."""
        found: dict[str, TransformSet] = {}
        for one in _visible(self.transform_sets, namespace or ""):
            found.setdefault(one.metadata.name, one)
        return found


def _visible(kinds: Iterable[K], namespace: str) -> list[K]:
    own, shared = [], []
    for one in kinds:
        if one.metadata.namespace is None:
            shared.append(one)
        elif one.metadata.namespace == namespace:
            own.append(one)
    return own + shared


def poll_sources(
    sources: Iterable[Source], *, view: LedgerView, clock: Clock, cluster: str
) -> list[Adoption]:
    """Poll all sources in order; each may refer to what the ones before it define."""
    adoptions: list[Adoption] = []
    for source in sources:
        adopted = view.adoption(source.settings.name)
        adoptions.append(source.poll(adopted, clock=clock, cluster=cluster, known=adoptions))
    return adoptions


def desire(adoptions: Iterable[Adoption], *, cluster: str) -> Desired:
    """Put together what the sources say, for the cluster called `cluster`."""
    seen: set[str] = set()
    entries: list[tuple[Adoption, Kind, PolicyRef]] = []
    findings: list[Finding] = []
    kept: list[Kept] = []
    for adoption in adoptions:
        findings.extend(adoption.findings)
        removed = {one.path for one in adoption.findings if one.rule == HOLD_REMOVED}
        for manifest in adoption.manifests:
            if manifest.kind.identity in seen:
                continue
            seen.add(manifest.kind.identity)
            ref = PolicyRef(
                source=adoption.settings.name,
                path=manifest.ref.path,
                name=_qualified(manifest.kind),
                revision=manifest.revision,
                blob=manifest.ref.blob,
            )
            entries.append((adoption, manifest.kind, ref))
            if manifest.ref.stale and ref.path not in removed:
                kept.append(Kept(manifest.kind.identity, ref))
    presets = {kind.metadata.name: kind for _, kind, _ in entries if isinstance(kind, PolicyPreset)}
    policies = [
        effective(kind, presets.get(kind.spec.preset or ""), ref=ref)
        for _, kind, ref in entries
        if isinstance(kind, BackupPolicy)
    ]
    return Desired(
        policies=tuple(policies),
        locations=_of(Location, entries),
        blueprints=_of(Blueprint, entries),
        transform_sets=_of(TransformSet, entries),
        clusters=_of(Cluster, entries),
        holds=tuple(hold for hold in _of(Hold, entries) if hold.spec.cluster in (None, cluster)),
        restores=tuple(
            Requested(
                source=adoption.settings.name,
                revision=ref.revision,
                restore=kind,
                namespaces=adoption.settings.namespaces or (),
            )
            for adoption, kind, ref in entries
            if isinstance(kind, Restore) and kind.spec.cluster == cluster
        ),
        findings=tuple(findings),
        kept=tuple(kept),
    )


def _qualified(kind: Kind) -> str:
    space = kind.metadata.namespace
    return f"{space}/{kind.metadata.name}" if space else kind.metadata.name


def _of(wanted: type[K], entries: Iterable[tuple[Adoption, Kind, PolicyRef]]) -> tuple[K, ...]:
    return tuple(kind for _, kind, _ in entries if isinstance(kind, wanted))
