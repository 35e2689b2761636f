"""The ledger of one cluster: a branch of records, one commit each, that only grows.

Appending is local and durable (one flushed pack, then one ref moved by compare-and-swap); pushing comes after,
one push for many commits. While the remote is away everything but acceptances goes on and is pushed later.
When another writer moved the remote branch, commits that were not pushed are placed anew on top of it, with new
sequence numbers. Three refs of the clone hold all that is remembered: the local branch, what was last fetched,
and the newest commit known to be on the remote (`refs/confirmed/…`): a remote branch that does not descend
from it was rolled back, which is refused and said.
"""

from __future__ import annotations

import contextlib
import fcntl
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from reconciler.clock import Clock
from reconciler.errors import LostRaceError, RefusedError
from reconciler.git.clone import BareClone, CloneWriteError
from reconciler.git.remote import PushResult, Remote, RemoteUnreachableError
from reconciler.kinds.record import RestoreRecord
from reconciler.ledger import layout
from reconciler.ledger.consumed import refuse_superseded
from reconciler.ledger.placement import Entry, Placement
from reconciler.ledger.view import LedgerView, PointEntry, RecordCache, RestoreState

__all__ = [
    "Entry",
    "Ledger",
    "LedgerView",
    "PointEntry",
    "PushRefusedError",
    "PushReport",
    "RestoreState",
    "RolledBackError",
]

log = structlog.get_logger(__name__)

EMAIL = "backup-reconciler@localhost"
ATTEMPTS_MAX = 8
PAUSE_FIRST_S = 0.05
PAUSE_MOST_S = 2.0


class RolledBackError(RefusedError):
    """The ledger's remote branch lost commits that were there before."""


class PushRefusedError(RefusedError):
    """The ledger's remote refused a push; its hook's words are in the message."""


@dataclass(frozen=True)
class PushReport:
    """What a push did. `dropped` are paths of records that another writer had written first."""

    pushed: int = 0
    dropped: tuple[str, ...] = ()


