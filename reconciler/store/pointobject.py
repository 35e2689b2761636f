"""Point objects: one sealed frame that names everything a restore needs, in about a kilobyte.

Long lists and large maps of the record, and blueprints, are sequences of their own: they are stored once for all
points in which they are the same. The point lists the segments it needs, by their digests: in place when they are
few, else as a sequence. With these lists prune knows what is in use, and anyone with the structure key can check the
ciphertext, without opening any content.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from reconciler.objects import canonical
from reconciler.store import names
from reconciler.store.domain import Domain
from reconciler.store.frames import open_structure, seal_structure
from reconciler.store.index import Segment
from reconciler.store.port import Content, DamagedError, Point, PointName, Root
from reconciler.store.reach import root_id
from reconciler.store.sequence import SMALL, SequenceWriter, read_sequence
from reconciler.store.writer import Sink

LIST_BYTES, VALUE_BYTES = 512, 2048
"""Above this a list, or another value, of the record is stored apart."""
INLINE_SEGMENTS = 12
_AS_LIST, _AS_MAP, _AS_VALUE = 0, 1, 2
DIGEST_BYTES = 16


class RootRow(msgspec.Struct, array_like=True):
    """A root in a point object."""

    form: str
    digest: bytes
    size_bytes: int
    items: int
    sha256: bytes


class ContentRow(msgspec.Struct, array_like=True):
    """A content in a point object; `blueprint` is the sequence that holds it, or empty."""

    name: str
    root: RootRow
    consistent_at: str
    workload: str
    blueprint: bytes


class PointRow(msgspec.Struct, array_like=True):
    """A point object. `apart` says how and in which sequence a value of the record is stored."""

    record: bytes
    apart: dict[str, tuple[int, bytes]]
    table: RootRow
    contents: list[ContentRow]
    segments: bytes
    """Digests, joined; or none, and then:"""
    segments_root: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PointRow)


def put_apart(point: Point, sink: Sink) -> PointRow:
    """Store what is large apart; return the row, its segments still to be filled in."""
    record: dict[str, Any] = {}
    apart: dict[str, tuple[int, bytes]] = {}
    for key, value in point.record.items():
        size = len(canonical(value))
        if isinstance(value, list) and size > LIST_BYTES:
            apart[key] = (_AS_LIST, _put_items(value, sink))
        elif isinstance(value, dict) and size > VALUE_BYTES:
            apart[key] = (_AS_MAP, _put_items([[k, value[k]] for k in sorted(value)], sink))
        elif size > VALUE_BYTES:
            apart[key] = (_AS_VALUE, _put_items([value], sink))
        else:
            record[key] = value
    contents = [
        ContentRow(
            content.name,
            _root_row(content.root),
            content.consistent_at,
            content.workload,
            b"" if content.blueprint is None else _put_items([content.blueprint], sink),
        )
        for content in point.contents
    ]
    return PointRow(canonical(record), apart, _root_row(point.table), contents, b"", b"")


def put_segments(row: PointRow, segments: Iterable[Segment], sink: Sink) -> None:
    """List the segments that a point needs: all are sealed by now."""
    listed = sorted({(segment.order, segment.digest) for segment in segments})
    if len(listed) <= INLINE_SEGMENTS:
        row.segments = b"".join(digest for _, digest in listed)
        return
    writer = SequenceWriter(sink.node, hash_of=sink.hash_of, shape=SMALL)
    for order, digest in listed:
        # By age: what is new comes last, so that most leaves stay as they are.
        writer.add(b"", order.to_bytes(8, "big") + digest)
    row.segments_root = writer.finish()


def seal_point(domain: Domain, name: PointName, row: PointRow) -> bytes:
    """The bytes of a point object; they open only under its name."""
    purpose = f"point {names.point_object(name)}"
    return seal_structure(domain.sealing, _encoder.encode(row), purpose=purpose)


def open_point(domain: Domain, object_name: str, data: bytes) -> PointRow:
    """Open a point object.

    Raises:
        DamagedError: it does not open under its name.
    """
    plain = open_structure(domain.sealing, data, purpose=f"point {object_name}", what=object_name)
    try:
        return _decoder.decode(plain)
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedError(f"open {object_name}: it is no point") from error


def read_point(domain: Domain, row: PointRow) -> Point:
    """The point that a row stands for, what is stored apart included."""
    record: dict[str, Any] = msgspec.json.decode(row.record)
    for key, (form, root) in row.apart.items():
        items = list(_items(domain, root))
        if form == _AS_LIST:
            record[key] = items
        elif form == _AS_MAP:
            record[key] = dict(items)
        else:
            record[key] = items[0]
    return Point(
        record=record,
        table=root_of(row.table),
        contents=tuple(
            Content(
                name=content.name,
                root=root_of(content.root),
                consistent_at=content.consistent_at,
                workload=content.workload,
                blueprint=next(_items(domain, content.blueprint)) if content.blueprint else None,
            )
            for content in row.contents
        ),
    )


def segments_of(domain: Domain, row: PointRow) -> Iterator[bytes]:
    """The digests of the segments that a point lists."""
    if row.segments_root:
        for _, value in read_sequence(lambda node: domain.blob("node", node), row.segments_root):
            yield value[8:]
        return
    for start in range(0, len(row.segments), DIGEST_BYTES):
        yield row.segments[start : start + DIGEST_BYTES]


def roots_of(row: PointRow) -> Iterator[Root]:
    """The roots of a point: its table, then its contents."""
    yield root_of(row.table)
    for content in row.contents:
        yield root_of(content.root)


def sequences_of(row: PointRow) -> Iterator[bytes]:
    """The sequences that hold what is stored apart."""
    for _, root in row.apart.values():
        yield root
    for content in row.contents:
        if content.blueprint:
            yield content.blueprint


def root_of(row: RootRow) -> Root:
    """A root as the rest of the house knows it."""
    if row.form not in ("table", "stream", "tree"):
        raise DamagedError(f"open point: a root of unknown form {row.form!r}")
    return Root(
        form=row.form,  # type: ignore[arg-type]  # checked above
        digest=row.digest.hex(),
        size_bytes=row.size_bytes,
        items=row.items,
        sha256=row.sha256.hex(),
    )


def _root_row(root: Root) -> RootRow:
    return RootRow(
        root.form, root_id(root), root.size_bytes, root.items, bytes.fromhex(root.sha256)
    )


def _put_items(items: list[Any], sink: Sink) -> bytes:
    writer = SequenceWriter(sink.node, hash_of=sink.hash_of, shape=SMALL)
    for item in items:
        writer.add(b"", canonical(item))
    return writer.finish()


def _items(domain: Domain, root: bytes) -> Iterator[Any]:
    for _, value in read_sequence(lambda node: domain.blob("node", node), root):
        yield msgspec.json.decode(value)
