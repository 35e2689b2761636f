"""A writing session: tables, streams and trees go in, points come out.

A session needs no lock. It may rely on blobs that others wrote as long as it is younger than half the grace period, for
prune keeps what it drops for all of that. An older session looks again, before each point, whether the
index still lists every segment the point needs, and whether packs and sessions are there; when not it gives up.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from reconciler.errors import ReconcilerError, RefusedError, TransientError, UsageError
from reconciler.store import names
from reconciler.store.domain import Domain
from reconciler.store.index import Segment
from reconciler.store.pointobject import PointRow, put_apart, put_segments, seal_point
from reconciler.store.port import (
    EarlierTree,
    ObjectExistsError,
    ObjectInput,
    Point,
    PointName,
    Published,
    Root,
    TreeEntry,
)
from reconciler.store.reach import reach, root_id, segment_of
from reconciler.store.stream import write_stream
from reconciler.store.table import SecretHints, read_hints, write_table
from reconciler.store.tree import Base, write_tree
from reconciler.store.writer import Sink, Work, Writer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SessionExpiredError(TransientError):
    """Prune took away what an old session relies on; a new one will do."""


@dataclass(eq=False)
class _Draft:
    """A point on its way to being created."""

    name: PointName
    object_name: str
    point: Point
    row: PointRow
    work: Work
    lists: Work = field(default_factory=Work)


class ContentSession:
    """Implements `Session`. Made by `ContentStore.session`."""

    def __init__(self, domain: Domain, *, grace: timedelta) -> None:
        self._domain = domain
        self._grace = grace
        self._began_at = domain.storage.now()
        self._writer = Writer(
            domain, index=domain.refresh(), started_s=int((self._began_at - _EPOCH).total_seconds())
        )
        self._works: dict[tuple[str, str], Work] = {}
        self._lock = threading.Lock()
        self._is_entered = False

    def __enter__(self) -> Self:
        self._is_entered = True
        return self

    def __exit__(self, *exc: object) -> None:
        """Keep what was put when all went well: a root may be published elsewhere. Else abandon it."""
        try:
            if exc[0] is None and self._works:
                self._writer.flush()
        finally:
            self._writer.close()

    def put_table(self, objects: Iterable[ObjectInput], *, previous: Root | None) -> Root:
        """Store a set of objects."""
        hints = self._hints(previous) if previous is not None else {}
        sink = self._sink()
        return self._keep(write_table(objects, sink, hints=hints), sink)

    def put_stream(self, chunks: Iterable[bytes]) -> Root:
        """Store a run of bytes."""
        sink = self._sink()
        return self._keep(write_stream(chunks, sink), sink)

    def put_tree(
        self,
        entries: Iterable[TreeEntry],
        *,
        is_sorted: bool = False,
        earlier: EarlierTree | None = None,
    ) -> Root:
        """Store a file tree."""
        sink = self._sink()
        base = Base(self._domain, earlier) if earlier is not None and is_sorted else None
        return self._keep(write_tree(entries, sink, is_sorted=is_sorted, base=base), sink)

    def checkpoint(self) -> None:
        """Make durable what was put so far."""
        self._writer.flush()

    def added_bytes(self, root: Root) -> int:
        """What a root that was put here added to the location, as stored; settles what is open."""
        self._writer.settle()
        with self._lock:
            return self._works[root.form, root.digest].stored_bytes()

    def publish(self, name: PointName, point: Point) -> Published:
        """Make everything durable, then create the point if it is absent.

        Raises:
            SessionExpiredError: prune took away what this session relies on.
            DamagedError: a root is not in this domain.
        """
        result = self.publish_all([(name, point)])[0]
        if isinstance(result, ReconcilerError):
            raise result
        return result

    def publish_all(
        self, points: Sequence[tuple[PointName, Point]]
    ) -> list[Published | ReconcilerError]:
        """Make everything durable once, then create the points one by one; each result or expected error."""
        drafts: list[_Draft | ReconcilerError] = []
        for name, point in points:
            try:
                drafts.append(self._draft(name, point))
            except ReconcilerError as error:
                drafts.append(error)
        try:
            self._writer.settle()
            for draft in drafts:
                if isinstance(draft, _Draft):
                    lists = self._sink()
                    put_segments(draft.row, draft.work.segments, lists)
                    draft.lists = lists.work
            self._writer.flush()
        except ReconcilerError as error:
            return [error for _ in points]
        results: list[Published | ReconcilerError] = []
        for draft in drafts:
            try:
                results.append(self._create(draft) if isinstance(draft, _Draft) else draft)
            except ReconcilerError as error:
                results.append(error)
        return results

    def _draft(self, name: PointName, point: Point) -> _Draft:
        if name.domain != self._domain.name:
            raise UsageError(f"publish {name.path}: the session writes to another domain")
        work = Work()
        for root in (point.table, *(content.root for content in point.contents)):
            work.merge(self._work_of(root))
        apart = self._sink()
        row = put_apart(point, apart)
        work.merge(apart.work)
        return _Draft(name, names.point_object(name), point, row, work)

    def _create(self, draft: _Draft) -> Published:
        name, work = draft.name, draft.work
        self._check_age(work.segments | draft.lists.segments, name)
        data = seal_point(self._domain, name, draft.row)
        digest = hashlib.sha256(data).hexdigest()
        created = True
        try:
            self._domain.storage.create(draft.object_name, data)
        except ObjectExistsError:
            # Ours after all, when the answer to an earlier attempt was lost on the way.
            present = hashlib.sha256(self._domain.storage.read(draft.object_name)).hexdigest()
            created, digest = present == digest, present
        work.merge(draft.lists)
        added = work.stored_bytes() + self._writer.take_overhead() + (len(data) if created else 0)
        self._spend(draft.point)
        return Published(name=name, digest=digest, created=created, added_bytes=added)

    def _hints(self, previous: Root) -> SecretHints:
        with self._lock:
            is_ours = (previous.form, previous.digest) in self._works
        if is_ours and not self._domain.has(root_id(previous)):
            self._writer.flush()
        return read_hints(self._domain, previous)

    def _sink(self) -> Sink:
        if not self._is_entered:
            raise RuntimeError("a session is a context manager")
        self._writer.check()
        return Sink(self._domain, self._writer)

    def _keep(self, root: Root, sink: Sink) -> Root:
        with self._lock:
            self._works.setdefault((root.form, root.digest), Work()).merge(sink.work)
        return root

    def _work_of(self, root: Root) -> Work:
        """What a root is made of; walked, when another process put it."""
        with self._lock:
            known = self._works.get((root.form, root.digest))
        if known is not None:
            return known
        work = Work()
        index = self._domain.refresh()
        for blob in reach(self._domain, root):
            found = index.find(blob)
            if found is None:
                segment_of(self._domain, blob)
                raise SessionExpiredError(
                    f"publish {root.form} {root.digest}: prune has dropped what it needs since it was put",
                    hint="capture again; publish a root within half of prune's grace period",
                )
            work.segments.add(found[0])
        return work

    def _spend(self, point: Point) -> None:
        """What a root added counts for the first point that has it."""
        with self._lock:
            for root in (point.table, *(content.root for content in point.contents)):
                if (root.form, root.digest) in self._works:
                    self._works[root.form, root.digest].added.clear()

    def _check_age(self, segments: set[Segment], name: PointName) -> None:
        storage, domain = self._domain.storage, self._domain.name
        if storage.now() - self._began_at <= self._grace / 2:
            return
        index = self._domain.refresh()
        packs = {entry.name for entry in storage.entries(names.packs_prefix(domain))}
        sessions = {entry.name for entry in storage.entries(names.sessions_prefix(domain))}
        for segment in segments:
            live = index.by_digest.get(segment.digest)
            if (
                live is None
                or names.pack_object(domain, live.pack) not in packs
                or (live.session and names.session_object(domain, live.session) not in sessions)
            ):
                raise SessionExpiredError(
                    f"publish {name.path}: the session is old, and prune freed what it relies on",
                    hint="capture again; keep sessions shorter than half of prune's grace period",
                )


def refuse_writing(url: str, features: tuple[str, ...]) -> RefusedError:
    """The refusal of a location that this version can read but must not write."""
    return RefusedError(
        f"write to {url}: {', '.join(features)} is not supported by this version",
        hint="use the version of reconciler that wrote it, or a newer one",
    )
