"""BackupPolicy and PolicyPreset: what must be captured, when, and kept where for how long."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from reconciler.kinds.model import (
    Expression,
    Instant,
    Kind,
    Model,
    Name,
    Planned,
    Span,
    agreement,
)


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PydanticCustomError(
            "time_zone", "expected an IANA time zone such as Europe/Berlin or UTC"
        ) from None
    return value


Count = Annotated[int, Field(ge=0, le=100_000)]


class NamespaceSelector(Model):
    """Namespaces by name pattern and label; both must hold. A pattern never takes `kube-*`."""

    names: list[str] = Field(default_factory=list)
    """Names or shell patterns (`team-*`); empty means any."""
    match_labels: dict[str, str] = Field(default_factory=dict)
    """Labels that the Namespace must have."""


class ClusterSelector(Model):
    """Clusters by name and by the labels of their `Cluster` manifest."""

    names: list[str] = Field(default_factory=list)
    """Names or shell patterns; empty means any."""
    match_labels: dict[str, str] = Field(default_factory=dict)
    """Labels that the Cluster must have."""


class ApplicationSelector(Model):
    """How a namespace falls into applications; without it the namespace is one application, `_`."""

    group_by: str | None = None
    """One application for each value of this label."""
    name: Name | None = None
    """One application of this name, made of the objects with `matchLabels`."""
    match_labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the objects of the application called `name`."""

    @agreement
    def _one_form(self) -> None:
        if (self.group_by is None) == (self.name is None):
            raise PydanticCustomError("applications", "expected either groupBy or name")
        if self.name is not None and not self.match_labels:
            raise PydanticCustomError("applications", "name needs matchLabels")


class Select(Model):
    """Which applications a policy is for."""

    clusters: ClusterSelector | None = None
    """Clusters; without it every cluster that reads this file."""
    namespaces: NamespaceSelector | None = None
    """Namespaces; in a manifest with a namespace it may only narrow that one."""
    applications: ApplicationSelector | None = None
    """How a selected namespace falls into applications."""
    where: Expression | None = None
    """CEL over `namespace` (the Namespace object); must be true."""


class ObjectRule(Model):
    """Objects by group, kind, name, label and CEL; all given clauses must hold."""

    groups: list[str] = Field(default_factory=list)
    """API groups; `""` is the core group; empty means any."""
    kinds: list[str] = Field(default_factory=list)
    """Kinds such as `ConfigMap`; empty means any."""
    names: list[str] = Field(default_factory=list)
    """Names or shell patterns; empty means any."""
    match_labels: dict[str, str] = Field(default_factory=dict)
    """Labels that the object must have."""
    where: Expression | None = None
    """CEL over `object`; must be true. Contents of Secrets are hidden from it."""


class VolumeRule(Model):
    """What to do with volumes that `where` matches; the first rule that matches decides."""

    where: Expression
    """CEL over `volume`: name, namespace, storageClass, capacityBytes, accessModes, labels, annotations."""
    action: Literal["snapshot", "files", "skip"]
    """`snapshot` reads what a CSI snapshot holds, or fails; `files` reads the files while they are in use; `skip`
    leaves the volume out, with that reason."""


class Capture(Model):
    """What belongs in a restore point."""

    include: list[ObjectRule] = Field(default_factory=list)
    """Only objects that one of these matches; empty means all."""
    exclude: list[ObjectRule] = Field(default_factory=list)
    """Not objects that one of these matches."""
    volumes: list[VolumeRule] = Field(default_factory=list)
    """Rules for volumes; one that none matches is read from a CSI snapshot where there can be one, else while it is in
    use."""
    blueprints: Literal["auto"] | list[Name] = "auto"
    """`auto` uses every blueprint whose `match` holds; a list allows only these; `[]` none."""


class Schedule(Model):
    """When captures are due."""

    cron: Annotated[str, Field(min_length=1, max_length=120)]
    """Five fields as in crontab(5); day of month and day of week are joined by OR; Sunday is 0 or 7."""
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """IANA time zone that the cron fields are in."""
    jitter: Span | None = None
    """Spread captures over this span after the slot, by a hash of the application: always the same."""
    missed_runs: Literal["Coalesce", "Skip"] = "Coalesce"
    """What happens to slots that passed while nothing ran: catch up the newest one, or none."""
    window: Planned


