"""Which blueprint is for which workload.

A blueprint's `match` is CEL over `workload` (the whole manifest) and `pod` (its pod spec). The first blueprint that
matches is taken; others that match too are reported. An expression that fails on a workload does not match it,
and that is reported as well, since a missing label is the usual cause and rarely a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from reconciler.cel import CelError, compile_expression
from reconciler.kinds.blueprint import Blueprint
from reconciler.objects import Manifest, group_of, pod_spec_of

WORKLOADS = frozenset(
    {("apps", "StatefulSet"), ("apps", "Deployment"), ("apps", "DaemonSet"), ("", "Pod")}
)
"""(group, kind) of what may be a data service."""


@dataclass(frozen=True)
class Match:
    """The blueprint of a workload, and what else was seen on the way."""

    blueprint: Blueprint | None
    others: tuple[str, ...] = ()
    """Names of blueprints that match too."""
    faults: tuple[str, ...] = ()
    """`name: why` of expressions that gave no answer."""


def allowed(
    blueprints: Iterable[Blueprint], names: Literal["auto"] | Sequence[str], *, namespace: str
) -> list[Blueprint]:
    """Choose the blueprints that a policy allows in a namespace.

    A blueprint with a namespace serves only that one, and comes before a shared one of the same name. With
    `auto` they are sorted by name; a list gives its own order.
    """
    known: dict[str, Blueprint] = {}
    for blueprint in sorted(
        blueprints, key=lambda b: (b.metadata.name, b.metadata.namespace or "")
    ):
        if blueprint.metadata.namespace in (None, namespace):
            known[blueprint.metadata.name] = blueprint
    if names == "auto":
        return list(known.values())
    return [known[name] for name in names if name in known]


def find_service(blueprints: Sequence[Blueprint], workload: Manifest) -> Blueprint | None:
    """Find the blueprint for a workload; None when it is no data service that one knows."""
    return match_service(blueprints, workload).blueprint


def match_service(blueprints: Sequence[Blueprint], workload: Manifest) -> Match:
    """As `find_service`, with what is to be reported."""
    identity = (group_of(workload.get("apiVersion", "")), workload.get("kind", ""))
    pod = pod_spec_of(workload)
    if identity not in WORKLOADS or pod is None:
        return Match(None)
    found, faults = [], []
    for blueprint in blueprints:
        program = compile_expression(blueprint.spec.match, variables=("workload", "pod"))
        try:
            if program.test({"workload": workload, "pod": pod}):
                found.append(blueprint)
        except CelError as error:
            faults.append(f"{blueprint.metadata.name}: {error.message}")
    others = tuple(blueprint.metadata.name for blueprint in found[1:])
    return Match(found[0] if found else None, others, tuple(faults))
