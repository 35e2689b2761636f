"""Kinds that are followed between captures, so that a capture reads from the server what changed since the last one.

Lists are what is correct; a watch tells the same at the price of the changes. A kind is followed after it was listed
once, if its list is worth it. Before a capture each watch is *vouched for*: a list of one item says which version the
kind has reached and how many objects there are; the watch, opened again after that answer, must tell all that is older.
A kind that cannot be vouched for is listed, whatever the reason, and then followed anew.

A list from time to time proves each watch right. A difference that it finds, and an event that comes late
(`kindwatch.py`), are alarms: something was captured older than it was. A kind that gives alarms again and again, one
whose changes cost more than its lists, and one that the server does not let us watch are listed from then on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Literal

import structlog

from reconciler.capture.kindwatch import KindWatch, is_version
from reconciler.capture.listing import Listing, list_kind, name_of_kind
from reconciler.capture.observe import Observation, observe_cluster
from reconciler.capture.observed import Observed
from reconciler.clock import Clock
from reconciler.cluster.port import Cluster, Discovery, ResourceType
from reconciler.errors import ReconcilerError
from reconciler.kinds.record import VersionRange
from reconciler.objects import ObjectKey
from reconciler.objects import field as follow

log = structlog.get_logger(__name__)

WORTH_BYTES = 32 * 1024
"""A list that costs less is taken every time: it costs little more than asking for one item."""
FOLLOWED_MAX = 200
WORKERS = 8
QUIET_S = 0.1
PATIENCE_S = 5.0
"""A watch that is not open and quiet after so long is not waited for."""
PROOF_EVERY = timedelta(hours=6)
ALARMS_MAX = 3
DEAR_MAX = 3
RETRY_AFTER = timedelta(hours=6)
"""When a kind that was given up is followed again."""
SHOWN_MAX = 5


@dataclass
class _Followed:
    """A kind that is followed, and what its past tells."""

    watch: KindWatch
    proved_at: float
    dear: int = 0
    """How many times in a row its changes cost more than a list."""
    doubt: Literal["", "count", "backwards"] = ""
    """What kept it from being vouched for this time, where the watch itself is open."""
    is_counted: bool = True
    """Whether the server's count of objects agrees with its lists; it is documented as an estimate."""


@dataclass(frozen=True)
class Alarm:
    """A watch did not tell what it should have told."""

    kind: str
    objects: tuple[ObjectKey, ...]
    how: str

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.objects[:SHOWN_MAX]))
        more = f" and {len(self.objects) - SHOWN_MAX} more" if len(self.objects) > SHOWN_MAX else ""
        return f"the watch of {self.kind} {self.how}: {shown}{more}"


