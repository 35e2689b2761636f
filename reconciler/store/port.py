"""What the rest of the house may ask of a store: sessions that write, points that are read.

A *location* holds one `format` object, `keys/`, and one domain for each cluster. Within a domain, blobs lie
in packs, found by the index. A *point* is an immutable object `points/<namespace>/<application>/<slot>`,
created only if absent; whoever creates it has won the slot. Roots (`Root`) name an object table, a tree or a
stream inside the domain; they are small, plain values that a point carries.

Order of durability: every blob and index entry a point needs is durable before `publish` creates the point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, Self

from reconciler.errors import ReconcilerError, TerminalError, TransientError
from reconciler.objects import Manifest, ObjectKey


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in storage. `modified_at` is by the storage's own clock."""

    name: str
    size: int
    modified_at: datetime


class Storage(Protocol):
    """Object storage: flat names with `/`, whole-object writes. The narrow port below the store.

    Adapters: a directory (temporary file, fsync, link or rename, fsync of the directory), memory for tests.
    Methods may raise `StorageUnavailableError` (try again), `StorageFullError`, `StorageReadOnlyError`, and
    `LocationMissingError` when the place itself is gone.
    """

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        ...

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must be absent; durable when it returns.

        Raises:
            ObjectExistsError: it is there; nothing was changed.
        """
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Write an object whether it is there or not; readers see the old or the new one, whole."""
        ...

    def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read an object or a part of it.

        Raises:
            ObjectMissingError: it is not there.
        """
        ...

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose name starts with `prefix`, sorted by name."""
        ...

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens when it is absent."""
        ...

    def now(self) -> datetime:
        """The storage's own clock."""
        ...


@dataclass(frozen=True, slots=True)
class Root:
    """Names content inside a domain. `digest` is its keyed id in hex; `size_bytes` its size unpacked."""

    form: Literal["table", "stream", "tree"]
    digest: str
    size_bytes: int
    items: int
    sha256: str = ""
    """Of a stream's bytes, in hex."""


@dataclass(frozen=True, slots=True)
class ObjectInput:
    """One object for a table: the canonical JSON of its projection, and the hints that say whether a
    Secret (group empty, kind Secret) changed.
    """

    key: ObjectKey
    projection: bytes
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One row of an object table. `record` is equal for equal projections (random for Secrets)."""

    key: ObjectKey
    record: bytes


@dataclass(frozen=True)
class TreeEntry:
    """One file of a tree. Paths are relative, `/`-separated, without `..`; undecodable bytes are
    surrogate-escaped. `content` opens the bytes of a regular file and is None for everything else.
    """

    path: str
    type: Literal["file", "directory", "symlink", "hardlink", "fifo", "character", "block"]
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size_bytes: int = 0
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    content: Callable[[], Iterable[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class EarlierTree:
    """A tree of the same folder, so that files which are the same by size and time are not read again."""

    root: Root
    began_at: datetime
    """When its reading began: what was written later is never taken for unchanged."""


@dataclass(frozen=True)
class Content:
    """A content of a point besides objects: a volume's files, or an artifact that a blueprint made."""

    name: str
    """`volume/<claim>` or `content/<blueprint>/<Kind>.<workload>/<artifact>`."""
    root: Root
    consistent_at: str = ""
    """RFC 3339, where it is known."""
    workload: str = ""
    """`ObjectKey.path` of the workload that a blueprint's artifact belongs to."""
    blueprint: dict[str, Any] | None = None
    """The blueprint as it was in force (its manifest), so that a restore needs no Git."""


@dataclass(frozen=True)
class Point:
    """A point object. `record` is a `RestorePointSpec` as JSON, without chain and locations, with the full
    list of outcomes.
    """

    record: dict[str, Any]
    table: Root
    contents: tuple[Content, ...] = ()


@dataclass(frozen=True, slots=True)
class PointName:
    """Names a point in a location."""

    domain: str
    namespace: str
    application: str
    slot: str

    @property
    def path(self) -> str:
        """`namespace/application/slot`."""
        return f"{self.namespace}/{self.application}/{self.slot}"


