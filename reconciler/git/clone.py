"""A bare clone: a copy of a remote repository's branches that can be lost at the cost of time.

Reading is by commit and path: trees are descended, blobs are measured before they are read. Writing makes one
pack of a batch of commits (`pack.py`) and then moves one ref by compare-and-swap. A clone that turns out to be
damaged is reported, and the next fetch puts a fresh one in its place; the damaged one is kept beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from reconciler.errors import TerminalError, TransientError
from reconciler.git.housekeeping import repack
from reconciler.git.libgit2 import load_pygit2
from reconciler.git.pack import Draft, write_pack
from reconciler.git.remote import (
    DirectoryRemote,
    PushResult,
    Remote,
    RemoteUnreachableError,
    directory_of,
    full_ref,
    tracking_ref,
)

log = structlog.get_logger(__name__)

BROKEN_KEPT = 3
PACKS_MAX = 50
TREES_CACHED = 8192
LOCKED_TRIES = 20
LOCKED_PAUSE_S = 0.05
DEAD_LOCK_S = 10.0

_FOLDER, _LINK, _SUBMODULE = 0o040000, 0o120000, 0o160000


class DamagedCloneError(TransientError):
    """A local clone has lost objects; fetching replaces it."""


class CloneWriteError(TransientError):
    """A local clone cannot be written to."""


class RefMovedError(TransientError):
    """A local branch was moved by another process meanwhile."""


class BlobTooLargeError(TerminalError):
    """A file in a repository is larger than what is read."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One name in a tree."""

    name: str
    id: str
    mode: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a tree."""
        return self.mode == _FOLDER

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.mode == _LINK

    @property
    def is_submodule(self) -> bool:
        """Whether it is a commit of another repository."""
        return self.mode == _SUBMODULE


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit says."""

    id: str
    tree: str
    parents: tuple[str, ...]
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """A file that differs between a commit and its first parent; blob ids, None for absent."""

    path: str
    before: str | None
    after: str | None


