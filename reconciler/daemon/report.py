"""The state of each application after a pass, in three words: compliant, noncompliant, unmanaged.

Compliant means the newest Succeeded point is no older than the promised RPO (with a tenth of grace); without a
promise, that there is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from reconciler.capture.coverage import Coverage
from reconciler.clock import format_instant, parse_instant
from reconciler.daemon.due import Upcoming
from reconciler.daemon.metrics import ApplicationFacts
from reconciler.kinds.effective import Application, EffectivePolicy
from reconciler.ledger.ledger import LedgerView

GRACE = 1.1


def application_facts(
    coverage: Coverage, *, view: LedgerView, upcoming: Iterable[Upcoming], now: datetime
) -> list[ApplicationFacts]:
    """What is known of every application, covered or not, sorted by name."""
    next_at = {entry.application: entry.at for entry in upcoming}
    ties = {tie.application: tie for tie in coverage.ties}
    facts = []
    for entry in coverage.covered:
        tie = ties.get(entry.application)
        facts.append(
            _facts(
                entry.application,
                entry.policy,
                view=view,
                next_at=next_at.get(entry.application),
                now=now,
                note=f"tie of {', '.join(tie.policies)}" if tie else "",
            )
        )
    facts += [
        _facts(
            Application(name), None, view=view, next_at=None, now=now, note="no policy selects it"
        )
        for name in coverage.uncovered
    ]
    facts += [
        _facts(
            Application(name),
            None,
            view=view,
            next_at=None,
            now=now,
            note=f"{len(keys)} objects belong to none of its applications: {', '.join(map(str, keys[:3]))}"
            + (" …" if len(keys) > 3 else ""),
        )
        for name, keys in coverage.leftovers.items()
    ]
    seen = {(fact.namespace, fact.application) for fact in facts}
    for name in view.applications():
        application = Application.parse(name)
        if (application.namespace, application.name) not in seen:
            note = "has points; its namespace is gone or no policy selects it"
            facts.append(_facts(application, None, view=view, next_at=None, now=now, note=note))
    return sorted(facts, key=lambda fact: (fact.namespace, fact.application))


def _facts(
    application: Application,
    policy: EffectivePolicy | None,
    *,
    view: LedgerView,
    next_at: datetime | None,
    now: datetime,
    note: str,
) -> ApplicationFacts:
    newest = view.newest_succeeded(str(application))
    latest = view.latest(str(application))
    success_at = parse_instant(newest.spec.slot) if newest else None
    if success_at is not None and success_at > now:
        # A clock went wrong, then or now: what lies ahead of it is no proof that anything is fresh.
        ahead = f"its newest point, {newest.spec.slot}, lies ahead of the clock" if newest else ""
        note = f"{note}; {ahead}" if note else ahead
        success_at = _succeeded_by(view, application, now)
    pause = policy.suspension(now) if policy else None
    if pause is not None:
        paused = f"suspended until {format_instant(pause.until)}: {pause.reason}"
        note = f"{note}; {paused}" if note else paused
    rpo = policy.objectives.rpo if policy else None
    return ApplicationFacts(
        namespace=application.namespace,
        application=application.name,
        policy=policy.name if policy else "",
        state=_state(policy, success_at, now),
        rpo_s=rpo.total_seconds() if rpo else None,
        last_success_at=success_at,
        last_attempt_at=parse_instant(latest.spec.slot) if latest else None,
        next_run_at=next_at,
        points=len(view.points(str(application))),
        note=note,
        is_suspended=pause is not None,
    )


def _succeeded_by(view: LedgerView, application: Application, now: datetime) -> datetime | None:
    for entry in reversed(view.points(str(application))):
        slot, record = parse_instant(entry.slot), view.point(entry.application, entry.slot)
        if slot <= now and record is not None and record.spec.phase == "Succeeded":
            return slot
    return None


def _state(policy: EffectivePolicy | None, success_at: datetime | None, now: datetime) -> str:
    if policy is None:
        return "unmanaged"
    if success_at is None:
        return "noncompliant"
    rpo = policy.objectives.rpo
    return "compliant" if rpo is None or now - success_at <= GRACE * rpo else "noncompliant"