class Ledger:
    """The records of one cluster. May be used by several threads and, on one directory, processes."""

    def __init__(
        self,
        *,
        directory: Path,
        url: str,
        cluster: str,
        clock: Clock,
        author: str = "backup-reconciler",
        email: str = EMAIL,
        remote: Remote | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Open the clone in `directory`, which may be empty; nothing is fetched yet."""
        self.branch = layout.branch_of(cluster)
        self.cluster = cluster
        self.clock = clock
        self._directory = directory
        self._sleep = sleep
        self._jitter = jitter
        self._thread_lock = threading.RLock()
        self._held = 0
        self._dropped: list[str] = []
        self._cache = RecordCache()
        self._make_directory()
        with self._lock():
            self.clone = BareClone(directory / "ledger.git", url=url, remote=remote)
        self._placement = Placement(self.clone, author=author, email=email)

    # -- reading -----------------------------------------------------------------------------------

    def view(self, cluster: str | None = None) -> LedgerView:
        """What is recorded now, what is not pushed yet included; of another cluster what its branch says.

        Raises:
            RemoteUnreachableError: another cluster's branch was never fetched and the remote is away.
            RolledBackError: another cluster's branch lost commits that were seen before.
        """
        if cluster is None or cluster == self.cluster:
            tip = self.clone.tip(self.branch) or self._confirmed(self.branch)
            return LedgerView(self.clone, cluster=self.cluster, tip=tip, cache=self._cache)
        branch = layout.branch_of(cluster)
        with self._lock():
            try:
                tip = self._observe(branch)
                self._confirm(branch, tip)
            except RemoteUnreachableError:
                tip = self._confirmed(branch)
                if tip is None:
                    raise
        return LedgerView(self.clone, cluster=cluster, tip=tip, cache=self._cache)

    @property
    def pending(self) -> int:
        """Commits that are not on the remote yet."""
        return len(self._pending(self._confirmed(self.branch)))

    def refresh(self) -> None:
        """Fetch, and place commits that are not pushed yet on top of what came.

        Raises:
            RemoteUnreachableError: the remote is away; the local view stays usable.
            RolledBackError: the remote branch is gone or lost commits; nothing is changed here.
        """
        with self._lock():
            tip = self._observe(self.branch)
            local = self.clone.tip(self.branch)
            if tip is not None and local != tip:
                self._settle(local, tip)
            self._confirm(self.branch, tip)
            self.clone.tidy()

    # -- writing -----------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> list[str]:
        """Record durably, here; one commit for each entry, its id returned.

        An entry whose file exists already (a point for a slot that has one) is dropped: its id is empty, and
        the next `PushReport` names it.
        """
        if not entries:
            return []
        with self._lock():
            local = self.clone.tip(self.branch)
            base = local or self._confirmed(self.branch)
            placed = self._placement.place(entries, base=base)
            self._dropped += placed.dropped
            made = self.clone.write(placed.drafts, parent=base) if placed.drafts else []
            if made:
                self.clone.move(self.branch, made[-1], expected=local)
            return ["" if slot is None else made[slot] for slot in placed.slots]

    def push(self) -> PushReport:
        """Push everything that is pending, at once; after a lost race again, on top of what came.

        Raises:
            PushRefusedError: a hook of the remote said no; the commits stay pending.
            RemoteUnreachableError: the remote is away; the commits stay pending.
            LostRaceError: another writer was first every time.
        """
        with self._lock():
            for attempt in range(ATTEMPTS_MAX):
                local, confirmed = self.clone.tip(self.branch), self._confirmed(self.branch)
                waiting = len(self._pending(confirmed))
                if local is None or not waiting:
                    return self._report(0)
                result = self.clone.push(local, ref=self.branch, expected=confirmed)
                if result.status == "accepted":
                    self._confirm(self.branch, local)
                    self.clone.tidy()
                    return self._report(waiting)
                if result.status != "lost":
                    raise self._failure(result)
                self._back_off(attempt)
                self.refresh()
        raise LostRaceError(
            f"push {self.branch}: another writer was first {ATTEMPTS_MAX} times",
            hint="the commits stay pending; push again",
        )

    def accept(self, record: RestoreRecord) -> bool:
        """Create the accepted record of an attempt on the remote, if nobody has; whether this call did.

        What else is pending is pushed with it. The local branch moves only after the remote has taken it, so
        that a crash leaves no acceptance behind that nobody acts on.

        Raises:
            RemoteUnreachableError, PushRefusedError, RolledBackError, LostRaceError: it was not recorded.
            SupersededError: a higher attempt was accepted.
        """
        assert record.spec.stage == "accepted", "an acceptance is accepted"
        assert record.spec.cluster == self.cluster, "an acceptance is on the target's branch"
        key = layout.key_of(record)
        path = layout.restore_path(self.cluster, key, "accepted")
        with self._lock():
            for attempt in range(ATTEMPTS_MAX):
                self.refresh()
                if self.view().exists(path):
                    return False
                refuse_superseded(self.view(), key, cluster_uid=record.spec.cluster_uid)
                local, confirmed = self.clone.tip(self.branch), self._confirmed(self.branch)
                placed = self._placement.place([Entry(record)], base=local)
                (commit,) = self.clone.write(placed.drafts, parent=local)
                result = self.clone.push(commit, ref=self.branch, expected=confirmed)
                if result.status == "accepted" or self._landed(result, commit):
                    self.clone.move(self.branch, commit, expected=local)
                    self._confirm(self.branch, commit)
                    return True
                if result.status != "lost":
                    raise self._failure(result)
                self._back_off(attempt)
        raise LostRaceError(f"accept {record.metadata.name}: another writer was first every time")

    # -- inside ------------------------------------------------------------------------------------

    def _observe(self, branch: str) -> str | None:
        """Fetch a branch; refuse one that lost what was there."""
        tip, confirmed = self.clone.fetch(branch), self._confirmed(branch)
        if confirmed is None:
            return tip
        if tip is None or not self.clone.is_ancestor(confirmed, tip):
            state = f"is at {tip[:12]}, which does not descend from it" if tip else "is gone"
            raise RolledBackError(
                f"fetch {branch}: rolled back: {confirmed[:12]} was there before, now the branch {state}",
                hint=f"restore it: git -C {self.clone.path} push {self.clone.url} "
                f"{self.branch}:refs/heads/{branch}; if it was meant, remove {self._directory}",
            )
        return tip

    def _settle(self, local: str | None, tip: str) -> None:
        """Put the local branch on top of `tip`, with what is pending placed anew."""
        if local is not None and self.clone.is_ancestor(tip, local):
            return
        target, pending = tip, self._pending(tip)
        if pending:
            found = [self._placement.entry_of(commit) for commit in pending]
            entries = [entry for entry in found if entry is not None]
            placed = self._placement.place(entries, base=tip, gone=self._removed(tip))
            self._dropped += placed.dropped
            if placed.drafts:
                target = self.clone.write(placed.drafts, parent=tip)[-1]
            log.info("ledger moved; records placed anew", records=len(placed.drafts))
        self.clone.move(self.branch, target, expected=local)

    def _removed(self, tip: str) -> set[str]:
        """Paths that others took away since this ledger last looked."""
        confirmed = self._confirmed(self.branch)
        return {
            change.path
            for commit in self.clone.between(confirmed, tip)
            for change in self.clone.changes(commit)
            if change.after is None
        }

    def _pending(self, base: str | None) -> list[str]:
        local = self.clone.tip(self.branch)
        return self.clone.between(base, local) if local is not None and local != base else []

    def _confirmed(self, branch: str) -> str | None:
        return self.clone.tip(f"refs/confirmed/{branch}")

    def _confirm(self, branch: str, tip: str | None) -> None:
        ref, known = f"refs/confirmed/{branch}", self._confirmed(branch)
        if tip is not None and tip != known:
            self.clone.move(ref, tip, expected=known)

    def _landed(self, result: PushResult, commit: str) -> bool:
        """Whether a push that broke off had moved the branch all the same."""
        if result.status != "unreachable":
            return False
        with contextlib.suppress(RemoteUnreachableError):
            tip = self.clone.fetch(self.branch)
            return tip is not None and self.clone.is_ancestor(commit, tip)
        return False

    def _failure(self, result: PushResult) -> Exception:
        if result.status == "rejected":
            return PushRefusedError(
                f"push {self.branch} to {self.clone.url}: the remote refused: {result.message}",
                hint="allow this branch in the remote's hooks; what is pending is kept and tried again",
            )
        return RemoteUnreachableError(
            f"push {self.branch} to {self.clone.url}: {result.message}",
            hint="what is pending is kept and pushed later",
        )

    def _report(self, pushed: int) -> PushReport:
        dropped, self._dropped = tuple(self._dropped), []
        return PushReport(pushed=pushed, dropped=dropped)

    def _back_off(self, attempt: int) -> None:
        most = min(PAUSE_FIRST_S * 2**attempt, PAUSE_MOST_S)
        self._sleep(most * (0.5 + self._jitter() / 2))

    def _make_directory(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CloneWriteError(
                f"make directory {self._directory}: {error.strerror}",
                hint="may this user write to the work directory?",
            ) from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other threads and other processes on this directory out."""
        with self._thread_lock:
            if self._held:
                yield
                return
            with (self._directory / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._held += 1
                try:
                    yield
                finally:
                    self._held -= 1
