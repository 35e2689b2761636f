"""Cluster-scoped objects that an application cannot be rebuilt without.

The Namespace itself; CRDs of its custom resources; what its objects name (StorageClasses, PriorityClasses,
IngressClasses, RuntimeClasses); ClusterRoleBindings of its ServiceAccounts and the ClusterRoles they give; webhook
configurations, APIServices and CRD conversions that point at its Services. Volumes (PersistentVolumes) are not among
them: they are made again. What every server brings with it (bootstrap roles, `system-` priorities) is left.
Names that lead nowhere are reported as dangling.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from reconciler.capture.observe import CRD, Observation
from reconciler.capture.observed import Observed
from reconciler.capture.references import RBAC, references
from reconciler.kinds.record import Outcome
from reconciler.objects import Manifest, ObjectKey, field

ADMISSION = "admissionregistration.k8s.io"
_BOOTSTRAP = ("kubernetes.io/bootstrapping", "rbac-defaults")
_FOLLOWED = frozenset({"StorageClass", "PriorityClass", "IngressClass", "RuntimeClass"})


@dataclass(frozen=True)
class Closure:
    """Cluster-scoped objects, sorted by key, and what is to be said: what was left out, what leads nowhere."""

    objects: tuple[Observed, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class ClusterScope:
    """Cluster-scoped objects by what they are looked up by; made once for an observation."""

    definitions: Mapping[tuple[str, str], Observed]
    """(group, kind) → CRD."""
    bindings: Mapping[str, tuple[Observed, ...]]
    """`namespace/account`, or `namespace` for all its accounts → ClusterRoleBindings."""
    services: Mapping[str, tuple[Observed, ...]]
    """`namespace/service` → what points at it."""
    aggregates: Mapping[str, tuple[Observed, ...]]
    """ClusterRole → the ClusterRoles that its aggregation rule collects."""

    @classmethod
    def of(cls, observation: Observation) -> ClusterScope:
        """Index an observation, or return the index made before."""
        with _lock:
            scope = _scopes.get(observation)
            if scope is None:
                scope = _scopes[observation] = _index(observation)
        return scope


_scopes: WeakKeyDictionary[Observation, ClusterScope] = WeakKeyDictionary()
_lock = threading.Lock()


def close(
    namespace: str, objects: Sequence[Observed], *, observation: Observation, is_whole: bool
) -> Closure:
    """Find what cluster-scoped objects `objects` need.

    Args:
        namespace: Their namespace.
        objects: The application's objects.
        observation: Where to look.
        is_whole: They are all of the namespace; then bindings of the group of all its accounts count too.
    """
    scope = ClusterScope.of(observation)
    needed: dict[ObjectKey, Observed] = {}
    dangling: dict[ObjectKey, Outcome] = {}

    def need(found: Iterable[Observed]) -> None:
        needed.update((seen.key, seen) for seen in found)

    own = observation.objects.get(ObjectKey("", "Namespace", "", namespace))
    need([own] if own else [])
    for seen in objects:
        definition = scope.definitions.get((seen.key.group, seen.key.kind))
        need([definition] if definition else [])
        if seen.key.kind == "ServiceAccount" and not seen.key.group:
            need(scope.bindings.get(f"{namespace}/{seen.key.name}", ()))
        if seen.key.kind == "Service" and not seen.key.group:
            need(scope.services.get(f"{namespace}/{seen.key.name}", ()))
        _follow(seen, observation, needed, dangling)
    need(scope.bindings.get(namespace, ()) if is_whole else ())
    _add_roles(needed, objects, observation, scope)
    kept, outcomes = [], [outcome for _, outcome in sorted(dangling.items())]
    for key, seen in sorted(needed.items()):
        if seen.is_excluded or seen.is_deleting:
            reason = "ExcludedByLabel" if seen.is_excluded else "BeingDeleted"
            outcomes.append(Outcome(item=key.path, result="Skipped", reason=reason))
        else:
            kept.append(seen)
    return Closure(tuple(kept), tuple(outcomes))


def _follow(
    seen: Observed,
    observation: Observation,
    needed: dict[ObjectKey, Observed],
    dangling: dict[ObjectKey, Outcome],
) -> None:
    for reference in references(seen.manifest()):
        key = reference.key
        target = observation.objects.get(key)
        if target is not None:
            if key.kind in _FOLLOWED and not key.namespace:
                needed[key] = target
        elif (
            not reference.is_optional
            and _is_read(key, observation)
            and not key.name.startswith("system-")
        ):
            dangling[key] = Outcome(
                item=key.path,
                result="Skipped",
                reason="DanglingReference",
                message=f"named by {seen.key}, but it does not exist"[:256],
            )


def _is_read(key: ObjectKey, observation: Observation) -> bool:
    """Whether absence means that it does not exist: its kind was read to the end."""
    return (key.group, key.kind) in observation.complete_kinds


def _add_roles(
    needed: dict[ObjectKey, Observed],
    objects: Sequence[Observed],
    observation: Observation,
    scope: ClusterScope,
) -> None:
    """Add the ClusterRoles of bindings, cluster-wide or not; aggregated ones bring those they collect."""
    bindings = [seen for key, seen in needed.items() if key.kind == "ClusterRoleBinding"]
    bindings += [s for s in objects if s.key.kind == "RoleBinding" and s.key.group == RBAC]
    queue = [name for seen in bindings if (name := _role_of(seen.manifest()))]
    while queue:
        key = ObjectKey(RBAC, "ClusterRole", "", queue.pop())
        role = observation.objects.get(key)
        if role is None or key in needed or role.labels.get(_BOOTSTRAP[0]) == _BOOTSTRAP[1]:
            continue
        needed[key] = role
        queue.extend(seen.key.name for seen in scope.aggregates.get(key.name, ()))


def _role_of(binding: Manifest) -> str:
    role = binding.get("roleRef") or {}
    return str(role.get("name", "")) if role.get("kind") == "ClusterRole" else ""


def _index(observation: Observation) -> ClusterScope:
    definitions: dict[tuple[str, str], Observed] = {}
    bindings: dict[str, list[Observed]] = {}
    services: dict[str, list[Observed]] = {}
    for seen in observation.of_kind(*CRD):
        manifest = seen.manifest()
        kind = field(manifest, "spec", "names", "kind", default="")
        definitions[(field(manifest, "spec", "group", default=""), kind)] = seen
        _point(services, seen, field(manifest, "spec", "conversion", "webhook", "clientConfig"))
    for seen in observation.of_kind(RBAC, "ClusterRoleBinding"):
        for place in _subjects(seen.manifest()):
            bindings.setdefault(place, []).append(seen)
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        for seen in observation.of_kind(ADMISSION, kind):
            for hook in seen.manifest().get("webhooks") or ():
                _point(services, seen, hook.get("clientConfig"))
    for seen in observation.of_kind("apiregistration.k8s.io", "APIService"):
        _point(services, seen, seen.manifest().get("spec"))
    return ClusterScope(
        definitions=definitions,
        bindings={place: tuple(found) for place, found in bindings.items()},
        services={place: tuple(found) for place, found in services.items()},
        aggregates=_aggregates(observation.of_kind(RBAC, "ClusterRole")),
    )


def _point(services: dict[str, list[Observed]], seen: Observed, config: Any) -> None:
    service = (config or {}).get("service") or {}
    if service.get("name"):
        place = f"{service.get('namespace', 'default')}/{service['name']}"
        services.setdefault(place, []).append(seen)


def _subjects(binding: Manifest) -> Iterator[str]:
    for subject in binding.get("subjects") or ():
        name = str(subject.get("name", ""))
        if subject.get("kind") == "ServiceAccount":
            yield f"{subject.get('namespace', '')}/{name}"
        elif subject.get("kind") == "Group" and name.startswith("system:serviceaccounts:"):
            yield name.removeprefix("system:serviceaccounts:")


def _aggregates(roles: Sequence[Observed]) -> dict[str, tuple[Observed, ...]]:
    collected: dict[str, tuple[Observed, ...]] = {}
    for role in roles:
        selectors = field(role.manifest(), "aggregationRule", "clusterRoleSelectors", default=())
        wanted = [selector.get("matchLabels") or {} for selector in selectors]
        found = tuple(
            other
            for other in roles
            if any(w and all(other.labels.get(k) == v for k, v in w.items()) for w in wanted)
        )
        if found:
            collected[role.key.name] = found
    return collected
