"""Which applications exist, which policy covers each, and what no policy covers.

Several policies may select one application: the highest priority wins, then the policy that has it already,
then the first by name. Two with the same priority are a *tie*: reported, and the application stays protected. A
policy whose expression gives no answer about a namespace keeps what it covered of it before, and that is a fault.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.capture.names import matches_any, takes_namespace
from reconciler.cel import compile_expression
from reconciler.cel.error import CelError
from reconciler.kinds.effective import WHOLE_NAMESPACE, Application, EffectivePolicy
from reconciler.kinds.policy import ClusterSelector
from reconciler.objects import Manifest, ObjectKey, field, labels_of, metadata_of, name_of

SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Never called uncovered; a policy that names one exactly still covers it."""

LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
"""What Kubernetes takes as the value of a label; only that can name an application."""
SHOWN_MAX = 3

Members = Callable[[str], Iterable[Mapping[str, str]]]
LeftOver = Callable[[str, Iterable[tuple[Application, EffectivePolicy]]], Sequence[ObjectKey]]


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
    leftovers: Mapping[str, tuple[ObjectKey, ...]] = dataclasses.field(default_factory=dict)
    """Namespace that is covered only in parts → its objects that belong to none of them: they are uncovered."""
    overlapping: tuple[str, ...] = ()
    """Namespaces captured both whole and in parts, by different policies."""
    ties: tuple[Tie, ...] = ()
    terminating: tuple[str, ...] = ()
    """Namespaces that are being deleted; captures of them fail with `NamespaceTerminating`."""
    faults: tuple[str, ...] = ()
    """What keeps a policy from saying what it covers: an expression without an answer, a value that is no name."""

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
    left_over: LeftOver,
) -> Coverage:
    """Work out the coverage of a cluster.

    Args:
        namespaces: The Namespace objects that exist.
        policies: Every policy in force.
        cluster_name: This cluster.
        cluster_labels: Labels of its `Cluster` manifest.
        current: Application (`namespace/name`) → name of the policy that covers it already.
        members: Namespace → labels of the objects in it (`select.labels_seen`).
        left_over: Namespace, its applications → the objects that belong to none (`select.leftovers`).
    """
    here = [p for p in policies if _is_for(p.select.clusters, cluster_name, cluster_labels)]
    selectors = [_Selector(policy) for policy in sorted(here, key=lambda p: p.name)]
    covered: list[Covered] = []
    ties: list[Tie] = []
    leftovers: dict[str, tuple[ObjectKey, ...]] = {}
    uncovered, overlapping, terminating = [], [], []
    owners = _owners(current)
    for namespace in sorted(namespaces, key=name_of):
        name = name_of(namespace)
        if is_terminating(namespace):
            terminating.append(name)
        claims = _claims(namespace, selectors, members, owners=owners.get(name, frozenset()))
        parts: list[Covered] = []
        for application, candidates in sorted(claims.items()):
            entry, tie = _choose(application, candidates, current.get(str(application)))
            parts.append(entry)
            ties.extend([tie] if tie else [])
        covered += parts
        is_whole = Application(name) in claims
        if not claims and name not in SYSTEM_NAMESPACES:
            uncovered.append(name)
        elif claims and not is_whole:
            found = left_over(name, [(entry.application, entry.policy) for entry in parts])
            leftovers.update({name: tuple(found)} if found else {})
        elif len(claims) > 1:
            overlapping.append(name)
    return Coverage(
        covered=tuple(covered),
        uncovered=tuple(uncovered),
        leftovers=leftovers,
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


def _owners(current: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Namespace → names of the policies that cover something of it already."""
    found: dict[str, set[str]] = {}
    for application, policy in current.items():
        found.setdefault(application.partition("/")[0], set()).add(policy)
    return {namespace: frozenset(names) for namespace, names in found.items()}


class _Selector:
    """One policy's choice of namespaces."""

    def __init__(self, policy: EffectivePolicy) -> None:
        self.policy = policy
        self.faults: list[str] = []

    def takes(self, namespace: Manifest, *, is_owner: bool) -> bool:
        """Whether the policy selects a namespace; `is_owner` decides when its expression gives no answer."""
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
        where = policy.select.where
        if where is None:
            return True
        try:
            program = compile_expression(where, variables=("namespace",))
            return program.test({"namespace": namespace})
        except CelError as error:
            kept = "keeps what it covered before" if is_owner else "covers nothing"
            self.faults.append(
                f"policy {policy.name} {kept} of namespace {name}, because its select.where gives no answer "
                f"there: {error.message}"
            )
            return is_owner

    def parts(
        self, namespace: str, label: str, members: Iterable[Mapping[str, object]]
    ) -> set[str]:
        """The values of the label that can name an application; one fault tells of all others."""
        given = [value for labels in members if (value := labels.get(label))]
        good = {v for v in given if isinstance(v, str) and LABEL_VALUE.fullmatch(v)}
        odd = sorted(
            {repr(value)[:80] for value in given if not (isinstance(value, str) and value in good)}
        )
        if odd:
            more = f" and {len(odd) - SHOWN_MAX} more" if len(odd) > SHOWN_MAX else ""
            self.faults.append(
                f"policy {self.policy.name} cannot name applications of namespace {namespace} after {label}: "
                f"{', '.join(odd[:SHOWN_MAX])}{more} is no value of a label; objects that have it are not covered"
            )
        return good


def _claims(
    namespace: Manifest,
    selectors: Sequence[_Selector],
    members: Members,
    *,
    owners: frozenset[str],
) -> dict[Application, list[EffectivePolicy]]:
    """Application → the policies that select it, in one namespace."""
    name = name_of(namespace)
    claims: dict[Application, list[EffectivePolicy]] = {}
    labels: list[Mapping[str, str]] | None = None
    for selector in selectors:
        if not selector.takes(namespace, is_owner=selector.policy.name in owners):
            continue
        parts = selector.policy.select.applications
        if parts is None:
            found = {WHOLE_NAMESPACE}
        elif parts.name is not None:
            found = {parts.name}
        else:
            labels = list(members(name)) if labels is None else labels
            assert parts.group_by is not None, "the model allows one of two forms"
            found = selector.parts(name, parts.group_by, labels)
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
