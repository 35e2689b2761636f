"""Records as the product makes them, and ledgers on a real remote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.clock import SteppedClock, format_slot
from reconciler.kinds.model import API_VERSION, Metadata
from reconciler.kinds.record import (
    AdoptedManifest,
    AdoptionRecord,
    AdoptionRecordSpec,
    CaptureFailure,
    CaptureFailureSpec,
    LocationRef,
    Outcome,
    PolicyRef,
    PruneRecord,
    PruneRecordSpec,
    RestorePoint,
    RestorePointSpec,
    RestoreRecord,
    RestoreRecordSpec,
    Retired,
    RetirementRecord,
    RetirementRecordSpec,
)
from reconciler.ledger.ledger import Entry, Ledger

START = datetime(2026, 11, 23, 3, 17, tzinfo=UTC)
CLUSTER = "prod"
POLICY = PolicyRef(
    source="policies",
    path="policies/shop.yaml",
    name="shop/shop",
    revision="a1b2c3d" + "0" * 33,
    blob="b" * 40,
)


def ledger(
    directory: Path, url: str, *, cluster: str = CLUSTER, remote=None, sleep=lambda _: None
) -> Ledger:
    """A ledger whose pauses take no time."""
    return Ledger(
        directory=directory,
        url=url,
        cluster=cluster,
        clock=SteppedClock(START),
        remote=remote,
        sleep=sleep,
        jitter=lambda: 0.5,
    )


def instant(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def point(
    hour: int = 0,
    *,
    application: str = "shop/_",
    phase: str = "Succeeded",
    cluster: str = CLUSTER,
    **more,
) -> RestorePoint:
    at = instant(hour)
    spec = {
        "cluster": cluster,
        "cluster_uid": "uid-1",
        "application": application,
        "slot": format_slot(at),
        "scheduled_for": at,
        "captured_at": at,
        "finished_at": at + timedelta(seconds=30),
        "policy": POLICY,
        "phase": phase,
        "locations": [
            LocationRef(name="primary", domain="uid-1", digest="0" * 64, added_bytes=3_565_158)
        ],
        "objects": 412,
        "full_bytes": 1_288_490_188,
    }
    name = application.replace("/_", "").replace("/", "-") + "-" + format_slot(at).lower()
    return RestorePoint(
        api_version=API_VERSION,
        metadata=Metadata(name=name),
        spec=RestorePointSpec(**(spec | more)),
    )


def failure(
    hour: int = 0,
    *,
    attempt: int = 1,
    application: str = "shop/_",
    message: str = "pod exec failed",
) -> CaptureFailure:
    at = instant(hour)
    return CaptureFailure(
        api_version=API_VERSION,
        metadata=Metadata(name=f"failure-{hour}-{attempt}"),
        spec=CaptureFailureSpec(
            cluster=CLUSTER,
            application=application,
            slot=format_slot(at),
            attempt=attempt,
            failed_at=at + timedelta(minutes=attempt),
            reason="ExecFailed",
            message=message,
            policy=POLICY,
        ),
    )


def restore(
    stage: str = "accepted",
    *,
    name: str = "inc-4711",
    attempt: int = 1,
    namespace: str = "shop",
    **more,
) -> RestoreRecord:
    spec = {
        "stage": stage,
        "cluster": CLUSTER,
        "cluster_uid": "uid-1",
        "source": "policies",
        "namespace": namespace,
        "name": name,
        "attempt": attempt,
        "spec_digest": "1" * 64,
        "point": "prod/shop/_/20261123T031700Z",
        "reason": "INC-4711: orders table dropped",
        "accepted_at": instant(1),
    }
    if stage == "finished":
        spec |= {
            "finished_at": instant(1) + timedelta(seconds=12),
            "phase": "Succeeded",
            "verdicts": {"create": 3, "update": 1},
        }
    return RestoreRecord(
        api_version=API_VERSION,
        metadata=Metadata(name=name),
        spec=RestoreRecordSpec(**(spec | more)),
    )


def retirement(points: list[tuple[str, str]], *, hour: int = 5) -> RetirementRecord:
    retired = [
        Retired(
            point=f"{application}/{slot}",
            locations=["primary"],
            digest="2" * 64,
            reason="BeyondRetention",
        )
        for application, slot in points
    ]
    return RetirementRecord(
        api_version=API_VERSION,
        metadata=Metadata(name=f"retire-{hour}"),
        spec=RetirementRecordSpec(cluster=CLUSTER, retired_at=instant(hour), points=retired),
    )


def retire(view, entries, *, hour: int = 5) -> Entry:
    """The entry that takes these points of a view out."""
    return Entry(
        retirement([(e.application, e.slot) for e in entries], hour=hour),
        removes=tuple(e.path for e in entries),
    )


def prune() -> PruneRecord:
    return PruneRecord(
        api_version=API_VERSION,
        metadata=Metadata(name="prune"),
        spec=PruneRecordSpec(
            cluster=CLUSTER,
            location="primary",
            pruned_at=instant(9),
            points_deleted=1,
            packs_deleted=2,
            freed_bytes=5_000_000,
        ),
    )


def adoption(
    hour: int = 0,
    *,
    source: str = "policies",
    revision: str = "a1b2c3d" + "0" * 33,
    faults: list[str] | None = None,
) -> AdoptionRecord:
    return AdoptionRecord(
        api_version=API_VERSION,
        metadata=Metadata(name=f"adopt-{hour}"),
        spec=AdoptionRecordSpec(
            cluster=CLUSTER,
            source=source,
            url="file:///srv/policies.git",
            ref="main",
            revision=revision,
            adopted_at=instant(hour),
            manifests=[
                AdoptedManifest(
                    path="policies/shop.yaml", identity="BackupPolicy/shop/shop", blob="b" * 40
                )
            ],
            faults=faults or [],
        ),
    )


def failed_outcomes(number: int) -> list[Outcome]:
    return [
        Outcome(
            item=f"apps/Deployment/shop/web-{n}",
            result="Failed",
            reason="Forbidden",
            message="x" * 200,
        )
        for n in range(number)
    ]
