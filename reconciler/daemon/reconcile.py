"""The pass: read everything, write the difference.

A pass is a fixed row of phases with one signature. Each reads what earlier ones found in `Pass` and adds to
it; one that fails says so in the report and, where the others do not depend on it, they go on:

    refresh → adopt → survey → restore → record orphans → capture → retire → push → report
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog

from reconciler.capture.coverage import Coverage
from reconciler.capture.watches import Watches
from reconciler.clock import Clock
from reconciler.cluster.port import Cluster
from reconciler.daemon.captures import CaptureLine, Capturing
from reconciler.daemon.desired import Desired, desire, poll_sources
from reconciler.daemon.due import Upcoming, due_captures
from reconciler.daemon.locations import Locations
from reconciler.daemon.metrics import Metrics
from reconciler.daemon.orphans import record_orphans
from reconciler.daemon.report import application_facts
from reconciler.daemon.restores import RestoreLine, StillWanted, keys_of, run_requests, stores_of
from reconciler.daemon.retire import Retirement, retire
from reconciler.daemon.settings import Settings
from reconciler.daemon.survey import Survey, survey
from reconciler.errors import ReconcilerError, TransientError
from reconciler.ledger.layout import RestoreKey
from reconciler.ledger.ledger import Entry, Ledger
from reconciler.restore.execute.glass import read_journal
from reconciler.source.adopt import Adoption
from reconciler.source.poll import Source

log = structlog.get_logger(__name__)
COVERAGE = "coverage"
FAULTS_SHOWN_MAX = 20


@dataclass(frozen=True)
class Problem:
    """Something that kept a phase from its work.

    `blocks` when nothing can be protected until it is mended; `may_pass` when it may mend itself.
    """

    where: str
    message: str
    hint: str = ""
    blocks: bool = False
    may_pass: bool = False


@dataclass
class PassReport:
    """What a pass found and did."""

    started_at: datetime
    ended_at: datetime
    adoptions: list[Adoption] = field(default_factory=list)
    desired: Desired = field(default_factory=Desired)
    coverage: Coverage | None = None
    notes: list[str] = field(default_factory=list)
    captured: list[CaptureLine] = field(default_factory=list)
    restored: list[RestoreLine] = field(default_factory=list)
    retirement: Retirement | None = None
    upcoming: list[Upcoming] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    pushed: int = 0
    pending: int = 0

    @property
    def next_at(self) -> datetime | None:
        """When something is next due, as far as is known."""
        return min((entry.at for entry in self.upcoming if entry.at is not None), default=None)

    @property
    def exit_code(self) -> int:
        """For `run --once`: 7 when it may pass, 6 when something failed, 3 partial, 1 findings, else 0.

        Findings are faults in sources and Restores that are refused as they are: no pass failed for them.
        """
        results = {line.phase for line in self.captured} | {line.phase for line in self.restored}
        if any(problem.blocks for problem in self.problems):
            return 7
        if "Failed" in results or not all(one.may_pass for one in self.problems):
            return 6
        if self.problems:
            return 7
        if "Partial" in results:
            return 3
        findings = any(finding.is_error for finding in self.desired.findings)
        return int(findings or any(line.is_finding for line in self.restored))

    def counts(self) -> dict[str, int]:
        """Counts for the log line."""
        phases = Counter(line.phase for line in self.captured)
        return {
            "captured": len(self.captured),
            "failed": phases["Failed"],
            "partial": phases["Partial"],
            "restored": sum(line.phase != "Changed" for line in self.restored),
            "retired": len(self.retirement.points) if self.retirement else 0,
            "problems": len(self.problems),
            "pushed": self.pushed,
            "pending": self.pending,
        }


@dataclass
class Pass:
    """What the phases of one pass share."""

    now: datetime
    stop: threading.Event
    report: PassReport
    desired: Desired = field(default_factory=Desired)
    survey: Survey | None = None
    ledger_known: bool = False


class Reconciler:
    """Runs passes against one cluster."""

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        connect: Callable[[], Cluster],
        ledger: Ledger,
        sources: Sequence[Source],
        locations: Locations,
        metrics: Metrics | None = None,
        journal: Path | None = None,
        watches: Watches | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.connect = connect
        self.ledger = ledger
        self.sources = sources
        self.locations = locations
        self.metrics = metrics or Metrics(cluster=settings.cluster.name)
        self.journal = journal
        self.watches = watches

    def close(self) -> None:
        """End what is followed between passes."""
        if self.watches is not None:
            self.watches.close()

    def run_pass(self, *, stop: threading.Event) -> PassReport:
        """Run one pass. Expected failures are in the report; only bugs are raised."""
        now = self.clock.now()
        state = Pass(now=now, stop=stop, report=PassReport(started_at=now, ended_at=now))
        phases: tuple[tuple[str, Callable[[Pass], None], bool], ...] = (
            ("ledger", self._refresh, False),
            ("sources", self._adopt, False),
            ("cluster", self._survey, True),
            ("restores", self._restore, False),
            ("orphans", self._record_orphans, False),
            ("captures", self._capture, False),
            ("retention", self._retire, False),
            ("ledger", self._push, False),
        )
        for where, phase, blocks in phases:
            if stop.is_set() and phase != self._push:
                continue
            try:
                phase(state)
            except ReconcilerError as error:
                state.report.problems.append(
                    Problem(
                        where=where,
                        message=error.message,
                        hint=error.hint,
                        blocks=blocks,
                        may_pass=isinstance(error, TransientError),
                    )
                )
                log.error("phase failed", phase=where, reason=error.reason, message=error.message)
        self._report_locations(state)
        self._report_watches(state)
        state.report.ended_at = self.clock.now()
        self._measure(state)
        return state.report

    def _refresh(self, state: Pass) -> None:
        try:
            self.ledger.refresh()
        except ReconcilerError:
            # What is here locally is enough to go on with, unless nothing ever was.
            state.ledger_known = self.ledger.view().tip is not None
            raise
        state.ledger_known = True
        if self.journal is not None and self.journal.exists():
            # Restores that were run without Git: their records follow now, once.
            view = self.ledger.view()
            fresh = [r for r in read_journal(self.journal) if not view.knows(r)]
            self.ledger.append([Entry(record) for record in fresh])

    def _adopt(self, state: Pass) -> None:
        state.report.adoptions = self._poll()
        for adoption in state.report.adoptions:
            name = adoption.settings.name
            if adoption.refused:
                log.error("source refused", source=name, message=adoption.refused)
                state.report.problems.append(
                    Problem(where=f"source {name}", message=adoption.refused)
                )
            if adoption.record is not None:
                self.ledger.append([Entry(adoption.record)])
        state.desired = desire(state.report.adoptions, cluster=self.settings.cluster.name)
        state.report.desired = state.desired

    def _survey(self, state: Pass) -> None:
        state.survey = survey(
            self.connect(),
            desired=state.desired,
            settings=self.settings,
            view=self.ledger.view(),
            clock=self.clock,
            stop=state.stop,
            watches=self.watches,
        )
        state.report.coverage = state.survey.coverage
        state.report.notes = state.survey.notes(state.desired, view=self.ledger.view())
        state.report.problems = [p for p in state.report.problems if p.where != COVERAGE]
        state.report.problems += [
            Problem(
                where=COVERAGE, message=fault, hint="mend the policy, or the object that is named"
            )
            for fault in state.survey.coverage.faults[:FAULTS_SHOWN_MAX]
        ]

    def _record_orphans(self, state: Pass) -> None:
        if state.survey is None or not state.ledger_known:
            return
        stores = dict(stores_of(state.desired, self.locations))
        recorded = record_orphans(self.ledger, stores, domain=state.survey.uid)
        if recorded:
            state.report.notes.append(
                f"recorded {len(recorded)} points that the ledger did not know: a process died before it "
                f"could, or the ledger was rolled back ({', '.join(recorded[:5])})"
            )

    def _restore(self, state: Pass) -> None:
        if state.survey is None or not state.ledger_known:
            return
        state.report.restored = run_requests(
            state.desired,
            cluster=state.survey.cluster,
            settings=self.settings,
            ledger=self.ledger,
            locations=self.locations,
            clock=self.clock,
            stop=state.stop,
            sources=[a.settings.name for a in state.report.adoptions if not a.refused],
            is_wanted=StillWanted(self._asked_now),
        )
        if any(not line.is_waiting for line in state.report.restored):
            # The namespaces that came back are part of this pass's coverage.
            self._survey(state)

    def _asked_now(self) -> set[RestoreKey] | None:
        """The restores that Git asks for at this moment; None when a source cannot be read."""
        adoptions = self._poll()
        if any(adoption.refused for adoption in adoptions):
            return None
        return keys_of(desire(adoptions, cluster=self.settings.cluster.name))

    def _poll(self) -> list[Adoption]:
        return poll_sources(
            self.sources,
            view=self.ledger.view(),
            clock=self.clock,
            cluster=self.settings.cluster.name,
        )

    def _capture(self, state: Pass) -> None:
        if state.survey is None:
            return
        if not state.ledger_known:
            state.report.problems.append(
                Problem(
                    where="captures",
                    message="nothing is due while the ledger was never read",
                    hint="look at ledger.url of the configuration",
                    blocks=True,
                )
            )
            return
        assignments = state.survey.assignments
        captures, state.report.upcoming = due_captures(
            assignments, view=self.ledger.view(), now=state.now
        )
        if not captures:
            return
        work = Capturing(
            survey=state.survey,
            desired=state.desired,
            settings=self.settings,
            ledger=self.ledger,
            locations=self.locations,
            clock=self.clock,
            stop=state.stop,
        )
        state.report.captured = work.capture_all(captures)
        # What was captured now is next due later; the calendar says when.
        _, state.report.upcoming = due_captures(assignments, view=self.ledger.view(), now=state.now)

    def _retire(self, state: Pass) -> None:
        if state.survey is None or not state.ledger_known:
            return
        state.report.retirement = retire(
            state.survey.assignments,
            holds=state.desired.holds,
            settings=self.settings,
            ledger=self.ledger,
            now=state.now,
        )
        if state.report.retirement.tripped:
            state.report.problems.append(
                Problem(where="retention", message=state.report.retirement.tripped)
            )

    def _report_locations(self, state: Pass) -> None:
        """Say which locations did not open, also when nothing was due that needs them."""
        for name, error in self.locations.closed(state.desired.locations).items():
            log.error(
                "location does not open", location=name, reason=error.reason, message=error.message
            )
            state.report.problems.append(
                Problem(
                    where=f"location {name}",
                    message=error.message,
                    hint=error.hint,
                    may_pass=isinstance(error, TransientError),
                )
            )

    def _report_watches(self, state: Pass) -> None:
        """Say which watches were found wrong: what they vouched for was captured older than it was."""
        if self.watches is None:
            return
        self.metrics.followed_kinds.labels(self.settings.cluster.name).set(
            len(self.watches.followed)
        )
        alarms = self.watches.take_alarms()
        for alarm in alarms[:FAULTS_SHOWN_MAX]:
            self.metrics.watch_alarms.labels(self.settings.cluster.name, alarm.kind).inc()
            state.report.problems.append(
                Problem(
                    where="watches",
                    message=str(alarm),
                    hint="the next capture lists this kind; if it happens again and again, set watches.enabled: false",
                    may_pass=True,
                )
            )

    def _push(self, state: Pass) -> None:
        try:
            state.report.pushed = self.ledger.push().pushed
        finally:
            state.report.pending = self.ledger.pending

    def _measure(self, state: Pass) -> None:
        report, name = state.report, self.settings.cluster.name
        for line in report.captured:
            self.metrics.captures.labels(name, line.application.namespace, line.phase).inc()
            self.metrics.capture_seconds.labels(name).observe(line.duration_s)
            self.metrics.added_bytes.labels(name).inc(line.added_bytes)
        for restored in report.restored:
            self.metrics.restores.labels(name, restored.phase).inc()
        if report.retirement is not None:
            self.metrics.retired.labels(name).inc(len(report.retirement.points))
        for adoption in report.adoptions:
            source = adoption.settings.name
            self.metrics.invalid.labels(name, source).set(
                sum(1 for finding in adoption.findings if finding.severity == "error")
            )
            if not adoption.refused:
                self.metrics.git_synced.labels(name, source).set(state.now.timestamp())
        for location in state.desired.locations:
            up = location.metadata.name not in self.locations.faults
            self.metrics.location_up.labels(name, location.metadata.name).set(up)
        self.metrics.git_pending.labels(name).set(report.pending)
        self.metrics.passes.labels(name, "failed" if report.problems else "ok").inc()
        self.metrics.pass_seconds.labels(name).observe(
            (report.ended_at - report.started_at).total_seconds()
        )
        if report.coverage is not None:
            self.metrics.show_applications(
                application_facts(
                    report.coverage,
                    view=self.ledger.view(),
                    upcoming=report.upcoming,
                    now=state.now,
                )
            )
