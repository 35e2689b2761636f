"""One attempt at a plan: it is carried out under a Lease, which is renewed as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

from reconciler.clock import Clock
from reconciler.cluster.port import Cluster, Discovery
from reconciler.restore.execute.aftermath import WATCH_AFTER
from reconciler.restore.execute.execution import Bounds, Execution
from reconciler.restore.execute.filling import PointContents
from reconciler.restore.execute.lease import DURATION, AttemptLease, LeaseLostError, renewed
from reconciler.restore.execute.progress import Watch, watched_by_nobody
from reconciler.restore.execute.tally import Result
from reconciler.restore.plan.entry import Plan
from reconciler.restore.plan.request import FoundPoint
from reconciler.volumes.means import VolumeMeans

OpenVolumes = Callable[[Cluster, Discovery], AbstractContextManager[VolumeMeans | None]]


def without_volumes(
    _cluster: Cluster, _discovery: Discovery
) -> AbstractContextManager[VolumeMeans | None]:
    """No movers: claims are filled through pods that mount them."""
    return nullcontext()


@dataclass(frozen=True)
class RunnerSettings:
    """How restores are run on this cluster."""

    cluster: str
    """What the operator calls the cluster."""
    holder: str
    """Who we are, different for each process."""
    lease_namespace: str
    helper_image: str
    at_once: int = 4
    """How many namespaces are restored into side by side."""
    lease_duration: timedelta = DURATION
    bounds: Bounds = field(default_factory=Bounds)
    watch: Watch = watched_by_nobody
    """Told how far a restore is."""
    watch_after: timedelta = WATCH_AFTER
    """How long after its end a restore's objects are looked at again."""
    volumes: OpenVolumes = without_volumes
    """Sets up movers, for as long as a restore takes."""


def carry_out(
    plan: Plan,
    *,
    found: FoundPoint,
    cluster: Cluster,
    discovery: Discovery,
    settings: RunnerSettings,
    lease: AttemptLease,
    clock: Clock,
    stop: threading.Event,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Result:
    """Carry out a plan under a Lease, which is renewed as long as it takes."""
    every_s = settings.lease_duration.total_seconds() / 3
    with (
        settings.volumes(cluster, discovery) as volumes,
        renewed(lease, every_s=every_s, stop=stop) as halt,
    ):
        contents = PointContents(
            found,
            cluster=cluster,
            discovery=discovery,
            image=settings.helper_image,
            clock=clock,
            volumes=volumes,
        )

        def note(content: str) -> None:
            try:
                lease.note(content)
            except LeaseLostError:
                halt.set()
                raise

        return Execution(
            plan=plan,
            cluster=cluster,
            discovery=discovery,
            contents=contents,
            stop=halt,
            restore=lease.title,
            is_wanted=is_wanted,
            done=lease.done,
            on_done=note,
            bounds=settings.bounds,
            watch=settings.watch,
        ).run()
