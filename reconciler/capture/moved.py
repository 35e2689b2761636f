"""Reads a claim that was cut: by a mover where one reaches every location, else as an archive through this process."""

from __future__ import annotations

import time
from collections.abc import Mapping

import structlog

from reconciler.blueprint.stop import StoppedError, check_stop
from reconciler.capture.copies import Copies
from reconciler.capture.observed import Observed
from reconciler.capture.services import TRIES, Reach, failed
from reconciler.capture.volumes import is_device, read_by_pod
from reconciler.clock import parse_instant
from reconciler.errors import ReconcilerError, TerminalError, TransientError
from reconciler.kinds.record import Outcome
from reconciler.mover.order import Earlier, Order, Place, RootText, Status
from reconciler.objects import field
from reconciler.store.port import Content, Point
from reconciler.volumes.means import VolumeMeans
from reconciler.volumes.movers import DEVICE_PATH, FILES_PATH, Mount, judged
from reconciler.volumes.ours import Claim
from reconciler.volumes.snapshots import Cut

TELL_EVERY_S = 10.0
log = structlog.get_logger(__name__)


class NoMoverError(TerminalError):
    """A volume can be read by a mover only, and none can do it."""


def read_cut(
    claim: Observed,
    cut: Cut,
    *,
    reach: Reach,
    copies: Copies,
    previous: Mapping[str, Point | None],
) -> list[Outcome]:
    """Read what was cut into every location; tried again once when it broke off.

    Raises:
        StoppedError: `stop` was set.
        ReconcilerError: the last location failed.
    """
    for attempt in range(1, TRIES + 1):
        check_stop(reach.stop)
        try:
            with copies.all_or_nothing():
                return _Reading(claim, cut, reach, copies, previous).read()
        except StoppedError:
            raise
        except ReconcilerError as error:
            if not copies.live:
                raise
            if not isinstance(error, TransientError) or attempt == TRIES:
                return [failed(f"volume/{claim.key.name}", error)]
    raise AssertionError("the loop returns or raises")


class _Reading:
    def __init__(
        self,
        claim: Observed,
        cut: Cut,
        reach: Reach,
        copies: Copies,
        previous: Mapping[str, Point | None],
    ) -> None:
        assert reach.volumes is not None
        self._claim = claim
        self._cut = cut
        self._reach = reach
        self._volumes: VolumeMeans = reach.volumes
        self._copies = copies
        self._previous = previous
        self._said_at = time.monotonic()

    @property
    def _item(self) -> str:
        return f"volume/{self._claim.key.name}"

    def read(self) -> list[Outcome]:
        places = self._volumes.places(self._copies.live)
        manifest = self._claim.manifest()
        if places is None and is_device(self._claim):
            raise NoMoverError(
                f"read {self._item}: a block volume is read by a mover, and none reaches every location",
                hint="set movers.image, and use locations in a bucket",
            )
        with self._volumes.snapshots.readable(self._cut, manifest, stop=self._reach.stop) as mine:
            if places is None:
                return read_by_pod(
                    self._claim,
                    mine,
                    reach=self._reach,
                    copies=self._copies,
                    consistent_at=self._cut.cut_at,
                )
            return self._move(mine, places)

    def _move(self, mine: Claim, places: list[Place]) -> list[Outcome]:
        assert self._volumes.movers is not None
        device = is_device(self._claim)
        ordered = tuple(self._place(place) for place in places)
        status = self._volumes.movers.run(
            Order(
                "save-device" if device else "save-files",
                DEVICE_PATH if device else FILES_PATH,
                ordered,
            ),
            Mount(
                mine,
                is_device=device,
                read_only=True,
                storage_class=str(
                    field(self._claim.manifest(), "spec", "storageClassName", default="")
                ),
                stands_for=Claim(self._claim.key.namespace, self._claim.key.name),
            ),
            stop=self._reach.stop,
            told=self._tell,
        )
        judged(status)
        self._take(status)
        return self._outcomes(status)

    def _place(self, place: Place) -> Place:
        """A location with the domain to write to, and the volume's last tree there."""
        point = self._previous.get(place.name)
        earlier = None
        for content in point.contents if point is not None else ():
            if content.name == self._item and content.root.form == "tree":
                assert point is not None
                at = parse_instant(str(point.record["capturedAt"]))
                earlier = Earlier(RootText.of(content.root), at)
        return Place(
            name=place.name,
            url=place.url,
            keys=place.keys,
            domain=self._reach.cluster.uid(),
            grace_s=place.grace_s,
            access_key=place.access_key,
            earlier=earlier,
        )

    def _take(self, status: Status) -> None:
        for name, fault in status.faults.items():
            family = TransientError if fault.is_transient else TerminalError
            self._copies.drop(name, family(fault.message, reason=fault.reason))
        for name, saved in status.saved.items():
            self._copies.contents[name].append(
                Content(self._item, saved.root.root(), consistent_at=self._cut.cut_at)
            )
            self._copies.moved_bytes[name] += saved.added_bytes

    def _outcomes(self, status: Status) -> list[Outcome]:
        found = []
        if status.unreadable:
            message = f"{status.unreadable} files could not be read"
            found.append(
                Outcome(item=self._item, result="Failed", reason="FilesUnreadable", message=message)
            )
        if status.sockets:
            message = f"{status.sockets} sockets hold no contents"
            found.append(
                Outcome(item=self._item, result="Skipped", reason="SocketsIgnored", message=message)
            )
        return found

    def _tell(self, status: Status) -> None:
        """Say where a mover stands, every ten seconds."""
        now = time.monotonic()
        if now - self._said_at < TELL_EVERY_S:
            return
        self._said_at = now
        rate = status.bytes_done / status.seconds if status.seconds else 0.0
        left = max(status.bytes_total - status.bytes_done, 0)
        log.info(
            "volume moves",
            claim=self._claim.key.path,
            bytes=status.bytes_done,
            of_bytes=status.bytes_total,
            bytes_per_s=round(rate),
            left_s=round(left / rate) if rate and status.bytes_total else None,
            memory_bytes=status.memory_bytes,
        )
