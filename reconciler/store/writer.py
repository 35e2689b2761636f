"""Writes blobs: bundles them into segments, seals segments on worker threads, and sends packs to storage.

Any thread may put blobs. A blob that the index knows, or that this writer has taken already, is not written again.
A full bundle goes to one of two workers, which compress and encrypt it and append it to the open pack; a full pack is
written out there and then, followed by its index object, one pack at a time. `flush` waits for all of that. What may
be in flight is bounded, so memory is too.

The first failure ends the writer: every later call raises it again. No call waits for anything but work that is
already running, so nothing can hang.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from reconciler.store import names
from reconciler.store.domain import Domain, encode_segment
from reconciler.store.frames import seal_content, seal_structure
from reconciler.store.index import (
    FOOTER_LENGTH_BYTES,
    PACK_MAGIC,
    IndexObject,
    PackList,
    Segment,
    Snapshot,
    digest_of,
    encode_footer,
    encode_index,
)
from reconciler.store.port import ObjectExistsError, Storage

Bundling = Literal["record", "file", "structure", "alone"]
PACK_BYTES = 32 * 1024 * 1024
BUNDLE_BYTES = {"record": 256 * 1024, "file": 1024 * 1024, "structure": 256 * 1024, "alone": 0}
WORKERS = 2
IN_FLIGHT_MAX = 6
WAIT_S = 5.0


@dataclass(eq=False)
class _Bundle:
    segment: Segment
    bundling: Bundling
    ids: list[bytes] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)
    size: int = 0


@dataclass(eq=False)
class _Pack:
    frames: list[bytes] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    size: int = len(PACK_MAGIC)

    def add(self, segment: Segment, frame: bytes, ids: bytes) -> None:
        segment.offset = self.size
        self.frames.append(frame)
        self.segments.append(segment)
        self.ids.append(ids)
        self.size += len(frame)


def write_pack(
    storage: Storage,
    domain: str,
    key: bytes,
    *,
    segments: list[Segment],
    frames: list[bytes],
    ids: list[bytes],
) -> PackList:
    """Write a pack object, named by the digest of its bytes; `frames` is emptied to free them."""
    footer = encode_footer(key, segments, ids)
    data = b"".join(
        (PACK_MAGIC, *frames, footer, len(footer).to_bytes(FOOTER_LENGTH_BYTES, "little"))
    )
    frames.clear()
    pack = digest_of(data)
    # Named by its contents: one that exists is this very pack, from an attempt whose answer was lost.
    with suppress(ObjectExistsError):
        storage.create(names.pack_object(domain, pack), data)
    for segment in segments:
        segment.pack = pack
    return PackList(pack, len(data), tuple(segments), tuple(ids))


class Writer:
    """The write side of one session."""

    def __init__(self, domain: Domain, *, index: Snapshot, started_s: int) -> None:
        self._domain = domain
        self.index = index
        self._session = os.urandom(16)
        self._key = os.urandom(32)
        self._started = started_s << 32
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._sealed = threading.Condition(self._lock)
        self._unsealed: set[_Bundle] = set()
        self._writing = threading.Lock()
        self._slots = threading.BoundedSemaphore(IN_FLIGHT_MAX)
        self._pool: ThreadPoolExecutor | None = None
        self._bundles: dict[str, _Bundle] = {}
        self._new: dict[bytes, Segment] = {}
        self._pack = _Pack()
        self._count = 0
        self._session_written = False
        self._failure: BaseException | None = None
        self.overhead_bytes = 0
        """Footers, index and session objects written since `take_overhead`."""

    @property
    def session(self) -> bytes:
        """The id under which the content key is kept."""
        return self._session

    def put(self, blob: bytes, data: bytes, *, bundling: Bundling) -> tuple[Segment, int]:
        """Take a blob; return its segment and how many bytes of it are new."""
        self.check()
        full: _Bundle | None = None
        with self._lock:
            known = self._new.get(blob)
            if known is None and (found := self.index.find(blob)) is not None:
                known = found[0]
            if known is not None:
                return known, 0
            bundle = self._bundles.get(bundling)
            if bundle is None:
                bundle = self._bundles[bundling] = self._open_bundle(bundling)
            bundle.ids.append(blob)
            bundle.blobs.append(data)
            bundle.size += len(data)
            bundle.segment.plain_bytes = bundle.size
            self._new[blob] = bundle.segment
            if bundle.size >= BUNDLE_BYTES[bundling]:
                full = self._bundles.pop(bundling)
        if full is not None:
            self._submit(full)
        return bundle.segment, len(data)

    def settle(self) -> None:
        """Seal what is open and wait: every segment has its digest then."""
        self.check()
        with self._lock:
            open_bundles = list(self._bundles.values())
            self._bundles.clear()
        for bundle in open_bundles:
            self._submit(bundle)
        with self._sealed:
            # Also those that another thread has closed and is about to hand to a worker.
            waited = set(self._unsealed)
            while waited & self._unsealed and self._failure is None:
                self._sealed.wait(timeout=WAIT_S)
        self.check()

    def flush(self) -> None:
        """Make everything that was put before durable, index included."""
        self.settle()
        try:
            with self._writing:
                self._write_pack(self._take_pack())
        except BaseException as error:
            self._fail(error)
            raise
        self.check()

    def take_overhead(self) -> int:
        """The bytes written for no blob in particular since the last time."""
        with self._lock:
            taken, self.overhead_bytes = self.overhead_bytes, 0
        return taken

    def close(self) -> None:
        """Stop the workers; what was not flushed is abandoned."""
        self._fail(RuntimeError("the session is closed"))
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def check(self) -> None:
        """Raise the failure that ended this writer."""
        assert os.getpid() == self._process, "a session's key must not be used by two processes"
        if self._failure is not None:
            raise self._failure

    def _open_bundle(self, bundling: Bundling) -> _Bundle:
        self._count += 1
        session = b"" if bundling == "structure" else self._session
        bundle = _Bundle(Segment(self._started | self._count, session), bundling)
        self._unsealed.add(bundle)
        return bundle

    def _submit(self, bundle: _Bundle) -> None:
        try:
            self._slots.acquire()
            try:
                with self._lock:
                    if self._pool is None:
                        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="store-writer")
                    future = self._pool.submit(self._seal, bundle)
            except BaseException:
                self._slots.release()
                raise
            future.add_done_callback(lambda _: self._slots.release())
        except BaseException as error:
            # The bundle is lost, with what others put into it.
            self._fail(error)
            raise

    def _seal(self, bundle: _Bundle) -> None:
        """Runs on a worker: never raises, a failure ends the writer."""
        if self._failure is not None:
            return
        try:
            segment, words = bundle.segment, bundle.bundling in ("record", "structure")
            plain = encode_segment(bundle.blobs)
            bundle.blobs.clear()
            if segment.session:
                self._write_session()
                frame = seal_content(
                    self._key,
                    plain,
                    session=self._session,
                    counter=segment.order & 0xFFFFFFFF,
                    words=words,
                )
            else:
                frame = seal_structure(self._domain.sealing, plain, purpose="segment")
            segment.length, segment.digest = len(frame), digest_of(frame)
            with self._lock:
                self._pack.add(segment, frame, b"".join(bundle.ids))
                self._unsealed.discard(bundle)
                self._sealed.notify_all()
                is_full = self._pack.size >= PACK_BYTES
            if is_full:
                with self._writing:
                    self._write_pack(self._take_pack(only_full=True))
        except BaseException as error:  # noqa: BLE001 — whatever it is, callers must hear of it
            self._fail(error)

    def _take_pack(self, *, only_full: bool = False) -> _Pack | None:
        with self._lock:
            pack = self._pack
            if not pack.segments or (only_full and pack.size < PACK_BYTES):
                return None
            self._pack = _Pack()
            return pack

    def _write_pack(self, pack: _Pack | None) -> None:
        if pack is None:
            return
        domain = self._domain
        frames_bytes = pack.size - len(PACK_MAGIC)
        listed = write_pack(
            domain.storage,
            domain.name,
            domain.sealing,
            segments=pack.segments,
            frames=pack.frames,
            ids=pack.ids,
        )
        name = names.index_object(domain.name, listed.pack)
        value = IndexObject(packs=(listed,))
        data = encode_index(domain.sealing, value, name=name)
        domain.storage.create(name, data)
        self.index.add(name, value)
        with self._lock:
            self.overhead_bytes += listed.size - frames_bytes + len(data)
            for number in range(len(listed.segments)):
                for blob in listed.blob_ids(number):
                    self._new.pop(blob, None)

    def _write_session(self) -> None:
        with self._writing:
            if not self._session_written:
                written = self._domain.write_session(self._session, self._key)
                self._session_written = True
                with self._lock:
                    self.overhead_bytes += written

    def _fail(self, error: BaseException) -> None:
        with self._sealed:
            if self._failure is None:
                self._failure = error
            self._sealed.notify_all()


@dataclass(eq=False)
class Work:
    """What one thing in the store is made of: the segments it needs, and what it added to which."""

    segments: set[Segment] = field(default_factory=set)
    added: dict[Segment, int] = field(default_factory=dict)

    def merge(self, other: Work) -> None:
        """Take another's in."""
        self.segments |= other.segments
        for segment, size in other.added.items():
            self.added[segment] = self.added.get(segment, 0) + size

    def stored_bytes(self) -> int:
        """The share of what it added, as stored, in segments that are sealed."""
        return sum(
            round(s.length * size / s.plain_bytes)
            for s, size in self.added.items()
            if s.plain_bytes
        )


