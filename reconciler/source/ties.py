"""Policies of equal priority that, read without a cluster, select the same application.

Only what is certain is told: both name the same namespace or pattern, or one names what the other's pattern
takes, and labels, expressions and parts are the same. The present owner keeps such an application; a tie never
leaves it unprotected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from reconciler.kinds.finding import Finding
from reconciler.kinds.policy import BackupPolicy
from reconciler.source.located import Located

NAMED_MAX = 3
_ANY = "*"


def tie_findings(manifests: Sequence[Located]) -> Iterator[tuple[str, Finding]]:
    """Give identity and finding for each policy that ties with another."""
    groups: dict[Any, list[tuple[Located, BackupPolicy]]] = defaultdict(list)
    for located in manifests:
        if isinstance(located.kind, BackupPolicy):
            groups[_what_must_be_equal(located.kind)].append((located, located.kind))
    for group in groups.values():
        for located, policy, others in _overlaps(group):
            names = ", ".join(
                f"{one.kind.metadata.name} ({one.place})" for one in others[:NAMED_MAX]
            )
            more = f" and {len(others) - NAMED_MAX} more" if len(others) > NAMED_MAX else ""
            message = (
                f"priority {policy.spec.priority} ties with {names}{more}, which can select the same "
                "application; give one of them a higher priority"
            )
            yield (
                policy.identity,
                located.warning(("spec", "priority"), message, rule="priority-tie"),
            )


def _what_must_be_equal(policy: BackupPolicy) -> Any:
    select = policy.spec.select
    labels = select.namespaces.match_labels if select.namespaces else {}
    parts, clusters = select.applications, select.clusters
    return (
        policy.spec.priority,
        tuple(sorted(labels.items())),
        select.where,
        parts.model_dump_json() if parts else None,
        clusters.model_dump_json() if clusters else None,
    )


def _patterns(policy: BackupPolicy) -> frozenset[str]:
    select, home = policy.spec.select.namespaces, policy.metadata.namespace
    names = select.names if select else []
    if home is not None:
        return frozenset({home}) if not names or _takes(names, home) else frozenset()
    return frozenset(names or [_ANY])


def _takes(patterns: Sequence[str] | frozenset[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _overlaps(
    group: list[tuple[Located, BackupPolicy]],
) -> Iterator[tuple[Located, BackupPolicy, list[Located]]]:
    if len(group) < 2:
        return
    patterns = [_patterns(policy) for _, policy in group]
    by_pattern: dict[str, list[int]] = defaultdict(list)
    for index, names in enumerate(patterns):
        for name in names:
            by_pattern[name].append(index)
    globs = [name for name in by_pattern if any(mark in name for mark in "*?[")]
    reached: dict[int, dict[int, None]] = defaultdict(dict)
    for name, holders in by_pattern.items():
        met = {i: None for g in globs if fnmatchcase(name, g) for i in by_pattern[g]}
        for holder in holders:
            for other in (*holders[: NAMED_MAX + 2], *met):
                if other != holder:
                    reached[holder][other] = None
                    reached[other][holder] = None
    for index, others in sorted(reached.items()):
        located, policy = group[index]
        yield located, policy, [group[other][0] for other in sorted(others)]
