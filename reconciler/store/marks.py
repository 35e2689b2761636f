"""What lies in a domain, and which of its segments the points need: the facts that prune decides on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from reconciler.store import names
from reconciler.store.domain import Domain
from reconciler.store.index import IndexObject, Snapshot
from reconciler.store.pointobject import open_point, segments_of, sequences_of
from reconciler.store.port import DamagedError, ObjectMissingError, StoredObject
from reconciler.store.reach import reach_nodes, segment_of


@dataclass(frozen=True)
class State:
    """A domain as it was listed and its index as it was read, at one time."""

    snapshot: Snapshot
    indexes: dict[str, IndexObject]
    objects: dict[str, StoredObject]
    """Everything that was listed."""
    indexes_found: dict[str, StoredObject]
    packs_found: dict[bytes, StoredObject]
    sessions_found: dict[bytes, StoredObject]


def read_state(domain: Domain) -> State:
    """List a domain and read its index, and let the domain use it.

    Raises:
        DamagedError: an index object does not open.
    """
    # Index first: a pack is written before the index object that lists it, so all listed packs are seen.
    snapshot = Snapshot()
    indexes: dict[str, IndexObject] = {}
    for entry in list(domain.storage.entries(names.index_prefix(domain.name))):
        try:
            indexes[entry.name] = domain.read_index(entry.name)
        except ObjectMissingError as error:
            raise DamagedError(
                f"read index of domain {domain.name}: {entry.name} went away",
                hint="another prune is at work; try again when it has ended",
            ) from error
        snapshot.add(entry.name, indexes[entry.name])
    domain.use(snapshot)
    listed = {e.name: e for e in domain.storage.entries(names.domain_prefix(domain.name))}
    return State(
        snapshot=snapshot,
        indexes=indexes,
        objects=listed,
        indexes_found={name: listed[name] for name in indexes if name in listed},
        packs_found=_by_id(listed, names.packs_prefix(domain.name)),
        sessions_found=_by_id(listed, names.sessions_prefix(domain.name)),
    )


def mark(domain: Domain, *, without: Collection[str] = ()) -> set[bytes]:
    """The digests of all segments that points need: what they list, and what the lists themselves lie in.

    Raises:
        DamagedError: a point does not open, so what it needs is not known.
    """
    live: set[bytes] = set()
    walked: set[bytes] = set()
    for name in list(domain.points()):
        if name in without:
            continue
        try:
            row = open_point(domain, name, domain.storage.read(name))
        except ObjectMissingError:
            continue
        live.update(segments_of(domain, row))
        for sequence in (*sequences_of(row), *([row.segments_root] if row.segments_root else ())):
            if sequence in walked:
                continue
            walked.add(sequence)
            live.update(segment_of(domain, node).digest for node in reach_nodes(domain, sequence))
    return live


def _by_id(listed: dict[str, StoredObject], prefix: str) -> dict[bytes, StoredObject]:
    found: dict[bytes, StoredObject] = {}
    for name, entry in listed.items():
        key = names.parse_id(name) if name.startswith(prefix) else None
        if key is not None:
            found[key] = entry
    return found
