"""Captures of a pass: several applications at a time, one session a location, records as they end.

What is ready is published in batches, every few seconds, so that the points of a pass share packs and pushes.

A point that an earlier process published but never recorded (it died in between) is found in the store first and
recorded as it is: content is never captured twice for one slot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog

from reconciler.blueprint.stop import StoppedError
from reconciler.capture.capture import Captured, Prepared, found, prepare, publish_together
from reconciler.clock import Clock, parse_instant
from reconciler.daemon.desired import Desired
from reconciler.daemon.due import DueCapture
from reconciler.daemon.locations import Locations
from reconciler.daemon.settings import Settings
from reconciler.daemon.survey import Survey
from reconciler.daemon.volumes import volumes_of
from reconciler.errors import ReconcilerError, TerminalError
from reconciler.kinds.effective import Application
from reconciler.kinds.model import API_VERSION, Metadata
from reconciler.kinds.record import (
    CaptureFailure,
    CaptureFailureSpec,
    RestorePoint,
)
from reconciler.ledger.ledger import Entry, Ledger
from reconciler.store.port import ObjectMissingError, Point, PointName, Session, Store
from reconciler.volumes.means import VolumeMeans

log = structlog.get_logger(__name__)
BATCH_S = 3.0
BATCH_MAX = 100
MESSAGE_MAX = 256

Sessions = Mapping[str, tuple[Session, Store]]
Told = RestorePoint | CaptureFailure


@dataclass(frozen=True)
class CaptureLine:
    """How one capture ended, for logs, metrics and people."""

    application: Application
    slot: str
    phase: str
    objects: int = 0
    full_bytes: int = 0
    added_bytes: int = 0
    missed: int = 0
    duration_s: float = 0.0
    message: str = ""
    exit_code: int = 0
    """What a command ends with when it failed."""


@dataclass(frozen=True)
class _Ready:
    """A capture that waits to be published with others."""

    entry: DueCapture
    prepared: Prepared
    started: float
    ready_at: float


class NoLocationError(TerminalError):
    """No location of a policy can be written to."""


class CaptureBugError(TerminalError):
    """A capture met a bug of ours; its trace is in the log, never in a record."""

    def __init__(self, entry: DueCapture, error: Exception) -> None:
        super().__init__(
            f"capture {entry.application}: a bug: {type(error).__name__}",
            hint="report the trace in the log, without secrets",
            reason="Bug",
        )


@dataclass
class Capturing:
    """What the captures of one pass share."""

    survey: Survey
    desired: Desired
    settings: Settings
    ledger: Ledger
    locations: Locations
    clock: Clock
    stop: threading.Event

    def __post_init__(self) -> None:
        self.volumes: VolumeMeans | None = None

    def _begin_volumes(self, stack: ExitStack) -> None:
        """Set up what volumes are read with; without it they are read through pods that mount them."""
        cluster, discovery = self.survey.cluster, self.survey.discovery
        self.volumes = stack.enter_context(
            volumes_of(self.settings, cluster, discovery, self.locations)
        )

    def capture_all(self, due: Sequence[DueCapture]) -> list[CaptureLine]:
        """Capture everything that is due, and record each result as it comes."""
        # Read before the threads start: they share it.
        _ = self.survey.observation
        lines: list[CaptureLine] = []
        ready: list[_Ready] = []
        with ExitStack() as stack:
            self._begin_volumes(stack)
            sessions = self._sessions(due, stack)
            pool = stack.enter_context(ThreadPoolExecutor(self.settings.concurrency, "capture"))
            waiting = {pool.submit(self._prepare_one, entry, sessions) for entry in due}
            while waiting:
                done, waiting = wait(waiting, timeout=BATCH_S, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    if isinstance(result, CaptureLine):
                        lines.append(result)
                    elif result is not None:
                        ready.append(result)
                if ready and (len(ready) >= BATCH_MAX or not waiting or self._is_time(ready)):
                    lines += self._publish(ready)
                    ready = []
        return lines

    def _is_time(self, ready: Sequence[_Ready]) -> bool:
        return time.monotonic() - ready[0].ready_at > BATCH_S

    def _publish(self, ready: Sequence[_Ready]) -> list[CaptureLine]:
        """Publish a batch, so that its points share packs, and record each."""
        results = publish_together([one.prepared for one in ready])
        told = [
            self._failure(one.entry, result, started=one.started)
            if isinstance(result, ReconcilerError)
            else self._success(one.entry, result, started=one.started)
            for one, result in zip(ready, results, strict=True)
        ]
        # All that was published is durable: its records go into one pack.
        self.ledger.append([Entry(record) for record, _ in told])
        self._push()
        return [line for _, line in told]

    def _sessions(
        self, due: Sequence[DueCapture], stack: ExitStack
    ) -> dict[str, tuple[Session, Store]]:
        """Open a session in every location that is needed; those that do not open are left out."""
        names = {name for entry in due for name in self._location_names(entry)}
        sessions: dict[str, tuple[Session, Store]] = {}
        for name in sorted(names):
            location = self.desired.location(name)
            if location is None:
                continue
            try:
                store = self.locations.open(location)
                session = stack.enter_context(self._session(name, store))
            except ReconcilerError as error:
                self.locations.fail(name, error)
                continue
            sessions[name] = (session, store)
        return sessions

    @contextmanager
    def _session(self, name: str, store: Store) -> Iterator[Session]:
        """A session whose end says what is wrong with its location, without failing what others did."""
        session = store.session(self.survey.uid)
        session.__enter__()
        try:
            yield session
        finally:
            try:
                session.__exit__(None, None, None)
            except ReconcilerError as error:
                self.locations.fail(name, error)

    def _location_names(self, entry: DueCapture) -> list[str]:
        if entry.policy is not None:
            return [location.name for location in entry.policy.locations]
        return [location.metadata.name for location in self.desired.locations]

    def _prepare_one(self, entry: DueCapture, sessions: Sessions) -> _Ready | CaptureLine | None:
        """Capture up to the point; the line of one that is over already, None when it was stopped."""
        started = time.monotonic()
        try:
            result = self._capture(entry, sessions)
        except StoppedError:
            log.info("capture stopped", application=str(entry.application), slot=entry.slot)
            return None
        except ReconcilerError as error:
            return self._record(self._failure(entry, error, started=started))
        except Exception as error:
            # A bug that one application brings to light must not keep all others from being captured.
            log.exception("bug", application=str(entry.application), slot=entry.slot)
            bug = CaptureBugError(entry, error)
            return self._record(self._failure(entry, bug, started=started))
        if isinstance(result, Captured):
            return self._record(self._success(entry, result, started=started))
        return _Ready(entry, result, started=started, ready_at=time.monotonic())

    def _record(self, told: tuple[Told, CaptureLine]) -> CaptureLine:
        """Record one result at once."""
        record, line = told
        self.ledger.append([Entry(record)])
        return line

    def _success(
        self, entry: DueCapture, captured: Captured, *, started: float
    ) -> tuple[Told, CaptureLine]:
        record = RestorePoint(
            api_version=API_VERSION,
            metadata=Metadata(name=entry.slot.lower(), namespace=entry.application.namespace),
            spec=captured.record,
        )
        spec = captured.record
        return record, CaptureLine(
            application=entry.application,
            slot=entry.slot,
            phase=spec.phase,
            objects=spec.objects,
            full_bytes=spec.full_bytes,
            added_bytes=sum(ref.added_bytes for ref in spec.locations),
            missed=spec.missed_slots,
            duration_s=time.monotonic() - started,
            message="; ".join(
                f"{o.item}: {o.reason}" for o in spec.outcomes if o.result == "Failed"
            )[:500],
        )

    def _capture(self, entry: DueCapture, sessions: Sessions) -> Prepared | Captured:
        wanted = self._location_names(entry)
        usable = {name: sessions[name] for name in wanted if name in sessions}
        if not usable:
            faults = [
                self.locations.faults[name] for name in wanted if name in self.locations.faults
            ]
            if faults:
                raise faults[0]
            raise NoLocationError(
                f"capture {entry.application}: no location to write to",
                hint="name one in the policy",
            )
        name = PointName(
            self.survey.uid, entry.application.namespace, entry.application.name, entry.slot
        )
        try:
            orphan = found(name, {key: store for key, (_, store) in usable.items()})
        except ObjectMissingError:
            pass
        else:
            log.info(
                "found a point without record", application=str(entry.application), slot=entry.slot
            )
            return orphan
        return prepare(
            entry.application,
            cluster=self.survey.cluster,
            discovery=self.survey.discovery,
            observation=self.survey.observation,
            policy=entry.policy,
            blueprints=self.desired.blueprints_for(entry.application.namespace),
            sessions=usable,
            previous=self._previous(entry, usable),
            slot=parse_instant(entry.slot),
            manual=entry.manual,
            missed_slots=entry.missed,
            attempt=entry.attempt,
            clock=self.clock,
            stop=self.stop,
            helper_image=self.settings.helper_image,
            closed=self.locations.faults,
            changed=self.survey.watches.changed if self.survey.watches else None,
            volumes=self.volumes,
        )

    def _previous(self, entry: DueCapture, sessions: Sessions) -> dict[str, Point | None]:
        """The newest point of the application in each location, whose Secrets' records are used again."""
        newest: dict[str, Point | None] = dict.fromkeys(sessions)
        view = self.ledger.view()
        for known in reversed(view.points(str(entry.application))):
            record = view.point(known.application, known.slot)
            for ref in record.spec.locations if record else []:
                if ref.name in newest and newest[ref.name] is None:
                    name = PointName(
                        ref.domain, entry.application.namespace, entry.application.name, known.slot
                    )
                    newest[ref.name] = _read(sessions[ref.name][1], name)
            if all(newest.values()):
                break
        return newest

    def _failure(
        self, entry: DueCapture, error: ReconcilerError, *, started: float
    ) -> tuple[Told, CaptureLine]:
        log.error(
            "capture failed",
            application=str(entry.application),
            slot=entry.slot,
            attempt=entry.attempt,
            reason=error.reason,
            message=error.message,
        )
        record = CaptureFailure(
            api_version=API_VERSION,
            metadata=Metadata(
                name=f"{entry.slot.lower()}-{entry.attempt}", namespace=entry.application.namespace
            ),
            spec=CaptureFailureSpec(
                cluster=self.settings.cluster.name,
                application=str(entry.application),
                slot=entry.slot,
                attempt=entry.attempt,
                failed_at=self.clock.now(),
                reason=error.reason,
                message=error.message.splitlines()[0][:MESSAGE_MAX],
                policy=entry.policy.ref if entry.policy else None,
            ),
        )
        return record, CaptureLine(
            application=entry.application,
            slot=entry.slot,
            phase="Failed",
            message=f"{error.reason}: {error.message}",
            exit_code=error.exit_code,
            duration_s=time.monotonic() - started,
        )

    def _push(self) -> None:
        try:
            self.ledger.push()
        except ReconcilerError as error:
            # The end of the pass pushes again, and reports it.
            log.warning("push failed", reason=error.reason, message=error.message)


def _read(store: Store, name: PointName) -> Point | None:
    try:
        return store.point(name)[0]
    except ObjectMissingError:
        return None
