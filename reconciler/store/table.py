"""Object tables: sorted rows of (object key, record id), in a content-defined sequence.

A row's key is group, kind, namespace and name, each but the last ended by a zero byte, so that bytes sort as keys do.
Its value is the record's id. For a Secret the id is random, and behind it stand the uid and resourceVersion that it
was read at: while both are the same the record is used again, and no digest of a Secret is kept anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

import msgspec

from reconciler.errors import UsageError
from reconciler.objects import ObjectKey
from reconciler.store.domain import Domain
from reconciler.store.port import DamagedError, ObjectInput, Root, TableEntry
from reconciler.store.sequence import SMALL, SequenceWriter, read_sequence
from reconciler.store.writer import Sink

ID_BYTES = 16
_SECRETS = (b"\0Secret\0", b"\0Secret\x01")

SecretHints = dict[bytes, tuple[bytes, str, str]]
"""Row key → record id, uid, resourceVersion."""


def write_table(objects: Iterable[ObjectInput], sink: Sink, *, hints: SecretHints) -> Root:
    """Store a set of objects.

    Raises:
        UsageError: two objects have the same key, or a key holds a zero byte.
    """
    rows: list[tuple[bytes, bytes]] = []
    size = 0
    for item in objects:
        key = encode_key(item.key)
        size += len(item.projection)
        if is_secret(item.key):
            rows.append((key, _put_secret(item, sink, known=hints.get(key))))
        else:
            rows.append((key, sink.record(item.projection)))
    rows.sort()
    writer = SequenceWriter(sink.node, hash_of=sink.hash_of, shape=SMALL)
    before: bytes | None = None
    for key, value in rows:
        if key == before:
            raise UsageError(f"store objects: {decode_key(key)} comes twice")
        before = key
        writer.add(key, value)
    return Root(form="table", digest=writer.finish().hex(), size_bytes=size, items=len(rows))


def read_hints(domain: Domain, root: Root) -> SecretHints:
    """The Secrets of a table, and what they were read at."""
    start, end = _SECRETS
    found: SecretHints = {}
    for key, value in _rows(domain, root, start=start, end=end):
        record, uid, version = _split(value)
        found[key] = (record, uid, version)
    return found


def read_table(domain: Domain, root: Root) -> Iterator[TableEntry]:
    """The rows of a table, sorted by key."""
    for key, value in _rows(domain, root):
        yield TableEntry(decode_key(key), value[:ID_BYTES])


def read_objects(
    domain: Domain, root: Root, *, keys: set[ObjectKey] | None
) -> Iterator[tuple[ObjectKey, bytes]]:
    """The projections of a table's objects, sorted by key; only `keys` when given."""
    wanted = None if keys is None else {encode_key(key) for key in keys}
    if wanted is not None and not wanted:
        return
    start = min(wanted) if wanted else b""
    end = max(wanted) + b"\0" if wanted else None
    for key, value in _rows(domain, root, start=start, end=end):
        if wanted is None or key in wanted:
            yield decode_key(key), read_record(domain, value)


def read_record(domain: Domain, value: bytes) -> bytes:
    """The projection that a row's value names."""
    return domain.blob("record", value[:ID_BYTES], random=len(value) > ID_BYTES)


def is_secret(key: ObjectKey) -> bool:
    """Tell a core Secret."""
    return key.group == "" and key.kind == "Secret"


def encode_key(key: ObjectKey) -> bytes:
    """A key as a row has it."""
    parts = (key.group, key.kind, key.namespace, key.name)
    if any("\0" in part for part in parts):
        raise UsageError(f"store object {key.kind} {key.name[:80]!r}: a zero byte in its key")
    return "\0".join(parts).encode("utf-8", "surrogatepass")


def decode_key(data: bytes) -> ObjectKey:
    """The reverse of `encode_key`.

    Raises:
        DamagedError: it has not four parts.
    """
    try:
        group, kind, namespace, name = data.decode("utf-8", "surrogatepass").split("\0")
    except ValueError as error:
        raise DamagedError("read table: a row has no object key") from error
    return ObjectKey(group, kind, namespace, name)


def _rows(
    domain: Domain, root: Root, *, start: bytes = b"", end: bytes | None = None
) -> Iterator[tuple[bytes, bytes]]:
    def read(node: bytes) -> bytes:
        return domain.blob("node", node)

    return read_sequence(read, bytes.fromhex(root.digest), start=start, end=end)


def _put_secret(item: ObjectInput, sink: Sink, *, known: tuple[bytes, str, str] | None) -> bytes:
    read_at = (item.uid, item.resource_version)
    is_same = known is not None and known[1:] == read_at and all(read_at)
    if is_same and known is not None and sink.needs(known[0]):
        record = known[0]
    else:
        record = sink.secret(item.projection)
    return record + _encode_hints(item.uid, item.resource_version)


def _encode_hints(uid: str, version: str) -> bytes:
    """Both as short as they can be: a UUID as its 16 bytes, a number as one; else as they are."""
    short: bytes | str = uid
    try:
        if str(parsed := UUID(uid)) == uid:
            short = parsed.bytes
    except ValueError:
        pass
    is_number = version.isascii() and version.isdigit() and len(version) <= 18
    number = int(version) if is_number and str(int(version)) == version else None
    return msgspec.msgpack.encode((short, version if number is None else number))


def _split(value: bytes) -> tuple[bytes, str, str]:
    try:
        match msgspec.msgpack.decode(value[ID_BYTES:]):
            case [bytes() as uid, str() | int() as version] if len(uid) == ID_BYTES:
                return value[:ID_BYTES], str(UUID(bytes=uid)), str(version)
            case [str() as uid, str() | int() as version]:
                return value[:ID_BYTES], uid, str(version)
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedError("read table: the row of a Secret has no hints") from error
    raise DamagedError("read table: the row of a Secret has no hints")
