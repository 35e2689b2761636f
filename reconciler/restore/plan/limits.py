"""Why a plan must not be carried out as it is: conflicts under `fail`, limits, drift from a reviewed plan."""

from __future__ import annotations

from reconciler.kinds.request import RestoreSpec
from reconciler.restore.plan.entry import Plan


def refusals_of(plan: Plan, spec: RestoreSpec) -> list[str]:
    """Say what a request's guards have against its plan."""
    refusals = []
    conflicts = [entry.target for entry in plan.entries if entry.reason == "Conflict"]
    filled = [entry.name for entry in plan.contents if entry.reason == "Conflict"]
    if conflicts or filled:
        listed = ", ".join([*map(str, conflicts), *filled][:5])
        refusals.append(
            f"onConflict is fail, and {len(conflicts)} objects and {len(filled)} contents are there: {listed}"
        )
    limits = spec.limits
    for name, most in (
        ("create", limits.create),
        ("update", limits.update),
        ("recreate", limits.recreate),
    ):
        needed = sum(1 for entry in plan.entries if entry.verdict == name)
        if most is not None and needed > most:
            refusals.append(f"limits.{name} is {most}, the plan needs {needed}")
    deleted = len(plan.deletions)
    if limits.delete is not None and deleted > limits.delete:
        with_it = deleted - sum(1 for entry in plan.entries if entry.verdict == "recreate")
        refusals.append(
            f"limits.delete is {limits.delete}, the plan deletes {deleted} "
            f"({with_it} of them go with what is recreated)"
        )
    if spec.plan_digest not in (None, plan.digest):
        counts = ", ".join(f"{count} {name}" for name, count in plan.verdicts().items())
        refusals.append(
            f"the plan has drifted: asked for {str(spec.plan_digest)[:12]}, now {plan.digest[:12]} ({counts})"
        )
    return refusals
