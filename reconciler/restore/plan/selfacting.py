"""What acts by itself once it is written, and would fight a restore that is still going on.

An autoscaler counts pods, a CronJob starts Jobs. Both are written when everything else is there and the workloads are
Ready (`order.Level.SELF_ACTING`): a CronJob that was absent counts its runs from the moment it is made, so a run
that was due meanwhile is not caught up, and nothing has to be released afterwards, whatever dies in between. A live one
that was suspended (by this restore, too: see `pauses`), or had another schedule, would catch up the run that it missed
last as soon as it is as captured: it is told first that its runs up to now are done. Jobs that were running when they
were captured would do their work a second time: they are made again only when asked.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ (missed schedules).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from reconciler.clock import format_instant
from reconciler.objects import Manifest, field
from reconciler.restore.plan.entry import Entry

_TIMING = ("schedule", "timeZone", "suspend", "startingDeadlineSeconds")


def without_running_job(entry: Entry) -> Entry:
    """Leave out a Job that would run again; one that was suspended does nothing and stays."""
    is_job = (entry.target.group, entry.target.kind) == ("batch", "Job")
    if not is_job or entry.verdict != "create" or field(entry.desired or {}, "spec", "suspend"):
        return entry
    return replace(
        entry,
        verdict="skip",
        reason="RunningJob",
        message="it was running when it was captured, and would do its work from the start again",
        hint="set spec.runningJobs: true to run it",
    )


def runs_done(entry: Entry, there: Manifest, *, now: datetime) -> Manifest | None:
    """A merge patch of the status of a live CronJob, without which its update would start a run that was missed.

    None when the update cannot start one: it stays suspended, or nothing of its timing changes.
    """
    if (entry.target.group, entry.target.kind) != ("batch", "CronJob"):
        return None
    wanted, live = (entry.desired or {}).get("spec") or {}, there.get("spec") or {}
    if wanted.get("suspend") or all(wanted.get(name) == live.get(name) for name in _TIMING):
        return None
    return done_until(now)


def done_until(now: datetime) -> Manifest:
    """A merge patch of the status of a CronJob: no run up to now is due any more."""
    return {"status": {"lastScheduleTime": format_instant(now)}}
