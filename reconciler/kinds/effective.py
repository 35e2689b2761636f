"""Policies as they take effect: the preset filled in, defaults written out; and the names of applications."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler.kinds.model import Metadata
from reconciler.kinds.policy import (
    BackupPolicy,
    Capture,
    Objectives,
    PolicyLocation,
    PolicyPreset,
    Schedule,
    Select,
    Suspend,
)
from reconciler.kinds.record import PolicyRef

WHOLE_NAMESPACE = "_"


@dataclass(frozen=True, order=True, slots=True)
class Application:
    """What a policy protects: a whole namespace (`_`) or a part of one."""

    namespace: str
    name: str = WHOLE_NAMESPACE

    @classmethod
    def parse(cls, text: str) -> Application:
        """Read `namespace/name`, or `namespace` for the whole of it.

        Raises:
            ValueError: it has more parts or an empty one.
        """
        namespace, _, name = text.partition("/")
        if not namespace or "/" in name or (text.endswith("/")):
            raise ValueError(f"{text!r} is no application; write namespace or namespace/name")
        return cls(namespace, name or WHOLE_NAMESPACE)

    def __str__(self) -> str:
        """`namespace/name`, as in paths and records."""
        return f"{self.namespace}/{self.name}"

    @property
    def short(self) -> str:
        """As on the command line: the namespace alone when it is the whole."""
        return self.namespace if self.name == WHOLE_NAMESPACE else str(self)


@dataclass(frozen=True)
class EffectivePolicy:
    """A policy with its preset filled in."""

    metadata: Metadata
    priority: int
    select: Select
    capture: Capture
    schedule: Schedule | None
    locations: tuple[PolicyLocation, ...]
    objectives: Objectives
    suspend: Suspend | None
    ref: PolicyRef

    @property
    def name(self) -> str:
        """`namespace/name`, or `name` for the platform's."""
        space = self.metadata.namespace
        return f"{space}/{self.metadata.name}" if space else self.metadata.name

    def suspension(self, now: datetime) -> Suspend | None:
        """The pause that holds at an instant."""
        return self.suspend if self.suspend is not None and self.suspend.until > now else None


def effective(
    policy: BackupPolicy, preset: PolicyPreset | None, *, ref: PolicyRef
) -> EffectivePolicy:
    """Fill in the preset: a field that the policy gives replaces the preset's whole."""
    spec, base = policy.spec, preset.spec if preset else None
    return EffectivePolicy(
        metadata=policy.metadata,
        priority=spec.priority,
        select=spec.select,
        capture=spec.capture or (base and base.capture) or Capture.model_validate({}),
        schedule=spec.schedule or (base.schedule if base else None),
        locations=tuple(spec.locations or (base.locations if base else None) or ()),
        objectives=spec.objectives or (base and base.objectives) or Objectives.model_validate({}),
        suspend=spec.suspend,
        ref=ref,
    )
