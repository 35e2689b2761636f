"""Sets up what there is to work on volumes with, from the operator's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import structlog

from reconciler.cluster.port import Cluster, Discovery
from reconciler.daemon.locations import Locations
from reconciler.daemon.settings import MoverEntry, Settings
from reconciler.errors import ReconcilerError
from reconciler.volumes.alive import alive, remove_dead_leases, who_lives
from reconciler.volumes.means import VolumeMeans
from reconciler.volumes.movers import Movers, MoverSettings
from reconciler.volumes.ours import kind_of, remove_leftovers
from reconciler.volumes.snapshots import Snapshots

log = structlog.get_logger(__name__)


def volume_means(
    settings: Settings, cluster: Cluster, discovery: Discovery, locations: Locations
) -> VolumeMeans | None:
    """Snapshots and movers; None where the namespace for them is missing or snapshots are switched off."""
    entry = settings.volumes
    namespace = entry.namespace or settings.lease_namespace
    if not entry.snapshots and entry.movers is None:
        return None
    if cluster.get(kind_of(discovery, "", "Namespace"), namespace) is None:
        if entry.movers is not None:
            log.warning("no namespace for movers", namespace=namespace)
        return None
    movers = None
    if entry.movers is not None:
        movers = Movers(cluster, discovery, _mover_settings(entry.movers, namespace))
    return VolumeMeans(
        namespace=namespace,
        snapshots=Snapshots(cluster, discovery, namespace=namespace, is_wanted=entry.snapshots),
        movers=movers,
        place_of=locations.place,
    )


@contextmanager
def at_work(volumes: VolumeMeans | None, cluster: Cluster, discovery: Discovery) -> Iterator[None]:
    """Work on volumes: others see that this process lives; what dead ones left is taken away first.

    Raises:
        ReconcilerError: the Lease that says so cannot be kept.
    """
    if volumes is None:
        yield
        return
    namespace = volumes.namespace
    with alive(cluster, discovery, namespace=namespace):
        removed, problems = remove_leftovers(
            cluster, discovery, living=lambda: who_lives(cluster, discovery)
        )
        remove_dead_leases(cluster, discovery, namespace=namespace)
        for each in removed:
            log.info("removed a leftover", object=each)
        for each in problems:
            log.warning("leftover not removed", problem=each)
        yield


@contextmanager
def volumes_of(
    settings: Settings, cluster: Cluster, discovery: Discovery, locations: Locations
) -> Iterator[VolumeMeans | None]:
    """Set up and at work, while the block runs; None, and said, where that fails: other ways are left then."""
    with ExitStack() as stack:
        volumes = None
        try:
            volumes = volume_means(settings, cluster, discovery, locations)
            stack.enter_context(at_work(volumes, cluster, discovery))
        except ReconcilerError as error:
            log.warning("no snapshots and no movers", reason=error.reason, message=error.message)
            volumes = None
        yield volumes


def _mover_settings(entry: MoverEntry, namespace: str) -> MoverSettings:
    return MoverSettings(
        image=entry.image,
        namespace=namespace,
        per_cluster=entry.per_cluster,
        per_node=entry.per_node,
        per_storage_class=entry.per_storage_class,
        service_account=entry.service_account,
        pull_secrets=tuple(entry.image_pull_secrets),
        resources={"requests": entry.requests, "limits": entry.limits},
        time_limit=entry.time_limit,
    )
