"""Check a ledger branch from its first commit to its tip: nothing dropped, reordered, rewritten or slipped in.

Every commit adds exactly one record, whose file names the digest of the record before it and counts one more.
Only a retirement takes files away, and only the points that it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.git.clone import BareClone, BlobTooLargeError, Change, Commit
from reconciler.kinds.record import Record, RetirementRecord
from reconciler.ledger import layout
from reconciler.ledger.document import ADOPTION_BYTES_MAX, UnreadableRecordError, parse, sha256
from reconciler.ledger.message import trailers_of
from reconciler.ledger.placement import Link
from reconciler.ledger.view import LedgerView

FAULTS_MAX = 1_000


@dataclass(frozen=True)
class _Added:
    """The one record that a commit adds."""

    path: str
    data: bytes
    record: Record


def verify_chain(view: LedgerView) -> list[str]:
    """Read every commit of a view; one line for each fault, oldest first, none when the row is unbroken."""
    faults: list[str] = []
    if view.tip is None:
        return faults
    link = Link()
    for oid in view.clone.between(None, view.tip):
        commit = view.clone.commit(oid)
        found = list(_commit_faults(view, commit))
        added = _added(view.clone, commit)
        if added is not None:
            found += _link_faults(added, commit, link)
            chain = added.record.spec.chain
            link = Link(chain.sequence if chain else link.sequence + 1, sha256(added.data))
        faults += [f"{oid[:12]}: {fault}" for fault in found]
        if len(faults) > FAULTS_MAX:
            return [*faults[:FAULTS_MAX], "more faults are not listed"]
    return faults


def _commit_faults(view: LedgerView, commit: Commit) -> Iterator[str]:
    """What is wrong with what a commit does to the tree."""
    if len(commit.parents) > 1:
        yield "is a merge; records are appended one by one"
    changes = view.clone.changes(commit.id)
    added = [change for change in changes if change.before is None]
    if len(added) != 1:
        yield f"adds {len(added)} files, expected one record"
    elif _added(view.clone, commit) is None:
        yield f"{added[0].path}: is no record that can be read"
    for change in changes:
        if change.before is not None and change.after is not None:
            yield f"{change.path}: was rewritten"
    allowed = _retired(view, commit)
    for change in changes:
        if change.after is None and change.path not in allowed:
            yield f"{change.path}: was removed without a retirement"


def _link_faults(added: _Added, commit: Commit, link: Link) -> Iterator[str]:
    """What is wrong with a record's place in the row."""
    chain = added.record.spec.chain
    if chain is None:
        yield f"{added.path}: has no place in the row"
        return
    if chain.sequence != link.sequence + 1:
        yield f"{added.path}: has sequence {chain.sequence}, expected {link.sequence + 1}"
    if chain.previous != link.digest:
        yield f"{added.path}: names another record before it than the one that is there"
    if trailers_of(commit.message).get("Manifest-Digest") != sha256(added.data):
        yield f"{added.path}: is not the file that the commit's message names"
    told = layout.path_of(added.record, digest="")
    if not added.path.startswith(told.removesuffix("-.yaml").removesuffix(".yaml")):
        yield f"{added.path}: belongs at {told.removesuffix('-.yaml')}"


def _added(clone: BareClone, commit: Commit) -> _Added | None:
    changes: list[Change] = [one for one in clone.changes(commit.id) if one.before is None]
    if len(changes) != 1 or changes[0].after is None:
        return None
    try:
        data = clone.blob(changes[0].after, max_bytes=ADOPTION_BYTES_MAX)
        return _Added(changes[0].path, data, parse(data))
    except (UnreadableRecordError, BlobTooLargeError):
        return None


def _retired(view: LedgerView, commit: Commit) -> set[str]:
    """The paths that a commit may remove."""
    added = _added(view.clone, commit)
    if added is None or not isinstance(added.record, RetirementRecord):
        return set()
    paths = set()
    for one in added.record.spec.points:
        application, _, slot = one.point.rpartition("/")
        paths.add(layout.point_path(view.cluster, application, slot))
    return paths
