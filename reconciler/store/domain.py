"""A domain opened for reading: its index kept fresh, its segments opened and kept for a while.

Every blob is checked against its keyed id when it is read, except records of Secrets, whose ids are random: for them
the seal of the segment speaks. A segment that moved (prune repacked it) is found again by asking the index afresh.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from blake3 import blake3

from reconciler.clock import Clock, format_instant
from reconciler.store import names
from reconciler.store.frames import open_content, open_structure, seal_structure
from reconciler.store.index import (
    ID_BYTES,
    IndexObject,
    Segment,
    Snapshot,
    decode_index,
    digest_of,
)
from reconciler.store.keys import LocationKeys
from reconciler.store.port import DamagedError, ObjectMissingError, Storage
from reconciler.store.varint import read_varint, write_varint

CACHE_BYTES_MAX = 24 * 1024 * 1024
_RELOADS_MAX = 8


class _SessionRow(msgspec.Struct, array_like=True):
    created_at: str
    wrapped: bytes


class DamagedObjectError(DamagedError):
    """Bytes in one object are not what was written; `name` says in which."""

    def __init__(self, message: str, *, name: str, hint: str = "", reason: str = "Damaged") -> None:
        super().__init__(message, hint=hint, reason=reason)
        self.name = name


class UnlistedError(DamagedError):
    """A blob that is needed is in no index."""

    def __init__(
        self, message: str, *, blob: bytes, hint: str = "", reason: str = "Damaged"
    ) -> None:
        super().__init__(message, hint=hint, reason=reason)
        self.blob = blob


_session_decoder = msgspec.msgpack.Decoder(_SessionRow)


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment's plaintext and where its blobs begin and end."""

    plain: bytes
    bounds: tuple[int, ...]

    def blob(self, ordinal: int) -> bytes:
        """One blob."""
        return self.plain[self.bounds[ordinal] : self.bounds[ordinal + 1]]

    @property
    def count(self) -> int:
        """How many blobs it holds."""
        return len(self.bounds) - 1


def encode_segment(blobs: list[bytes]) -> bytes:
    """The plaintext of a segment: how many blobs, their lengths, the blobs."""
    head = bytearray()
    write_varint(head, len(blobs))
    for blob in blobs:
        write_varint(head, len(blob))
    return b"".join((head, *blobs))


def decode_segment(plain: bytes, *, what: str) -> Opened:
    """The reverse of `encode_segment`.

    Raises:
        DamagedError: the lengths do not add up.
    """
    try:
        count, at = read_varint(plain, 0)
        if count > len(plain):
            raise DamagedError(f"open {what}: its blobs do not add up")
        lengths = []
        for _ in range(count):
            length, at = read_varint(plain, at)
            lengths.append(length)
    except IndexError as error:
        raise DamagedError(f"open {what}: its blobs do not add up") from error
    bounds = [at]
    for length in lengths:
        bounds.append(bounds[-1] + length)
    if bounds[-1] != len(plain):
        raise DamagedError(f"open {what}: its blobs do not add up")
    return Opened(plain, tuple(bounds))


