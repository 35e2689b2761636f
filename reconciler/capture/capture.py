"""One capture: an application as it is now becomes a restore point in every location of its policy.

The order is: hold data services still and observe the namespace again by itself (only where a blueprint can) →
choose the objects → let the services go on → stream their artifacts, read the other volumes as files → write the
objects. `publish` makes points of what is ready, many at a time. Every selected thing ends with an outcome; the
point is Succeeded only when none failed. What could not be read at all, because its kind is forbidden or its API
group is broken, is taken over from the last point: absence is not deletion.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from reconciler.blueprint.match import allowed
from reconciler.blueprint.stop import check_stop
from reconciler.capture.closure import Closure, close
from reconciler.capture.copies import Copies, carried_over
from reconciler.capture.cuts import Cuts
from reconciler.capture.moved import read_cut
from reconciler.capture.observe import Observation, observe
from reconciler.capture.observed import Observed, recall
from reconciler.capture.publish import Captured, Prepared, found, publish_together
from reconciler.capture.report import Findings, Occasion
from reconciler.capture.select import Selection, select
from reconciler.capture.services import (
    Changed,
    Quiet,
    Reach,
    Service,
    failed,
    find_services,
    stream_artifacts,
)
from reconciler.capture.volumes import (
    VolumeRules,
    Wanted,
    find_mounts,
    read_volume,
    sort_claims,
)
from reconciler.clock import Clock, format_slot
from reconciler.cluster.port import Cluster, Discovery
from reconciler.errors import ReconcilerError, TerminalError
from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.effective import WHOLE_NAMESPACE, Application, EffectivePolicy
from reconciler.kinds.policy import Capture
from reconciler.kinds.record import Outcome
from reconciler.objects import ObjectKey
from reconciler.store.port import ObjectInput, Point, Session, Store
from reconciler.volumes.means import VolumeMeans

__all__ = [
    "CaptureFailedError",
    "Captured",
    "Prepared",
    "belongings",
    "capture",
    "found",
    "prepare",
    "publish_together",
]


class CaptureFailedError(TerminalError):
    """A capture made no restore point; `reason` says why in a word."""


def prepare(
    application: Application,
    *,
    cluster: Cluster,
    discovery: Discovery,
    observation: Observation,
    policy: EffectivePolicy | None,
    blueprints: Sequence[Blueprint],
    sessions: Mapping[str, tuple[Session, Store]],
    previous: Mapping[str, Point | None],
    slot: datetime,
    clock: Clock,
    helper_image: str,
    manual: bool = False,
    missed_slots: int = 0,
    attempt: int = 1,
    stop: threading.Event | None = None,
    closed: Mapping[str, ReconcilerError] = MappingProxyType({}),
    changed: Changed | None = None,
    volumes: VolumeMeans | None = None,
) -> Prepared:
    """Capture an application up to the point that is yet to be published.

    Args:
        application: What to capture.
        cluster: Where it is.
        discovery: What the cluster serves.
        observation: What was seen in this pass (`observe_cluster`).
        policy: The policy in force; None for a capture by hand without one.
        blueprints: All blueprints that are known.
        sessions: Location → an open session and the store it writes to, in the policy's order.
        previous: Location → the application's last point there.
        slot: The scheduled instant: the point's name.
        clock: Where time comes from.
        helper_image: Image of the pod that reads claims which no running pod can be asked for.
        manual: Made by hand.
        missed_slots: Slots that passed without a capture.
        attempt: 2 and more when earlier attempts at this slot failed.
        stop: Ends the capture early; services are resumed first.
        closed: Location of the policy → why no session was opened for it.
        changed: Tells what changed since an observation, where that is known.
        volumes: Snapshots and movers, where they are set up.

    Raises:
        CaptureFailedError: the namespace is gone or being deleted, or nothing in it could be read.
        StoppedError: `stop` was set.
        ReconcilerError: every location failed; the error is the first location's.
    """
    assert sessions, "a capture writes somewhere"
    check_stop(stop)
    _refuse_vanished(application, observation)
    occasion = Occasion(
        application=application,
        cluster=cluster.name,
        cluster_uid=cluster.uid(),
        policy=policy,
        slot=format_slot(slot),
        manual=manual,
        missed_slots=missed_slots,
        attempt=attempt,
        captured_at=observation.observed_at or clock.now(),
    )
    reach = Reach(cluster, discovery, clock, stop, helper_image, changed, volumes)
    work = _Work(occasion, reach=reach, copies=Copies(sessions), previous=previous, closed=closed)
    return work.run(observation, blueprints)


def capture(application: Application, **rest: Any) -> Captured:
    """Capture an application and publish its point at once; arguments and errors are those of `prepare`."""
    result = publish_together([prepare(application, **rest)])[0]
    if isinstance(result, ReconcilerError):
        raise result
    return result


def _refuse_vanished(application: Application, observation: Observation) -> None:
    name = application.namespace
    own = observation.objects.get(ObjectKey("", "Namespace", "", name))
    if own is None and ("", "Namespace") in observation.complete_kinds:
        raise CaptureFailedError(
            f"capture {application}: the namespace does not exist", reason="NamespaceMissing"
        )
    if own is not None and (own.is_deleting or own.state == "Terminating"):
        raise CaptureFailedError(
            f"capture {application}: the namespace is being deleted",
            hint="the last restore point stays as it is",
            reason="NamespaceTerminating",
        )


class _Work:
    """The state of one capture, from step to step."""

    def __init__(
        self,
        occasion: Occasion,
        *,
        reach: Reach,
        copies: Copies,
        previous: Mapping[str, Point | None],
        closed: Mapping[str, ReconcilerError],
    ) -> None:
        self._occasion = occasion
        self._reach = reach
        self._copies = copies
        self._previous = previous
        self._findings = Findings()
        self._cuts = Cuts(reach)
        self._claims: list[Wanted] = []
        policy = occasion.policy
        self._capture = policy.capture if policy else Capture()
        self._findings.add(_missing_locations(policy, copies.sessions, closed))

    def run(self, observation: Observation, blueprints: Sequence[Blueprint]) -> Prepared:
        namespace = self._occasion.application.namespace
        known = allowed(blueprints, self._capture.blueprints, namespace=namespace)
        try:
            observation, selection, services = self._barrier(observation, known)
            objects = self._objects(observation, selection)
            self._contents(services)
        finally:
            self._cuts.end()
        self._meanwhile(observation, {entry.key for entry in objects})
        check_stop(self._reach.stop)
        self._copies.put_tables(objects, previous=self._previous)
        return Prepared(
            self._occasion,
            copies=self._copies,
            findings=self._findings,
            objects=tuple(objects),
            observation=observation,
            clock=self._reach.clock,
        )

    def _barrier(
        self, observation: Observation, blueprints: Sequence[Blueprint]
    ) -> tuple[Observation, Selection, list[Service]]:
        """Choose the objects and cut snapshots; when a service can be held still, while it is."""
        selection = self._select(observation)
        services, notes = find_services(selection.objects, blueprints)
        quiet = Quiet(services, reach=self._reach)
        if quiet.is_needed:
            with quiet:
                self._occasion = replace(self._occasion, captured_at=self._reach.clock.now())
                observation = self._observe_again(observation)
                selection = self._select(observation)
                services, notes = find_services(selection.objects, blueprints)
                self._cut(selection, services)
        else:
            self._cut(selection, services)
        self._findings.add(quiet.outcomes)
        self._findings.add(notes)
        self._findings.add(selection.outcomes)
        self._findings.counts.update(selection.unnamed)
        return observation, selection, services

    def _cut(self, selection: Selection, services: Sequence[Service]) -> None:
        """Decide which claims are read, and cut snapshots of them."""
        claims = [
            seen
            for seen in selection.objects
            if seen.key.kind == "PersistentVolumeClaim" and not seen.key.group
        ]
        rules = VolumeRules(self._capture.volumes)
        self._claims, outcomes = sort_claims(claims, rules=rules, services=services)
        self._findings.add(outcomes)
        self._cuts.cut(self._claims)
        self._findings.add(self._cuts.outcomes)

    def _select(self, observation: Observation) -> Selection:
        occasion = self._occasion
        return select(occasion.application, observation=observation, policy=occasion.policy)

    def _observe_again(self, observation: Observation) -> Observation:
        """Read the namespace by itself and put it in the place of what was seen of it before."""
        namespace, reach = self._occasion.application.namespace, self._reach
        kinds = [kind for kind in observation.kinds if kind.namespaced]
        now = observe(
            reach.cluster,
            reach.discovery,
            kinds,
            since=observation,
            namespace=namespace,
            stop=reach.stop,
        )
        others = {k: seen for k, seen in observation.objects.items() if k.namespace != namespace}
        scoped = {kind.kind for kind in observation.kinds if not kind.namespaced}
        gaps = [gap for gap in observation.gaps if gap.kind in scoped and gap not in now.gaps]
        return replace(
            observation,
            objects={**others, **now.objects},
            gaps=(*gaps, *now.gaps),
            versions={**observation.versions, **now.versions},
        )

    def _objects(self, observation: Observation, selection: Selection) -> list[ObjectInput]:
        """The objects of the application, those that it needs, and what is taken over."""
        application = self._occasion.application
        kept = self._kept(observation)
        # What is taken over needs its definition, bindings and roles as much as what was seen.
        members = [*selection.objects, *(recall(entry.projection) for entry in kept)]
        seen, closure = _with_closure(application, members, observation)
        self._findings.add(closure.outcomes)
        inputs = {entry.key: _input(entry) for entry in seen}
        inputs |= {entry.key: entry for entry in kept}
        taken_over = len(kept)
        self._findings.gaps(observation.gaps, taken_over=taken_over)
        if not selection.objects and not taken_over and observation.gaps:
            names = ", ".join(gap.name for gap in observation.gaps[:5])
            raise CaptureFailedError(
                f"capture {application}: nothing of it could be read ({names} among others)",
                hint="check the permissions of the reconciler's account with `reconciler doctor`",
                reason="NothingReadable",
            )
        return [inputs[key] for key in sorted(inputs)]

    def _meanwhile(self, observation: Observation, captured: set[ObjectKey]) -> None:
        """Name the objects that are not as old as the contents beside them: they changed while those were read."""
        if self._reach.changed is None or not self._copies.has_contents:
            return
        noted = {outcome.item for outcome in self._findings.outcomes}
        keys = self._reach.changed(self._occasion.application.namespace, observation)
        self._findings.add(
            Outcome(
                item=key.path,
                result="Skipped",
                reason="ChangedDuringCapture",
                message="changed while contents were read; the point has it as it was before",
            )
            for key in keys
            if key in captured and key.path not in noted
        )

    def _kept(self, observation: Observation) -> list[ObjectInput]:
        """What is taken over from the last point, because its kind could not be read."""
        if not observation.gaps:
            return []
        return carried_over(
            self._copies,
            domain=self._occasion.cluster_uid,
            previous=self._previous,
            is_missing=missing_in(observation, set(observation.objects)),
        )

    def _contents(self, services: Sequence[Service]) -> None:
        for service in services:
            check_stop(self._reach.stop)
            self._findings.add(stream_artifacts(service, reach=self._reach, copies=self._copies))
        cuts = self._cuts
        live = [
            one.claim
            for one in self._claims
            if one.claim.key not in cuts.cuts and one.claim.key not in cuts.refused
        ]
        for wanted in self._claims:
            if (cut := cuts.cuts.get(wanted.claim.key)) is not None:
                self._findings.add(
                    read_cut(
                        wanted.claim,
                        cut,
                        reach=self._reach,
                        copies=self._copies,
                        previous=self._previous,
                    )
                )
        if live:
            self._read_live(live)

    def _read_live(self, claims: Sequence[Observed]) -> None:
        try:
            mounts = find_mounts(self._reach, self._occasion.application.namespace)
        except ReconcilerError as error:
            self._findings.add(failed(f"volume/{claim.key.name}", error) for claim in claims)
            return
        for claim in claims:
            self._findings.add(
                read_volume(claim, reach=self._reach, mounts=mounts, copies=self._copies)
            )


def belongings(
    application: Application, *, observation: Observation, policy: EffectivePolicy | None
) -> list[Observed]:
    """The objects that a capture would take: the application's own and those it needs, sorted by key."""
    own = select(application, observation=observation, policy=policy).objects
    return _with_closure(application, own, observation)[0]


