"""What others did to a restore's objects right after: a controller, the garbage collector, a person.

Some minutes after a restore its plan is made again. What the plan would write now is no more as the restore left it;
what had failed or was left alone by the restore itself is not counted. The object's field managers say who wrote
the fields that differ, and when: what was written before the restore, or later than the time that is looked at, is left
out. Nobody says who removed an object; that its owners are gone points to the garbage collector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from reconciler.cluster.port import Cluster, Discovery
from reconciler.errors import ReconcilerError
from reconciler.kinds.model import format_span
from reconciler.kinds.record import OUTCOMES_MAX, Aftermath, RestoreRecord
from reconciler.kinds.request import Limits
from reconciler.ledger.ledger import RestoreState
from reconciler.objects import Manifest, field, owners_of
from reconciler.restore.plan.build import build_plan
from reconciler.restore.plan.entry import Entry, Plan
from reconciler.restore.plan.request import FoundPoint, RestoreRequest
from reconciler.restore.plan.whose import writers_of, writers_since

WATCH_AFTER = timedelta(minutes=2)
LATE = timedelta(minutes=30)
"""A restore that nobody looked at for so long after its time is not looked at any more."""
_SLACK = timedelta(seconds=2)
"""Times of field managers have no parts of seconds, and clocks differ."""
_FIELDS_MAX = 20
_ENDING = ("BeingDeleted", "NamespaceTerminating")


def is_due(state: RestoreState, *, now: datetime, after: timedelta) -> bool:
    """Whether a restore is to be looked at again now: once, some time after it wrote something."""
    if state.finished is None or state.watched is not None:
        return False
    spec = state.finished.spec
    if (
        spec.stage != "finished"
        or spec.mode != "Run"
        or spec.phase not in ("Succeeded", "Partial")
        or not spec.finished_at
    ):
        return False
    return spec.finished_at + after <= now <= spec.finished_at + after + LATE


def watched_record(
    request: RestoreRequest,
    finished: RestoreRecord,
    *,
    found: FoundPoint,
    cluster: Cluster,
    discovery: Discovery,
    now: datetime,
    after: timedelta,
) -> RestoreRecord:
    """Look again at what a restore wrote, and make the record of what was found.

    Args:
        request: what was asked for.
        finished: how it ended.
        found: its restore point.
        cluster: the target.
        discovery: what it serves.
        now: the time.
        after: how long after its end changes are counted.

    Raises:
        ReconcilerError: it cannot be told now.
    """
    spec = request.spec.model_copy(
        update={
            "on_conflict": "update",
            "recreate": [],
            "limits": Limits(),
            "plan_digest": None,
            "pause": [],
        }
    )
    plan = build_plan(
        replace(request, spec=spec),
        found=found,
        cluster=cluster,
        discovery=discovery,
        now=finished.spec.accepted_at,
    )
    assert finished.spec.finished_at is not None, "it has ended"
    since, until = finished.spec.accepted_at - _SLACK, finished.spec.finished_at + after + _SLACK
    look = _Look(cluster, discovery, plan, since=since, until=until)
    apart = {outcome.item for outcome in finished.spec.outcomes}
    rows = [
        row for entry in plan.entries if entry.target.path not in apart for row in look.at(entry)
    ]
    if len(finished.spec.outcomes) >= OUTCOMES_MAX:
        # More failed than the record tells: only what others surely wrote is theirs.
        rows = [row for row in rows if row.managers]
    told = finished.spec.model_copy(
        update={
            "chain": None,
            "stage": "watched",
            "watched_at": now,
            "outcomes": [],
            "aftermath": rows[:OUTCOMES_MAX],
            "message": _message(rows, after),
        }
    )
    return finished.model_copy(update={"spec": told})


class _Look:
    """Looks at single objects."""

    def __init__(
        self,
        cluster: Cluster,
        discovery: Discovery,
        plan: Plan,
        *,
        since: datetime,
        until: datetime,
    ) -> None:
        self._cluster = cluster
        self._discovery = discovery
        self._since = since
        self._until = until
        self._gone = {entry.target for entry in plan.entries if _is_gone(entry)}

    def at(self, entry: Entry) -> Iterator[Aftermath]:
        """What became of one object; nothing when it is as it was left."""
        if entry.target in self._gone:
            yield Aftermath(object=entry.target.path, what="removed", message=self._why_gone(entry))
            return
        if not entry.diff or entry.verdict not in ("update", "blocked") or not entry.live_uid:
            return
        live = self._live(entry)
        if live is None:
            return
        fields, managers = [], set()
        for change in entry.diff:
            found = writers_of(change.path, live) if change.before is not None else []
            times = [one.at for one in found]
            if found and all(at and not self._since <= at <= self._until for at in times):
                continue
            fields.append(change.path)
            managers |= {one.manager for one in found or writers_since(live, self._since)}
        if fields:
            yield Aftermath(
                object=entry.target.path,
                what="changed",
                fields=fields[:_FIELDS_MAX],
                managers=sorted(managers),
            )

    def _live(self, entry: Entry) -> Manifest | None:
        kind = self._discovery.find(entry.target.group, entry.target.kind)
        if kind is None:
            return None
        try:
            return self._cluster.get(kind, entry.target.name, namespace=entry.target.namespace)
        except ReconcilerError:
            return None

    def _why_gone(self, entry: Entry) -> str:
        if entry.reason in _ENDING:
            return entry.message
        owners = owners_of(entry.desired or {})
        if owners and not any(owner.get("uid") for owner in owners):
            named = ", ".join(f"{owner.get('kind')} {owner.get('name')}" for owner in owners)
            return f"its owner {named} is gone, so the garbage collector takes it"
        is_job = (entry.target.group, entry.target.kind) == ("batch", "Job")
        if is_job and field(entry.desired or {}, "spec", "ttlSecondsAfterFinished") is not None:
            return "a finished Job with ttlSecondsAfterFinished is removed by its controller"
        return "who did it is in the API server's audit log"


def _is_gone(entry: Entry) -> bool:
    """Whether an object is absent that was written, or on its way out."""
    if entry.reason in _ENDING:
        return True
    is_absent = not entry.live_uid and entry.desired is not None
    return is_absent and entry.verdict in ("create", "blocked")


def _message(rows: list[Aftermath], after: timedelta) -> str:
    span = format_span(after)
    if not rows:
        return f"nothing was changed or removed within {span}"
    first = rows[0]
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    by = f" by {', '.join(first.managers)}" if first.managers else ""
    what = f"{', '.join(first.fields[:3])}{by}" if first.fields else first.message
    return f"within {span} {first.object} was {first.what} ({what}){more}"[:256]
