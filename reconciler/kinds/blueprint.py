"""Blueprint: how one data service is captured and restored, as lists of typed phases."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from reconciler.kinds.model import Expression, Kind, Model, Name, Planned, Span, agreement

Command = Annotated[list[str], Field(min_length=1, max_length=64)]


class ExecPhase(Model):
    """Run a command in a container of the service's pod; a non-zero exit code fails the action."""

    command: Command
    """Program and arguments, run as they are: no shell unless named."""
    container: str | None = None
    """The container; the first one by default."""
    timeout: Span = timedelta(minutes=10)
    """How long it may take."""


class StreamPhase(Model):
    """Move bytes between a command and the store: its stdout on `backup`, its stdin on `restore`."""

    artifact: Name
    """The name of the content in the restore point."""
    command: Command
    """Program and arguments."""
    container: str | None = None
    """The container; the first one by default."""
    timeout: Span = timedelta(hours=4)
    """How long it may take."""


class Phase(Model):
    """One step: exactly one of `exec` and `stream`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    """Says what the step does."""
    exec: ExecPhase | None = None
    """Run a command."""
    stream: StreamPhase | None = None
    """Move bytes."""
    scale: Planned
    wait: Planned
    task: Planned
    snapshot: Planned

    @agreement
    def _one_step(self) -> None:
        if (self.exec is None) == (self.stream is None):
            raise PydanticCustomError("phase", "expected exactly one of exec and stream")


class Action(Model):
    """Phases in order, and what always runs at the end."""

    phases: Annotated[list[Phase], Field(min_length=1, max_length=32)]
    """Run in order; the first failure ends the action."""
    finally_: Annotated[list[Phase], Field(max_length=32, alias="finally")] = Field(
        default_factory=list
    )
    """Run afterwards whatever happened."""


class Actions(Model):
    """What the blueprint can do."""

    backup: Action
    """Make the artifacts."""
    restore: Action
    """Load the artifacts into a fresh or live service: clear, then load, never append."""
    quiesce: Action | None = None
    """Before the objects are read: flush, freeze."""
    resume: Action | None = None
    """After they were read; always runs once `quiesce` has started."""
    verify: Action | None = None
    """After a restore: ask the service whether its data is whole."""
    delete: Planned


class BlueprintSpec(Model):
    """How one data service is captured and restored."""

    service: Annotated[str, Field(min_length=1, max_length=63)]
    """What it is: `postgresql`."""
    match: Expression
    """CEL over `workload` (a StatefulSet, Deployment, DaemonSet or bare Pod) and `pod` (its pod spec)."""
    covers: list[str] = Field(default_factory=list)
    """Names of pod volumes whose contents the artifacts stand for; they are not captured again as files."""
    actions: Actions
    """What it can do."""
    artifacts: Planned

    @agreement
    def _artifacts_agree(self) -> None:
        made = [p.stream.artifact for p in self.actions.backup.phases if p.stream]
        used = [p.stream.artifact for p in self.actions.restore.phases if p.stream]
        if len(set(made)) != len(made):
            raise PydanticCustomError("artifacts", "two backup phases make the same artifact")
        if set(used) - set(made):
            raise PydanticCustomError(
                "artifacts", "restore reads an artifact that backup does not make"
            )


class Blueprint(Kind):
    """How one data service is captured, restored and verified."""

    kind: Literal["Blueprint"]
    """Always `Blueprint`."""
    spec: BlueprintSpec
    """The actions."""
