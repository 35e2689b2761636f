"""What a ledger branch says at one commit: an immutable view that others read.

Every question is answered by descending the tree to where the answer lies; records are parsed once per blob id
and shared by all views of a process. A file that is no record is logged once and passed over: one bad file must
not hide the others.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from reconciler.clock import format_slot, parse_instant
from reconciler.git.clone import BareClone, BlobTooLargeError, TreeEntry
from reconciler.kinds.record import (
    AdoptionRecord,
    CaptureFailure,
    Record,
    RestorePoint,
    RestoreRecord,
    RetirementRecord,
)
from reconciler.ledger import layout
from reconciler.ledger.document import (
    ADOPTION_BYTES_MAX,
    UnreadableRecordError,
    chain_of,
    parse,
)
from reconciler.ledger.layout import RestoreKey

log = structlog.get_logger(__name__)
V = TypeVar("V")

RECORDS_CACHED = 20_000
_STAGES = ("accepted", "finished", "watched")
CLOCK_SLACK = timedelta(days=1)
"""A failure is looked for from this long before its slot: clocks jump."""


@dataclass(frozen=True, order=True, slots=True)
class PointEntry:
    """A live point: where its record lies."""

    application: str
    slot: str
    path: str
    blob: str


@dataclass(frozen=True)
class RestoreState:
    """What the ledger knows of one attempt of a Restore."""

    accepted: RestoreRecord | None = None
    finished: RestoreRecord | None = None
    watched: RestoreRecord | None = None


@dataclass(frozen=True)
class RetiredPoint:
    """A point that was taken out of the list of live ones, with the digest of its record."""

    application: str
    slot: str
    digest: str
    locations: tuple[str, ...]
    retired_at: datetime


class RecordCache:
    """Parsed records by blob id; None for a file that is no record."""

    def __init__(self, *, size: int = RECORDS_CACHED) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Record | None] = OrderedDict()
        self._sequences: OrderedDict[str, int] = OrderedDict()

    def record(self, clone: BareClone, blob: str, *, path: str) -> Record | None:
        """Read a record once."""
        with self._lock:
            if blob in self._known:
                self._known.move_to_end(blob)
                return self._known[blob]
        found: Record | None = None
        try:
            found = parse(clone.blob(blob, max_bytes=ADOPTION_BYTES_MAX))
        except (UnreadableRecordError, BlobTooLargeError) as error:
            log.error("record skipped", path=path, message=error.message)
        with self._lock:
            _keep(self._known, blob, found, self._size)
        return found

    def sequence(self, clone: BareClone, blob: str) -> int:
        """The sequence number of a record; 0 when it has none."""
        with self._lock:
            if blob in self._sequences:
                return self._sequences[blob]
        try:
            chain = chain_of(clone.blob(blob, max_bytes=ADOPTION_BYTES_MAX))
        except BlobTooLargeError:
            chain = None
        number = chain.sequence if chain else 0
        with self._lock:
            _keep(self._sequences, blob, number, self._size)
        return number


def _keep(cache: OrderedDict[str, V], key: str, value: V, most: int) -> None:
    cache[key] = value
    while len(cache) > most:
        cache.popitem(last=False)


class LedgerView:
    """The records of one cluster at one commit (`tip`; None for a branch without any)."""

    def __init__(
        self, clone: BareClone, *, cluster: str, tip: str | None, cache: RecordCache
    ) -> None:
        self.cluster = cluster
        self.tip = tip
        self.clone = clone
        self._cache = cache

    # -- points ------------------------------------------------------------------------------------

    def applications(self) -> list[str]:
        """Applications with a live point, as `namespace/name`, sorted."""
        return [
            f"{namespace.name}/{application.name}"
            for namespace in self._folders(layout.points_folder(self.cluster))
            for application in self.clone.children(namespace.id)
            if application.is_folder
        ]

    def points(self, application: str | None = None) -> list[PointEntry]:
        """Live points, of one application or of all, sorted by application and slot."""
        if application is not None:
            return [*self._points(layout.application_path(application), newest_first=False)]
        return [p for name in self.applications() for p in self._points(name, newest_first=False)]

    def point(self, application: str, slot: str) -> RestorePoint | None:
        """The live point of a slot."""
        path = layout.point_path(self.cluster, application, slot)
        record = self._read(path)
        return record if isinstance(record, RestorePoint) else None

    def latest(self, application: str) -> RestorePoint | None:
        """The newest live point of an application, whatever its phase."""
        return next(self._records_of_points(application), None)

    def newest_succeeded(self, application: str) -> RestorePoint | None:
        """The newest live point that captured everything that was selected."""
        found = self._records_of_points(application)
        return next((one for one in found if one.spec.phase == "Succeeded"), None)

    def _records_of_points(self, application: str) -> Iterator[RestorePoint]:
        name = layout.application_path(application)
        for entry in self._points(name, newest_first=True):
            record = self._cache.record(self.clone, entry.blob, path=entry.path)
            if isinstance(record, RestorePoint):
                yield record

    def _points(self, application: str, *, newest_first: bool) -> Iterator[PointEntry]:
        folder = f"{layout.points_folder(self.cluster)}/{application}"
        for path, entry in self._months(folder, newest_first=newest_first):
            slot = entry.name.removesuffix(".yaml")
            yield PointEntry(application, slot, path, entry.id)

    # -- restores ----------------------------------------------------------------------------------

    def restores(self) -> dict[RestoreKey, RestoreState]:
        """Every attempt of every Restore into this cluster."""
        stages: dict[RestoreKey, dict[str, RestoreRecord]] = {}
        if self.tip is None:
            return {}
        folder = layout.restores_folder(self.cluster)
        for path, entry in self.clone.walk(self.tip, under=folder):
            parts = path.removeprefix(folder + "/").split("/")
            if len(parts) != 5 or not parts[3].isdecimal() or not _is_record(entry):
                continue
            space = "" if parts[1] == layout.WHOLE else parts[1]
            record = self._cache.record(self.clone, entry.id, path=path)
            if isinstance(record, RestoreRecord):
                key = RestoreKey(parts[0], space, parts[2], int(parts[3]))
                stages.setdefault(key, {})[record.spec.stage] = record
        return {
            key: RestoreState(**{stage: found.get(stage) for stage in _STAGES})
            for key, found in sorted(stages.items())
        }

    def restore(self, key: RestoreKey) -> RestoreState:
        """What is known of one attempt."""
        found = {s: self._read(layout.restore_path(self.cluster, key, s)) for s in _STAGES}
        return RestoreState(
            **{s: one if isinstance(one, RestoreRecord) else None for s, one in found.items()}
        )

    def attempts(self, key: RestoreKey) -> dict[int, RestoreState]:
        """Every attempt of the Restore that an attempt is of, by its number."""
        folder = layout.attempts_folder(self.cluster, key)
        numbers = [int(one.name) for one in self._folders(folder) if one.name.isdecimal()]
        return {number: self.restore(replace(key, attempt=number)) for number in sorted(numbers)}

    # -- all else ----------------------------------------------------------------------------------

    def knows(self, record: RestoreRecord) -> bool:
        """Whether this stage of an attempt is recorded."""
        spec = record.spec
        state = self.restore(RestoreKey(spec.source, spec.namespace, spec.name, spec.attempt))
        return getattr(state, spec.stage) is not None

    def records(self, kind: str, since: datetime | None = None) -> Iterator[Record]:
        """Records of a kind, newest first; those of one second by their place in the row."""
        found: Iterator[Record]
        if kind == "RestorePoint":
            found = (p for name in self.applications() for p in self._records_of_points(name))
        elif kind == "RestoreRecord":
            stages = [stage for state in self.restores().values() for stage in _stages(state)]
            found = iter(stages)
        else:
            yield from (one for one in self._named_records(kind, since) if one.kind == kind)
            return
        kept = [r for r in found if since is None or layout.instant_of(r) >= since]
        yield from sorted(kept, key=_age, reverse=True)

    def _named_records(self, kind: str, since: datetime | None) -> Iterator[Record]:
        second: list[tuple[str, str, str]] = []
        for path, entry in self._named(kind, since):
            instant = entry.name[: len("20261123T110000Z")]
            if second and second[0][0] != instant:
                yield from self._one_second(second)
                second = []
            second.append((instant, path, entry.id))
        yield from self._one_second(second)

    def _one_second(self, entries: list[tuple[str, str, str]]) -> Iterator[Record]:
        if len(entries) > 1:
            entries.sort(key=lambda entry: self._cache.sequence(self.clone, entry[2]), reverse=True)
        for _, path, blob in entries:
            record = self._cache.record(self.clone, blob, path=path)
            if record is not None:
                yield record

    def failures(self, application: str, slot: str) -> list[CaptureFailure]:
        """The failed attempts at a slot, oldest first."""
        name = layout.application_path(application)
        since = parse_instant(slot) - CLOCK_SLACK
        found = [
            record
            for record in self.records("CaptureFailure", since)
            if isinstance(record, CaptureFailure)
            and layout.application_path(record.spec.application) == name
            and record.spec.slot == slot
        ]
        return sorted(found, key=lambda record: (record.spec.attempt, record.spec.failed_at))

    def adoption(self, source: str) -> AdoptionRecord | None:
        """The last record of what is in force of a source: by place in the row, whatever clocks said."""
        entries = sorted(
            self._named("AdoptionRecord", None),
            key=lambda found: self._cache.sequence(self.clone, found[1].id),
            reverse=True,
        )
        for path, entry in entries:
            record = self._cache.record(self.clone, entry.id, path=path)
            if isinstance(record, AdoptionRecord) and record.spec.source == source:
                return record
        return None

    def retired(self, since: datetime | None = None) -> list[RetiredPoint]:
        """Points that were retired, newest first."""
        found = []
        for record in self.records("RetirementRecord", since):
            assert isinstance(record, RetirementRecord), "records of another kind are passed over"
            for one in record.spec.points:
                application, _, slot = one.point.rpartition("/")
                found.append(
                    RetiredPoint(
                        application=application,
                        slot=slot,
                        digest=one.digest,
                        locations=tuple(one.locations),
                        retired_at=record.spec.retired_at,
                    )
                )
        return found

    def _named(self, kind: str, since: datetime | None) -> Iterator[tuple[str, TreeEntry]]:
        """Files of records of a kind, newest first."""
        folder = layout.records_folder(self.cluster)
        first = format_slot(since) if since is not None else ""
        for path, entry in self._months(folder, newest_first=True, since=first):
            if entry.name.split("-")[1:2] == [kind]:
                yield path, entry

    # -- tree --------------------------------------------------------------------------------------

    def exists(self, path: str) -> bool:
        """Whether the branch has a file at this path."""
        return self.tip is not None and self.clone.lookup(self.tip, path) is not None

    def data(self, path: str) -> bytes | None:
        """A record's file as it lies there."""
        entry = self.clone.lookup(self.tip, path) if self.tip is not None else None
        if entry is None or entry.is_folder:
            return None
        return self.clone.blob(entry.id, max_bytes=ADOPTION_BYTES_MAX)

    def _read(self, path: str) -> Record | None:
        entry = self.clone.lookup(self.tip, path) if self.tip is not None else None
        if entry is None or not _is_record(entry):
            return None
        return self._cache.record(self.clone, entry.id, path=path)

    def _folders(self, path: str) -> list[TreeEntry]:
        entry = self.clone.lookup(self.tip, path) if self.tip is not None else None
        if entry is None or not entry.is_folder:
            return []
        return [one for one in self.clone.children(entry.id) if one.is_folder]

    def _months(
        self, folder: str, *, newest_first: bool, since: str = ""
    ) -> Iterator[tuple[str, TreeEntry]]:
        """The files of `folder/YYYY/MM/`, in the order of their names."""

        def ordered(entries: list[TreeEntry]) -> list[TreeEntry]:
            return sorted(entries, key=lambda entry: entry.name, reverse=newest_first)

        for year in ordered(self._folders(folder)):
            if year.name < since[:4]:
                continue
            months = [entry for entry in self.clone.children(year.id) if entry.is_folder]
            for month in ordered(months):
                if year.name + month.name < since[:6]:
                    continue
                files = [entry for entry in self.clone.children(month.id) if _is_record(entry)]
                for entry in ordered(files):
                    if entry.name >= since:
                        yield f"{folder}/{year.name}/{month.name}/{entry.name}", entry


def _age(record: Record) -> tuple[datetime, int]:
    chain = record.spec.chain
    return layout.instant_of(record), chain.sequence if chain else 0


def _stages(state: RestoreState) -> list[RestoreRecord]:
    found = (state.accepted, state.finished, state.watched)
    return [stage for stage in found if stage is not None]


def _is_record(entry: TreeEntry) -> bool:
    is_file = not (entry.is_folder or entry.is_link or entry.is_submodule)
    return is_file and entry.name.endswith(".yaml")
