"""Which applications exist, which policy covers each, and what no policy covers.

Several policies may select one application: the highest priority wins, then the policy that has it already,
then the first by name. Two with the same priority are a *tie*: reported, and the application stays protected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.capture.names import matches_any, takes_namespace
from reconciler.cel import compile_expression
from reconciler.cel.error import CelError
from reconciler.kinds.effective import WHOLE_NAMESPACE, Application, EffectivePolicy
from reconciler.kinds.policy import ClusterSelector
from reconciler.objects import Manifest, field, labels_of, metadata_of, name_of

SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Never called uncovered; a policy that names one exactly still covers it."""

Members = Callable[[str], Iterable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Covered:
    """An application with the policy that covers it."""

    application: Application
    policy: EffectivePolicy
    others: tuple[str, ...] = ()
    """Policies that select it too."""


@dataclass(frozen=True, slots=True)
class Tie:
    """Policies of one priority that select one application."""

    application: Application
    policies: tuple[str, ...]
    chosen: str


@dataclass(frozen=True)
class Coverage:
    """Everything sorted by application."""

    covered: tuple[Covered, ...]
    uncovered: tuple[str, ...]
    """Namespaces of which nothing is covered."""
    grouped: tuple[str, ...] = ()
    """Namespaces that are covered only in parts: `select.leftovers` names what belongs to none."""
    overlapping: tuple[str, ...] = ()
    """Namespaces captured both whole and in parts, by different policies."""
    ties: tuple[Tie, ...] = ()
    terminating: tuple[str, ...] = ()
    """Namespaces that are being deleted; captures of them fail with `NamespaceTerminating`."""
    faults: tuple[str, ...] = ()
    """`where` expressions that gave no answer; that policy does not select that namespace."""

    def policy_of(self, application: Application) -> EffectivePolicy | None:
        """The policy that covers an application."""
        for entry in self.covered:
            if entry.application == application:
                return entry.policy
        return None

    def of_namespace(self, namespace: str) -> list[Covered]:
        """The covered applications of a namespace."""
        return [c for c in self.covered if c.application.namespace == namespace]


def applications(
    namespaces: Iterable[Manifest],
    policies: Sequence[EffectivePolicy],
    *,
    cluster_name: str,
    cluster_labels: Mapping[str, str],
    current: Mapping[str, str],
    members: Members,
) -> Coverage:
    """Work out the coverage of a cluster.

    Args:
        namespaces: The Namespace objects that exist.
        policies: Every policy in force.
        cluster_name: This cluster.
        cluster_labels: Labels of its `Cluster` manifest.
        current: Application (`namespace/name`) → name of the policy that covers it already.
        members: Namespace → labels of the objects in it (`select.labels_seen`).
    """
    here = [p for p in policies if _is_for(p.select.clusters, cluster_name, cluster_labels)]
    selectors = [_Selector(policy) for policy in sorted(here, key=lambda p: p.name)]
    covered: list[Covered] = []
    ties: list[Tie] = []
    uncovered, grouped, overlapping, terminating = [], [], [], []
    for namespace in sorted(namespaces, key=name_of):
        name = name_of(namespace)
        if is_terminating(namespace):
            terminating.append(name)
        claims = _claims(namespace, selectors, members)
        for application, candidates in sorted(claims.items()):
            entry, tie = _choose(application, candidates, current.get(str(application)))
            covered.append(entry)
            ties.extend([tie] if tie else [])
        is_whole = Application(name) in claims
        if not claims and name not in SYSTEM_NAMESPACES:
            uncovered.append(name)
        elif claims and not is_whole:
            grouped.append(name)
        elif len(claims) > 1:
            overlapping.append(name)
    return Coverage(
        covered=tuple(covered),
        uncovered=tuple(uncovered),
        grouped=tuple(grouped),
        overlapping=tuple(overlapping),
        ties=tuple(ties),
        terminating=tuple(terminating),
        faults=tuple(fault for selector in selectors for fault in selector.faults),
    )


def is_terminating(namespace: Manifest) -> bool:
    """Whether a namespace is being deleted."""
    phase = field(namespace, "status", "phase")
    return bool(metadata_of(namespace).get("deletionTimestamp")) or phase == "Terminating"


def _is_for(selector: ClusterSelector | None, name: str, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return True
    is_named = not selector.names or matches_any(name, selector.names)
    return is_named and all(labels.get(k) == v for k, v in selector.match_labels.items())


class _Selector:
    """One policy's choice of namespaces; its expression is compiled once."""

    def __init__(self, policy: EffectivePolicy) -> None:
        self.policy = policy
        self.faults: list[str] = []
        where = policy.select.where
        self._where = compile_expression(where, variables=("namespace",)) if where else None

    def takes(self, namespace: Manifest) -> bool:
        policy, name = self.policy, name_of(namespace)
        home, chosen = policy.metadata.namespace, policy.select.namespaces
        if home is not None and name != home:
            return False
        names = chosen.names if chosen else []
        is_named = matches_any(name, names or [name]) if home else takes_namespace(name, names)
        if not is_named:
            return False
        labels = labels_of(namespace)
        if chosen and any(labels.get(k) != v for k, v in chosen.match_labels.items()):
            return False
        if self._where is None:
            return True
        try:
            return self._where.test({"namespace": namespace})
        except CelError as error:
            self.faults.append(f"{policy.name}: select.where on {name}: {error.message}")
            return False


def _claims(
    namespace: Manifest, selectors: Sequence[_Selector], members: Members
) -> dict[Application, list[EffectivePolicy]]:
    """Application → the policies that select it, in one namespace."""
    name = name_of(namespace)
    claims: dict[Application, list[EffectivePolicy]] = {}
    labels: list[Mapping[str, str]] | None = None
    for selector in selectors:
        if not selector.takes(namespace):
            continue
        parts = selector.policy.select.applications
        if parts is None:
            found = {WHOLE_NAMESPACE}
        elif parts.name is not None:
            found = {parts.name}
        else:
            labels = list(members(name)) if labels is None else labels
            assert parts.group_by is not None, "the model allows one of two forms"
            found = {value for entry in labels if (value := entry.get(parts.group_by))}
        for part in found:
            claims.setdefault(Application(name, part), []).append(selector.policy)
    return claims


def _choose(
    application: Application, candidates: Sequence[EffectivePolicy], owner: str | None
) -> tuple[Covered, Tie | None]:
    """`candidates` are sorted by name."""
    highest = max(policy.priority for policy in candidates)
    best = [policy for policy in candidates if policy.priority == highest]
    chosen = next((policy for policy in best if policy.name == owner), best[0])
    others = tuple(policy.name for policy in candidates if policy is not chosen)
    tie = None
    if len(best) > 1:
        tie = Tie(application, tuple(policy.name for policy in best), chosen.name)
    return Covered(application, chosen, others), tie
