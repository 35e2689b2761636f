"""The survey: what the cluster is, which applications it has, and which policy covers each.

Objects are read once in a pass and only when somebody needs them: a policy that groups by label, or a capture.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.capture.coverage import Coverage, applications
from reconciler.capture.observe import Observation, observe_cluster
from reconciler.capture.select import labels_seen, leftovers
from reconciler.capture.watches import Watches
from reconciler.clock import Clock, format_instant
from reconciler.cluster.port import Cluster, Discovery
from reconciler.daemon.desired import Desired
from reconciler.daemon.settings import Settings
from reconciler.errors import RefusedError
from reconciler.kinds.effective import Application, EffectivePolicy
from reconciler.ledger.ledger import LedgerView
from reconciler.objects import Manifest, ObjectKey

SHOWN_MAX = 5


@dataclass
class Survey:
    """What was found of a cluster in one pass."""

    cluster: Cluster
    discovery: Discovery
    uid: str
    namespaces: list[Manifest]
    clock: Clock
    stop: threading.Event | None = None
    watches: Watches | None = None
    """What is followed between passes, in a daemon."""
    coverage: Coverage = field(default_factory=lambda: Coverage(covered=(), uncovered=()))
    _observation: Observation | None = None

    @property
    def observation(self) -> Observation:
        """Everything that captures may need, read when first asked for."""
        if self._observation is None:
            self._observation = self._observe()
        return self._observation

    def _observe(self) -> Observation:
        if self.watches is None:
            return observe_cluster(self.cluster, self.discovery, clock=self.clock, stop=self.stop)
        return self.watches.observe(
            self.cluster, self.discovery, uid=self.uid, clock=self.clock, stop=self.stop
        )

    @property
    def assignments(self) -> list[tuple[Application, EffectivePolicy]]:
        """Each covered application with its policy."""
        return [(entry.application, entry.policy) for entry in self.coverage.covered]

    def notes(self, desired: Desired, *, view: LedgerView) -> list[str]:
        """What a person should look at: nothing of it stops a capture."""
        used = {entry.policy.name for entry in self.coverage.covered}
        used |= {name for entry in self.coverage.covered for name in entry.others}
        notes = [
            f"policy {policy.name} selects no application of this cluster ({policy.ref.path})"
            for policy in desired.policies
            if policy.name not in used
        ]
        now = self.clock.now()
        notes += [
            f"policy {policy.name} is suspended until {format_instant(pause.until)}: {pause.reason}"
            for policy in desired.policies
            if (pause := policy.suspension(now)) is not None
        ]
        notes += [
            f"{tie.application}: policies {', '.join(tie.policies)} tie; {tie.chosen} is used"
            for tie in self.coverage.ties
        ]
        notes += [
            f"{len(keys)} objects of namespace {namespace} belong to none of its applications and are not "
            f"captured: {', '.join(map(str, keys[:SHOWN_MAX]))}"
            + (f" and {len(keys) - SHOWN_MAX} more" if len(keys) > SHOWN_MAX else "")
            for namespace, keys in self.coverage.leftovers.items()
        ]
        uncovered = {Application(name) for name in self.coverage.uncovered}
        known = uncovered | {entry.application for entry in self.coverage.covered}
        with_points = {Application.parse(n) for n in view.applications() if view.points(n)}
        if with_points - known:
            lost = _listed(one.short for one in with_points - known)
            notes.append(f"have points, and no policy or no namespace any more: {lost}")
        if uncovered:
            names = _listed(
                f"{one.short} (has points)" if one in with_points else one.short
                for one in uncovered
            )
            notes.append(f"no policy covers {names}")
        return notes

    def _members(self, namespace: str) -> Iterable[Mapping[str, str]]:
        return labels_seen(self.observation, namespace)

    def _left_over(
        self, namespace: str, covered: Iterable[tuple[Application, EffectivePolicy]]
    ) -> list[ObjectKey]:
        return leftovers(namespace, covered, observation=self.observation)

    def cover(self, desired: Desired, *, settings: Settings, view: LedgerView) -> None:
        """Work out the coverage; the policy of an application's newest point counts as its owner."""
        current = {}
        for name in view.applications():
            newest = view.latest(name)
            if newest is not None and newest.spec.policy is not None:
                current[name] = newest.spec.policy.name
        manifest = desired.cluster(settings.cluster.name)
        coverage = applications(
            self.namespaces,
            desired.policies,
            cluster_name=settings.cluster.name,
            cluster_labels=manifest.spec.labels if manifest else {},
            current=current,
            members=self._members,
            left_over=self._left_over,
        )
        # Our own namespace holds Leases of running restores, and nothing that anybody would want back.
        uncovered = tuple(one for one in coverage.uncovered if one != settings.lease_namespace)
        self.coverage = replace(coverage, uncovered=uncovered)


def _listed(names: Iterable[str], *, most: int = 10) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return f"{', '.join(ordered[:most])}{more}"


def survey(
    cluster: Cluster,
    *,
    desired: Desired,
    settings: Settings,
    view: LedgerView,
    clock: Clock,
    stop: threading.Event | None = None,
    watches: Watches | None = None,
) -> Survey:
    """Look at a cluster.

    Raises:
        RefusedError: this is not the cluster that its `Cluster` manifest says it is.
        ReconcilerError: it cannot be read.
    """
    uid = cluster.uid()
    manifest = desired.cluster(settings.cluster.name)
    if manifest is not None and manifest.spec.uid not in (None, uid):
        raise RefusedError(
            f"work on cluster {settings.cluster.name}: its uid is {uid}, its manifest says {manifest.spec.uid}",
            hint="connect to the right cluster, or mend the Cluster manifest",
        )
    discovery = cluster.discover()
    kind = discovery.find("", "Namespace")
    assert kind is not None, "every API server serves namespaces"
    namespaces = [item for page in cluster.pages(kind) for item in page.items]
    found = Survey(
        cluster=cluster,
        discovery=discovery,
        uid=uid,
        namespaces=namespaces,
        clock=clock,
        stop=stop,
        watches=watches,
    )
    found.cover(desired, settings=settings, view=view)
    return found
