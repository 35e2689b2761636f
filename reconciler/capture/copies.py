"""The locations that one capture writes to, each through its own session.

Content is read once and written to all of them at the same time. A location that fails drops out with its
error and the others go on; when none is left, the capture fails with the first error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from reconciler.blueprint.stop import StoppedError
from reconciler.capture.fanout import fan_out
from reconciler.capture.tarstream import ArchiveError
from reconciler.errors import ReconcilerError
from reconciler.kinds.record import Outcome
from reconciler.objects import ObjectKey, canonical
from reconciler.store.port import Content, ObjectInput, Point, Root, Session, Store

Write = Callable[[Session, Iterator[bytes]], Root]


@dataclass
class Copies:
    """What was written where. `order` is the policy's order of locations."""

    sessions: Mapping[str, tuple[Session, Store]]
    live: list[str] = field(default_factory=list)
    failed: dict[str, ReconcilerError] = field(default_factory=dict)
    contents: dict[str, list[Content]] = field(default_factory=dict)
    tables: dict[str, Root] = field(default_factory=dict)
    moved_bytes: Counter[str] = field(default_factory=Counter)
    """Location → what movers added there."""

    def __post_init__(self) -> None:
        self.live = list(self.sessions)
        self.contents = {name: [] for name in self.live}

    def session(self, name: str) -> Session:
        """The session of a location."""
        return self.sessions[name][0]

    def store(self, name: str) -> Store:
        """The store of a location."""
        return self.sessions[name][1]

    @property
    def has_contents(self) -> bool:
        """Whether anything but objects was written."""
        return any(self.contents.values())

    def put(self, source: Iterator[bytes], write: Write) -> dict[str, Root]:
        """Write one content to every live location.

        Raises:
            ReconcilerError: the source failed, or the last location did.
        """
        names = list(self.live)

        def writer(name: str) -> Callable[[Iterator[bytes]], Root]:
            return lambda pieces: write(self.session(name), pieces)

        results = fan_out(source, [writer(name) for name in names])
        roots: dict[str, Root] = {}
        for name, result in zip(names, results, strict=True):
            if isinstance(result, ArchiveError | StoppedError):
                raise result  # what was read is at fault, not the location
            if isinstance(result, ReconcilerError):
                self.drop(name, result)
            else:
                roots[name] = result
        return roots

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Forget the contents that were written inside the block when it fails."""
        before = {name: len(contents) for name, contents in self.contents.items()}
        try:
            yield
        except BaseException:
            for name, count in before.items():
                del self.contents[name][count:]
            raise

    def put_tables(
        self, objects: Sequence[ObjectInput], *, previous: Mapping[str, Point | None]
    ) -> None:
        """Write the objects to every live location."""
        for name in list(self.live):
            last = previous.get(name)
            try:
                self.tables[name] = self.session(name).put_table(
                    objects, previous=last.table if last else None
                )
            except ReconcilerError as error:
                self.drop(name, error)

    def drop(self, name: str, error: ReconcilerError) -> None:
        """Go on without a location.

        Raises:
            ReconcilerError: it was the last one.
        """
        if name in self.live:
            self.live.remove(name)
            self.failed[name] = error
        if not self.live:
            raise next(iter(self.failed.values()))

    def outcomes(self) -> list[Outcome]:
        """One failure for each location that dropped out."""
        return [
            Outcome(
                item=f"location/{name}",
                result="Failed",
                reason=error.reason,
                message=error.message[:256],
            )
            for name, error in self.failed.items()
        ]


def carried_over(
    copies: Copies,
    *,
    domain: str,
    previous: Mapping[str, Point | None],
    is_missing: Callable[[ObjectKey], bool],
) -> list[ObjectInput]:
    """Take from the last point what could not be read now: absence is not deletion.

    The first location that has a last point is asked. A Secret taken over has no resource version here, so its
    record is written anew.
    """
    for name in copies.live:
        point = previous.get(name)
        if point is None:
            continue
        store = copies.store(name)
        keys = {entry.key for entry in store.table(domain, point.table) if is_missing(entry.key)}
        if not keys:
            return []
        return [
            ObjectInput(
                key=key,
                projection=canonical(manifest),
                uid=str((manifest.get("metadata") or {}).get("uid") or ""),
                resource_version="",
            )
            for key, manifest in store.objects(domain, point.table, keys=keys)
        ]
    return []
