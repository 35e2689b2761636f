"""What a policy says that is allowed and hardly meant: it selects too much, or nothing, or promises the impossible.

Read without a cluster; each is a warning, which keeps nothing out of force.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from reconciler.kinds.document import Path
from reconciler.kinds.finding import Finding
from reconciler.kinds.platform import Cluster
from reconciler.kinds.policy import BackupPolicy, PolicyPreset
from reconciler.source.located import Located

_WILDCARDS = "*?["


def policy_advice(
    located: Located, policy: BackupPolicy, clusters: Collection[Cluster]
) -> Iterator[Finding]:
    """Look at one policy; `clusters` are the Cluster manifests that are known."""
    yield from _reach(located, policy)
    yield from _clusters(located, policy, clusters)
    yield from promise_advice(located, policy)


def promise_advice(located: Located, kind: BackupPolicy | PolicyPreset) -> Iterator[Finding]:
    """Look at what is promised."""
    objectives = kind.spec.objectives
    if objectives is not None and objectives.rpo is not None and not objectives.rpo:
        message = "0s cannot be kept: a restore point is always a little older; leave it out, or give a span"
        yield located.warning(("spec", "objectives", "rpo"), message, rule="rpo")


def _reach(located: Located, policy: BackupPolicy) -> Iterator[Finding]:
    select, home = policy.spec.select, policy.metadata.namespace
    spaces = select.namespaces
    is_narrow = spaces is not None and (spaces.names or spaces.match_labels)
    if home is None and not (is_narrow or select.where or select.applications or select.clusters):
        message = "selects every namespace; say which with select.namespaces, or names: ['*'] if it is meant"
        yield located.warning(("spec",), message, rule="no-select")
    for index, name in enumerate(spaces.names if spaces else ()):
        if name.startswith("kube-") and any(mark in name for mark in _WILDCARDS):
            message = f"{name} takes nothing: a pattern never takes kube-*; write the names out"
            where: Path = ("spec", "select", "namespaces", "names", index)
            yield located.warning(where, message, rule="kube-pattern")


def _clusters(
    located: Located, policy: BackupPolicy, clusters: Collection[Cluster]
) -> Iterator[Finding]:
    chosen = policy.spec.select.clusters
    if chosen is None or not (chosen.names or chosen.match_labels):
        return
    if not clusters:
        message = "no Cluster manifest is known to compare with: this policy may select no cluster"
        yield located.warning(("spec", "select", "clusters"), message, rule="unknown-cluster")
    elif chosen.match_labels and not any(
        _has(one.spec.labels, chosen.match_labels) for one in clusters
    ):
        message = "no Cluster has these labels: this policy selects nothing"
        where: Path = ("spec", "select", "clusters", "matchLabels")
        yield located.warning(where, message, rule="unknown-cluster")


def _has(labels: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())
