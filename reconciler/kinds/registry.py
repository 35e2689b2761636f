"""The table of kinds: what may stand in a policy repository, and what is named by the design but not built."""

from __future__ import annotations

from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.model import Kind
from reconciler.kinds.platform import Cluster, Location
from reconciler.kinds.policy import BackupPolicy, Guardrail, PolicyPreset
from reconciler.kinds.request import Hold, Restore
from reconciler.kinds.transformset import TransformSet

DECLARATIVE: dict[str, type[Kind]] = {
    "BackupPolicy": BackupPolicy,
    "PolicyPreset": PolicyPreset,
    "Guardrail": Guardrail,
    "TransformSet": TransformSet,
    "Blueprint": Blueprint,
    "Location": Location,
    "Cluster": Cluster,
    "Restore": Restore,
    "Hold": Hold,
}
PLANNED = frozenset({"Exemption"})
"""Kinds that the design names and this version refuses."""
PLANNED_RECORDS = frozenset(
    {"DrillRecord", "SettingsRecord", "AccessRecord", "Inventory", "Heartbeat"}
)
"""Records that the design names and this version does not write."""
