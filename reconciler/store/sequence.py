"""Sorted or ordered runs of entries, cut into content-defined nodes: what did not change is not stored again.

An entry is a key (empty in plain lists) and a value. Where a leaf ends depends on the keyed hash of the entry's key
(of its value, when there is no key) and on where the leaf began, never on the rest; so an edit changes its own
leaf and, when it moves a border, the next few. The nodes of a level are the entries of the next one, cut in the same
way by other bits of the same hash, up to a single root. A node's id is the keyed hash of its bytes.

Inner entries carry the shortest text that separates a child from the one before it, so that a range is found without
reading everything; the first child of a node has none, for its parent knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reconciler.store.port import DamagedError
from reconciler.store.varint import read_varint, write_varint

LEVELS_MAX = 12
COUNT_MAX = 1 << 16

Entry = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a run is cut: no leaf under `least` entries (but the last), none over `most`, 2^-`bits` between."""

    least: int
    bits: int
    most: int


SMALL = Shape(least=10, bits=2, most=24)
"""About 14 entries: object tables and references, of which little changes at a time."""
WIDE = Shape(least=32, bits=5, most=128)
"""About 64 entries: trees and streams, which may have millions."""


@dataclass(slots=True)
class _Level:
    entries: list[Entry]
    separator: bytes
    """Between this node and the one before it on the level."""
    last_key: bytes = b""


def encode_node(level: int, entries: list[Entry]) -> bytes:
    """Level, count; then columns: shared prefix with the key before, rest of key, length of value; then the bytes."""
    out = bytearray()
    write_varint(out, level)
    write_varint(out, len(entries))
    shared: list[int] = []
    before = b""
    for key, _ in entries:
        shared.append(common_prefix(before, key))
        before = key
    for length in shared:
        write_varint(out, length)
    for (key, _), length in zip(entries, shared, strict=True):
        write_varint(out, len(key) - length)
    for _, value in entries:
        write_varint(out, len(value))
    for (key, _), length in zip(entries, shared, strict=True):
        out += key[length:]
    for _, value in entries:
        out += value
    return bytes(out)


def decode_node(data: bytes, *, what: str = "node") -> tuple[int, list[Entry]]:
    """The reverse of `encode_node`.

    Raises:
        DamagedError: it is no node.
    """
    try:
        level, at = read_varint(data, 0)
        count, at = read_varint(data, at)
        if level > LEVELS_MAX or count > COUNT_MAX:
            raise DamagedError(f"read {what}: it is no node")
        columns: list[int] = []
        for _ in range(3 * count):
            number, at = read_varint(data, at)
            columns.append(number)
    except IndexError as error:
        raise DamagedError(f"read {what}: it is no node") from error
    keys: list[bytes] = []
    before = b""
    for shared, rest in zip(columns[:count], columns[count : 2 * count], strict=True):
        before = before[:shared] + data[at : at + rest]
        keys.append(before)
        at += rest
    entries: list[Entry] = []
    for key, length in zip(keys, columns[2 * count :], strict=True):
        entries.append((key, data[at : at + length]))
        at += length
    if at != len(data):
        raise DamagedError(f"read {what}: it is no node")
    return level, entries


def common_prefix(a: bytes, b: bytes) -> int:
    """How many bytes two keys share at their beginning."""
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return size
    low, high = 0, size
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class SequenceWriter:
    """Takes entries in their order, hands nodes to `put`, and ends in the id of the root."""

    def __init__(
        self, put: Callable[[bytes], bytes], *, hash_of: Callable[[bytes], bytes], shape: Shape
    ) -> None:
        self._put = put
        self._hash_of = hash_of
        self._shape = shape
        self._levels: list[_Level] = [_Level([], b"")]
        self._mask = (1 << shape.bits) - 1

    def add(self, key: bytes, value: bytes) -> None:
        """Append an entry; keys rise strictly, or are all empty."""
        bits = int.from_bytes(self._hash_of(key or value)[:8], "little")
        leaf = self._levels[0]
        if not leaf.entries:
            leaf.separator = _separator(leaf.last_key, key)
        leaf.entries.append((key, value))
        leaf.last_key = key
        self._cut(0, bits)

    def finish(self) -> bytes:
        """Close all levels; return the id of the root."""
        level = 0
        while True:
            here = self._levels[level]
            if level == len(self._levels) - 1:
                # An inner root with a single child adds nothing: the child is the root.
                if level and len(here.entries) == 1:
                    return here.entries[0][1]
                return self._put(encode_node(level, here.entries))
            if here.entries:
                self._close(level)
            level += 1

    def _cut(self, level: int, bits: int) -> None:
        entries = len(self._levels[level].entries)
        shape = self._shape
        shift = min(level, LEVELS_MAX) * shape.bits
        wanted = (bits >> shift) & self._mask == 0
        if entries < shape.least or not (wanted or entries >= shape.most):
            return
        self._close(level)
        self._cut(level + 1, bits)

    def _close(self, level: int) -> None:
        here = self._levels[level]
        node = self._put(encode_node(level, here.entries))
        if level + 1 == len(self._levels):
            self._levels.append(_Level([], b""))
        above = self._levels[level + 1]
        if not above.entries:
            above.separator = here.separator
            above.entries.append((b"", node))
        else:
            above.entries.append((here.separator, node))
        here.entries = []


def _separator(before: bytes, key: bytes) -> bytes:
    """The shortest text that is greater than `before` and not greater than `key`."""
    return key[: common_prefix(before, key) + 1] if key else b""


def read_sequence(
    read: Callable[[bytes], bytes],
    root: bytes,
    *,
    start: bytes = b"",
    end: bytes | None = None,
) -> Iterator[Entry]:
    """Yield entries with `start <= key`, and `key < end` when given, in their order.

    Raises:
        DamagedError: a node is missing, or stands at the wrong level.
    """
    yield from _walk(read, root, level=None, start=start, end=end)


def _walk(
    read: Callable[[bytes], bytes],
    node: bytes,
    *,
    level: int | None,
    start: bytes,
    end: bytes | None,
) -> Iterator[Entry]:
    here, entries = decode_node(read(node), what=f"node {node.hex()}")
    if level is not None and here != level:
        raise DamagedError(f"read node {node.hex()}: it stands at the wrong level")
    for number, (key, value) in enumerate(entries):
        if here == 0:
            if key >= start and (end is None or key < end):
                yield key, value
            continue
        after = entries[number + 1][0] if number + 1 < len(entries) else None
        if (after is not None and after and after <= start) or (
            end is not None and key >= end > b""
        ):
            continue
        yield from _walk(read, value, level=here - 1, start=start, end=end)


def read_nodes(read: Callable[[bytes], bytes], root: bytes) -> Iterator[tuple[bytes, list[Entry]]]:
    """Yield each node's id, parents first, with the entries of leaves (empty for inner nodes)."""
    waiting: list[tuple[bytes, int | None]] = [(root, None)]
    while waiting:
        node, level = waiting.pop()
        here, entries = decode_node(read(node), what=f"node {node.hex()}")
        if level is not None and here != level:
            raise DamagedError(f"read node {node.hex()}: it stands at the wrong level")
        if here == 0:
            yield node, entries
            continue
        yield node, []
        waiting += [(value, here - 1) for _, value in reversed(entries)]
