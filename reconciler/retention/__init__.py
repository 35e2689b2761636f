"""Which restore points stay, which are retired, and which roots prune may delete."""

from reconciler.retention.buckets import Decision, PointFacts, decide
from reconciler.retention.holds import holding
from reconciler.retention.retirement import (
    ApplicationPoints,
    Breaker,
    LivePoint,
    Retirement,
    RetirementPlan,
    kept_by,
    plan_retirement,
)

__all__ = [
    "ApplicationPoints",
    "Breaker",
    "Decision",
    "LivePoint",
    "PointFacts",
    "Retirement",
    "RetirementPlan",
    "decide",
    "holding",
    "kept_by",
    "plan_retirement",
]