class Retention(Model):
    """How many restore points stay: the newest Succeeded one of each of the last N periods, by slot."""

    last: Count = 0
    """The newest N points, whatever their period."""
    hourly: Count = 0
    """Hours."""
    daily: Count = 0
    """Days."""
    weekly: Count = 0
    """ISO weeks."""
    monthly: Count = 0
    """Months."""
    yearly: Count = 0
    """Years."""
    manual: Count = 10
    """The newest N points that were made by hand."""
    after_delete: Planned

    @property
    def keeps_something(self) -> bool:
        """Whether any bucket is larger than zero."""
        return any((self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly))


class PolicyLocation(Model):
    """A location, with what stays in it."""

    name: Name
    """A `Location`."""
    retention: Retention
    """What stays there."""

    @agreement
    def _keeps(self) -> None:
        if not self.retention.keeps_something:
            raise PydanticCustomError(
                "retention", "retention keeps nothing; set at least one bucket"
            )


class Objectives(Model):
    """What the owner was promised."""

    rpo: Span | None = None
    """The most work, as a span of time, that may be lost."""
    rto: Span | None = None
    """How long a restore may take."""


class Suspend(Model):
    """A pause that ends by itself."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    """Why."""
    until: Instant
    """When captures resume."""


class BackupPolicySpec(Model):
    """What a BackupPolicy says."""

    priority: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """The highest wins where several policies select one application; then the one that has it already."""
    select: Select = Field(default_factory=Select)
    """Which applications."""
    preset: Name | None = None
    """A PolicyPreset that supplies whatever of capture, schedule, locations, objectives is not given here."""
    capture: Capture | None = None
    """What belongs in a restore point."""
    schedule: Schedule | None = None
    """When captures are due."""
    locations: Annotated[list[PolicyLocation], Field(min_length=1, max_length=8)] | None = None
    """Where content is kept; each location has its own retention."""
    objectives: Objectives | None = None
    """What the owner was promised."""
    suspend: Suspend | None = None
    """A pause."""
    drill: Planned
    overrides: Planned


class BackupPolicy(Kind):
    """What must be captured, when, and how long it is kept."""

    kind: Literal["BackupPolicy"]
    """Always `BackupPolicy`."""
    spec: BackupPolicySpec
    """The policy."""


class PolicyPresetSpec(Model):
    """Settings that policies share. A field that a policy gives replaces the preset's field whole."""

    capture: Capture | None = None
    """What belongs in a restore point."""
    schedule: Schedule | None = None
    """When captures are due."""
    locations: Annotated[list[PolicyLocation], Field(min_length=1, max_length=8)] | None = None
    """Where content is kept."""
    objectives: Objectives | None = None
    """What the owner was promised."""
    drill: Planned


class PolicyPreset(Kind):
    """One level of shared settings: gold, silver, bronze."""

    platform_only = True
    kind: Literal["PolicyPreset"]
    """Always `PolicyPreset`."""
    spec: PolicyPresetSpec
    """The settings."""


class Validation(Model):
    """One condition, in the vocabulary of ValidatingAdmissionPolicy."""

    expression: Expression
    """CEL; must be true."""
    message: Annotated[str, Field(max_length=500)] | None = None
    """What to say when it is not."""
    message_expression: Expression | None = None
    """CEL that makes the message; `message` is used when it fails."""
    reason: Literal["Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge"] = "Invalid"
    """A word for machines."""


class NamedExpression(Model):
    """A CEL expression with a name."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]
    """Says what it is; variables are used as `variables.<name>`."""
    expression: Expression
    """CEL."""


class GuardrailSpec(Model):
    """CEL validations over the effective policy: `object` is the policy with its preset filled in.

    Defaults are written out, and spans are given in seconds (`3600s`), so that CEL's `duration()` reads them.
    """

    match_conditions: Annotated[list[NamedExpression], Field(max_length=64)] = Field(
        default_factory=list
    )
    """All must be true for the guardrail to apply to a policy."""
    variables: list[NamedExpression] = Field(default_factory=list)
    """Named values for the validations, in order."""
    validations: Annotated[list[Validation], Field(min_length=1)]
    """What every policy must satisfy."""
    failure_policy: Literal["Fail", "Ignore"] = "Fail"
    """What an error in an expression means."""
    validation_actions: list[Literal["Deny", "Warn"]] = Field(default=["Deny"])
    """`Deny` keeps a policy that fails out of force; `Warn` only says so."""
    match_constraints: Planned


class Guardrail(Kind):
    """What every policy must satisfy."""

    platform_only = True
    kind: Literal["Guardrail"]
    """Always `Guardrail`."""
    spec: GuardrailSpec
    """The conditions."""