def _with_closure(
    application: Application, own: Sequence[Observed], observation: Observation
) -> tuple[list[Observed], Closure]:
    is_whole = application.name == WHOLE_NAMESPACE
    closure = close(application.namespace, own, observation=observation, is_whole=is_whole)
    seen = {entry.key: entry for entry in (*closure.objects, *own)}
    return [seen[key] for key in sorted(seen)], closure


def missing_in(observation: Observation, present: set[ObjectKey]) -> Callable[[ObjectKey], bool]:
    """Tell which keys of the last point may still exist although they were not seen."""
    kinds = {(gap.group, gap.kind) for gap in observation.gaps if gap.kind}
    groups = {gap.group for gap in observation.gaps if not gap.kind}

    def is_missing(key: ObjectKey) -> bool:
        identity = (key.group, key.kind)
        if key in present or identity in observation.complete_kinds:
            return False
        return identity in kinds or key.group in groups

    return is_missing


def _missing_locations(
    policy: EffectivePolicy | None,
    sessions: Mapping[str, tuple[Session, Store]],
    closed: Mapping[str, ReconcilerError],
) -> list[Outcome]:
    """Locations of the policy that no session was opened for: their copy is missing."""
    return [
        Outcome(
            item=f"location/{location.name}",
            result="Failed",
            reason=closed[location.name].reason if location.name in closed else "LocationMissing",
            message="the location could not be opened when the capture began",
        )
        for location in (policy.locations if policy else ())
        if location.name not in sessions
    ]


def _input(seen: Observed) -> ObjectInput:
    return ObjectInput(
        key=seen.key,
        projection=seen.projection,
        uid=seen.uid,
        resource_version=seen.resource_version,
    )