class Domain:
    """Reads one domain of a location. Thread-safe."""

    def __init__(self, storage: Storage, keys: LocationKeys, name: str, *, clock: Clock) -> None:
        self.storage = storage
        self.keys = keys
        self.name = names.check_domain(name)
        self._clock = clock
        self.sealing = keys.sealing()
        self._naming = {kind: keys.naming(kind) for kind in ("record", "chunk", "node")}
        self._index: Snapshot | None = None
        self._index_lock = threading.Lock()
        self._cache: OrderedDict[bytes, Opened] = OrderedDict()
        self._cache_bytes = 0
        self._cache_lock = threading.Lock()
        self._session_keys: dict[bytes, bytes] = {}

    def id_of(self, kind: str, data: bytes) -> bytes:
        """The keyed id of a blob."""
        return bytes(blake3(data, key=self._naming[kind]).digest(ID_BYTES))

    def index(self) -> Snapshot:
        """The index as last loaded."""
        return self._index or self.refresh()

    def use(self, snapshot: Snapshot) -> None:
        """Take an index that was loaded elsewhere."""
        self._index = snapshot

    def forget(self) -> None:
        """Load the index afresh when it is next asked."""
        self._index = None

    def refresh(self) -> Snapshot:
        """Load index objects that are new; start afresh when any has gone.

        Raises:
            DamagedError: an index object does not open.
        """
        with self._index_lock:
            for _ in range(_RELOADS_MAX):
                listed = [e.name for e in self.storage.entries(names.index_prefix(self.name))]
                snapshot = self._index
                if snapshot is None or not snapshot.objects <= set(listed):
                    snapshot = Snapshot()
                try:
                    for name in listed:
                        if name not in snapshot.objects:
                            snapshot.add(name, self.read_index(name))
                except ObjectMissingError:
                    continue
                self._index = snapshot
                return snapshot
        raise DamagedError(f"read index of domain {self.name}: its objects keep going away")

    def read_index(self, name: str) -> IndexObject:
        """Read one index object."""
        return decode_index(self.sealing, self.storage.read(name), name=name)

    def blob(self, kind: str, blob: bytes, *, random: bool = False) -> bytes:
        """Read a blob and check it.

        Raises:
            DamagedError: no index lists it, or its bytes are not what was written.
        """
        try:
            data = self._read(blob, self.index())
        except ObjectMissingError:
            data = None
        if data is None:
            # Another process may have written it, or prune may have moved it.
            try:
                data = self._read(blob, self.refresh())
            except ObjectMissingError as error:
                raise DamagedError(f"read {kind} {blob.hex()}: {error.message}") from error
        if data is None:
            raise UnlistedError(
                f"read {kind} {blob.hex()}: no index of domain {self.name} lists it", blob=blob
            )
        if not random and self.id_of(kind, data) != blob:
            raise DamagedError(f"read {kind} {blob.hex()}: its bytes are not what was written")
        return data

    def has(self, blob: bytes) -> bool:
        """Tell whether a blob can be read, as the index says."""
        return (self.index().find_any(blob) or self.refresh().find_any(blob)) is not None

    def _read(self, blob: bytes, index: Snapshot) -> bytes | None:
        found = index.find_any(blob)
        if found is None:
            return None
        segment, ordinal = found
        opened = self.opened(segment)
        if ordinal >= opened.count:
            raise DamagedError(
                f"read segment {segment.digest.hex()}: the index names a blob beyond it"
            )
        return opened.blob(ordinal)

    def opened(self, segment: Segment) -> Opened:
        """Read and open a segment, or take it from the cache."""
        with self._cache_lock:
            known = self._cache.get(segment.digest)
            if known is not None:
                self._cache.move_to_end(segment.digest)
                return known
        opened = self.open_frame(segment, self.read_frame(segment))
        with self._cache_lock:
            if segment.digest not in self._cache:
                self._cache[segment.digest] = opened
                self._cache_bytes += len(opened.plain)
            while self._cache_bytes > CACHE_BYTES_MAX and len(self._cache) > 1:
                _, gone = self._cache.popitem(last=False)
                self._cache_bytes -= len(gone.plain)
        return opened

    def read_frame(self, segment: Segment) -> bytes:
        """Read a segment as it lies, checking its digest.

        Raises:
            ObjectMissingError: its pack is gone.
            DamagedError: its bytes are not what was written.
        """
        name = names.pack_object(self.name, segment.pack)
        frame = self.storage.read(name, offset=segment.offset, length=segment.length)
        if digest_of(frame) != segment.digest:
            raise DamagedObjectError(f"read {name}: its bytes are not what was written", name=name)
        return frame

    def open_frame(self, segment: Segment, frame: bytes) -> Opened:
        """Open a segment's frame."""
        what = names.pack_object(self.name, segment.pack)
        if segment.is_content:
            plain = open_content(self.session_key(segment.session), frame, what=what)
        else:
            plain = open_structure(self.sealing, frame, purpose="segment", what=what)
        return decode_segment(plain, what=what)

    def session_key(self, session: bytes) -> bytes:
        """A session's content key.

        Raises:
            DamagedError: the session's object is missing or does not open.
        """
        known = self._session_keys.get(session)
        if known is None:
            known = self._session_keys[session] = self.read_session(session)
        return known

    def read_session(self, session: bytes) -> bytes:
        """Open a session object: first under the structure key, then with the content key."""
        name = names.session_object(self.name, session)
        try:
            data = self.storage.read(name)
        except ObjectMissingError as error:
            raise DamagedError(f"open {name}: it is missing") from error
        plain = open_structure(self.sealing, data, purpose=f"session {name}", what=name)
        try:
            row = _session_decoder.decode(plain)
        except (msgspec.DecodeError, ValueError) as error:
            raise DamagedError(f"open {name}: it is no session") from error
        return self.keys.unwrap(row.wrapped, info=self._session_info(session), what=name)

    def write_session(self, session: bytes, key: bytes) -> int:
        """Wrap a session's key and store it; return the bytes."""
        name = names.session_object(self.name, session)
        row = _SessionRow(
            format_instant(self._clock.now()),
            self.keys.wrap(key, info=self._session_info(session)),
        )
        data = seal_structure(
            self.sealing, msgspec.msgpack.encode(row), purpose=f"session {name}", words=False
        )
        self.storage.create(name, data)
        self._session_keys[session] = key
        return len(data)

    def points(self) -> Iterator[str]:
        """The names of the domain's point objects."""
        for entry in self.storage.entries(names.points_prefix(self.name)):
            if names.parse_point(entry.name) is not None:
                yield entry.name

    def _session_info(self, session: bytes) -> bytes:
        return b"\0".join(
            (
                b"backup-reconciler store 0: session",
                self.keys.location.encode(),
                self.name.encode(),
                session,
            )
        )
