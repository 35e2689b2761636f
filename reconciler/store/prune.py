"""Prune: delete roots that nobody keeps, then free what no remaining point needs, in two phases.

A pack that no point needs is first *dropped*: a new index object lists it as such, the old ones go, and writers no
longer count on it. Readers still find it. Only a prune that runs a grace period later deletes its file, after marking
again; a point that was published meanwhile, by a session that began before the drop, brings the pack back. A pack
that is mostly dead, or small among many small ones, is repacked: its live segments are copied as ciphertext into a
new pack, and the old one is dropped. Packs and sessions younger than the grace period belong to writers at work.

All ages are by the storage's clock. Every step leaves a location in which every remaining point is whole, so prune can
be killed anywhere and run again. What it deletes was in its plan, and is checked again before it goes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.errors import UsageError
from reconciler.store import names
from reconciler.store.content import ContentStore
from reconciler.store.domain import Domain
from reconciler.store.index import (
    PACK_MAGIC,
    Dropped,
    IndexObject,
    PackList,
    Segment,
    encode_index,
)
from reconciler.store.marks import State, mark, read_state
from reconciler.store.port import PointName
from reconciler.store.storage import Sweepable
from reconciler.store.writer import PACK_BYTES, write_pack

DEAD_SHARE = 0.5
"""A pack with more dead bytes than this is repacked."""
SMALL_PACK_BYTES = 4 * 1024 * 1024
SMALL_PACKS_MAX = 16
"""More small packs than this are joined."""
SMALL_INDEX_BYTES = 1024 * 1024
SMALL_INDEXES_MAX = 16
INDEX_BLOBS_MAX = 250_000
"""About 4 MiB an index object."""


@dataclass(frozen=True)
class PrunePlan:
    """What prune would do in a domain. Packs are named by their digests."""

    domain: str
    grace: timedelta
    points: tuple[PointName, ...]
    drop: frozenset[bytes]
    """Packs that nothing needs once the points are gone."""
    repack: frozenset[bytes]
    delete: frozenset[bytes]
    """Packs dropped long enough ago, or written and never listed."""
    sessions: frozenset[bytes]
    merge_index: bool
    freed_bytes: int
    """What deleting points, packs and sessions frees now; what is dropped now, a later prune frees."""

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to do."""
        return not (
            self.points
            or self.drop
            or self.repack
            or self.delete
            or self.sessions
            or self.merge_index
        )

    def describe(self) -> str:
        """One line for people."""
        parts = [
            f"{len(self.points)} points",
            f"{len(self.delete)} packs ({self.freed_bytes} bytes)",
        ]
        later = len(self.drop) + len(self.repack)
        return ", ".join(parts) + (f"; {later} packs after the grace period" if later else "")


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What prune did."""

    points_deleted: int
    packs_deleted: int
    freed_bytes: int
    packs_dropped: int = 0
    packs_repacked: int = 0


def plan_prune(
    store: ContentStore,
    domain: str,
    *,
    keep: Callable[[PointName], bool],
    min_age: timedelta,
    grace: timedelta,
) -> PrunePlan:
    """Decide what may go, and change nothing. A point goes when `keep` is false and it is older than `min_age`.

    Raises:
        UsageError: `grace` is shorter than what sessions count on.
        DamagedError: a point or an index object does not open, so what is in use is not known.
    """
    if grace < store.grace:
        raise UsageError(
            f"prune domain {domain}: a grace period of {grace} is shorter than the {store.grace} that writers count on",
            hint="raise prune.grace",
        )
    here = store.domain(domain)
    now = store.storage.now()
    points = tuple(
        name
        for entry in list(store.storage.entries(names.points_prefix(domain)))
        if (name := names.parse_point(entry.name)) is not None
        and entry.modified_at <= now - min_age
        and not keep(name)
    )
    state = read_state(here)
    gone = {names.point_object(name) for name in points}
    decided = _decide(state, mark(here, without=gone), now=now, grace=grace)
    sizes = [state.objects[name].size for name in gone]
    sizes += [state.packs_found[pack].size for pack in decided.delete if pack in state.packs_found]
    sizes += [state.sessions_found[session].size for session in decided.sessions]
    return PrunePlan(
        domain=domain,
        grace=grace,
        points=points,
        drop=frozenset(decided.drop),
        repack=frozenset(decided.repack),
        delete=frozenset(decided.delete),
        sessions=frozenset(decided.sessions),
        merge_index=decided.merge_index,
        freed_bytes=sum(sizes),
    )


def run_prune(store: ContentStore, plan: PrunePlan) -> PruneReport:
    """Carry a plan out; what has come into use since it was made stays."""
    here = store.domain(plan.domain)
    storage = store.storage
    freed = 0
    sizes = {e.name: e.size for e in storage.entries(names.points_prefix(plan.domain))}
    for name in plan.points:
        storage.delete(names.point_object(name))
        freed += sizes.get(names.point_object(name), 0)

    state = read_state(here)
    now = storage.now()
    live = mark(here)
    decided = _decide(state, live, now=now, grace=plan.grace).only(plan)
    packs_deleted = 0
    # Before anything is written: on a full disk there is no other way to make room.
    for pack in sorted(decided.delete):
        storage.delete(names.pack_object(plan.domain, pack))
        if pack in state.packs_found:
            packs_deleted += 1
            freed += state.packs_found[pack].size
    written = _repack(here, state, live, decided.repack)
    _rewrite_index(here, state, decided, written=written, now=storage.now())
    for session in sorted(decided.sessions):
        storage.delete(names.session_object(plan.domain, session))
        freed += state.sessions_found[session].size
    if isinstance(storage, Sweepable):
        freed += storage.sweep(before=now - plan.grace)
    here.forget()
    return PruneReport(
        points_deleted=len([name for name in plan.points if names.point_object(name) in sizes]),
        packs_deleted=packs_deleted,
        freed_bytes=freed,
        packs_dropped=len(decided.drop),
        packs_repacked=len(decided.repack),
    )


@dataclass
class _Decided:
    drop: set[bytes]
    repack: set[bytes]
    delete: set[bytes]
    revive: set[bytes]
    """Dropped packs that a point needs after all."""
    sessions: set[bytes]
    merge_index: bool

    def only(self, plan: PrunePlan) -> _Decided:
        """What is in the plan too; reviving never needs one."""
        return _Decided(
            drop=self.drop & plan.drop,
            repack=self.repack & plan.repack,
            delete=self.delete & plan.delete,
            revive=self.revive,
            sessions=self.sessions & plan.sessions,
            merge_index=self.merge_index and plan.merge_index,
        )


def _decide(state: State, live: set[bytes], *, now: datetime, grace: timedelta) -> _Decided:
    """Choose what happens to each pack, given the digests of the segments in use."""
    old = now - grace
    snapshot = state.snapshot
    drop: set[bytes] = set()
    repack: set[bytes] = set()
    small: list[bytes] = []
    for pack, listed in snapshot.packs.items():
        found = state.packs_found.get(pack)
        if found is None or found.modified_at > old:
            continue
        # A segment that lies in two packs is in use in the one that the index answers with.
        used = sum(
            s.length
            for s in listed.segments
            if s.digest in live and snapshot.by_digest[s.digest].pack == pack
        )
        total = sum(s.length for s in listed.segments)
        if not used:
            drop.add(pack)
        elif used < total * (1 - DEAD_SHARE):
            repack.add(pack)
        elif listed.size < SMALL_PACK_BYTES:
            small.append(pack)
    if len(small) > SMALL_PACKS_MAX:
        repack.update(small)
    dropped = snapshot.live_dropped()
    revive = {
        pack
        for pack, entry in dropped.items()
        if any(s.digest in live and s.digest not in snapshot.by_digest for s in entry.list.segments)
    }
    delete = {pack for pack, entry in dropped.items() if pack not in revive and entry.at <= old}
    known = set(snapshot.packs) | set(dropped)
    delete |= {
        p for p, found in state.packs_found.items() if p not in known and found.modified_at <= old
    }
    return _Decided(
        drop=drop,
        repack=repack,
        delete=delete,
        revive=revive,
        sessions=_idle_sessions(state, delete, old=old),
        merge_index=_small_indexes(state) > SMALL_INDEXES_MAX,
    )


def _idle_sessions(state: State, delete: set[bytes], *, old: datetime) -> set[bytes]:
    """Sessions whose key opens nothing that is left."""
    snapshot = state.snapshot
    packs = [*snapshot.packs.values(), *(d.list for d in snapshot.dropped.values())]
    used = {s.session for listed in packs if listed.pack not in delete for s in listed.segments}
    return {
        session
        for session, found in state.sessions_found.items()
        if session not in used and found.modified_at <= old
    }


def _small_indexes(state: State) -> int:
    return sum(found.size < SMALL_INDEX_BYTES for found in state.indexes_found.values())


def _repack(domain: Domain, state: State, live: set[bytes], repack: set[bytes]) -> list[PackList]:
    """Copy the live segments of some packs into new ones, as they are."""
    written: list[PackList] = []
    segments: list[Segment] = []
    frames: list[bytes] = []
    ids: list[bytes] = []

    def write() -> None:
        written.append(
            write_pack(
                domain.storage,
                domain.name,
                domain.sealing,
                segments=segments[:],
                frames=frames,
                ids=ids[:],
            )
        )
        segments.clear()
        ids.clear()

    for segment, joined in _moving(state, live, repack):
        frame = domain.read_frame(segment)
        offset = segments[-1].offset + segments[-1].length if segments else len(PACK_MAGIC)
        segments.append(
            Segment(segment.order, segment.session, segment.length, segment.digest, b"", offset)
        )
        frames.append(frame)
        ids.append(joined)
        if offset + segment.length >= PACK_BYTES:
            write()
    if segments:
        write()
    return written


def _moving(state: State, live: set[bytes], repack: set[bytes]) -> Iterator[tuple[Segment, bytes]]:
    snapshot = state.snapshot
    for pack in sorted(repack):
        listed = snapshot.packs[pack]
        for segment, joined in zip(listed.segments, listed.ids, strict=True):
            if segment.digest in live and snapshot.by_digest[segment.digest].pack == pack:
                yield segment, joined


def _rewrite_index(
    domain: Domain, state: State, decided: _Decided, *, written: list[PackList], now: datetime
) -> None:
    """Write index objects that say what is so now, then delete those that they stand for."""
    touched = decided.drop | decided.repack | decided.delete | decided.revive
    old = {
        name: value
        for name, value in state.indexes.items()
        if touched & {entry.pack for entry in value.packs}
        or touched & {entry.list.pack for entry in value.dropped}
        or (decided.merge_index and state.indexes_found[name].size < SMALL_INDEX_BYTES)
    }
    if not old and not written:
        return
    snapshot = state.snapshot
    gone = decided.drop | decided.repack
    packs: dict[bytes, PackList] = {entry.pack: entry for entry in written}
    dropped: dict[bytes, Dropped] = {}
    for value in old.values():
        for entry in value.packs:
            if entry.pack in gone:
                dropped[entry.pack] = Dropped(now, entry)
            else:
                packs[entry.pack] = entry
        for drop in value.dropped:
            pack = drop.list.pack
            if pack in decided.revive:
                packs[pack] = drop.list
            elif pack not in decided.delete and pack not in snapshot.packs:
                dropped.setdefault(pack, drop)
    _write_indexes(domain, packs=packs, dropped=dropped)
    for name in sorted(old):
        domain.storage.delete(name)


def _write_indexes(
    domain: Domain, *, packs: dict[bytes, PackList], dropped: dict[bytes, Dropped]
) -> None:
    """Write as many index objects as it takes to keep each within bounds."""
    batch: list[PackList] = []
    drops: list[Dropped] = []
    blobs = 0

    def write() -> None:
        name = names.index_object(domain.name, os.urandom(16))
        value = IndexObject(tuple(batch), tuple(drops))
        domain.storage.create(name, encode_index(domain.sealing, value, name=name))
        batch.clear()
        drops.clear()

    for pack in sorted({**packs, **dropped}):
        if pack in packs:
            batch.append(packs[pack])
            blobs += sum(len(joined) // 16 for joined in packs[pack].ids)
        else:
            drops.append(dropped[pack])
            blobs += sum(len(joined) // 16 for joined in dropped[pack].list.ids)
        if blobs >= INDEX_BLOBS_MAX:
            write()
            blobs = 0
    if batch or drops:
        write()
