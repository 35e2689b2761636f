"""Restores without Git: from location and key alone, with a reason, journalled in a local file.

The journal holds the same records that the ledger would: `accepted` is on disk before the first write, `finished`
says how it ended, `watched` what others changed right after. When Git is back, `read_journal` gives them to whoever
appends them to the ledger. The Lease of the attempt is taken as always, so that nobody else runs the same one.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec

from reconciler.clock import Clock
from reconciler.cluster.port import Cluster
from reconciler.errors import RefusedError, TerminalError
from reconciler.kinds.record import RestoreRecord
from reconciler.ledger.ledger import RestoreState
from reconciler.objects import canonical
from reconciler.restore.execute.aftermath import is_due, watched_record
from reconciler.restore.execute.attempt import RunnerSettings, carry_out
from reconciler.restore.execute.lease import AttemptLease, LeaseSettings, hold
from reconciler.restore.execute.once import Stores
from reconciler.restore.execute.records import accepted_record, finished_record
from reconciler.restore.execute.tally import Result
from reconciler.restore.plan.build import build_plan
from reconciler.restore.plan.entry import Plan
from reconciler.restore.plan.request import FoundPoint, RestoreRequest, find_point


class JournalError(TerminalError):
    """The journal cannot be written or read."""


def plan_break_glass(
    request: RestoreRequest,
    *,
    stores: Stores,
    cluster: Cluster,
    settings: RunnerSettings,
    clock: Clock,
) -> Plan:
    """Make the plan of a restore without Git; changes nothing and writes no journal.

    Raises:
        NoSuchPointError, RefusedError, UsageError: there is no plan.
    """
    found = find_point(
        request,
        stores=stores(request),
        cluster=settings.cluster,
        cluster_uid=cluster.uid(),
    )
    return build_plan(
        request, found=found, cluster=cluster, discovery=cluster.discover(), now=clock.now()
    )


def run_break_glass(
    request: RestoreRequest,
    *,
    stores: Stores,
    cluster: Cluster,
    settings: RunnerSettings,
    clock: Clock,
    journal: Path,
    stop: threading.Event,
) -> tuple[Plan, Result]:
    """Run a restore without Git. One that the journal shows as begun and not ended is resumed.

    Raises:
        RefusedError: the plan exceeds limits, conflicts, or this attempt has ended already.
        JournalError: the journal cannot be written; nothing was changed.
    """
    assert request.break_glass, "a request says that it breaks the glass"
    before = _begun(journal, request)
    uid, discovery = cluster.uid(), cluster.discover()
    found = find_point(
        request,
        stores=stores(request),
        cluster=settings.cluster,
        cluster_uid=uid,
        resolved=before.spec.point if before else "",
    )
    lease = hold(
        cluster,
        discovery,
        title=request.title,
        settings=LeaseSettings(settings.lease_namespace, settings.holder, settings.lease_duration),
        clock=clock,
    )
    try:
        plan = build_plan(
            request,
            found=found,
            cluster=cluster,
            discovery=discovery,
            now=clock.now(),
            since=lease.since if before else "",
        )
        accepted = before or _accept(
            request,
            found=found,
            plan=plan,
            uids=(settings.cluster, uid),
            clock=clock,
            journal=journal,
        )
    except BaseException:
        lease.step_down() if before else lease.release()
        raise
    try:
        result = carry_out(
            plan,
            found=found,
            cluster=cluster,
            discovery=discovery,
            settings=settings,
            lease=lease,
            clock=clock,
            stop=stop,
        )
    except BaseException:
        lease.step_down()
        raise
    _end(journal, accepted, result, lease=lease, clock=clock)
    return plan, result


def watch_break_glass(
    request: RestoreRequest,
    *,
    stores: Stores,
    cluster: Cluster,
    settings: RunnerSettings,
    clock: Clock,
    journal: Path,
) -> RestoreRecord | None:
    """Record in the journal what others changed of a restore since it ended; None when nothing is to be looked at.

    Raises:
        ReconcilerError: it cannot be told now.
    """
    finished = _known(journal, request)
    if finished is None or not is_due(
        RestoreState(finished=finished), now=clock.now(), after=settings.watch_after
    ):
        return None
    found = find_point(
        request,
        stores=stores(request),
        cluster=settings.cluster,
        cluster_uid=cluster.uid(),
        resolved=finished.spec.point,
    )
    record = watched_record(
        request,
        finished,
        found=found,
        cluster=cluster,
        discovery=cluster.discover(),
        now=clock.now(),
        after=settings.watch_after,
    )
    _write(journal, record)
    return record


def _accept(
    request: RestoreRequest,
    *,
    found: FoundPoint,
    plan: Plan,
    uids: tuple[str, str],
    clock: Clock,
    journal: Path,
) -> RestoreRecord:
    """Write down that it begins, unless the plan refuses."""
    if plan.refusals:
        raise RefusedError(
            f"restore {request.title}: {'; '.join(plan.refusals)}"[:1000],
            hint="look at `reconciler restore plan` with the same --location, then change the request",
            reason="PlanRefused",
        )
    cluster, cluster_uid = uids
    record = accepted_record(
        request, found=found, plan=plan, cluster=cluster, cluster_uid=cluster_uid, now=clock.now()
    )
    _write(journal, record)
    return record


def _end(
    journal: Path, accepted: RestoreRecord, result: Result, *, lease: AttemptLease, clock: Clock
) -> None:
    """Write down how it ended; one that was stopped has not ended, and is free to be taken up again."""
    if result.phase == "Stopped":
        lease.step_down()
        return
    record = finished_record(
        accepted,
        phase=result.phase,
        outcomes=result.outcomes,
        message=result.message,
        now=clock.now(),
    )
    _write(journal, record)
    lease.release()


def read_journal(journal: Path) -> list[RestoreRecord]:
    """Read the records of a journal, oldest first; a line that a crash cut short is passed over.

    Raises:
        JournalError: it cannot be read, or a whole line is no record.
    """
    try:
        lines = journal.read_bytes().split(b"\n") if journal.exists() else []
    except OSError as error:
        raise JournalError(f"read journal {journal}: {error.strerror}") from error
    records = []
    for line in lines:
        try:
            document = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        try:
            records.append(RestoreRecord.model_validate(document))
        except ValueError as error:
            raise JournalError(f"read journal {journal}: a line is no record") from error
    return records


def _begun(journal: Path, request: RestoreRequest) -> RestoreRecord | None:
    """The accepted record of an attempt that has not ended."""
    known = _known(journal, request)
    if known is not None and known.spec.stage != "accepted":
        raise RefusedError(
            f"restore {request.title}: the journal says that it ended: {known.spec.phase}",
            hint=f"to run it again, say so with --attempt {request.attempt + 1}",
            reason="AlreadyDone",
        )
    return known


def _known(journal: Path, request: RestoreRequest) -> RestoreRecord | None:
    """The newest record of this attempt."""
    identity = (request.source, request.namespace, request.name, request.attempt)
    found = None
    for record in read_journal(journal):
        spec = record.spec
        if (spec.source, spec.namespace, spec.name, spec.attempt) == identity:
            found = record
    return found


def _write(journal: Path, record: RestoreRecord) -> None:
    line = canonical(record.model_dump(mode="json", by_alias=True)) + b"\n"
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("ab+") as file:
            # A line that a crash cut short must not run into this one.
            file.seek(max(file.tell() - 1, 0))
            is_cut = file.read(1) not in (b"", b"\n")
            file.write(b"\n" + line if is_cut else line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise JournalError(
            f"write journal {journal}: {error.strerror}",
            hint="the work directory must be writable: see workDirectory of the configuration",
        ) from error
