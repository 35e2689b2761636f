"""One kind, followed from a list on: what the watch tells is kept as a list would have given it.

A thread holds the watch open, from the version of the newest event or bookmark on, and opens it again when the server
ends it, when it breaks (later each time, or when the server says), and when it is silent for longer than bookmarks are
apart. A version that is gone ends it as `lost`: only a list helps. A server that does not allow it ends it as
`refused`.

Events come in the order of their versions. One that comes at or below a version up to which the kind was vouched
for is *late*: what was read then was older than it was said to be.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

import structlog

from reconciler.capture.listing import Listing, name_of_kind
from reconciler.capture.observed import Observed, remember
from reconciler.cluster.port import (
    ApiError,
    Cluster,
    ExpiredError,
    UnauthorizedError,
    UnavailableError,
    Watch,
    WatchEvent,
)
from reconciler.errors import ReconcilerError
from reconciler.objects import ObjectKey

log = structlog.get_logger(__name__)

LASTS_S = 240
SPREAD_S = 60
"""A watch is asked to last between LASTS_S and LASTS_S + SPREAD_S, so that not all of them end together."""
SILENCE_S = 90.0
"""API servers send a bookmark about every minute (kube-apiserver's cacher, `bookmarkFrequency`)."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
STEADY_S = 30.0
"""A watch that breaks sooner than this breaks again and again: it is opened later each time."""
LEAST_S = 1.0
"""A watch that ends sooner without a word is taken for broken."""
JOIN_S = 5.0

Phase = Literal["opening", "open", "broken", "lost", "refused"]


class KindWatch:
    """A followed kind. Its methods may be called from any thread."""

    def __init__(self, cluster: Cluster, listing: Listing) -> None:
        assert listing.versions is not None, "what could not be read cannot be followed"
        self.kind = listing.kind
        self.list_bytes = listing.size_bytes
        """What a list cost."""
        self.fault = ""
        """Why it is not open."""
        self._cluster = cluster
        self._objects = {seen.key: seen for seen in listing.objects}
        self._recent: dict[ObjectKey, int] = {}
        self._position = int(listing.versions.since)
        self._vouched = 0
        self._late: list[ObjectKey] = []
        self._read_bytes = 0
        self._heard_at = time.monotonic()
        self._phase: Phase = "opening"
        self._asked = self._turn = self._wanted = 0
        self._opening_s = 0.0
        self._stream: Watch | None = None
        self._over = threading.Event()
        self._hurry = threading.Event()
        self._news = threading.Condition()
        name = f"watch {name_of_kind(self.kind)}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def phase(self) -> Phase:
        """Whether it is open, and what it does if not."""
        return self._phase

    def position(self) -> int:
        """The version up to which everything was heard."""
        with self._news:
            return self._position

    def renew(self) -> int:
        """Leave the connection and open another; the number of the turn in which that is done."""
        with self._news:
            self._wanted = self._asked + 1
            wanted, stream = self._wanted, self._stream
            self._hurry.set()
        if stream is not None:
            stream.close()
        return wanted

    def wait_open(self, turn: int, *, until: float) -> bool:
        """Wait for a turn's connection to be open; `until` is an instant of the monotonic clock."""
        with self._news:
            while self._turn < turn or self._phase != "open":
                left_s = until - time.monotonic()
                if left_s <= 0 or self._phase in ("lost", "refused") or self._over.is_set():
                    return False
                self._news.wait(left_s)
            return True

    def settle(self, version: int, *, count: int | None, quiet_s: float, until: float) -> bool:
        """Wait until the watch has passed a version, or has told what it had to tell since it was opened.

        A server sends what it has kept since the asked version right after the head of its answer. So the latter is
        taken for granted when nothing comes for `quiet_s`, or four times what the head took, and there are as many
        objects as there were at that version.

        Args:
            version: A version that the kind's server had reached before the watch was opened.
            count: How many objects there were then, if that is known.
            quiet_s: For how long nothing must be told.
            until: The instant of the monotonic clock at which it is given up.
        """
        with self._news:
            quiet_s = max(quiet_s, 4 * self._opening_s)
            while self._phase == "open" and self._position < version:
                now = time.monotonic()
                is_quiet = now >= self._heard_at + quiet_s
                if is_quiet and count in (None, len(self._objects)):
                    return True
                if now >= until:
                    return False
                self._news.wait(until - now if is_quiet else self._heard_at + quiet_s - now)
            return self._position >= version

    def vouch(self, version: int) -> tuple[list[Observed], int]:
        """Take what is known for what there was at a version; what is heard of before it from now on is late.

        Returns:
            The objects, and the version up to which they were certainly heard of.
        """
        with self._news:
            self._vouched = max(self._vouched, version)
            self._recent.clear()
            return list(self._objects.values()), self._position

    def changed(self, namespace: str, known: Mapping[ObjectKey, Observed]) -> list[ObjectKey]:
        """Objects of a namespace that are other than is known, by what was told since the kind was vouched for."""
        with self._news:
            return [
                key
                for key in self._recent
                if key.namespace == namespace
                and _content(self._objects.get(key)) != _content(known.get(key))
            ]

    def take_late(self) -> list[ObjectKey]:
        """What came late since this was asked last."""
        with self._news:
            late, self._late = self._late, []
            return late

    def take_read_bytes(self) -> int:
        """What was read from the server since this was asked last."""
        with self._news:
            size, self._read_bytes = self._read_bytes, 0
            return size

    def differences(self, listing: Listing) -> list[ObjectKey]:
        """Objects that the watch should know otherwise, by a list of the same kind."""
        assert listing.versions is not None
        version = int(listing.versions.since)
        with self._news:
            return _differences(self._objects, self._recent, listing.objects, version)

    def close(self) -> None:
        """End the watch and wait for its thread."""
        self._over.set()
        self._hurry.set()
        with self._news:
            stream = self._stream
            self._news.notify_all()
        if stream is not None:
            stream.close()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        failures = 0
        while not self._over.is_set():
            wait_s, started = 0.0, time.monotonic()
            try:
                self._follow()
                failures = 0
            except ExpiredError as error:
                self._end("lost", error.message)
            except (UnavailableError, UnauthorizedError) as error:
                is_steady = time.monotonic() - started > STEADY_S
                failures = 1 if is_steady else failures + 1
                wait_s = self._broken(error, failures)
            except ApiError as error:
                self._end("refused", error.message)
            except Exception as error:
                # A bug: captures go on with lists.
                log.exception("bug", kind=name_of_kind(self.kind))
                self._end("refused", type(error).__name__)
            if wait_s:
                self._hurry.wait(wait_s)

    def _follow(self) -> None:
        """Hold one watch open until it ends."""
        spread_s = zlib.crc32(name_of_kind(self.kind).encode()) % SPREAD_S
        with self._news:
            self._asked += 1
            turn, self._stream = self._asked, None
            self._hurry.clear()
        started = time.monotonic()
        stream = self._cluster.watch(
            self.kind,
            resource_version=str(self._position),
            timeout_s=LASTS_S + spread_s,
            silence_s=SILENCE_S,
        )
        self._opened(stream, turn, started)
        told = False
        try:
            if not self._is_left(turn):
                for event in stream:
                    self._take(event)
                    told = True
        finally:
            stream.close()
            with self._news:
                self._stream = None
        if not told and not self._is_left(turn) and time.monotonic() - started < LEAST_S:
            raise UnavailableError(f"watch {self.kind}: the server ends the watch at once")
        with self._news:
            self._phase = "opening"

    def _opened(self, stream: Watch, turn: int, started: float) -> None:
        with self._news:
            self._stream, self._phase, self.fault = stream, "open", ""
            self._turn = turn
            self._heard_at = time.monotonic()
            self._opening_s = self._heard_at - started
            self._news.notify_all()

    def _is_left(self, turn: int) -> bool:
        """Whether this turn's connection is not wanted any more."""
        return self._over.is_set() or turn < self._wanted

    def _take(self, event: WatchEvent) -> None:
        """Bring an event into what is known."""
        version = _version_of(event)
        if event.type == "BOOKMARK":
            with self._news:
                self._heard(event)
                self._position = max(self._position, version)
            return
        seen = remember(event.object)
        with self._news:
            self._heard(event)
            if version <= self._position:
                raise ExpiredError(f"watch {self.kind}: its versions run backwards")
            self._position = version
            if version <= self._vouched:
                self._late.append(seen.key)
            self._recent[seen.key] = version
            if event.type == "DELETED":
                self._objects.pop(seen.key, None)
            else:
                self._objects[seen.key] = seen

    def _heard(self, event: WatchEvent) -> None:
        self._heard_at = time.monotonic()
        self._read_bytes += event.size_bytes
        self._news.notify_all()

    def _broken(self, error: ReconcilerError, failures: int) -> float:
        """Say that the watch broke; how long to wait before it is opened again, in seconds."""
        wait_s: float = min(FIRST_WAIT_S * 2 ** (failures - 1), LONGEST_WAIT_S)
        asked_s = error.retry_after_s if isinstance(error, UnavailableError) else None
        if asked_s is not None:
            wait_s = max(wait_s, min(asked_s, 10 * LONGEST_WAIT_S))
        with self._news:
            self._phase, self.fault = "broken", error.message
            self._news.notify_all()
        # A connection that breaks once is everyday life; a server that is busy says so itself.
        say = log.warning if failures > 1 or asked_s is not None else log.info
        say("watch broke", kind=name_of_kind(self.kind), wait_s=wait_s, message=error.message)
        return wait_s

    def _end(self, phase: Phase, fault: str) -> None:
        log.info("watch ended", kind=name_of_kind(self.kind), phase=phase, message=fault)
        with self._news:
            self._phase, self.fault = phase, fault
            self._news.notify_all()
        self._over.set()


def _content(seen: Observed | None) -> bytes:
    return b"" if seen is None else seen.projection


def is_version(text: str) -> bool:
    """Whether a resource version is a number, so that two can be compared (Kubernetes API conventions, KEP-5504)."""
    return text.isascii() and text.isdecimal()


def _version_of(event: WatchEvent) -> int:
    text = (event.object.get("metadata") or {}).get("resourceVersion") or ""
    if not is_version(text):
        raise ApiError(f"watch: the version {text[:32]!r} is no number")
    return int(text)


def _differences(
    known: Mapping[ObjectKey, Observed],
    recent: Mapping[ObjectKey, int],
    listed: Sequence[Observed],
    version: int,
) -> list[ObjectKey]:
    """Where what is known differs from a list at a version, other than by what happened after it."""
    found = []
    for seen in listed:
        mine = known.get(seen.key)
        if mine is None:
            is_same = recent.get(seen.key, 0) > version
        else:
            is_newer = int(mine.resource_version or 0) > version
            is_same = mine.resource_version == seen.resource_version or is_newer
        if not is_same:
            found.append(seen.key)
    present = {seen.key for seen in listed}
    found += [
        key
        for key, mine in known.items()
        if key not in present and int(mine.resource_version or 0) <= version
    ]
    return sorted(found)