@dataclass
class Watches:
    """What is followed of one cluster. `observe` is for one thread; `close` ends everything."""

    proof_every: timedelta = PROOF_EVERY
    worth_bytes: int = WORTH_BYTES
    patience_s: float = PATIENCE_S
    _followed: dict[ResourceType, _Followed] = field(default_factory=dict)
    _given_up: dict[ResourceType, float] = field(default_factory=dict)
    _alarmed: dict[ResourceType, int] = field(default_factory=dict)
    _alarms: list[Alarm] = field(default_factory=list)
    _vouched: dict[ResourceType, Listing] = field(default_factory=dict)
    _definitions: dict[tuple[str, str], bytes] = field(default_factory=dict)
    _server: tuple[str, str] = ("", "")
    _cluster: Cluster | None = None

    def observe(
        self,
        cluster: Cluster,
        discovery: Discovery,
        *,
        uid: str,
        clock: Clock,
        stop: threading.Event | None = None,
    ) -> Observation:
        """See everything that captures may need, from what is followed and lists of the rest.

        Args:
            cluster: Where to look.
            discovery: What it serves now.
            uid: The cluster's own.
            clock: Where time comes from.
            stop: Ends the work with StoppedError.

        Raises:
            ReconcilerError: the cluster cannot be read at all.
        """
        server = (uid, discovery.server_version)
        if self._server != server or self._cluster is not cluster:
            # Another server may read and default objects in another way without giving them another version.
            self.close()
        self._server, self._cluster = server, cluster
        served = set(discovery.types)
        for kind in [kind for kind in self._followed if kind not in served]:
            self._leave(kind)
        self._vouched = self._vouch_all()
        try:
            return observe_cluster(cluster, discovery, clock=clock, stop=stop, reader=self)
        finally:
            self._vouched = {}

    def read(self, kind: ResourceType, *, stop: threading.Event | None) -> Listing:
        """All objects of a kind: as the watch tells where it is vouched for, else by a list."""
        vouched = self._vouched.pop(kind, None)
        if vouched is not None:
            return vouched
        assert self._cluster is not None, "`observe` was called"
        listing = list_kind(self._cluster, kind, stop=stop)
        if listing.gap is None:
            self._prove(kind, listing)
        return listing

    def defined(self, definitions: Iterable[Observed]) -> None:
        """Leave kinds whose definition changed: their objects may be read in another way, at the same version."""
        now = {}
        for seen in definitions:
            spec = follow(seen.manifest(), "spec", default={})
            identity = (spec.get("group", ""), follow(spec, "names", "kind", default=""))
            now[identity] = blake2b(seen.projection, digest_size=16).digest()
        changed = {each for each, digest in self._definitions.items() if now.get(each) != digest}
        self._definitions = now
        for kind in [kind for kind in self._followed if (kind.group, kind.kind) in changed]:
            self._vouched.pop(kind, None)
            self._leave(kind)

    def changed(self, namespace: str, observation: Observation) -> list[ObjectKey]:
        """Objects of a namespace that are known to have changed since an observation, among the followed kinds."""
        watches = [entry.watch for entry in list(self._followed.values())]
        found = [watch.changed(namespace, observation.objects) for watch in watches]
        return sorted(key for keys in found for key in keys)

    def take_alarms(self) -> list[Alarm]:
        """The alarms since this was asked last."""
        alarms, self._alarms = self._alarms, []
        return alarms

    @property
    def followed(self) -> Sequence[str]:
        """The kinds that are followed."""
        return sorted(name_of_kind(kind) for kind in self._followed)

    def close(self) -> None:
        """End every watch, and forget what they told."""
        watches = [entry.watch for entry in self._followed.values()]
        self._followed.clear()
        self._definitions.clear()
        self._given_up.clear()
        if watches:
            with ThreadPoolExecutor(WORKERS, "close") as pool:
                list(pool.map(KindWatch.close, watches))

    def _vouch_all(self) -> dict[ResourceType, Listing]:
        """What each watch is good for now."""
        now = time.monotonic()
        for kind, entry in list(self._followed.items()):
            self._judge(kind, entry)
        entries = [
            entry
            for entry in self._followed.values()
            if now - entry.proved_at < self.proof_every.total_seconds()
        ]
        if not entries:
            return {}
        with ThreadPoolExecutor(WORKERS, "vouch") as pool:
            listings = list(pool.map(self._vouch, entries))
        return {one.kind: one for one in listings if one is not None}

    def _vouch(self, entry: _Followed) -> Listing | None:
        """What a watch is good for now; None when the kind must be listed."""
        assert self._cluster is not None
        watch, entry.doubt = entry.watch, ""
        before = watch.position()
        try:
            head = self._cluster.head(watch.kind)
        except ReconcilerError:
            # The list that follows meets the same, and says so.
            return None
        if not is_version(head.resource_version) or int(head.resource_version) < before:
            entry.doubt = "backwards"
            return None
        version, until = int(head.resource_version), time.monotonic() + self.patience_s
        if watch.position() < version and not watch.wait_open(watch.renew(), until=until):
            return None
        count = head.count if entry.is_counted else None
        if not watch.settle(version, count=count, quiet_s=QUIET_S, until=until):
            entry.doubt = "count"
            return None
        objects, position = watch.vouch(version)
        versions = VersionRange(since=str(min(position, version)), upto=head.resource_version)
        return Listing(watch.kind, objects, versions)

    def _judge(self, kind: ResourceType, entry: _Followed) -> None:
        """Raise an alarm for what came late; leave a watch that is over, or that costs more than it saves."""
        late = entry.watch.take_late()
        if late:
            self._alarm(kind, late, how="told late of changes; captures may hold what was before")
        is_dear = entry.watch.take_read_bytes() > entry.watch.list_bytes
        entry.dear = entry.dear + 1 if is_dear else 0
        if entry.watch.phase == "refused" or entry.dear >= DEAR_MAX:
            why = entry.watch.fault or "its changes cost more than its lists"
            log.warning("kind is not followed", kind=name_of_kind(kind), message=why)
            self._given_up[kind] = time.monotonic() + RETRY_AFTER.total_seconds()
        if late or entry.watch.phase in ("lost", "refused") or entry.dear >= DEAR_MAX:
            self._leave(kind)

    def _prove(self, kind: ResourceType, listing: Listing) -> None:
        """Compare a list with what is followed, and follow the kind from there."""
        entry = self._followed.get(kind)
        if entry is not None and entry.watch.phase == "open" and entry.doubt != "backwards":
            if not (different := _differences(entry.watch, listing, self.patience_s)):
                entry.proved_at = time.monotonic()
                entry.is_counted = entry.is_counted and entry.doubt != "count"
                return
            self._alarm(kind, different, how="does not know what a list shows")
        if entry is not None:
            self._leave(kind)
        if self._is_worth(kind, listing) and self._cluster is not None:
            watch = KindWatch(self._cluster, listing)
            self._followed[kind] = _Followed(watch, proved_at=time.monotonic())

    def _is_worth(self, kind: ResourceType, listing: Listing) -> bool:
        versions = listing.versions
        if "watch" not in kind.verbs or versions is None or not is_version(versions.since):
            return False
        if len(self._followed) >= FOLLOWED_MAX or self._alarmed.get(kind, 0) >= ALARMS_MAX:
            return False
        is_given_up = self._given_up.get(kind, 0.0) > time.monotonic()
        return listing.size_bytes >= self.worth_bytes and not is_given_up

    def _alarm(self, kind: ResourceType, keys: Sequence[ObjectKey], *, how: str) -> None:
        alarm = Alarm(name_of_kind(kind), tuple(keys), how)
        self._alarmed[kind] = self._alarmed.get(kind, 0) + 1
        self._alarms.append(alarm)
        log.error("watch was wrong", kind=alarm.kind, objects=len(keys), message=str(alarm))

    def _leave(self, kind: ResourceType) -> None:
        self._followed.pop(kind).watch.close()


def _differences(watch: KindWatch, listing: Listing, patience_s: float) -> list[ObjectKey]:
    """What a watch does not know although it had time to hear of it."""
    until = time.monotonic() + patience_s
    while True:
        different = watch.differences(listing)
        if not different or time.monotonic() >= until or watch.phase != "open":
            return different if watch.phase == "open" else []
        time.sleep(QUIET_S / 2)
