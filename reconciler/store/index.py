"""The index: which blob lies in which segment of which pack.

A *segment* is one sealed frame holding one or many blobs; it is what is read, moved and freed as a whole, and it is
known by its digest, wherever it lies. A *pack* is a run of segments with a footer that lists them. An *index object*
repeats the lists of one pack or of many, so that a reader need not open footers. Packs that prune has *dropped* stay
readable until their files go, but writers no longer count on them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from blake3 import blake3

from reconciler.store.frames import open_structure, seal_structure
from reconciler.store.port import DamagedError

ID_BYTES = 16
PACK_MAGIC = b"BRPACK0\n"
FOOTER_LENGTH_BYTES = 4
_ORDINAL_BITS = 24
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class Segment:
    """A segment: known from an index, or about to be written (then `digest` is empty)."""

    order: int
    """When its session began (s) << 32 | its number there: later segments sort behind earlier ones."""
    session: bytes
    """Whose key opens it; empty for structure."""
    length: int = 0
    digest: bytes = b""
    pack: bytes = b""
    offset: int = 0
    plain_bytes: int = 0
    """Known while it is being written only."""

    @property
    def is_content(self) -> bool:
        """Tell content from structure."""
        return bool(self.session)


@dataclass(frozen=True, slots=True)
class PackList:
    """A pack as footers and index objects list it. `ids` are the blobs' ids joined, per segment."""

    pack: bytes
    size: int
    segments: tuple[Segment, ...]
    ids: tuple[bytes, ...]

    def blob_ids(self, number: int) -> Iterator[bytes]:
        """The ids of the blobs in one segment, in their order there."""
        joined = self.ids[number]
        for start in range(0, len(joined), ID_BYTES):
            yield joined[start : start + ID_BYTES]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A pack that prune no longer counts on, and since when."""

    at: datetime
    list: PackList


@dataclass(frozen=True, slots=True)
class IndexObject:
    """The contents of one index object."""

    packs: tuple[PackList, ...] = ()
    dropped: tuple[Dropped, ...] = ()


class _SegmentRow(msgspec.Struct, array_like=True):
    order: int
    session: int
    length: int
    digest: bytes
    ids: bytes


class _PackRow(msgspec.Struct, array_like=True):
    pack: bytes
    size: int
    sessions: list[bytes]
    segments: list[_SegmentRow]


class _DroppedRow(msgspec.Struct, array_like=True):
    at_us: int
    pack: _PackRow


class _IndexRow(msgspec.Struct, array_like=True):
    packs: list[_PackRow]
    dropped: list[_DroppedRow]


_encoder = msgspec.msgpack.Encoder()
_footer_decoder = msgspec.msgpack.Decoder(_PackRow)
_index_decoder = msgspec.msgpack.Decoder(_IndexRow)


def digest_of(data: bytes) -> bytes:
    """What a segment, and a pack, is known by: the BLAKE3 of its bytes, cut to 16."""
    return bytes(blake3(data).digest(ID_BYTES))


def encode_footer(key: bytes, segments: Iterable[Segment], ids: Iterable[bytes]) -> bytes:
    """Seal the footer of a pack; its name and size are not yet known, so they stay empty."""
    row = _to_row(PackList(b"", 0, tuple(segments), tuple(ids)))
    return seal_structure(key, _encoder.encode(row), purpose="footer", words=False)


def decode_footer(key: bytes, frame: bytes, *, pack: bytes, size: int, what: str) -> PackList:
    """Open the footer of a pack.

    Raises:
        DamagedError: it does not open, or does not add up to the pack.
    """
    plain = open_structure(key, frame, purpose="footer", what=what)
    row = _decoded(_footer_decoder, plain, what=what)
    row.pack, row.size = pack, size
    found = _from_row(row, what=what)
    end = (
        found.segments[-1].offset + found.segments[-1].length if found.segments else len(PACK_MAGIC)
    )
    if end + len(frame) + FOOTER_LENGTH_BYTES != size:
        raise DamagedError(f"open {what}: its footer does not add up")
    return found


def encode_index(key: bytes, value: IndexObject, *, name: str) -> bytes:
    """Seal an index object under its name."""
    row = _IndexRow(
        [_to_row(entry) for entry in value.packs],
        [
            _DroppedRow((d.at - _EPOCH) // timedelta(microseconds=1), _to_row(d.list))
            for d in value.dropped
        ],
    )
    return seal_structure(key, _encoder.encode(row), purpose=f"index {name}", words=False)


def decode_index(key: bytes, data: bytes, *, name: str) -> IndexObject:
    """Open an index object.

    Raises:
        DamagedError: it does not open under its name.
    """
    plain = open_structure(key, data, purpose=f"index {name}", what=name)
    row = _decoded(_index_decoder, plain, what=name)
    return IndexObject(
        tuple(_from_row(entry, what=name) for entry in row.packs),
        tuple(
            Dropped(_EPOCH + timedelta(microseconds=d.at_us), _from_row(d.pack, what=name))
            for d in row.dropped
        ),
    )


def _decoded(decoder: msgspec.msgpack.Decoder[_T], plain: bytes, *, what: str) -> _T:
    try:
        return decoder.decode(plain)
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedError(f"open {what}: it is no list of segments") from error


def _to_row(entry: PackList) -> _PackRow:
    sessions = sorted({segment.session for segment in entry.segments if segment.session})
    return _PackRow(
        entry.pack,
        entry.size,
        sessions,
        [
            _SegmentRow(
                s.order, sessions.index(s.session) + 1 if s.session else 0, s.length, s.digest, ids
            )
            for s, ids in zip(entry.segments, entry.ids, strict=True)
        ],
    )


def _from_row(row: _PackRow, *, what: str) -> PackList:
    offset = len(PACK_MAGIC)
    segments: list[Segment] = []
    for s in row.segments:
        if (
            not 0 <= s.session <= len(row.sessions)
            or len(s.digest) != ID_BYTES
            or len(s.ids) % ID_BYTES
        ):
            raise DamagedError(f"open {what}: it is no list of segments")
        session = row.sessions[s.session - 1] if s.session else b""
        segments.append(Segment(s.order, session, s.length, s.digest, row.pack, offset))
        offset += s.length
    return PackList(row.pack, row.size, tuple(segments), tuple(s.ids for s in row.segments))


@dataclass
class Snapshot:
    """What some index objects say together, in memory: about 150 bytes a blob. Grows, never shrinks."""

    objects: set[str] = field(default_factory=set)
    """The index objects that it was made from."""
    packs: dict[bytes, PackList] = field(default_factory=dict)
    dropped: dict[bytes, Dropped] = field(default_factory=dict)
    by_digest: dict[bytes, Segment] = field(default_factory=dict)
    """Live segments."""
    _segments: list[Segment] = field(default_factory=list)
    _blobs: dict[bytes, int] = field(default_factory=dict)
    _fallback: dict[bytes, tuple[Segment, int]] = field(default_factory=dict)
    _dropped_digests: dict[bytes, Segment] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, value: IndexObject) -> None:
        """Take an index object in. A pack that any object lists as live is live."""
        with self._lock:
            if name in self.objects:
                return
            self.objects.add(name)
            for entry in value.packs:
                self._add_pack(entry)
            for dropped in value.dropped:
                known = self.dropped.get(dropped.list.pack)
                if known is None or known.at < dropped.at:
                    self.dropped[dropped.list.pack] = dropped
                self._add_dropped(dropped.list)

    def find(self, blob: bytes) -> tuple[Segment, int] | None:
        """Where a blob lies that writers may count on: its segment, and its number there."""
        packed = self._blobs.get(blob)
        if packed is None:
            return None
        return self._segments[packed >> _ORDINAL_BITS], packed & ((1 << _ORDINAL_BITS) - 1)

    def find_any(self, blob: bytes) -> tuple[Segment, int] | None:
        """Where a blob can still be read."""
        return self.find(blob) or self._fallback.get(blob)

    def segment(self, digest: bytes) -> Segment | None:
        """A segment that can still be read, by its digest."""
        return self.by_digest.get(digest) or self._dropped_digests.get(digest)

    def live_dropped(self) -> dict[bytes, Dropped]:
        """The packs that are dropped and nowhere listed as live."""
        return {pack: d for pack, d in self.dropped.items() if pack not in self.packs}

    def _add_pack(self, entry: PackList) -> None:
        if entry.pack in self.packs:
            return
        self.packs[entry.pack] = entry
        for number, segment in enumerate(entry.segments):
            known = self.by_digest.get(segment.digest)
            if known is not None and known.pack <= segment.pack:
                continue
            self.by_digest[segment.digest] = segment
            serial = len(self._segments)
            self._segments.append(segment)
            for ordinal, blob in enumerate(entry.blob_ids(number)):
                # The earliest segment wins, whatever the order of loading: references stay the same.
                present = self.find(blob)
                if present is None or (present[0].order, present[0].digest, present[0].pack) >= (
                    segment.order,
                    segment.digest,
                    segment.pack,
                ):
                    self._blobs[blob] = serial << _ORDINAL_BITS | ordinal

    def _add_dropped(self, entry: PackList) -> None:
        for number, segment in enumerate(entry.segments):
            self._dropped_digests.setdefault(segment.digest, segment)
            for ordinal, blob in enumerate(entry.blob_ids(number)):
                self._fallback.setdefault(blob, (segment, ordinal))
