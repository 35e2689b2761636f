"""Give records their place on top of a commit: path, sequence, previous digest, message.

Used when records are appended, and again when the remote branch moved under commits that were not pushed yet:
those are taken apart into entries and placed anew. What is already there stays: a second point for a slot, a
second acceptance of an attempt, or the same record twice is dropped, and said.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from reconciler.git.clone import BareClone, BlobTooLargeError
from reconciler.git.pack import Draft
from reconciler.kinds.record import Chain, Record, RetirementRecord
from reconciler.ledger import layout
from reconciler.ledger.document import (
    ADOPTION_BYTES_MAX,
    UnreadableRecordError,
    chained,
    parse,
    sha256,
    to_bytes,
)
from reconciler.ledger.message import commit_message, trailers_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Entry:
    """A record to be appended, and the paths of files that leave the branch in the same commit."""

    record: Record
    removes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """The end of a row of records."""

    sequence: int = 0
    digest: str | None = None


@dataclass(frozen=True)
class Placed:
    """Drafts in a row; `slots[i]` is the draft of the i-th entry, None when it was dropped."""

    drafts: tuple[Draft, ...]
    slots: tuple[int | None, ...]
    dropped: tuple[str, ...]


class Placement:
    """Places records of one author on a branch."""

    def __init__(self, clone: BareClone, *, author: str, email: str) -> None:
        self._clone = clone
        self._author = author
        self._email = email

    def place(
        self, entries: Sequence[Entry], *, base: str | None, gone: Collection[str] = ()
    ) -> Placed:
        """Make the drafts of commits that append `entries` on top of `base`.

        `gone` are paths that another writer wrote and took away again meanwhile: they count as taken.
        """
        link = self.link(base)
        there: dict[str, bool] = {}
        drafts: list[Draft] = []
        slots: list[int | None] = []
        dropped: list[str] = []

        def exists(path: str) -> bool:
            if path not in there:
                there[path] = base is not None and self._clone.lookup(base, path) is not None
            return there[path]

        for entry in entries:
            removes = tuple(path for path in entry.removes if exists(path))
            record = _still_true(entry, removes)
            path = layout.path_of(entry.record, digest=_digest(record))
            if exists(path) or path in gone or (entry.removes and not removes):
                log.warning("record dropped", path=path, cause="another writer was first")
                dropped.append(path)
                slots.append(None)
                continue
            chain = Chain(sequence=link.sequence + 1, previous=link.digest)
            data = to_bytes(chained(record, chain))
            link = Link(chain.sequence, sha256(data))
            edits: dict[str, bytes | None] = dict.fromkeys(removes)
            there |= dict.fromkeys(removes, False) | {path: True}
            slots.append(len(drafts))
            drafts.append(
                Draft(
                    message=commit_message(record, chain=chain, digest=link.digest or ""),
                    edits=edits | {path: data},
                    at=layout.instant_of(record),
                    author=self._author,
                    email=self._email,
                )
            )
        return Placed(tuple(drafts), tuple(slots), tuple(dropped))

    def link(self, tip: str | None) -> Link:
        """The last record on the first-parent line of `tip`, by its trailers; commits of others are passed."""
        if tip is None:
            return Link()
        for commit in self._clone.history(tip):
            trailers = trailers_of(commit.message)
            number, digest = trailers.get("Seq", ""), trailers.get("Manifest-Digest", "")
            if number.isdecimal() and len(digest) == 64:
                return Link(int(number), digest)
        return Link()

    def entry_of(self, commit: str) -> Entry | None:
        """Take a commit of ours apart again; None when it adds no record."""
        added, removed = [], []
        for change in self._clone.changes(commit):
            if change.after is None:
                removed.append(change.path)
            else:
                added.append(change.after)
        if len(added) != 1:
            return None
        try:
            record = parse(self._clone.blob(added[0], max_bytes=ADOPTION_BYTES_MAX))
        except (UnreadableRecordError, BlobTooLargeError) as error:
            log.error("commit dropped", commit=commit, message=error.message)
            return None
        return Entry(record, tuple(removed))


def _digest(record: Record) -> str:
    """The digest of what a record says apart from its place in the row, where its file is named by it."""
    if not layout.is_named_by_digest(record):
        return ""
    return sha256(to_bytes(chained(record, None)))


def _still_true(entry: Entry, removes: tuple[str, ...]) -> Record:
    """A retirement without the points that another writer retired meanwhile."""
    record, gone = entry.record, set(entry.removes) - set(removes)
    if not gone or not isinstance(record, RetirementRecord):
        return record
    cluster = record.spec.cluster

    def path(point: str) -> str:
        application, _, slot = point.rpartition("/")
        return layout.point_path(cluster, application, slot)

    points = [one for one in record.spec.points if path(one.point) not in gone]
    return record.model_copy(update={"spec": record.spec.model_copy(update={"points": points})})
