"""Makes a Restore act exactly once, whoever asks how often and whatever dies in between.

An attempt is consumed by its accepted record, an exclusive create on the ledger that is pushed before the first
write; renaming, picking or adding the file again finds that record and does nothing. Before that the Lease of the
attempt is taken, and only its holder carries it out or, after a crash, resumes it. What the guards refuse is not
accepted: it is a finding, and looked at again at each pass until `notAfter`, or until a higher attempt was accepted:
below that nothing begins any more.

    known? superseded? → guards → point → plan → Lease → accept (pushed) → carry out → finish (pushed) → Lease released
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from reconciler.clock import Clock, format_instant
from reconciler.cluster.port import Cluster, Discovery
from reconciler.errors import ReconcilerError, TransientError
from reconciler.kinds.record import Aftermath, Outcome, RestoreRecord
from reconciler.ledger.consumed import refuse_superseded
from reconciler.ledger.layout import RestoreKey
from reconciler.ledger.ledger import Entry, Ledger, RestoreState
from reconciler.restore.execute.aftermath import is_due, watched_record
from reconciler.restore.execute.attempt import RunnerSettings, carry_out
from reconciler.restore.execute.behind import ledger_lag
from reconciler.restore.execute.lease import (
    AttemptLease,
    LeaseHeldError,
    LeaseSettings,
    hold,
)
from reconciler.restore.execute.pausing import release_left
from reconciler.restore.execute.records import accepted_record, finished_record
from reconciler.restore.execute.tally import Result
from reconciler.restore.plan.build import build_plan
from reconciler.restore.plan.entry import Plan
from reconciler.restore.plan.guard import NotAllowedError, check_request
from reconciler.restore.plan.request import FoundPoint, RestoreRequest, find_point, title_of
from reconciler.store.port import Store

ResultPhase = Literal[
    "Succeeded", "Partial", "Failed", "Refused", "Cancelled", "Waiting", "Changed"
]
Stores = Callable[[RestoreRequest], Sequence[tuple[str, Store]]]
"""The locations to look through for a request's point, by name, in order."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RestoreResult:
    """What a step did for one attempt.

    `Refused` was not accepted (or must not be touched any more) and says why; `Waiting` goes on at a later step;
    `Changed` had ended well, and is not any more as it was left.
    """

    source: str
    namespace: str
    name: str
    attempt: int
    phase: ResultPhase
    reason: str
    message: str = ""
    hint: str = ""
    point: str = ""
    outcomes: tuple[Outcome, ...] = ()
    plan: Plan | None = None
    aftermath: tuple[Aftermath, ...] = ()
    """What was changed or removed since it ended."""


def key_of(request: RestoreRequest) -> RestoreKey:
    """The place of an attempt in the ledger of its cluster."""
    return RestoreKey(request.source, request.namespace, request.name, request.attempt)


