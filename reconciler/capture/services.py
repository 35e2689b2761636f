"""Data services among an application's workloads: found by blueprint, quiesced, resumed, and streamed out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from reconciler.blueprint import actions
from reconciler.blueprint.match import WORKLOADS, match_service
from reconciler.blueprint.pods import pod_of
from reconciler.blueprint.stop import StoppedError, check_stop
from reconciler.capture.copies import Copies
from reconciler.capture.observe import Observation
from reconciler.capture.observed import Observed
from reconciler.capture.references import is_claim_of
from reconciler.clock import Clock, format_instant
from reconciler.cluster.port import Cluster, Discovery
from reconciler.errors import ReconcilerError, TransientError
from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.record import Outcome
from reconciler.objects import Manifest, ObjectKey, canonical, field, pod_spec_of, project
from reconciler.store.port import Content
from reconciler.volumes.means import VolumeMeans

TRIES = 2


Changed = Callable[[str, Observation], list[ObjectKey]]
"""Namespace, observation → the objects of the namespace that are other than they were."""


@dataclass(frozen=True)
class Reach:
    """How a capture gets at the cluster, and how it is stopped."""

    cluster: Cluster
    discovery: Discovery
    clock: Clock
    stop: threading.Event | None
    helper_image: str
    changed: Changed | None = None
    """Tells what changed since an observation, where that is known."""
    volumes: VolumeMeans | None = None
    """Snapshots and movers, where they are set up."""


@dataclass(frozen=True)
class Service:
    """A workload with its blueprint."""

    workload: Observed
    blueprint: Blueprint

    @property
    def name(self) -> str:
        """`content/<blueprint>/<Kind>.<workload>`: what its artifacts' names begin with."""
        key = self.workload.key
        return f"content/{self.blueprint.metadata.name}/{key.kind}.{key.name}"

    def covers(self, claim: str) -> bool:
        """Whether the artifacts stand for a claim's contents."""
        manifest, names = self.workload.manifest(), self.blueprint.spec.covers
        for volume in (pod_spec_of(manifest) or {}).get("volumes") or ():
            source = volume.get("persistentVolumeClaim") or {}
            if volume.get("name") in names and source.get("claimName") == claim:
                return True
        is_set = manifest.get("kind") == "StatefulSet"
        return is_set and any(is_claim_of(manifest, claim, template=name) for name in names)


def find_services(
    objects: Iterable[Observed], blueprints: Sequence[Blueprint]
) -> tuple[list[Service], list[Outcome]]:
    """Match workloads with blueprints; what was ambiguous or gave no answer is reported.

    A workload that is scaled to zero has nobody to ask: it is no service now, and its volumes are read as files.
    """
    services, outcomes = [], []
    for seen in objects:
        if (seen.key.group, seen.key.kind) not in WORKLOADS or not blueprints:
            continue
        manifest = seen.manifest()
        match = match_service(blueprints, manifest)
        if match.blueprint is None:
            outcomes.extend(_faults(seen, match.faults))
            continue
        service = Service(seen, match.blueprint)
        if match.others:
            note = f"{match.blueprint.metadata.name} was taken; {', '.join(match.others)} match too"
            outcomes.append(_note(service.name, "AmbiguousBlueprint", note))
        if field(manifest, "spec", "replicas") == 0:
            note = "the workload is scaled to zero; its volumes are read as files"
            outcomes.append(_note(service.name, "ScaledToZero", note))
        else:
            services.append(service)
    return services, outcomes


def _note(item: str, reason: str, message: str) -> Outcome:
    return Outcome(item=item, result="Skipped", reason=reason, message=message[:256])


def _faults(seen: Observed, faults: Sequence[str]) -> list[Outcome]:
    if not faults:
        return []
    message = f"no blueprint matches {seen.key}; without an answer: {'; '.join(faults)}"
    return [_note(seen.key.path, "BlueprintMatchFailed", message)]


