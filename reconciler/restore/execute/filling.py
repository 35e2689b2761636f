"""Puts contents where they belong: files into claims, artifacts into data services.

A new claim is filled by a mover in our own namespace where there can be one (`volumes.rebind`), any other by a
short-lived pod that mounts nothing else: what is in it is cleared first, so that a broken attempt can be repeated, and
nothing of ours stays in it. A data service loads its artifacts by the `restore` action of the blueprint that the
restore point carries, and then says by `verify` whether its data is whole. Both start again from their beginning when a
stream breaks, a bounded number of times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

import structlog
from msgspec.structs import replace

from reconciler.blueprint import actions, streams
from reconciler.blueprint.pods import pod_of
from reconciler.clock import Clock
from reconciler.cluster import claimpod
from reconciler.cluster.port import Cluster, Discovery
from reconciler.errors import TerminalError, TransientError
from reconciler.kinds.blueprint import Blueprint
from reconciler.mover.order import RootText
from reconciler.objects import Manifest, ObjectKey
from reconciler.restore.execute.tar import tar_of
from reconciler.restore.plan.request import FoundPoint
from reconciler.store.port import Content, TreeEntry
from reconciler.volumes.means import VolumeMeans
from reconciler.volumes.ours import Claim
from reconciler.volumes.rebind import Filler

TRIES = 3
FILL_TIMEOUT = timedelta(hours=12)
POD_TIMEOUT_S = 300
NOBODY = (65534, 65534)

# Only GNU tar knows the flags; lost+found belongs to the file system, not to what was captured. A tar that stops
# at the archive's end leaves zeros behind, and input that is left counts as lost: they are read away.
SCRIPT = r"""
for tool in tar find; do
  command -v $tool >/dev/null 2>&1 || { echo "this image has no $tool" >&2; exit 127; }
done
cd "$1" || exit 126
find . -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} + || exit 125
flags=
case $(tar --version 2>/dev/null) in
  *GNU*) flags="--numeric-owner --xattrs --xattrs-include=* --delay-directory-restore" ;;
esac
set -f
tar $flags -xpf - || exit
while read -r rest; do :; done
"""

log = structlog.get_logger(__name__)


class ArtifactMissingError(TerminalError):
    """A blueprint asks for an artifact that is not among the contents asked for."""


class Contents(Protocol):
    """Puts contents into claims and services. Each call starts from the beginning and never appends."""

    def fill(self, content: Content, claim: ObjectKey, *, stop: threading.Event) -> None:
        """Make the files of a claim those of the content."""
        ...

    def load(
        self, contents: Sequence[Content], workload: Manifest, *, stop: threading.Event
    ) -> str:
        """Load artifacts of one blueprint into a Ready workload; say in a word how that was verified."""
        ...


class PointContents:
    """The contents of a restore point, put into a cluster."""

    def __init__(
        self,
        found: FoundPoint,
        *,
        cluster: Cluster,
        discovery: Discovery,
        image: str,
        clock: Clock,
        volumes: VolumeMeans | None = None,
    ) -> None:
        self._volumes = volumes
        self._found = found
        self._cluster = cluster
        self._discovery = discovery
        self._image = image
        self._clock = clock

    def fill(self, content: Content, claim: ObjectKey, *, stop: threading.Event) -> None:
        """Make the files of a claim those of the content."""
        _repeat(lambda: self._fill(content, claim, stop), what=content.name, stop=stop)

    def load(
        self, contents: Sequence[Content], workload: Manifest, *, stop: threading.Event
    ) -> str:
        """Load artifacts of one blueprint into a Ready workload."""
        blueprint = Blueprint.model_validate(contents[0].blueprint)
        name = contents[0].name
        _repeat(lambda: self._load(blueprint, contents, workload, stop), what=name, stop=stop)
        target = pod_of(self._cluster, self._discovery, workload)
        is_verified = actions.verify(blueprint, cluster=self._cluster, target=target, stop=stop)
        return "Verified" if is_verified else "Loaded"

    def _fill(self, content: Content, claim: ObjectKey, stop: threading.Event) -> None:
        if not self._fill_elsewhere(content, claim, stop):
            self._fill_in_place(content, claim, stop)

    def _fill_elsewhere(self, content: Content, claim: ObjectKey, stop: threading.Event) -> bool:
        """Have a mover fill a volume in our namespace and give it over; False where that cannot be."""
        volumes, found = self._volumes, self._found
        places = volumes.places([found.location]) if volumes is not None else None
        if volumes is None or volumes.movers is None or not places:
            return False
        filler = Filler(self._cluster, self._discovery, volumes.movers)
        target = Claim(claim.namespace, claim.name)
        if not filler.takes(target):
            return False
        place = replace(places[0], domain=found.name.domain, root=RootText.of(content.root))
        filler.fill(target, place, stop=stop)
        return True

    def _fill_in_place(self, content: Content, claim: ObjectKey, stop: threading.Event) -> None:
        # The volume's own top folder belongs to whoever makes the volume; a pod may not be allowed to change it.
        entries = (
            entry
            for entry in self._found.store.tree(self._found.name.domain, content.root)
            if entry.path != "."
        )
        with claimpod.claim_pod(
            self._cluster,
            self._discovery,
            namespace=claim.namespace,
            claim=claim.name,
            image=self._image,
            clock=self._clock,
            timeout_s=POD_TIMEOUT_S,
            owner=lambda: only_owner(self._found.store.tree(self._found.name.domain, content.root)),
        ) as target:
            streams.push(
                self._cluster,
                target,
                ["sh", "-c", SCRIPT, "sh", claimpod.MOUNT_PATH],
                tar_of(entries),
                timeout=FILL_TIMEOUT,
                stop=stop,
            )

    def _load(
        self,
        blueprint: Blueprint,
        contents: Sequence[Content],
        workload: Manifest,
        stop: threading.Event,
    ) -> None:
        artifacts = {content.name.rpartition("/")[2]: content for content in contents}

        def open_artifact(name: str) -> Iterator[bytes]:
            if name not in artifacts:
                raise ArtifactMissingError(
                    f"load {ObjectKey.of(workload)}: artifact {name} is not among the contents asked for",
                    hint="name all artifacts of the blueprint under include.contents",
                )
            return self._found.store.stream(self._found.name.domain, artifacts[name].root)

        target = pod_of(self._cluster, self._discovery, workload)
        actions.restore(
            blueprint, cluster=self._cluster, target=target, open_artifact=open_artifact, stop=stop
        )


def only_owner(entries: Iterable[TreeEntry]) -> tuple[int, int] | None:
    """User and group of every file of a tree; of an empty one anybody, None when there are several."""
    owners = {(entry.uid, entry.gid) for entry in entries if entry.path != "."}
    if len(owners) > 1:
        return None
    return owners.pop() if owners else NOBODY


def _repeat(work: Callable[[], None], *, what: str, stop: threading.Event) -> None:
    """Do work, again from its start when it broke off."""
    for attempt in range(1, TRIES + 1):
        try:
            work()
        except TransientError as error:
            if attempt == TRIES or stop.is_set():
                raise
            log.warning("content broke off, starting again", content=what, reason=error.reason)
        else:
            return
