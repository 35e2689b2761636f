"""The records of a restore: that it was accepted, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from reconciler.kinds.model import Metadata
from reconciler.kinds.record import (
    OUTCOMES_MAX,
    Outcome,
    PausedObject,
    RestoreRecord,
    RestoreRecordSpec,
)
from reconciler.restore.plan.entry import Plan
from reconciler.restore.plan.request import FoundPoint, RestoreRequest

Ending = Literal["Succeeded", "Partial", "Failed", "Refused", "Cancelled"]


def accepted_record(
    request: RestoreRequest,
    *,
    found: FoundPoint,
    plan: Plan,
    cluster: str,
    cluster_uid: str,
    now: datetime,
) -> RestoreRecord:
    """The record that is pushed before the first write."""
    spec = RestoreRecordSpec(
        stage="accepted",
        cluster=cluster,
        cluster_uid=cluster_uid,
        source=request.source,
        namespace=request.namespace,
        name=request.name,
        attempt=request.attempt,
        spec_digest=request.digest,
        revision=request.revision,
        point=found.title,
        point_digest=found.digest,
        plan_digest=plan.digest,
        mode=request.spec.mode,
        reason=request.spec.reason,
        accepted_at=now,
        verdicts=plan.verdicts(),
        plan=plan.rows() if request.spec.mode == "Plan" else [],
        pauses=_paused(plan) if request.spec.mode == "Run" else [],
        break_glass=request.break_glass,
    )
    return RestoreRecord(
        api_version="backup.reconciler.dev/v1alpha1", metadata=_metadata(request), spec=spec
    )


def finished_record(
    accepted: RestoreRecord,
    *,
    phase: Ending,
    outcomes: Sequence[Outcome],
    message: str,
    now: datetime,
) -> RestoreRecord:
    """The record of how it ended."""
    told = sorted(
        (outcome for outcome in outcomes if outcome.result != "Succeeded"),
        key=lambda outcome: outcome.result != "Failed",
    )
    spec = accepted.spec.model_copy(
        update={
            "chain": None,
            "stage": "finished",
            "finished_at": now,
            "phase": phase,
            "outcomes": told[:OUTCOMES_MAX],
            "message": message[:256],
        }
    )
    return accepted.model_copy(update={"spec": spec})


def _paused(plan: Plan) -> list[PausedObject]:
    told = sorted(plan.pauses, key=lambda pause: (pause.replicas is None, pause))
    return [
        PausedObject(object=pause.key.path, replicas=pause.replicas)
        for pause in told[:OUTCOMES_MAX]
    ]


def _metadata(request: RestoreRequest) -> Metadata:
    return Metadata(name=request.name, namespace=request.namespace or None)