class Quiet:
    """Holds services still inside a `with` block; on the way out every one that was begun is resumed."""

    def __init__(self, services: Sequence[Service], *, reach: Reach) -> None:
        self._services = [s for s in services if s.blueprint.spec.actions.quiesce is not None]
        self._reach = reach
        self._begun: list[Service] = []
        self.outcomes: list[Outcome] = []

    @property
    def is_needed(self) -> bool:
        """Whether any service can be held still."""
        return bool(self._services)

    def __enter__(self) -> Self:
        reach = self._reach
        try:
            for service in self._services:
                check_stop(reach.stop)
                self._quiesce(service)
        except BaseException:
            self._resume()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._resume()

    def _quiesce(self, service: Service) -> None:
        reach = self._reach
        try:
            target = pod_of(reach.cluster, reach.discovery, service.workload.manifest())
            self._begun.append(service)
            actions.quiesce(
                service.blueprint, cluster=reach.cluster, target=target, stop=reach.stop
            )
        except StoppedError:
            raise
        except ReconcilerError as error:
            self.outcomes.append(failed(service.name, error, reason="QuiesceFailed"))

    def _resume(self) -> None:
        reach = self._reach
        while self._begun:
            service = self._begun.pop()
            try:
                target = pod_of(reach.cluster, reach.discovery, service.workload.manifest())
                actions.resume(service.blueprint, cluster=reach.cluster, target=target)
            except ReconcilerError as error:
                self.outcomes.append(failed(service.name, error, reason="ResumeFailed"))


def failed(item: str, error: ReconcilerError, *, reason: str = "") -> Outcome:
    """Say that something was not captured."""
    return Outcome(
        item=item, result="Failed", reason=reason or error.reason, message=error.message[:256]
    )


def stream_artifacts(service: Service, *, reach: Reach, copies: Copies) -> list[Outcome]:
    """Run the blueprint's backup into every location; tried again once when it was cut short.

    Raises:
        StoppedError: `stop` was set.
        ReconcilerError: the last location failed.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with copies.all_or_nothing():
                target = pod_of(reach.cluster, reach.discovery, service.workload.manifest())
                sink = _Sink(service, copies=copies, clock=reach.clock)
                actions.backup(
                    service.blueprint,
                    cluster=reach.cluster,
                    target=target,
                    sink=sink,
                    stop=reach.stop,
                )
        except StoppedError:
            raise
        except ReconcilerError as error:
            if not copies.live:
                raise
            if not isinstance(error, TransientError) or attempt == TRIES:
                return [failed(service.name, error)]
        else:
            return _changes(service, reach)
    raise AssertionError("the loop returns or raises")


class _Sink:
    """Puts artifacts into the locations as a blueprint makes them."""

    def __init__(self, service: Service, *, copies: Copies, clock: Clock) -> None:
        self._service = service
        self._copies = copies
        self._clock = clock

    def __call__(self, artifact: str, chunks: Iterator[bytes]) -> None:
        started = format_instant(self._clock.now())
        blueprint = self._service.blueprint.model_dump(mode="json", exclude_none=True)
        roots = self._copies.put(chunks, lambda session, pieces: session.put_stream(pieces))
        for name, root in roots.items():
            self._copies.contents[name].append(
                Content(
                    name=f"{self._service.name}/{artifact}",
                    root=root,
                    consistent_at=started,
                    workload=self._service.workload.key.path,
                    blueprint=blueprint,
                )
            )


def _changes(service: Service, reach: Reach) -> list[Outcome]:
    """Name the workload when it is not what was captured any more: its contents may be of another form."""
    key = service.workload.key
    kind = reach.discovery.find(key.group, key.kind, service.workload.version)
    try:
        now: Manifest | None = (
            reach.cluster.get(kind, key.name, namespace=key.namespace) if kind else None
        )
    except ReconcilerError:
        return []  # a note is all that is lost
    if now is not None and canonical(project(now)) == service.workload.projection:
        return []
    return [_note(key.path, "ChangedDuringCapture", "changed while its contents were read")]
