"""A location opened with its keys: `ContentStore` implements the port `Store`."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from reconciler.clock import Clock
from reconciler.objects import Manifest, ObjectKey
from reconciler.store import names
from reconciler.store.domain import Domain
from reconciler.store.keys import GRACE, WRITER_FEATURES, LocationKeys, open_location
from reconciler.store.pointobject import open_point, read_point
from reconciler.store.port import (
    DamagedError,
    Fault,
    Point,
    PointName,
    Root,
    Session,
    Storage,
    TableEntry,
    TreeEntry,
)
from reconciler.store.reach import root_id
from reconciler.store.session import ContentSession, refuse_writing
from reconciler.store.stream import read_stream
from reconciler.store.table import read_objects, read_table
from reconciler.store.tree import read_tree


@dataclass(frozen=True, slots=True)
class Summary:
    """What a location, or a domain of it, holds."""

    stored_bytes: int
    points: int
    packs: int


class ContentStore:
    """Implements `Store`. Made by `open_store`."""

    def __init__(
        self,
        storage: Storage,
        keys: LocationKeys,
        *,
        clock: Clock,
        grace: timedelta = GRACE,
        unknown_writer_features: tuple[str, ...] = (),
        opened_with: str = "",
    ) -> None:
        self.storage = storage
        self.keys = keys
        self.clock = clock
        self.grace = grace
        self.opened_with = opened_with
        """The key slot that opened it."""
        self._unknown_writer_features = unknown_writer_features
        self._domains: dict[str, Domain] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it is."""
        return self.storage.url

    @property
    def fingerprint(self) -> str:
        """Stands for the keys that opened it."""
        return self.keys.fingerprint

    def domain(self, name: str) -> Domain:
        """The read side of a domain."""
        with self._lock:
            known = self._domains.get(name)
            if known is None:
                known = Domain(self.storage, self.keys, name, clock=self.clock)
                self._domains[name] = known
            return known

    def session(self, domain: str) -> Session:
        """Start writing to a domain.

        Raises:
            RefusedError: the location needs writer features that this version does not have.
        """
        if self._unknown_writer_features:
            raise refuse_writing(self.url, self._unknown_writer_features)
        return ContentSession(self.domain(domain), grace=self.grace)

    def points(self, domain: str | None = None) -> Iterator[PointName]:
        """All points, from a listing alone, sorted."""
        prefix = names.DOMAINS if domain is None else names.points_prefix(domain)
        found = (names.parse_point(entry.name) for entry in self.storage.entries(prefix))
        yield from sorted(
            (name for name in found if name is not None),
            key=lambda n: (n.domain, n.namespace, n.application, n.slot),
        )

    def point(self, name: PointName) -> tuple[Point, str]:
        """Read a point and its digest."""
        domain = self.domain(name.domain)
        object_name = names.point_object(name)
        data = self.storage.read(object_name)
        point = read_point(domain, open_point(domain, object_name, data))
        return point, hashlib.sha256(data).hexdigest()

    def table(self, domain: str, root: Root) -> Iterator[TableEntry]:
        """The rows of a table, sorted by key."""
        root_id(root)
        return read_table(self.domain(domain), root)

    def objects(
        self, domain: str, root: Root, *, keys: set[ObjectKey] | None = None
    ) -> Iterator[tuple[ObjectKey, Manifest]]:
        """The objects of a table, sorted by key; only `keys` when given."""
        root_id(root)
        for key, projection in read_objects(self.domain(domain), root, keys=keys):
            manifest = msgspec.json.decode(projection)
            if not isinstance(manifest, dict):
                raise DamagedError(f"read {key}: its record is no manifest")
            yield key, manifest

    def stream(self, domain: str, root: Root) -> Iterator[bytes]:
        """The bytes of a stream."""
        root_id(root)
        return read_stream(self.domain(domain), root)

    def tree(self, domain: str, root: Root) -> Iterator[TreeEntry]:
        """The files of a tree."""
        root_id(root)
        return read_tree(self.domain(domain), root)

    def verify(
        self, name: PointName | None = None, *, read_data: float = 0.0, domain: str | None = None
    ) -> Iterator[Fault]:
        """Check a point or all; see `Store.verify`."""
        from reconciler.store.verify import verify

        return verify(self, name, read_data=read_data, domain=domain)


def open_store(
    storage: Storage, passphrase: str, *, clock: Clock, grace: timedelta = GRACE
) -> ContentStore:
    """Open a location with a passphrase. `grace` is what its sessions count on; prune keeps to no less.

    Raises:
        LocationMissingError: it was never made ready.
        FormatRefusedError: this version does not support its format.
        KeyRejectedError: the passphrase opens none of its keys.
        DamagedError: the format, or every key, is damaged.
    """
    keys, body, slot = open_location(storage, passphrase)
    unknown = set(body.get("writerFeatures", [])) - WRITER_FEATURES
    return ContentStore(
        storage,
        keys,
        clock=clock,
        grace=grace,
        unknown_writer_features=tuple(sorted(unknown)),
        opened_with=slot,
    )


def summarise(store: ContentStore, domain: str | None = None) -> Summary:
    """Count what lies in a location, from a listing alone."""
    prefix = "" if domain is None else names.domain_prefix(domain)
    stored = points = packs = 0
    for entry in store.storage.entries(prefix):
        stored += entry.size
        points += names.parse_point(entry.name) is not None
        packs += "/packs/" in entry.name
    return Summary(stored_bytes=stored, points=points, packs=packs)