class RestoreRunner:
    """Accepts, carries out and resumes restores into one cluster."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        cluster: Cluster,
        stores: Stores,
        settings: RunnerSettings,
        clock: Clock,
        closed: Callable[[], Mapping[str, ReconcilerError]] = dict,
        is_wanted: Callable[[RestoreRequest], bool] = lambda _: True,
    ) -> None:
        """Make a runner.

        Args:
            ledger: the target cluster's ledger.
            cluster: the target.
            stores: finds the locations for a request.
            settings: how restores are run.
            clock: the time.
            closed: the locations that `stores` left out because they do not open, and why.
            is_wanted: asked before each object whether a request still stands; it stops there when not.
        """
        self._ledger = ledger
        self._cluster = cluster
        self._stores = stores
        self._settings = settings
        self._clock = clock
        self._closed = closed
        self._is_wanted = is_wanted

    def step(
        self,
        requests: Sequence[RestoreRequest],
        *,
        stop: threading.Event,
        sources: Collection[str] = (),
    ) -> list[RestoreResult]:
        """Do what is due for these requests; nothing is returned for attempts that are over.

        Args:
            requests: all that is asked for now.
            stop: set when work must end at the next object; accepted attempts are resumed by a later step.
            sources: the sources that `requests` is complete for. An accepted attempt of one of these that is
                no longer asked for is cancelled; attempts of other sources are left alone.
        """
        states = self._ledger.view().restores()
        groups: dict[str, list[RestoreRequest]] = {}
        for request in requests:
            if request.spec.cluster == self._settings.cluster:
                groups.setdefault(request.target_namespace, []).append(request)

        def run(group: Sequence[RestoreRequest]) -> list[RestoreResult]:
            done = (
                self._guarded(request, states.get(key_of(request), RestoreState()), stop)
                for request in group
                if not stop.is_set()
            )
            return [result for result in done if result is not None]

        # Restores into one namespace run one after the other, in the order in which they are asked for.
        with ThreadPoolExecutor(self._settings.at_once) as pool:
            results = [result for done in pool.map(run, groups.values()) for result in done]
        asked = {key_of(request) for request in requests}
        for key, state in states.items():
            if key in asked or key.source not in sources or stop.is_set():
                continue
            if state.accepted is not None and state.finished is None:
                results.append(self._cancel(key, state.accepted))
        return results

    def plan(self, request: RestoreRequest) -> Plan:
        """Make the live plan of a request; changes nothing.

        Raises:
            NoSuchPointError, RefusedError, UsageError: there is no plan.
        """
        found = self._find(request)
        return self._build(request, found, self._cluster.discover())

    def look_again(self, request: RestoreRequest) -> RestoreResult | None:
        """Record, once, what others changed of a restore since it ended; None when there is nothing to look at now.

        Raises:
            ReconcilerError: it cannot be told now.
        """
        state = self._ledger.view().restore(key_of(request))
        after = self._settings.watch_after
        if state.finished is None or not is_due(state, now=self._clock.now(), after=after):
            return None
        record = watched_record(
            request,
            state.finished,
            found=self._find(request, resolved=state.finished.spec.point),
            cluster=self._cluster,
            discovery=self._cluster.discover(),
            now=self._clock.now(),
            after=after,
        )
        self._ledger.append([Entry(record)])
        self._ledger.push()
        spec = record.spec
        phase: ResultPhase = "Changed" if spec.aftermath else "Succeeded"
        hint = "stop what did it (see spec.pause), then raise spec.attempt"
        result = _result(request, phase, phase, spec.message, point=spec.point)
        return replace(result, aftermath=tuple(spec.aftermath), hint=hint if spec.aftermath else "")

    def _look(self, request: RestoreRequest, state: RestoreState) -> RestoreResult | None:
        """Look again at what has ended, if it is time; only what was changed is told."""
        if not is_due(state, now=self._clock.now(), after=self._settings.watch_after):
            return None
        try:
            looked = self.look_again(request)
        except ReconcilerError as error:
            log.warning("not looked at again", restore=request.title, reason=error.reason)
            return None
        return looked if looked is not None and looked.aftermath else None

    def _guarded(
        self, request: RestoreRequest, state: RestoreState, stop: threading.Event
    ) -> RestoreResult | None:
        try:
            return self._one(request, state, stop)
        except LeaseHeldError as error:
            return _result(request, "Waiting", error.reason, error.message, hint=error.hint)
        except ReconcilerError as error:
            phase: ResultPhase = "Waiting" if isinstance(error, TransientError) else "Refused"
            log.error("restore not run", restore=request.title, reason=error.reason)
            return _result(request, phase, error.reason, error.message, hint=error.hint)

    def _one(
        self, request: RestoreRequest, state: RestoreState, stop: threading.Event
    ) -> RestoreResult | None:
        known = state.accepted or state.finished
        uid = self._cluster.uid()
        if state.finished is None:
            refuse_superseded(self._ledger.view(), key_of(request), cluster_uid=uid)
        if known is None:
            return self._start(request, stop)
        if known.spec.cluster_uid != uid:
            raise NotAllowedError(
                f"restore {request.title}: another cluster of this name used this attempt",
                hint="raise spec.attempt",
                reason="ClusterDiffers",
            )
        if known.spec.spec_digest != request.digest:
            raise NotAllowedError(
                f"restore {request.title}: it was edited after it was accepted; that changes nothing",
                hint="raise spec.attempt to run it as it is now",
                reason="EditedAfterUse",
            )
        if state.finished is not None:
            return self._look(request, state)
        if state.accepted is None:
            return None
        return self._resume(request, state.accepted, stop)

    def _start(self, request: RestoreRequest, stop: threading.Event) -> RestoreResult:
        self.check(request)
        found = self._find(request)
        discovery = self._cluster.discover()
        plan = self._build(request, found, discovery)
        uid = self._cluster.uid()
        record = accepted_record(
            request,
            found=found,
            plan=plan,
            cluster=self._settings.cluster,
            cluster_uid=uid,
            now=self._clock.now(),
        )
        if request.spec.mode == "Plan":
            return self._publish_plan(request, record, plan)
        if plan.refusals:
            raise NotAllowedError(
                f"restore {request.title}: {'; '.join(plan.refusals)}"[:1000],
                hint="look at `reconciler restore plan`, then change the request",
                reason="PlanRefused",
            )
        lease = self._hold(request, discovery)
        is_ours = False
        try:
            is_ours = self._ledger.accept(record)
        finally:
            if not is_ours:
                lease.release()
        if not is_ours:
            return _result(request, "Waiting", "AcceptedElsewhere", "another process was first")
        log.info("restore accepted", restore=request.title, point=found.title)
        return self._carry_out(
            request, record, found, plan, lease=lease, discovery=discovery, stop=stop
        )

    def _resume(
        self, request: RestoreRequest, accepted: RestoreRecord, stop: threading.Event
    ) -> RestoreResult:
        discovery = self._cluster.discover()
        lease = self._hold(request, discovery)
        try:
            found = self._find(request, resolved=accepted.spec.point)
            if found.digest != accepted.spec.point_digest:
                raise NotAllowedError(
                    f"resume {request.title}: the restore point is not the one that was accepted",
                    hint="run `reconciler verify` on it",
                    reason="DigestDiffers",
                )
            plan = self._build(request, found, discovery, since=lease.since)
        except BaseException:
            lease.step_down()
            raise
        log.info("restore resumed", restore=request.title, point=found.title)
        return self._carry_out(
            request, accepted, found, plan, lease=lease, discovery=discovery, stop=stop
        )

    def _carry_out(
        self,
        request: RestoreRequest,
        accepted: RestoreRecord,
        found: FoundPoint,
        plan: Plan,
        *,
        lease: AttemptLease,
        discovery: Discovery,
        stop: threading.Event,
    ) -> RestoreResult:
        try:
            result = carry_out(
                plan,
                found=found,
                cluster=self._cluster,
                discovery=discovery,
                settings=self._settings,
                lease=lease,
                clock=self._clock,
                stop=stop,
                is_wanted=lambda: self._is_wanted(request),
            )
        except BaseException:
            lease.step_down()
            raise
        if result.phase == "Stopped":
            lease.step_down()
            return _result(request, "Waiting", "Stopped", result.message, point=found.title)
        self._finish(accepted, result)
        lease.release()
        return RestoreResult(
            *_identity(request),
            phase=result.phase,
            reason=result.phase,
            message=result.message,
            point=found.title,
            outcomes=result.outcomes,
            plan=plan,
        )

    def _finish(self, accepted: RestoreRecord, result: Result) -> None:
        """Record the end; raises when it is not pushed, so that the Lease stays as a mark of what was done."""
        assert result.phase != "Stopped"
        record = finished_record(
            accepted,
            phase=result.phase,
            outcomes=result.outcomes,
            message=result.message,
            now=self._clock.now(),
        )
        self._ledger.append([Entry(record)])
        self._ledger.push()

    def _publish_plan(
        self, request: RestoreRequest, record: RestoreRecord, plan: Plan
    ) -> RestoreResult:
        if not self._ledger.accept(record):
            return _result(request, "Waiting", "AcceptedElsewhere", "another process was first")
        message = "; ".join(plan.refusals) or "the plan is recorded; nothing was changed"
        result = Result("Succeeded", (), message)
        self._finish(record, result)
        return RestoreResult(
            *_identity(request),
            phase="Succeeded",
            reason="Planned",
            message=message,
            point=plan.point,
            plan=plan,
        )

    def _cancel(self, key: RestoreKey, accepted: RestoreRecord) -> RestoreResult:
        """End an attempt whose request is gone: what was not done stays undone, what is held back is released."""
        title = title_of(key.source, key.namespace, key.name, key.attempt)
        try:
            release_left(self._cluster, self._cluster.discover(), restore=title)
        except ReconcilerError as error:
            log.error("restore not cancelled", restore=title, reason=error.reason)
            identity = (key.source, key.namespace, key.name, key.attempt)
            return RestoreResult(
                *identity, "Waiting", error.reason, error.message, point=accepted.spec.point
            )
        message = "the request was removed after it was accepted; what was not done is left undone"
        self._finish(accepted, Result("Cancelled", (), message))
        return RestoreResult(
            key.source,
            key.namespace,
            key.name,
            key.attempt,
            phase="Cancelled",
            reason="Withdrawn",
            message=message,
            point=accepted.spec.point,
        )

    def check(self, request: RestoreRequest) -> None:
        """Ask the guards that no plan knows of; what a plan refuses is in it.

        Raises:
            NotAllowedError: one of them says no.
        """
        check_request(request)
        if self._clock.now() > request.spec.not_after:
            raise NotAllowedError(
                f"restore {request.title}: notAfter was {format_instant(request.spec.not_after)}",
                hint="set a later notAfter if it is still wanted",
                reason="Expired",
            )
        for _, store in self._stores(request):
            lag = ledger_lag(self._ledger.view(), store, domain=self._cluster.uid())
            if lag:
                raise NotAllowedError(
                    f"restore {request.title}: the ledger is behind the store: {lag}",
                    hint="see `reconciler ledger rebuild`; it is tried again at the next pass",
                    reason="LedgerBehind",
                )

    def _find(self, request: RestoreRequest, *, resolved: str = "") -> FoundPoint:
        return find_point(
            request,
            stores=self._stores(request),
            cluster=self._settings.cluster,
            cluster_uid=self._cluster.uid(),
            resolved=resolved,
            closed=self._closed(),
        )

    def _build(
        self, request: RestoreRequest, found: FoundPoint, discovery: Discovery, *, since: str = ""
    ) -> Plan:
        return build_plan(
            request,
            found=found,
            cluster=self._cluster,
            discovery=discovery,
            now=self._clock.now(),
            since=since,
        )

    def _hold(self, request: RestoreRequest, discovery: Discovery) -> AttemptLease:
        return hold(
            self._cluster,
            discovery,
            title=request.title,
            settings=LeaseSettings(
                self._settings.lease_namespace, self._settings.holder, self._settings.lease_duration
            ),
            clock=self._clock,
        )


def _identity(request: RestoreRequest) -> tuple[str, str, str, int]:
    return request.source, request.namespace, request.name, request.attempt


def _result(
    request: RestoreRequest,
    phase: ResultPhase,
    reason: str,
    message: str,
    *,
    hint: str = "",
    point: str = "",
) -> RestoreResult:
    return RestoreResult(
        *_identity(request), phase=phase, reason=reason, message=message, hint=hint, point=point
    )
