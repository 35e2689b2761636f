"""Streams: bytes cut where their content says, each piece a blob; the root is a sequence of (id, length).

Pieces are 256 KiB to 4 MiB, 1 MiB between (FastCDC 2020, gear table and masks as published, no seed). A stream of at
most 256 KiB is one piece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator

from pyfastcdc import FastCDC

from reconciler.store.domain import Domain
from reconciler.store.port import DamagedError, Root
from reconciler.store.sequence import WIDE, SequenceWriter, read_sequence
from reconciler.store.varint import read_varint, write_varint
from reconciler.store.writer import Sink

PIECE_MIN, PIECE_AVERAGE, PIECE_MAX = 1 << 18, 1 << 20, 1 << 22
_BUFFER_BYTES = 8 * 1024 * 1024
ID_BYTES = 16


def cut(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a run of bytes by its content. How it arrives makes no difference."""
    cutter = FastCDC(PIECE_AVERAGE, min_size=PIECE_MIN, max_size=PIECE_MAX)
    buffer = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            room = _BUFFER_BYTES - len(buffer)
            buffer += view[:room]
            view = view[room:]
            if len(buffer) >= _BUFFER_BYTES:
                buffer = yield from _cut_buffer(cutter, buffer, final=False)
    yield from _cut_buffer(cutter, buffer, final=True)


def _cut_buffer(
    cutter: FastCDC, buffer: bytearray, *, final: bool
) -> Generator[bytes, None, bytearray]:
    """Yield the pieces of a buffer and return what is left: the last one may go on behind the buffer's end."""
    data = bytes(buffer)
    view = memoryview(data)
    done = 0
    for piece in cutter.cut_buf(data):
        end = piece.offset + piece.length
        if end == len(data) and not final:
            break
        yield bytes(view[piece.offset : end])
        done = end
    return bytearray(view[done:])


def write_pieces(chunks: Iterable[bytes], sink: Sink) -> tuple[bytes, int, int]:
    """Store a run of bytes; return the id of its sequence, its length and the number of pieces."""
    writer = SequenceWriter(sink.node, hash_of=sink.hash_of, shape=WIDE)
    size = count = 0
    for piece in cut(chunks):
        value = bytearray(sink.chunk(piece))
        write_varint(value, len(piece))
        writer.add(b"", bytes(value))
        size += len(piece)
        count += 1
    return writer.finish(), size, count


def write_stream(chunks: Iterable[bytes], sink: Sink) -> Root:
    """Store a stream."""
    whole = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for chunk in chunks:
            whole.update(chunk)
            yield chunk

    root, size, count = write_pieces(hashed(), sink)
    return Root(
        form="stream", digest=root.hex(), size_bytes=size, items=count, sha256=whole.hexdigest()
    )


def read_pieces(domain: Domain, root: bytes) -> Iterator[bytes]:
    """The pieces of a stream, each checked.

    Raises:
        DamagedError: a piece is missing or not what was written.
    """
    for _, value in read_sequence(lambda node: domain.blob("node", node), root):
        blob, length = split_piece(value)
        piece = domain.blob("chunk", blob)
        if len(piece) != length:
            raise DamagedError(
                f"read chunk {blob.hex()}: it has another length than its stream says"
            )
        yield piece


def split_piece(value: bytes) -> tuple[bytes, int]:
    """The id and length of a piece, as the sequence has them."""
    try:
        length, end = read_varint(value, ID_BYTES)
    except IndexError as error:
        raise DamagedError("read stream: its list of pieces is no such list") from error
    if end != len(value):
        raise DamagedError("read stream: its list of pieces is no such list")
    return value[:ID_BYTES], length


def read_stream(domain: Domain, root: Root) -> Iterator[bytes]:
    """The bytes of a stream; its SHA-256 is compared at the end."""
    whole = hashlib.sha256()
    size = 0
    for piece in read_pieces(domain, bytes.fromhex(root.digest)):
        whole.update(piece)
        size += len(piece)
        yield piece
    if size != root.size_bytes or (root.sha256 and whole.hexdigest() != root.sha256):
        raise DamagedError(f"read stream {root.digest}: it is not what its root says")
