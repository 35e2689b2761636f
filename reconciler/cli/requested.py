"""How every Restore stands: recorded in the ledger, or merged and not accepted, with what keeps it from being run.

What a pass would refuse is found out by making the plan and asking the guards, as the pass does; nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconciler.errors import ReconcilerError, TransientError

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts
    from reconciler.kinds.record import RestoreRecord
    from reconciler.ledger.layout import RestoreKey
    from reconciler.ledger.ledger import LedgerView, RestoreState
    from reconciler.restore.plan.request import RestoreRequest


def restore_items(parts: Parts) -> list[dict[str, Any]]:
    """All restores, those that wait first, then the newest."""
    from reconciler.daemon.restores import request_of
    from reconciler.restore.execute.once import key_of

    desired, view = parts.desired(), parts.ledger.view()
    waiting, edited = [], {}
    for requested in desired.restores:
        request = request_of(requested, desired)
        phase, message = standing(parts, request, view=view)
        if phase == "Edited":
            edited[key_of(request)] = message
        elif phase != "Recorded":
            waiting.append(_merged(parts, request, phase=phase, message=message))
    recorded = [
        _recorded(key, record, message=edited.get(key) or _changed(state) or record.spec.message)
        for key, state in view.restores().items()
        if (record := state.finished or state.accepted) is not None
    ]
    return waiting + sorted(recorded, key=lambda item: str(item["acceptedAt"]), reverse=True)


def standing(parts: Parts, request: RestoreRequest, *, view: LedgerView) -> tuple[str, str]:
    """How a merged request stands, and why.

    Pending (the next pass carries it out), Waiting (it cannot be told now), Refused, Expired, Edited (after use), or
    Recorded.
    """
    from reconciler.restore.execute.once import key_of

    state = view.restores().get(key_of(request))
    record = (state.accepted or state.finished) if state else None
    if record is None:
        return _outlook(parts, request)
    if record.spec.spec_digest == request.digest:
        return "Recorded", ""
    return "Edited", "edited after it was accepted, which changes nothing; raise spec.attempt"


def _outlook(parts: Parts, request: RestoreRequest) -> tuple[str, str]:
    from reconciler.cli.restore import plan_of
    from reconciler.clock import format_instant

    if parts.clock.now() > request.spec.not_after:
        return "Expired", f"notAfter was {format_instant(request.spec.not_after)}"
    try:
        plan = plan_of(parts, request)
    except TransientError as error:
        return "Waiting", error.message
    except ReconcilerError as error:
        return "Refused", error.message
    if plan.refusals:
        return "Refused", "; ".join(plan.refusals)
    return "Pending", "merged; the next pass carries it out"


def _merged(parts: Parts, request: RestoreRequest, *, phase: str, message: str) -> dict[str, Any]:
    origin = request.spec.from_
    return {
        "name": f"{request.source}/{request.namespace}/{request.name}",
        "attempt": request.attempt,
        "phase": phase,
        "point": f"{origin.cluster or parts.settings.cluster.name}/{origin.point}",
        "acceptedAt": None,
        "verdicts": {},
        "reason": request.spec.reason,
        "message": message,
    }


def _changed(state: RestoreState) -> str:
    """What became of a restore right after; empty when it was left as it was."""
    seen = state.watched
    return seen.spec.message if seen is not None and seen.spec.aftermath else ""


def _recorded(key: RestoreKey, record: RestoreRecord, *, message: str) -> dict[str, Any]:
    spec = record.spec
    return {
        "name": f"{key.source}/{key.namespace}/{key.name}",
        "attempt": key.attempt,
        "phase": spec.phase or "Accepted",
        "point": spec.point,
        "acceptedAt": spec.accepted_at.isoformat(),
        "verdicts": spec.verdicts,
        "reason": spec.reason,
        "message": message,
    }