class Sink:
    """Puts blobs for one thing, and remembers what it is made of."""

    def __init__(self, domain: Domain, writer: Writer) -> None:
        self.domain = domain
        self._writer = writer
        self.work = Work()

    def node(self, data: bytes) -> bytes:
        """Put a node of a sequence; return its id."""
        return self._named("node", data, bundling="structure")

    def record(self, data: bytes) -> bytes:
        """Put an object's projection; return its id, equal for equal projections."""
        return self._named("record", data, bundling="record")

    def secret(self, data: bytes) -> bytes:
        """Put a Secret's projection under a random id."""
        blob = os.urandom(16)
        self._put(blob, data, bundling="record")
        return blob

    def chunk(self, data: bytes) -> bytes:
        """Put a piece of a stream or a small file; return its id."""
        small = len(data) <= BUNDLE_BYTES["record"]
        return self._named("chunk", data, bundling="file" if small else "alone")

    def needs(self, blob: bytes) -> bool:
        """Note that a blob which is stored already is needed; False when writers may not count on it."""
        found = self._writer.index.find(blob)
        if found is not None:
            self.work.segments.add(found[0])
        return found is not None

    def hash_of(self, data: bytes) -> bytes:
        """The hash that decides where sequences are cut."""
        return self.domain.id_of("node", data)

    def _named(self, kind: str, data: bytes, *, bundling: Bundling) -> bytes:
        blob = self.domain.id_of(kind, data)
        self._put(blob, data, bundling=bundling)
        return blob

    def _put(self, blob: bytes, data: bytes, *, bundling: Bundling) -> None:
        segment, new = self._writer.put(blob, data, bundling=bundling)
        self.work.segments.add(segment)
        if new:
            self.work.added[segment] = self.work.added.get(segment, 0) + new


def total_bytes(pieces: Iterable[bytes]) -> int:
    """The length of some bytes together."""
    return sum(map(len, pieces))
