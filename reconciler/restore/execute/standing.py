"""Waits until many workloads stand: Ready, and still Ready a moment later.

All of them are judged from one list a kind and look, however many they are, and all settle at the same time. One that
was Ready and is not any more gets a bound of its own to come back. Kinds that have no state of readiness
(CronJobs) are not waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reconciler.cluster.port import Cluster, ResourceType
from reconciler.cluster.waiting import Hear
from reconciler.errors import ReconcilerError
from reconciler.objects import Manifest, ObjectKey, name_of, namespace_of
from reconciler.restore.execute.ready import has_readiness, workload_problem

_FIRST_NAP_S = 0.05
_LONGEST_NAP_S = 1.0


@dataclass(frozen=True)
class Patience:
    """How long may be waited, in seconds."""

    ready_s: float
    settle_s: float
    """How long a workload that is Ready is watched before it is believed."""
    relapse_s: float
    """How long one that was Ready and is not any more may take to come back."""


@dataclass
class _Wait:
    """One workload that is waited for; times are those of `time.monotonic`."""

    deadline: float
    problem: str = "nothing was seen of it"
    ready_at: float | None = None
    is_relapsed: bool = False

    def judge(self, problem: str, *, now: float, patience: Patience) -> bool:
        """Take in what was seen; True when there is nothing left to wait for."""
        self.problem = problem
        if problem:
            if self.ready_at is not None:
                self.ready_at, self.is_relapsed = None, True
                self.deadline = now + patience.relapse_s
            return now >= self.deadline
        if self.ready_at is None:
            self.ready_at = now
        return self.is_relapsed or now - self.ready_at >= patience.settle_s


def await_standing(
    workloads: Iterable[ObjectKey],
    *,
    cluster: Cluster,
    kind_of: Callable[[ObjectKey], ResourceType],
    patience: Patience,
    stop: threading.Event,
    hear: Hear = lambda _what, _problem: None,
) -> dict[ObjectKey, str]:
    """Wait for all of them; what is left of each that does not stand. Empty problems are left out.

    Args:
        workloads: what to wait for.
        cluster: where they are.
        kind_of: finds the served type of a key; its errors are problems of that workload.
        patience: the bounds.
        stop: ends the wait early; what was seen last is given.
        hear: told who is not Ready and why, and an empty problem at the end of each wait.
    """
    began = time.monotonic()
    waits = {key: _Wait(began + patience.ready_s) for key in workloads if has_readiness(key.kind)}
    pending, nap_s = dict(waits), _FIRST_NAP_S
    while pending:
        problems = _look(pending, cluster=cluster, kind_of=kind_of)
        now = time.monotonic()
        for key, problem in problems.items():
            if pending[key].judge(problem, now=now, patience=patience):
                del pending[key]
                hear(str(key), "")
            else:
                hear(str(key), problem)
        if pending and stop.wait(nap_s):
            break
        nap_s = min(nap_s * 1.5, _LONGEST_NAP_S)
    return {key: wait.problem for key, wait in waits.items() if wait.problem}


def _look(
    keys: Iterable[ObjectKey],
    *,
    cluster: Cluster,
    kind_of: Callable[[ObjectKey], ResourceType],
) -> dict[ObjectKey, str]:
    """What keeps each of them from being Ready, by one list a kind and namespace."""
    groups: dict[tuple[str, str, str], list[ObjectKey]] = {}
    for key in keys:
        groups.setdefault((key.group, key.kind, key.namespace), []).append(key)
    problems: dict[ObjectKey, str] = {}
    for members in groups.values():
        try:
            found = _listed(cluster, kind_of(members[0]), namespace=members[0].namespace)
        except ReconcilerError as error:
            problems.update(dict.fromkeys(members, error.message))
            continue
        for key in members:
            problems[key] = workload_problem(found.get((key.namespace, key.name)))
    return problems


def _listed(
    cluster: Cluster, kind: ResourceType, *, namespace: str
) -> Mapping[tuple[str, str], Manifest]:
    return {
        (namespace_of(item), name_of(item)): {"kind": kind.kind, **item}
        for page in cluster.pages(kind, namespace=namespace)
        for item in page.items
    }
