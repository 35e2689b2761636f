"""Verification: what lies in a location against what was written, each fault with the object that has it.

Always: format and keys (sum and MAC), sessions, index objects and points open; every pack that a point needs is there
with the size that the index says; every root's structure is read and what it names is listed. A share of the packs
(`read_data`) is read whole: name, footer, every segment and every blob in it. No fault stops the search.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reconciler.store import names
from reconciler.store.domain import DamagedObjectError, Domain, UnlistedError
from reconciler.store.index import (
    FOOTER_LENGTH_BYTES,
    PACK_MAGIC,
    PackList,
    Segment,
    Snapshot,
    decode_footer,
    digest_of,
)
from reconciler.store.keys import check_mac, envelope
from reconciler.store.pointobject import (
    PointRow,
    open_point,
    roots_of,
    segments_of,
    sequences_of,
)
from reconciler.store.port import DamagedError, Fault, ObjectMissingError, PointName
from reconciler.store.reach import reach, reach_nodes, segment_of

if TYPE_CHECKING:
    from reconciler.store.content import ContentStore


def verify(
    store: ContentStore,
    name: PointName | None = None,
    *,
    read_data: float = 0.0,
    domain: str | None = None,
) -> Iterator[Fault]:
    """Check a point, a domain or everything. Findings are yielded; only a dead storage raises."""
    yield from _check_keys(store)
    if name is not None:
        domains = [name.domain]
    elif domain is not None:
        domains = [domain]
    else:
        domains = sorted(
            {
                e.name.split("/")[1]
                for e in store.storage.entries(names.DOMAINS)
                if e.name.count("/") > 1
            }
        )
    for each in domains:
        yield from _Check(store, store.domain(each), name, read_data).faults()


def _check_keys(store: ContentStore) -> Iterator[Fault]:
    listed = {e.name for e in store.storage.entries(names.KEYS)} | {names.FORMAT}
    for name in sorted(listed | ({store.opened_with} - {""})):
        try:
            data = store.storage.read(name)
            envelope(data, what=name)
            check_mac(data, store.keys, what=name)
        except ObjectMissingError:
            yield Fault(name, "missing")
        except DamagedError as error:
            yield Fault(name, error.message)


class _Check:
    """One pass over one domain."""

    def __init__(
        self, store: ContentStore, domain: Domain, name: PointName | None, share: float
    ) -> None:
        self._storage = store.storage
        self._domain = Domain(store.storage, store.keys, domain.name, clock=store.clock)
        self._only = name
        self._share = share
        self._chance = random.Random(f"{store.clock.now()} {domain.name}")  # noqa: S311 — a sample, no secret
        self._needed_by: defaultdict[bytes, list[str]] = defaultdict(list)
        """Segment → points."""
        self._snapshot = Snapshot()
        self._walked: dict[str, set[bytes]] = {}
        self._index_faults: dict[str, str] = {}
        self._lost_sessions: set[bytes] = set()
        self._later: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._sizes: dict[str, int] = {}
        self._holders: dict[bytes, bytes] | None = None
        self._reported: set[str] = set()

    def faults(self) -> Iterator[Fault]:
        """All faults of the domain."""
        self._load_index()
        self._domain.use(self._snapshot)
        self._sizes = {
            e.name: e.size for e in self._storage.entries(names.packs_prefix(self._domain.name))
        }
        rows: list[tuple[str, PointRow]] = []
        for point in list(self._points()):
            try:
                row = open_point(self._domain, point, self._storage.read(point))
            except ObjectMissingError:
                yield Fault(point, "missing", (_short(point),))
            except DamagedError as error:
                yield Fault(point, error.message, (_short(point),))
            else:
                rows.append((point, row))
                self._note_needs(point, row)
        yield from self._check_presence()
        for point, row in rows:
            self._check_roots(point, row)
        yield from self._check_sessions()
        yield from self._check_data()
        later = [
            (key, hurt) for key, hurt in sorted(self._later.items()) if key[0] not in self._reported
        ]
        is_explained = bool(self._reported) or any(
            not names.parse_point(key[0]) for key, _ in later
        )
        for (name, problem), hurt in later:
            # What a missing pack or index object explains is not news.
            if not (is_explained and names.parse_point(name)):
                yield Fault(name, problem, tuple(sorted(hurt)))

    def _note_needs(self, point: str, row: PointRow) -> None:
        lists = [row.segments_root] if row.segments_root else []
        needed: set[bytes] = set()
        try:
            needed.update(segments_of(self._domain, row))
            for sequence in (*sequences_of(row), *lists):
                for node in reach_nodes(self._domain, sequence):
                    needed.add(segment_of(self._domain, node).digest)
        except DamagedError as error:
            self._note(point, error)
        for digest in needed:
            self._needed_by[digest].append(_short(point))

    def _note(self, point: str, error: DamagedError) -> None:
        """Keep a fault of a point until it is known whether another object explains it."""
        if isinstance(error, UnlistedError):
            for culprit in self._unlisted(error.blob):
                self._later[culprit].add(_short(point))
        name = error.name if isinstance(error, DamagedObjectError) else point
        self._later[name, error.message].add(_short(point))

    def _points(self) -> Iterator[str]:
        if self._only is not None:
            yield names.point_object(self._only)
            return
        yield from self._domain.points()

    def _load_index(self) -> None:
        for entry in list(self._storage.entries(names.index_prefix(self._domain.name))):
            try:
                self._snapshot.add(entry.name, self._domain.read_index(entry.name))
            except ObjectMissingError:
                continue  # Prune merged it away; its successor is in this listing or the next.
            except DamagedError as error:
                self._index_faults[entry.name] = error.message

    def _check_presence(self) -> Iterator[Fault]:
        """Every segment that a point needs is listed, in a pack that is there, of the right size."""
        bad: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for digest, points in self._needed_by.items():
            segment = self._snapshot.segment(digest)
            if segment is None:
                for culprit in self._unlisted(digest):
                    bad[culprit].update(points)
                continue
            listed = (
                self._snapshot.packs.get(segment.pack) or self._snapshot.dropped[segment.pack].list
            )
            pack = names.pack_object(self._domain.name, segment.pack)
            if pack not in self._sizes:
                bad[pack, "missing"].update(points)
            elif self._sizes[pack] != listed.size:
                problem = f"has {self._sizes[pack]} bytes instead of {listed.size}"
                bad[pack, problem].update(points)
        for damaged in self._index_faults.items():
            bad[damaged].update(())
        for listed in self._snapshot.packs.values():
            name = names.pack_object(self._domain.name, listed.pack)
            if name not in self._sizes:
                bad[name, "missing"].update(())
            elif self._sizes[name] != listed.size:
                bad[name, f"has {self._sizes[name]} bytes instead of {listed.size}"].update(())
        for (name, problem), hurt in sorted(bad.items()):
            self._reported.add(name)
            yield Fault(name, problem, tuple(sorted(hurt)))

    def _unlisted(self, digest: bytes) -> list[tuple[str, str]]:
        """Name the index objects that may have listed a segment or blob: the damaged ones, or, when there are none,
        the one of the pack that holds it, as its footer tells.
        """
        if self._index_faults:
            return list(self._index_faults.items())
        holder = self._unlisted_packs().get(digest)
        if holder is None:
            problem = f"no object lists {digest.hex()}, and no pack has it"
            return [(names.index_prefix(self._domain.name), problem)]
        index = names.index_object(self._domain.name, holder)
        return [(index, f"missing: nothing lists {names.pack_object(self._domain.name, holder)}")]

    def _unlisted_packs(self) -> dict[bytes, bytes]:
        """Segment or blob → pack, from the footers of packs that no index object lists."""
        if self._holders is None:
            self._holders = {}
            for name in self._sizes:
                pack = names.parse_id(name)
                if pack is None or pack in self._snapshot.packs:
                    continue
                try:
                    footer = self._read_footer(name, pack)
                except (DamagedError, ObjectMissingError):
                    continue  # Reading it whole will say so.
                for number, segment in enumerate(footer.segments):
                    self._holders[segment.digest] = pack
                    self._holders.update(dict.fromkeys(footer.blob_ids(number), pack))
        return self._holders

    def _read_footer(self, name: str, pack: bytes) -> PackList:
        size = self._sizes[name]
        tail = self._storage.read(name, offset=max(size - FOOTER_LENGTH_BYTES, 0))
        length = int.from_bytes(tail, "little")
        start = size - FOOTER_LENGTH_BYTES - length
        if start < len(PACK_MAGIC):
            raise DamagedError(f"open {name}: it has no footer")
        frame = self._storage.read(name, offset=start, length=length)
        return decode_footer(self._domain.sealing, frame, pack=pack, size=size, what=name)

    def _check_roots(self, point: str, row: PointRow) -> None:
        """Everything below the roots is listed, and in a segment that the point says it needs."""
        try:
            listed = set(segments_of(self._domain, row))
            for root in roots_of(row):
                if root.digest not in self._walked:
                    self._walked[root.digest] = {
                        segment_of(self._domain, blob).digest for blob in reach(self._domain, root)
                    }
                if self._walked[root.digest] <= listed:
                    continue
                # Another writer may have stored a blob at the same time: any listed segment that holds it will do.
                held = self._blobs_in(listed)
                if unknown := sum(1 for blob in reach(self._domain, root) if blob not in held):
                    self._note(
                        point,
                        DamagedError(
                            f"{root.form} {root.digest} needs {unknown} blobs that no segment of the point holds"
                        ),
                    )
        except DamagedError as error:
            self._note(point, error)

    def _blobs_in(self, segments: set[bytes]) -> set[bytes]:
        """The blobs that some segments hold."""
        lists = [*self._snapshot.packs.values(), *(d.list for d in self._snapshot.dropped.values())]
        return {
            blob
            for entry in lists
            for number, segment in enumerate(entry.segments)
            if segment.digest in segments
            for blob in entry.blob_ids(number)
        }

    def _check_sessions(self) -> Iterator[Fault]:
        listed = {e.name for e in self._storage.entries(names.sessions_prefix(self._domain.name))}
        needed: defaultdict[str, set[str]] = defaultdict(set)
        for digest, points in self._needed_by.items():
            segment = self._snapshot.segment(digest)
            if segment is not None and segment.session:
                needed[names.session_object(self._domain.name, segment.session)].update(points)
        for name in sorted(listed | set(needed)):
            session = names.parse_id(name)
            if session is None:
                continue
            try:
                self._domain.read_session(session)
            except DamagedError as error:
                self._lost_sessions.add(session)
                yield Fault(name, error.message, tuple(sorted(needed.get(name, ()))))

    def _check_data(self) -> Iterator[Fault]:
        """Read packs whole: all at a share of 1, else a sample."""
        wanted = None
        if self._only is not None:
            found = (self._snapshot.segment(digest) for digest in self._needed_by)
            wanted = {
                names.pack_object(self._domain.name, segment.pack) for segment in found if segment
            }
        for name in sorted(self._sizes):
            pack = names.parse_id(name)
            if (
                pack is None
                or name in self._reported
                or (wanted is not None and name not in wanted)
            ):
                continue
            if self._chance.random() < self._share:
                try:
                    yield from self._check_pack(name, pack, self._storage.read(name))
                except ObjectMissingError:
                    continue  # Prune deleted it meanwhile; had a point needed it, it was missed above.

    def _check_pack(self, name: str, pack: bytes, data: bytes) -> Iterator[Fault]:
        listed = self._snapshot.packs.get(pack)
        if listed is None and pack in self._snapshot.dropped:
            listed = self._snapshot.dropped[pack].list
        if digest_of(data) != pack:
            hurt = self._hurt_segments(data, listed)
            points = sorted({point for s in hurt for point in self._needed_by.get(s.digest, ())})
            self._reported.add(name)
            yield Fault(name, "its bytes are not what was written", tuple(points))
            return
        try:
            listed = self._read_footer(name, pack)
            for number, segment in enumerate(listed.segments):
                frame = data[segment.offset : segment.offset + segment.length]
                self._check_segment(segment, frame, list(listed.blob_ids(number)))
        except DamagedError as error:
            self._reported.add(name)
            yield Fault(name, error.message)

    def _hurt_segments(self, data: bytes, listed: PackList | None) -> list[Segment]:
        if listed is None:
            return []
        return [
            s
            for s in listed.segments
            if digest_of(data[s.offset : s.offset + s.length]) != s.digest
        ]

    def _check_segment(self, segment: Segment, frame: bytes, ids: list[bytes]) -> None:
        if segment.session in self._lost_sessions:
            return  # Said already; nobody can open it.
        opened = self._domain.open_frame(segment, frame)
        if opened.count != len(ids):
            raise DamagedError(f"open segment {segment.digest.hex()}: the index counts other blobs")
        for ordinal, blob in enumerate(ids):
            # Ids of Secrets are random, so content's ids prove nothing here; its seal and digest do.
            if not segment.session and self._domain.id_of("node", opened.blob(ordinal)) != blob:
                raise DamagedError(
                    f"open segment {segment.digest.hex()}: a node is not what it is named"
                )


def _short(point: str) -> str:
    name = names.parse_point(point)
    return point if name is None else name.path
