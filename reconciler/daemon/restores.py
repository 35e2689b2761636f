"""Restores of a pass: merged requests are handed to the runner, which makes each act exactly once."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from reconciler.clock import Clock
from reconciler.cluster.port import Cluster
from reconciler.daemon.desired import Desired, Requested
from reconciler.daemon.locations import Locations
from reconciler.daemon.settings import Settings
from reconciler.daemon.volumes import volumes_of
from reconciler.errors import ReconcilerError
from reconciler.ledger.layout import RestoreKey
from reconciler.ledger.ledger import Ledger
from reconciler.restore.execute.attempt import RunnerSettings
from reconciler.restore.execute.execution import Bounds
from reconciler.restore.execute.once import RestoreResult, RestoreRunner, key_of
from reconciler.restore.execute.progress import Watch, watched_by_nobody
from reconciler.restore.plan.request import RestoreRequest
from reconciler.store.port import Store

LOOK_EVERY_S = 2.0
HOLDER = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
"""Who this process is, for Leases."""


@dataclass(frozen=True)
class RestoreLine:
    """How one restore stands, for logs, metrics and people."""

    name: str
    attempt: int
    phase: str
    message: str = ""
    hint: str = ""
    reason: str = ""

    @property
    def is_waiting(self) -> bool:
        """It goes on at a later pass."""
        return self.phase == "Waiting"

    @property
    def is_finding(self) -> bool:
        """Somebody has to look at it: it is refused as it is, was edited after use, or was changed by others since.

        One that nobody accepted in time is over, and asks for nothing.
        """
        return self.phase == "Changed" or (self.phase == "Refused" and self.reason != "Expired")


def request_of(requested: Requested, desired: Desired) -> RestoreRequest:
    """What a Restore manifest asks for, with the transform sets that it names."""
    restore = requested.restore
    known = desired.transforms_for(restore.metadata.namespace)
    return RestoreRequest(
        source=requested.source,
        namespace=restore.metadata.namespace or "",
        name=restore.metadata.name,
        attempt=restore.spec.attempt,
        spec=restore.spec,
        revision=requested.revision,
        transforms=tuple(known[name] for name in restore.spec.transforms if name in known),
        namespaces=requested.namespaces,
    )


def stores_of(desired: Desired, locations: Locations) -> list[tuple[str, Store]]:
    """Every location that opens, by name."""
    found: list[tuple[str, Store]] = []
    for location in desired.locations:
        try:
            found.append((location.metadata.name, locations.open(location)))
        except ReconcilerError:
            # Kept in `locations.faults`, and reported from there.
            continue
    return found


class StillWanted:
    """Whether a request that is being carried out still stands in Git; asked often, looked up now and then.

    While a source cannot be read nothing is withdrawn.
    """

    def __init__(self, look: Callable[[], Collection[RestoreKey] | None]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._known: Collection[RestoreKey] | None = None

    def __call__(self, request: RestoreRequest) -> bool:
        """Ask; thread-safe."""
        with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
                self._known = self._look()
                self._looked_at = time.monotonic()
            return self._known is None or key_of(request) in self._known


def keys_of(desired: Desired) -> set[RestoreKey]:
    """The attempts that are asked for."""
    return {key_of(request_of(requested, desired)) for requested in desired.restores}


def runner(
    desired: Desired,
    *,
    cluster: Cluster,
    settings: Settings,
    ledger: Ledger,
    locations: Locations,
    clock: Clock,
    is_wanted: Callable[[RestoreRequest], bool] = lambda _: True,
    watch: Watch = watched_by_nobody,
    watch_after: timedelta | None = None,
) -> RestoreRunner:
    """The runner for this cluster; `watch_after` wins over the operator's."""
    return RestoreRunner(
        ledger=ledger,
        cluster=cluster,
        stores=lambda _request: stores_of(desired, locations),
        closed=lambda: locations.closed(desired.locations),
        settings=replace(
            runner_settings(settings, watch=watch, watch_after=watch_after),
            volumes=lambda cluster, discovery: volumes_of(settings, cluster, discovery, locations),
        ),
        clock=clock,
        is_wanted=is_wanted,
    )


def runner_settings(
    settings: Settings, *, watch: Watch = watched_by_nobody, watch_after: timedelta | None = None
) -> RunnerSettings:
    """What the runner takes from the operator's configuration."""
    return RunnerSettings(
        cluster=settings.cluster.name,
        holder=HOLDER,
        lease_namespace=settings.lease_namespace,
        helper_image=settings.helper_image,
        at_once=settings.concurrency,
        bounds=Bounds(ready_s=settings.ready_timeout.total_seconds()),
        watch=watch,
        watch_after=settings.watch_after if watch_after is None else watch_after,
    )


def run_requests(
    desired: Desired,
    *,
    cluster: Cluster,
    settings: Settings,
    ledger: Ledger,
    locations: Locations,
    clock: Clock,
    stop: threading.Event,
    sources: Sequence[str],
    is_wanted: Callable[[RestoreRequest], bool],
) -> list[RestoreLine]:
    """Do what is due for every merged Restore; nothing is returned for attempts that are over.

    Args:
        sources: the sources whose requests are known in full now.
        is_wanted: asked before each object whether a request still stands.
    """
    restores = runner(
        desired,
        cluster=cluster,
        settings=settings,
        ledger=ledger,
        locations=locations,
        clock=clock,
        is_wanted=is_wanted,
    )
    requests = [request_of(requested, desired) for requested in desired.restores]
    return [_line(result) for result in restores.step(requests, stop=stop, sources=sources)]


def _line(result: RestoreResult) -> RestoreLine:
    name = f"{result.namespace}/{result.name}" if result.namespace else result.name
    counts = result.plan.verdicts() if result.plan else {}
    done = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return RestoreLine(
        name=name,
        attempt=result.attempt,
        phase=result.phase,
        message=result.message or done,
        hint=result.hint,
        reason=result.reason,
    )
