"""Tells processes that work on volumes from dead ones: a Lease for each, renewed while it works.

What carries the word of a process without a Lease that was renewed lately is a leftover, whoever finds it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import structlog

from reconciler.clock import SystemClock
from reconciler.cluster.claimpod import LABEL_PURPOSE
from reconciler.cluster.port import AlreadyExistsError, Cluster, Discovery, NotFoundError
from reconciler.errors import ReconcilerError
from reconciler.objects import (
    FIELD_MANAGER,
    LABEL_EXCLUDE,
    LABEL_MANAGED,
    Manifest,
    annotations_of,
    field,
    name_of,
)
from reconciler.volumes.ours import ANNOTATION_PROCESS, PROCESS, kind_of

RENEW_S = 10
LASTS = timedelta(seconds=30)
_NAME = f"reconciler-volumes-{PROCESS}"
_SELECTOR = f"{LABEL_MANAGED}={FIELD_MANAGER},{LABEL_PURPOSE}=alive"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_users: Counter[str] = Counter()
_counting = threading.Lock()
log = structlog.get_logger(__name__)


@contextmanager
def alive(cluster: Cluster, discovery: Discovery, *, namespace: str) -> Iterator[None]:
    """Keep this process's Lease while the block runs.

    Raises:
        ReconcilerError: the Lease cannot be made, so others would take our work for a leftover.
    """
    kind = kind_of(discovery, "coordination.k8s.io", "Lease")
    try:
        cluster.create(kind, _lease(namespace), manager=FIELD_MANAGER)
    except AlreadyExistsError:
        _renew(cluster, discovery, namespace)
    with _counting:
        _users[namespace] += 1
    over = threading.Event()

    def keep() -> None:
        while not over.wait(RENEW_S):
            try:
                _renew(cluster, discovery, namespace)
            except ReconcilerError as error:
                log.warning("lease not renewed", name=_NAME, why=error.message)

    thread = threading.Thread(target=keep, name="volumes-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with _counting:
            _users[namespace] -= 1
            is_last = not _users[namespace]
        try:
            if is_last:
                cluster.delete(kind, _NAME, namespace=namespace)
        except ReconcilerError as error:
            log.debug("lease not removed", name=_NAME, why=error.message)


def who_lives(cluster: Cluster, discovery: Discovery) -> set[str]:
    """The words of the processes that work now, in whatever namespace they keep their Leases, this one included."""
    kind = kind_of(discovery, "coordination.k8s.io", "Lease")
    living = {PROCESS}
    for page in cluster.pages(kind, label_selector=_SELECTOR):
        for lease in page.items:
            word = annotations_of(lease).get(ANNOTATION_PROCESS, "")
            if _machine_time() - _renewed_at(lease) < LASTS:
                living.add(word)
    return living


def remove_dead_leases(cluster: Cluster, discovery: Discovery, *, namespace: str) -> None:
    """Remove the Leases of processes that did not renew them."""
    kind = kind_of(discovery, "coordination.k8s.io", "Lease")
    for page in cluster.pages(kind, namespace=namespace, label_selector=_SELECTOR):
        for lease in page.items:
            is_dead = _machine_time() - _renewed_at(lease) >= LASTS
            if is_dead and annotations_of(lease).get(ANNOTATION_PROCESS) != PROCESS:
                with suppress(NotFoundError):
                    cluster.delete(kind, name_of(lease), namespace=namespace)


def _machine_time() -> datetime:
    """Leases live in real time, whatever clock the daemon runs on."""
    return SystemClock().now()


def _renewed_at(lease: Manifest) -> datetime:
    try:
        text = str(field(lease, "spec", "renewTime", default=""))
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return datetime(1970, 1, 1, tzinfo=UTC)


def _renew(cluster: Cluster, discovery: Discovery, namespace: str) -> None:
    kind = kind_of(discovery, "coordination.k8s.io", "Lease")
    body: Manifest = {"spec": {"renewTime": _machine_time().strftime(_TIME)}}
    cluster.patch(kind, _NAME, body, namespace=namespace, manager=FIELD_MANAGER)


def _lease(namespace: str) -> Manifest:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": _NAME,
            "namespace": namespace,
            "labels": {
                LABEL_MANAGED: FIELD_MANAGER,
                LABEL_PURPOSE: "alive",
                LABEL_EXCLUDE: "true",
            },
            "annotations": {ANNOTATION_PROCESS: PROCESS},
        },
        "spec": {
            "holderIdentity": PROCESS,
            "leaseDurationSeconds": int(LASTS.total_seconds()),
            "renewTime": _machine_time().strftime(_TIME),
        },
    }
