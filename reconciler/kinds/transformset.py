"""TransformSet: CEL edits made to objects on their way back, in the words of MutatingAdmissionPolicy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from reconciler.kinds.model import Expression, Kind, Model, Planned, agreement
from reconciler.kinds.policy import NamedExpression


class ResourceRule(Model):
    """Resources by group, version and plural name; `*` means any."""

    api_groups: Annotated[list[str], Field(min_length=1)]
    """API groups; `""` is the core group."""
    api_versions: Annotated[list[str], Field(min_length=1)] = Field(default_factory=lambda: ["*"])
    """Versions."""
    resources: Annotated[list[str], Field(min_length=1)]
    """Plural names, as in RBAC."""
    resource_names: list[str] = Field(default_factory=list)
    """Only these names, when given."""
    scope: Planned
    operations: Planned


class MatchConstraints(Model):
    """Which objects a rule is about."""

    resource_rules: Annotated[list[ResourceRule], Field(min_length=1)]
    """One of these must match."""
    exclude_resource_rules: list[ResourceRule] = Field(default_factory=list)
    """None of these may match."""
    namespace_selector: Planned
    object_selector: Planned


class JsonPatchMutation(Model):
    """Where the patch comes from."""

    expression: Expression
    """CEL that gives a list of maps with `op`, `path`, `value`, `from` (RFC 6902)."""


class Mutation(Model):
    """One edit."""

    patch_type: Literal["JSONPatch"]
    """`JSONPatch`; `ApplyConfiguration` is not supported by this version."""
    json_patch: JsonPatchMutation
    """The patch."""
    apply_configuration: Planned


class TransformRule(Model):
    """A rule: which objects, under which conditions, what happens to them. It is atomic per object."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    """Says what the rule is for; the plan shows it beside what it changed."""
    match_constraints: MatchConstraints
    """Which objects."""
    match_conditions: Annotated[list[NamedExpression], Field(max_length=64)] = Field(
        default_factory=list
    )
    """CEL over `object`, `params`, `now`; all must be true. One that is false skips the rule."""
    variables: list[NamedExpression] = Field(default_factory=list)
    """Named values for the mutations, in order: `variables.<name>`."""
    mutations: list[Mutation] = Field(default_factory=list)
    """Edits, in order."""
    action: Literal["Skip", "Fail"] | None = None
    """Instead of editing: leave the object out, or refuse the restore of it."""
    message_expression: Expression | None = None
    """CEL that says why, for `action`."""

    @agreement
    def _does_one_thing(self) -> None:
        if bool(self.mutations) == (self.action is not None):
            raise PydanticCustomError("rule", "expected either mutations or action")


class Migrate(Model):
    """Rewrite objects whose API version the target no longer serves."""

    on_unknown: Literal["Fail", "Skip"] = "Fail"
    """What to do with an object that no known conversion brings to a served version."""


class Certificates(Model):
    """What happens to TLS Secrets whose certificate has expired at the time of the restore."""

    managed: Literal["Skip", "Keep", "Fail"] = "Skip"
    """Those that cert-manager made: `Skip` leaves it to issue them again."""
    unmanaged: Literal["Skip", "Keep", "Fail"] = "Keep"
    """All others: `Keep` restores them with an annotation that says so."""


class TransformSetSpec(Model):
    """Migration first, then certificates, then rules in order; each sees the result of the one before."""

    failure_policy: Literal["Fail", "Ignore"] = "Fail"
    """What an error in a rule means: refuse the object, or leave it as it was."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Plain values that expressions read as `params`."""
    migrate: Migrate | None = None
    """API versions that the target no longer serves."""
    certificates: Certificates | None = None
    """Expired certificates."""
    storage_classes: dict[str, str] = Field(default_factory=dict)
    """Captured storage class → class in the target; `*` is the rest."""
    registries: dict[str, str] = Field(default_factory=dict)
    """Prefix of an image reference → what to write instead."""
    rules: list[TransformRule] = Field(default_factory=list)
    """CEL rules."""
    param_ref: Planned


class TransformSet(Kind):
    """Edits made to objects on their way back."""

    kind: Literal["TransformSet"]
    """Always `TransformSet`."""
    spec: TransformSetSpec
    """The edits."""
