"""File trees: entries sorted by path in a content-defined sequence, contents as pieces.

A file of at most 256 KiB is one piece, bundled with others; a larger one is a stream of its own. Extended attributes
are content, not structure: they are kept as a piece, which most files share. An entry refers to its contents, so an
unchanged part of a tree is not stored again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Literal, get_args

import msgspec

from reconciler.errors import UsageError
from reconciler.store.domain import Domain
from reconciler.store.port import DamagedError, EarlierTree, EntryUnreadableError, Root, TreeEntry
from reconciler.store.sequence import WIDE, SequenceWriter, read_nodes, read_sequence
from reconciler.store.stream import read_pieces, split_piece, write_pieces
from reconciler.store.writer import Sink, total_bytes

SMALL_FILE_BYTES = 256 * 1024
FIELDS_ALWAYS = 5
EntryType = Literal["file", "directory", "symlink", "hardlink", "fifo", "character", "block"]
TYPES: tuple[EntryType, ...] = get_args(EntryType)


class TreeRow(msgspec.Struct, array_like=True):
    """An entry without its path; what an entry does not have is left off at the end."""

    type: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    piece: bytes = b""
    """The content of a small file."""
    pieces: bytes = b""
    """The sequence of a larger one's pieces."""
    xattrs: bytes = b""
    link: bytes = b""
    major: int = 0
    minor: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TreeRow)
_xattrs_decoder = msgspec.msgpack.Decoder(dict[bytes, bytes])


class Base:
    """The rows of an earlier tree, met in order while a later one is written."""

    def __init__(self, domain: Domain, earlier: EarlierTree) -> None:
        self._domain = domain
        self._rows = tree_rows(domain, bytes.fromhex(earlier.root.digest))
        self._before_ns = int(earlier.began_at.timestamp() * 1_000_000_000)
        self._next: tuple[bytes, bytes] | None = (b"", b"")

    def row(self, path: bytes, entry: TreeEntry, sink: Sink) -> TreeRow | None:
        """The earlier row of a file that is the same by size and time, when all that it refers to is there.

        Paths must rise; one that does not is not found.
        """
        wanted = path + b"\0"
        while self._next is not None and self._next[0] < wanted:
            following = next(self._rows, None)
            self._next = (following[0] + b"\0", following[1]) if following else None
        if self._next is None or self._next[0] != wanted:
            return None
        row = decode_row(self._next[1])
        is_same = (
            TYPES[row.type] == "file"
            and row.size == entry.size_bytes
            and row.mtime_ns == entry.mtime_ns
            # What was written while the earlier tree was read may have changed again within one tick of the clock.
            and row.mtime_ns < self._before_ns
        )
        if not is_same:
            return None
        try:
            is_there = all(sink.needs(blob) for blob in content_blobs(self._domain, row))
        except DamagedError:
            return None
        return row if is_there else None


def write_tree(
    entries: Iterable[TreeEntry], sink: Sink, *, is_sorted: bool = False, base: Base | None = None
) -> Root:
    """Store a tree.

    Raises:
        UsageError: a path is not one, comes twice, or comes too late in a tree that is said to be sorted.
    """
    size = count = 0

    def rows() -> Iterator[tuple[bytes, bytes]]:
        nonlocal size, count
        for entry in entries:
            path = b"" if entry.path == "." else _checked_path(os.fsencode(entry.path))
            try:
                row = _put_entry(entry, path, sink, base)
            except EntryUnreadableError:
                continue
            size += row.size
            count += 1
            yield path, encode_row(row)

    writer = SequenceWriter(sink.node, hash_of=sink.hash_of, shape=WIDE)
    before: bytes | None = None
    for path, value in rows() if is_sorted else _sorted(rows()):
        if before is not None and path + b"\0" <= before + b"\0":
            problem = "comes twice" if path == before else "comes too late"
            raise UsageError(f"store tree: {os.fsdecode(path)!r} {problem}")
        before = path
        writer.add(path, value)
    return Root(form="tree", digest=writer.finish().hex(), size_bytes=size, items=count)


