"""Which objects of a namespace belong to an application.

A whole namespace takes everything in it. A part of one takes the objects with its labels, and, again and again
until nothing new comes, the ConfigMaps, Secrets, claims and ServiceAccounts that those name, with the RoleBindings
and Roles of these accounts. What `rules.py` leaves out is left out of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.capture.observe import Observation
from reconciler.capture.observed import Observed
from reconciler.capture.references import RBAC, is_claim_of, references
from reconciler.capture.rules import (
    NAMED,
    Neighbours,
    ObjectFilter,
    is_bare_default_account,
    reason_to_leave,
)
from reconciler.errors import UsageError
from reconciler.kinds.effective import WHOLE_NAMESPACE, Application, EffectivePolicy
from reconciler.kinds.policy import ApplicationSelector, Capture
from reconciler.kinds.record import Outcome
from reconciler.objects import ObjectKey

_FOLLOWED = frozenset({"ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount"})


@dataclass(frozen=True)
class Selection:
    """What belongs to an application, sorted by key, and what of it is left out."""

    objects: tuple[Observed, ...]
    outcomes: tuple[Outcome, ...] = ()
    unnamed: Mapping[str, int] = field(default_factory=dict)
    """`Skipped/Reason` → how many were left out besides those in `outcomes`."""


def select(
    application: Application,
    *,
    observation: Observation,
    policy: EffectivePolicy | None,
) -> Selection:
    """Choose the objects of an application in its namespace; without a policy, all of a whole namespace.

    Raises:
        UsageError: a part of a namespace is asked for, and no selector says what belongs to it.
    """
    members = observation.by_namespace.get(application.namespace, [])
    ours = _belonging(application, members, policy.select.applications if policy else None)
    neighbours = Neighbours.of(members)
    rules = ObjectFilter(policy.capture if policy else Capture())
    kept, outcomes, counts = [], [], Counter[str]()
    for seen in ours:
        reason = reason_to_leave(seen, neighbours) or rules.reason_to_leave(seen)
        if not reason:
            kept.append(seen)
            continue
        if reason in NAMED:
            outcomes.append(Outcome(item=seen.key.path, result="Skipped", reason=reason))
        else:
            counts[f"Skipped/{reason}"] += 1
    return Selection(tuple(kept), (*outcomes, *rules.outcomes()), dict(counts))


def labels_seen(observation: Observation, namespace: str) -> list[Mapping[str, str]]:
    """Labels of the objects that a capture of the namespace would keep, for `coverage.applications`."""
    members = observation.by_namespace.get(namespace, [])
    neighbours = Neighbours.of(members)
    return [m.labels for m in members if m.labels and not reason_to_leave(m, neighbours)]


def leftovers(
    namespace: str,
    covered: Iterable[tuple[Application, EffectivePolicy]],
    *,
    observation: Observation,
) -> list[ObjectKey]:
    """Objects of a grouped namespace that belong to none of its applications: they are uncovered."""
    members = observation.by_namespace.get(namespace, [])
    neighbours = Neighbours.of(members)
    taken: set[ObjectKey] = set()
    for application, policy in covered:
        found = _belonging(application, members, policy.select.applications)
        taken.update(seen.key for seen in found)
    return [
        seen.key
        for seen in members
        if seen.key not in taken
        and not reason_to_leave(seen, neighbours)
        and not is_bare_default_account(seen)
    ]


def _belonging(
    application: Application, members: Sequence[Observed], selector: ApplicationSelector | None
) -> list[Observed]:
    if application.name == WHOLE_NAMESPACE:
        return list(members)
    labels = _labels_of(application, selector)
    index = {seen.key: seen for seen in members}
    taken = {
        key: seen
        for key, seen in index.items()
        if all(seen.labels.get(name) == value for name, value in labels.items())
    }
    queue = list(taken.values())
    while queue:
        found = _named_by(queue.pop(), index)
        for seen in found:
            if seen.key not in taken:
                taken[seen.key] = seen
                queue.append(seen)
        if not queue:
            queue.extend(_bound_roles(taken, index))
            taken.update({seen.key: seen for seen in queue})
    return sorted(taken.values(), key=lambda seen: seen.key)


def _labels_of(application: Application, selector: ApplicationSelector | None) -> dict[str, str]:
    if selector and selector.group_by:
        return {selector.group_by: application.name}
    if selector and selector.name == application.name:
        return dict(selector.match_labels)
    raise UsageError(
        f"select objects of {application}: no policy says what belongs to it",
        hint=f"capture the whole namespace ({application.namespace}), or give its policy select.applications",
        reason="NotDefined",
    )


def _named_by(seen: Observed, index: Mapping[ObjectKey, Observed]) -> list[Observed]:
    manifest = seen.manifest()
    found = []
    for reference in references(manifest):
        target = index.get(reference.key)
        if target is not None and reference.key.kind in _FOLLOWED and not reference.key.group:
            found.append(target)
    if seen.key.kind == "StatefulSet":
        claims = (k for k in index if k.kind == "PersistentVolumeClaim" and not k.group)
        found.extend(index[key] for key in claims if is_claim_of(manifest, key.name))
    if seen.key.group == RBAC:
        found.extend(index[r.key] for r in references(manifest) if r.key in index)
    return found


def _bound_roles(
    taken: Mapping[ObjectKey, Observed], index: Mapping[ObjectKey, Observed]
) -> list[Observed]:
    """RoleBindings, not taken yet, whose subjects are accounts that were taken."""
    accounts = {key.name for key in taken if key.kind == "ServiceAccount" and key.name != "default"}
    if not accounts:
        return []
    return [
        seen
        for key, seen in index.items()
        if key.group == RBAC and key.kind == "RoleBinding" and key not in taken
        if any(
            subject.get("kind") == "ServiceAccount" and subject.get("name") in accounts
            for subject in seen.manifest().get("subjects") or ()
            if subject.get("namespace", key.namespace) == key.namespace
        )
    ]
