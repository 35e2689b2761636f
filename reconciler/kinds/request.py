"""Restore and Hold: what people ask for about restore points."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from reconciler.clock import parse_instant
from reconciler.kinds.model import DNS_LABEL, Instant, Kind, Model, Name, agreement
from reconciler.kinds.policy import ObjectRule

Reason = Annotated[str, Field(min_length=1, max_length=500)]
Limit = Annotated[int, Field(ge=0, le=1_000_000)]


def _point(value: str) -> str:
    parts = value.split("/")
    try:
        if len(parts) != 3 or not all(parts):
            raise ValueError(value)
        if parts[2] != "latest":
            parse_instant(parts[2].removeprefix("@"))
    except ValueError:
        raise PydanticCustomError(
            "point",
            "expected namespace/application/slot such as shop/_/20261201T110000Z, or latest, or @TIME",
        ) from None
    return value


def _slot(value: str) -> str:
    try:
        if len(value) != len("20261201T110000Z"):
            raise ValueError(value)
        parse_instant(value)
    except ValueError:
        raise PydanticCustomError("slot", "expected a slot such as 20261201T110000Z") from None
    return value


def _object(value: str) -> str:
    kind, _, rest = value.partition("/")
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*(\.[a-z0-9][-a-z0-9.]*)?", kind) or not re.fullmatch(
        r"([^/]+/)?[^/]+", rest
    ):
        raise PydanticCustomError(
            "object",
            "expected Kind/name, Kind.group/name or Kind.group/namespace/name such as Deployment.apps/web",
        )
    return value


class RestoreFrom(Model):
    """The restore point."""

    cluster: Name | None = None
    """The cluster it was captured from; the one that restores by default."""
    point: Annotated[str, AfterValidator(_point)]
    """`namespace/application/slot`; `latest` and `@TIME` are resolved when the request is accepted."""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The digest of the point, from its record; a point with another one is refused."""
    location: Name | None = None
    """The location to read from; the first that has the point by default."""


class RestoreTo(Model):
    """Where it goes."""

    namespace: Annotated[str, Field(max_length=63, pattern=DNS_LABEL)] | None = None
    """The namespace; the captured one by default."""


class Include(Model):
    """A part of the point."""

    objects: list[ObjectRule] = Field(default_factory=list)
    """Only objects that one of these matches; empty means all."""
    contents: list[str] | None = None
    """Only contents (artifacts and volumes) of these names; `[]` means none, absent means all."""


class Limits(Model):
    """The most that may happen to live objects; a plan that needs more is refused."""

    create: Limit | None = None
    """Objects created."""
    update: Limit | None = None
    """Objects changed."""
    recreate: Limit | None = None
    """Objects deleted and created again."""
    delete: Limit | None = None
    """Objects deleted: those recreated, and everything that goes with them, such as pods."""


class PausedWorkload(Model):
    """A workload outside of what is restored, such as an operator that would write into it."""

    kind: Literal["Deployment", "StatefulSet"]
    """What it is."""
    namespace: Annotated[str, Field(max_length=63, pattern=DNS_LABEL)]
    """Its namespace; in a tenant's request one that its source is confined to."""
    name: Annotated[
        str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    ]
    """Its name."""


class RestoreSpec(Model):
    """A request that acts exactly once for each value of `attempt`."""

    attempt: Annotated[int, Field(ge=1, le=1000)] = 1
    """Raise it to run the same request again. Nothing below an attempt that was accepted begins any more."""
    cluster: Name
    """The cluster that restores."""
    reason: Reason
    """Why; it is part of the audit trail."""
    not_after: Instant
    """Nothing is started after this instant."""
    from_: Annotated[RestoreFrom, Field(alias="from")]
    """The restore point."""
    to: RestoreTo = Field(default_factory=RestoreTo)
    """Where it goes."""
    include: Include = Field(default_factory=Include)
    """A part of the point; all of it by default."""
    on_conflict: Literal["skip", "update", "recreate", "fail"] = "fail"
    """What happens to an object that exists and differs."""
    running_jobs: bool = False
    """Whether Jobs that were running when they were captured are run again from their start."""
    recreate: list[Annotated[str, AfterValidator(_object)]] = Field(
        default_factory=list, max_length=1000
    )
    """Objects of the target that are deleted and created again if they differ, whatever `onConflict` says, as
    `Deployment.apps/web`. CustomResourceDefinitions, Namespaces and bound claims are only ever recreated when they
    are named here one by one, also when they would go with another object."""
    transforms: list[Name] = Field(default_factory=list)
    """TransformSets, applied in this order."""
    mode: Literal["Run", "Plan"] = "Run"
    """`Plan` writes the live plan to the ledger and changes nothing."""
    limits: Limits = Field(default_factory=Limits)
    """The most that may happen to live objects."""
    plan_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The digest of a reviewed plan; what has drifted since is blocked."""
    pause: list[PausedWorkload] = Field(default_factory=list, max_length=20)
    """Workloads of the target that are scaled to zero before anything is written, and get their replicas back at the
    end, however it ends. CronJobs of the application are suspended for that time without being named."""


class Restore(Kind):
    """Bring a restore point back."""

    kind: Literal["Restore"]
    """Always `Restore`."""
    spec: RestoreSpec
    """The request."""


class HoldRelease(Model):
    """The end of a hold."""

    reason: Reason
    """Why it is no longer needed."""
    approved_by: Annotated[str, Field(min_length=1, max_length=200)]
    """Who agreed."""


class HoldSpec(Model):
    """Restore points that retention must keep. Deleting the file does not end a hold: `release` or `until` does."""

    cluster: Name | None = None
    """The cluster whose points are held; every cluster that reads this file by default."""
    application: Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9]*/(_|[-a-zA-Z0-9_.]+)$")]
    """`namespace/application`; `_` is the whole namespace."""
    slot: Annotated[str, AfterValidator(_slot)] | None = None
    """One point, by the name of its slot: `20261201T110000Z`."""
    since: Instant | None = None
    """Every point from here …"""
    upto: Instant | None = None
    """… to here."""
    reason: Reason
    """Why."""
    owner: Annotated[str, Field(min_length=1, max_length=200)]
    """Who asks for it."""
    until: Instant | None = None
    """When it ends by itself."""
    release: HoldRelease | None = None
    """Ends it now."""

    @agreement
    def _one_form(self) -> None:
        if (self.slot is None) == (self.since is None and self.upto is None):
            raise PydanticCustomError("hold", "expected either slot, or since and/or upto")


class Hold(Kind):
    """Restore points that retention must keep."""

    kind: Literal["Hold"]
    """Always `Hold`."""
    spec: HoldSpec
    """What is held."""
