"""Walks from a root to every blob that it needs, reading structure only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reconciler.errors import UsageError
from reconciler.store.domain import Domain, UnlistedError
from reconciler.store.index import Segment
from reconciler.store.port import Root
from reconciler.store.sequence import read_nodes
from reconciler.store.stream import split_piece
from reconciler.store.tree import content_blobs, decode_row

ID_BYTES = 16


def reach(domain: Domain, root: Root) -> Iterator[bytes]:
    """Yield the ids of the nodes and other blobs that a root needs; some come more than once.

    Raises:
        DamagedError: a node cannot be read.
        UsageError: the root names nothing.
    """
    top = root_id(root)
    match root.form:
        case "table":
            yield from _sequence(domain, top, lambda value: iter([value[:ID_BYTES]]))
        case "stream":
            yield from _sequence(domain, top, lambda value: iter([split_piece(value)[0]]))
        case "tree":
            yield from _sequence(domain, top, lambda value: _file(domain, value))


def reach_nodes(domain: Domain, root: bytes) -> Iterator[bytes]:
    """Yield the ids of a sequence's nodes."""
    return _sequence(domain, root, lambda _: iter(()))


def segment_of(domain: Domain, blob: bytes) -> Segment:
    """The segment that a blob can be read from.

    Raises:
        DamagedError: no index lists it.
    """
    found = domain.index().find_any(blob) or domain.refresh().find_any(blob)
    if found is None:
        raise UnlistedError(
            f"find blob {blob.hex()}: no index of domain {domain.name} lists it", blob=blob
        )
    return found[0]


def root_id(root: Root) -> bytes:
    """The id that a root's digest is.

    Raises:
        UsageError: it is none.
    """
    try:
        top = bytes.fromhex(root.digest)
    except ValueError:
        top = b""
    if len(top) != ID_BYTES:
        raise UsageError(f"read {root.form} {root.digest[:64]!r}: not a digest of this store")
    return top


def _sequence(
    domain: Domain, root: bytes, blobs_of: Callable[[bytes], Iterator[bytes]]
) -> Iterator[bytes]:
    for node, entries in read_nodes(lambda node: domain.blob("node", node), root):
        yield node
        for _, value in entries:
            yield from blobs_of(value)


def _file(domain: Domain, value: bytes) -> Iterator[bytes]:
    row = decode_row(value)
    if row.xattrs:
        yield row.xattrs
    yield from content_blobs(domain, row)