@dataclass(frozen=True, slots=True)
class Published:
    """A point that is in the store. `digest` is the SHA-256 of the object as it lies there, in hex."""

    name: PointName
    digest: str
    created: bool
    """False: somebody else's point has this name; ours was not written."""
    added_bytes: int
    """What this point added: its own new blobs (as stored, packs' overhead included) and the point object."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a location, found by `verify`."""

    object: str
    """The object in storage: `domains/…/packs/…`."""
    problem: str
    points: tuple[str, ...] = ()
    """The points that need it, where that is known."""


class Session(Protocol):
    """A writer. Thread-safe: one session serves all captures of a pass, so that they share packs.

    A context manager: leaving it after an exception abandons what was not published (prune frees it later).
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

    def put_table(self, objects: Iterable[ObjectInput], *, previous: Root | None) -> Root:
        """Store a set of objects. `previous` is the table of the application's last point: its Secrets'
        records are used again while uid and resourceVersion are the same.
        """
        ...

    def put_stream(self, chunks: Iterable[bytes]) -> Root:
        """Store a run of bytes, cut by content. Memory is bounded whatever its length."""
        ...

    def put_tree(
        self,
        entries: Iterable[TreeEntry],
        *,
        is_sorted: bool = False,
        earlier: EarlierTree | None = None,
    ) -> Root:
        """Store a file tree.

        Entries may come in any order; memory is bounded by about 200 bytes a file, or by nothing that grows where they
        come sorted by path (as bytes, a parent before its children). `earlier` needs sorted entries whose `size_bytes`
        is known. An entry whose `content` raises EntryUnreadableError is left out.
        """
        ...

    def checkpoint(self) -> None:
        """Make durable what was put so far: one that is killed later finds it again, and stores only the rest."""
        ...

    def added_bytes(self, root: Root) -> int:
        """What a root that was put here added to the location, as stored."""
        ...

    def publish(self, name: PointName, point: Point) -> Published:
        """Make everything durable, then create the point if it is absent."""
        ...

    def publish_all(
        self, points: Sequence[tuple[PointName, Point]]
    ) -> list[Published | ReconcilerError]:
        """Make everything durable once, then create the points one by one; each result or expected error."""
        ...


class Store(Protocol):
    """A location opened with its keys."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    def session(self, domain: str) -> Session:
        """Start writing to a domain."""
        ...

    def points(self, domain: str | None = None) -> Iterator[PointName]:
        """All points, from a listing alone, sorted; of every domain when none is given."""
        ...

    def point(self, name: PointName) -> tuple[Point, str]:
        """Read a point and its digest (see `Published.digest`).

        Raises:
            ObjectMissingError: there is no such point.
            DamagedError: it does not open.
        """
        ...

    def table(self, domain: str, root: Root) -> Iterator[TableEntry]:
        """The rows of a table, sorted by key."""
        ...

    def objects(
        self, domain: str, root: Root, *, keys: set[ObjectKey] | None = None
    ) -> Iterator[tuple[ObjectKey, Manifest]]:
        """The objects of a table, sorted by key; only `keys` when given."""
        ...

    def stream(self, domain: str, root: Root) -> Iterator[bytes]:
        """The bytes of a stream, each piece checked before it is handed out."""
        ...

    def tree(self, domain: str, root: Root) -> Iterator[TreeEntry]:
        """The files of a tree, directories before what is in them, `content` opening each file."""
        ...

    def verify(
        self, name: PointName | None = None, *, read_data: float = 0.0, domain: str | None = None
    ) -> Iterator[Fault]:
        """Check a point or all: roots, index, packs' presence and sizes; `read_data` is the share (0…1) of
        packs whose every byte is read and opened.
        """
        ...


class ObjectExistsError(TerminalError):
    """An object that must be absent is there."""


class EntryUnreadableError(TerminalError):
    """The content of a tree's entry cannot be read."""


class ObjectMissingError(TerminalError):
    """An object is not in storage."""


class DamagedError(TerminalError):
    """Bytes in a location are not what was written."""


class StorageUnavailableError(TransientError):
    """Storage did not answer."""


class StorageFullError(TerminalError):
    """No space left, or a quota."""

    exit_code = 10


class StorageReadOnlyError(TerminalError):
    """Storage refuses writes."""

    exit_code = 10