class BareClone:
    """A bare clone at `path` of the repository at `url`. May be used by several threads."""

    def __init__(self, path: Path, *, url: str, remote: Remote | None = None) -> None:
        """Open the clone, or make an empty one.

        Raises:
            UsageError: the URL is not `file://`.
            CloneWriteError: the directory cannot be written to.
        """
        directory_of(url)
        self.path = path
        self.url = url
        self._remote = remote or DirectoryRemote()
        self._lock = threading.RLock()
        self._trees: OrderedDict[str, tuple[TreeEntry, ...]] = OrderedDict()
        self._damaged = False
        self._repository = self._open()
        self._damaged = not self._is_sound()

    # -- remote ------------------------------------------------------------------------------------

    def fetch(self, ref: str) -> str | None:
        """Bring one branch up to date with the remote; None when it is not there.

        Raises:
            RemoteUnreachableError: the remote is away; what is here stays readable.
        """
        with self._lock:
            if not self._damaged:
                try:
                    return self._fetch(full_ref(ref))
                except RemoteUnreachableError:
                    if self._is_sound():
                        raise
            return self._replace(full_ref(ref))

    def _fetch(self, ref: str) -> str | None:
        try:
            return self._remote.fetch(self.path, url=self.url, ref=ref)
        except RemoteUnreachableError:
            # A fetch that was killed leaves the lock of the tracking ref behind: that is no remote away.
            if not self._remove_dead_locks(tracking_ref(ref)):
                raise
        return self._remote.fetch(self.path, url=self.url, ref=ref)

    def fetch_commit(self, oid: str) -> None:
        """Bring a commit that no branch has any more, if the remote still gives it away.

        Raises:
            RemoteUnreachableError: it does not, or is away.
        """
        with self._lock:
            self._remote.fetch(self.path, url=self.url, ref=oid)

    def push(self, commit: str, *, ref: str, expected: str | None) -> PushResult:
        """Move a remote branch from `expected` to `commit`, which descends from it; never forces."""
        assert expected is None or self.is_ancestor(expected, commit), "a push only adds"
        with self._lock:
            return self._remote.push(
                self.path, url=self.url, commit=commit, ref=full_ref(ref), expected=expected
            )

    # -- refs --------------------------------------------------------------------------------------

    def tip(self, ref: str) -> str | None:
        """The commit of a local ref."""
        with self._reading():
            found = self._repository.references.get(full_ref(ref))
            return None if found is None else str(found.target)

    def seen(self, ref: str) -> str | None:
        """The commit of a remote branch when it was last fetched."""
        return self.tip(tracking_ref(full_ref(ref)))

    def move(self, ref: str, target: str, *, expected: str | None) -> None:
        """Move a local ref from `expected` (None: it does not exist) to `target`.

        Raises:
            RefMovedError: it is elsewhere, or stayed locked.
        """
        pygit2 = load_pygit2()
        name = full_ref(ref)
        with self._lock:
            for _ in range(LOCKED_TRIES):
                try:
                    found = self._repository.references.get(name)
                    if (None if found is None else str(found.target)) != expected:
                        break
                    if found is None:
                        self._repository.references.create(name, target)
                    else:
                        # libgit2 compares with the value that `found` was read with, under the lock.
                        found.set_target(target)
                except (pygit2.GitError, OSError, ValueError):
                    self._remove_dead_locks(name)
                    time.sleep(LOCKED_PAUSE_S)
                else:
                    return
        raise RefMovedError(f"move {ref}: another process moved or locked it")

    def _remove_dead_locks(self, ref: str) -> bool:
        """Remove the lock of a process that was killed while it moved a ref; whether there was one.

        Who writes to a clone owns it, and holds a lock for milliseconds: one of many seconds is nobody's.
        """
        removed = False
        # Where no file can be made or removed, what needed the lock says why it failed.
        with contextlib.suppress(OSError):
            now = self._file_time()
            for lock in (self.path / f"{ref}.lock", self.path / "packed-refs.lock"):
                with contextlib.suppress(FileNotFoundError):
                    if now - lock.stat().st_mtime > DEAD_LOCK_S:
                        lock.unlink()
                        removed = True
                        log.warning("removed the lock of a dead process", lock=lock.name)
        return removed

    def _file_time(self) -> float:
        """The time by the clock that stamps the locks, which may be another machine's."""
        probe = self.path / f".now-{os.getpid()}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    # -- reading -----------------------------------------------------------------------------------

    def has(self, oid: str) -> bool:
        """Whether an object is here."""
        with self._lock:
            return oid in self._repository

    def commit(self, oid: str) -> Commit:
        """Read a commit."""
        with self._reading():
            found = self._repository[oid]
            return Commit(
                id=str(found.id),
                tree=str(found.tree_id),
                parents=tuple(str(parent) for parent in found.parent_ids),
                message=found.message,
                at=datetime.fromtimestamp(found.author.time, UTC),
            )

    def children(self, tree: str) -> tuple[TreeEntry, ...]:
        """The entries of a tree, by name."""
        with self._reading():
            known = self._trees.get(tree)
            if known is None:
                known = tuple(
                    TreeEntry(
                        entry.raw_name.decode("utf-8", "surrogateescape"),
                        str(entry.id),
                        int(entry.filemode),
                    )
                    for entry in self._repository[tree]
                )
                self._trees[tree] = known
                if len(self._trees) > TREES_CACHED:
                    self._trees.popitem(last=False)
            else:
                self._trees.move_to_end(tree)
            return known

    def lookup(self, commit: str, path: str) -> TreeEntry | None:
        """The file or folder at `path`; the root for an empty path."""
        entry = TreeEntry("", self.commit(commit).tree, _FOLDER)
        for part in path.split("/") if path else []:
            if not entry.is_folder:
                return None
            below = next((one for one in self.children(entry.id) if one.name == part), None)
            if below is None:
                return None
            entry = below
        return entry

    def walk(self, commit: str, *, under: str = "") -> Iterator[tuple[str, TreeEntry]]:
        """Every file under a folder, links and submodules too; a folder's files come before its folders."""
        start = self.lookup(commit, under)
        if start is None:
            return
        if not start.is_folder:
            yield under, start
            return
        folders = [(under, start.id)]
        while folders:
            place, tree = folders.pop()
            below = []
            for entry in self.children(tree):
                path = f"{place}/{entry.name}" if place else entry.name
                if entry.is_folder:
                    below.append((path, entry.id))
                else:
                    yield path, entry
            folders.extend(reversed(below))

    def size(self, blob: str) -> int:
        """The size of a blob, without reading it."""
        with self._reading():
            return int(self._repository.odb.read_header(blob)[1])

    def blob(self, oid: str, *, max_bytes: int) -> bytes:
        """Read a blob.

        Raises:
            BlobTooLargeError: it has more than `max_bytes`; it was not read.
        """
        size = self.size(oid)
        if size > max_bytes:
            raise BlobTooLargeError(
                f"read blob {oid[:12]}: {size} bytes, at most {max_bytes} are read"
            )
        with self._reading():
            return bytes(self._repository[oid].data)

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `older` is `newer` or one of its ancestors."""
        if older == newer:
            return True
        with self._reading():
            return bool(self._repository.descendant_of(newer, older))

    def between(self, base: str | None, tip: str) -> list[str]:
        """The commits on the first-parent line of `tip` that `base` does not have, oldest first."""
        pygit2 = load_pygit2()
        with self._reading():
            walker = self._repository.walk(tip, pygit2.enums.SortMode.TOPOLOGICAL)
            walker.simplify_first_parent()
            if base is not None:
                walker.hide(base)
            return [str(found.id) for found in walker][::-1]

    def history(self, tip: str) -> Iterator[Commit]:
        """The first-parent line of `tip`, newest first."""
        oid: str | None = tip
        while oid is not None:
            found = self.commit(oid)
            yield found
            oid = found.parents[0] if found.parents else None

    def changes(self, commit: str) -> list[Change]:
        """The files that differ between a commit and its first parent, sorted by path."""
        found = self.commit(commit)
        before = self.commit(found.parents[0]).tree if found.parents else None
        return sorted(self._differ("", before, found.tree), key=lambda change: change.path)

    def _differ(self, place: str, before: str | None, after: str | None) -> Iterator[Change]:
        if before == after:
            return
        old = {entry.name: entry for entry in self.children(before)} if before else {}
        new = {entry.name: entry for entry in self.children(after)} if after else {}
        for name in old.keys() | new.keys():
            was, now, path = old.get(name), new.get(name), f"{place}/{name}" if place else name
            if was == now:
                continue
            folders = [e.id if e is not None and e.is_folder else None for e in (was, now)]
            if any(folders):
                yield from self._differ(path, folders[0], folders[1])
            files = [e.id if e is not None and not e.is_folder else None for e in (was, now)]
            if any(files):
                yield Change(path, files[0], files[1])

    # -- writing -----------------------------------------------------------------------------------

    def write(self, drafts: Sequence[Draft], *, parent: str | None) -> list[str]:
        """Make commits in a row on top of `parent`, in one flushed pack; no ref is moved.

        Raises:
            CloneWriteError: the disk is full, or read-only.
        """
        pygit2 = load_pygit2()
        with self._lock:
            try:
                return write_pack(self.path, drafts, parent=parent)
            except (pygit2.GitError, OSError) as error:
                raise CloneWriteError(
                    f"write commits to {self.path}: {error}", hint="is the disk full or read-only?"
                ) from error
            except KeyError as error:
                self._damaged = True
                raise self._damage(error) from error

    def tidy(self) -> bool:
        """Put many packs together into few, when there are more than 50; whether that was done."""
        with self._lock:
            packs = sum(1 for _ in (self.path / "objects" / "pack").glob("*.pack"))
            if packs <= PACKS_MAX or not repack(self.path):
                return False
            self._repository = self._open()
            return True

    # -- soundness ---------------------------------------------------------------------------------

    def _open(self) -> Any:
        pygit2 = load_pygit2()
        try:
            if (self.path / "HEAD").is_file():
                return pygit2.Repository(str(self.path), pygit2.enums.RepositoryOpenFlag.BARE)
            if self.path.exists() and any(self.path.iterdir()):
                self._put_aside()
        except pygit2.GitError:
            self._put_aside()
        return self._create(self.path)

    def _create(self, path: Path) -> Any:
        pygit2 = load_pygit2()
        try:
            path.mkdir(parents=True, exist_ok=True)
            return pygit2.init_repository(str(path), bare=True)
        except (pygit2.GitError, OSError) as error:
            raise CloneWriteError(
                f"make clone {path}: {error}", hint="may this user write to the work directory?"
            ) from error

    def _is_sound(self) -> bool:
        """Whether the tip of every ref, and its tree, can be read."""
        pygit2 = load_pygit2()
        try:
            for name in self._repository.references:
                found = self._repository[self._repository.references[name].target]
                self._repository[found.tree_id]
        except (pygit2.GitError, KeyError, ValueError, AttributeError, OSError):
            return False
        return True

    def _replace(self, ref: str) -> str | None:
        """Clone again beside the damaged clone, then change places; what fetches fails leaves it be."""
        fresh = self.path.with_name(self.path.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._create(fresh)
        tip = self._remote.fetch(fresh, url=self.url, ref=ref)
        aside = self._put_aside()
        fresh.rename(self.path)
        log.error("damaged clone replaced", clone=str(self.path), kept=str(aside))
        self._trees.clear()
        self._repository = self._open()
        self._damaged = False
        return tip

    def _put_aside(self) -> Path:
        name = self.path.name + ".broken-"
        ends = (path.name.removeprefix(name) for path in self.path.parent.glob(name + "*"))
        numbers = sorted(int(end) for end in ends if end.isdecimal())
        aside = self.path.with_name(f"{name}{numbers[-1] + 1 if numbers else 1}")
        self.path.rename(aside)
        for number in numbers[: max(0, len(numbers) + 1 - BROKEN_KEPT)]:
            shutil.rmtree(self.path.with_name(f"{name}{number}"), ignore_errors=True)
        return aside

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        pygit2 = load_pygit2()
        with self._lock:
            try:
                yield
            except (KeyError, pygit2.GitError, OSError, ValueError) as error:
                self._damaged = True
                raise self._damage(error) from error

    def _damage(self, error: Exception) -> DamagedCloneError:
        return DamagedCloneError(
            f"read clone {self.path}: {error}",
            hint="the next fetch puts a fresh clone in its place",
        )