def _sorted(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Rows in the order of their paths; one bytes object each, which is what memory is spent on."""
    # The zero byte sorts before all that a path may hold.
    for joined in sorted([path + b"\0" + value for path, value in rows]):
        path, _, value = joined.partition(b"\0")
        yield path, value


def read_tree(domain: Domain, root: Root) -> Iterator[TreeEntry]:
    """The entries of a tree: parents before children, hard links last, behind what they link to."""
    links: list[TreeEntry] = []
    for path, value in tree_rows(domain, bytes.fromhex(root.digest)):
        entry = _entry(domain, path, decode_row(value))
        if entry.type == "hardlink":
            links.append(entry)
        else:
            yield entry
    yield from links


def tree_rows(domain: Domain, root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a tree as they are stored."""
    return read_sequence(lambda node: domain.blob("node", node), root)


def encode_row(row: TreeRow) -> bytes:
    """Write a row, without the fields at its end that say nothing."""
    fields = list(msgspec.structs.astuple(row))
    while len(fields) > FIELDS_ALWAYS and not fields[-1]:
        fields.pop()
    return _encoder.encode(fields)


def decode_row(value: bytes) -> TreeRow:
    """Read a row.

    Raises:
        DamagedError: it is none.
    """
    try:
        row = _decoder.decode(value)
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedError("read tree: a row is no file") from error
    if not 0 <= row.type < len(TYPES):
        raise DamagedError("read tree: a row is of an unknown type")
    return row


def _put_entry(entry: TreeEntry, path: bytes, sink: Sink, base: Base | None) -> TreeRow:
    known = base.row(path, entry, sink) if base is not None and entry.type == "file" else None
    row = TreeRow(
        TYPES.index(entry.type),
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime_ns,
        link=os.fsencode(entry.link),
        major=entry.device[0],
        minor=entry.device[1],
    )
    if entry.xattrs:
        pairs = sorted((os.fsencode(name), value) for name, value in entry.xattrs.items())
        row.xattrs = sink.chunk(_encoder.encode(dict(pairs)))
    if entry.type == "hardlink":
        _checked_path(row.link)
    if known is not None:
        row.size, row.piece, row.pieces = known.size, known.piece, known.pieces
    elif entry.type == "file":
        _put_content(entry, row, sink)
    return row


def _put_content(entry: TreeEntry, row: TreeRow, sink: Sink) -> None:
    pieces = iter(entry.content() if entry.content else ())
    head: list[bytes] = []
    for piece in pieces:
        head.append(piece)
        if total_bytes(head) > SMALL_FILE_BYTES:
            row.pieces, row.size, _ = write_pieces(chain(head, pieces), sink)
            return
    data = b"".join(head)
    row.size = len(data)
    if data:
        row.piece = sink.chunk(data)


def content_blobs(domain: Domain, row: TreeRow) -> Iterator[bytes]:
    """The ids of the blobs that hold a file's bytes, nodes of their sequence included."""
    if row.piece:
        yield row.piece
    if row.pieces:
        nodes = read_nodes(lambda node: domain.blob("node", node), row.pieces)
        for node, entries in nodes:
            yield node
            for _, value in entries:
                yield split_piece(value)[0]


def _entry(domain: Domain, path: bytes, row: TreeRow) -> TreeEntry:
    try:
        if path:
            _checked_path(path)
        if TYPES[row.type] == "hardlink":
            _checked_path(row.link)
    except UsageError as error:
        raise DamagedError(f"read tree: {error.message}") from error
    kind = TYPES[row.type]
    entry = TreeEntry(
        path=os.fsdecode(path) or ".",
        type=kind,
        mode=row.mode,
        uid=row.uid,
        gid=row.gid,
        mtime_ns=row.mtime_ns,
        size_bytes=row.size,
        link=os.fsdecode(row.link),
        device=(row.major, row.minor),
        xattrs=_xattrs(domain, row.xattrs),
    )
    return replace(entry, content=_opener(domain, row)) if kind == "file" else entry


def _xattrs(domain: Domain, blob: bytes) -> dict[str, bytes]:
    if not blob:
        return {}
    try:
        pairs = _xattrs_decoder.decode(domain.blob("chunk", blob))
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedError("read tree: extended attributes are none") from error
    return {os.fsdecode(name): value for name, value in pairs.items()}


def _opener(domain: Domain, row: TreeRow) -> Callable[[], Iterable[bytes]]:
    def content() -> Iterator[bytes]:
        size = 0
        source = (
            read_pieces(domain, row.pieces)
            if row.pieces
            else iter([domain.blob("chunk", row.piece)] if row.piece else [])
        )
        for piece in source:
            size += len(piece)
            yield piece
        if size != row.size:
            raise DamagedError("read tree: a file has another size than its row says")

    return content


def _checked_path(path: bytes) -> bytes:
    parts = path.split(b"/")
    if b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise UsageError(f"store tree: {os.fsdecode(path)[:200]!r} is no relative path")
    return path
