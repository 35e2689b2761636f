"""The port to a remote repository, and its adapter for `file://`.

The port is narrow, so that simulations can count every effect and fail it: bring one branch into a clone, and
move one remote branch from one commit to another. Nothing is ever forced: a push names the commit that the
remote branch must still be at, and anything else there means that the race was lost.

Fetching is libgit2's. Pushing to a directory is not: libgit2's local transport runs no hook of the remote and
overwrites whatever came between its look at the branch and its write, so that two writers can lose a commit.
`receive.py` talks to `git receive-pack` instead, as `git push` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

from reconciler.errors import TransientError, UsageError
from reconciler.git.libgit2 import load_pygit2
from reconciler.git.receive import Answer, receive_pack

TIMEOUT_S = 60.0
_COMMIT_ID = re.compile(r"[0-9a-f]{40}")


class RemoteUnreachableError(TransientError):
    """The remote is away, or broke off."""


@dataclass(frozen=True)
class PushResult:
    """How a push ended.

    `rejected`: the remote refused, `message` is what its hook said; `lost`: the branch is not where it was
    expected; `unreachable`: nobody knows whether the branch moved.
    """

    status: Literal["accepted", "rejected", "lost", "unreachable"]
    message: str = ""


class Remote(Protocol):
    """A remote repository."""

    def fetch(self, clone: Path, *, url: str, ref: str) -> str | None:
        """Bring the objects of one branch (`refs/heads/…`) into the clone, and its tracking ref up to date.

        Given a commit id instead of a branch, bring that commit and its history, if the remote gives it away.

        Returns:
            The commit, or None when the remote has no such branch.

        Raises:
            RemoteUnreachableError: the remote is away; the clone is as it was.
        """
        ...

    def push(
        self, clone: Path, *, url: str, commit: str, ref: str, expected: str | None
    ) -> PushResult:
        """Move the remote branch from `expected` (None: it must not exist) to `commit`.

        Never raises for what the remote says or does not say: that is the result.
        """
        ...


def tracking_ref(ref: str) -> str:
    """Where the clone keeps what it last saw of a remote branch."""
    return "refs/remotes/origin/" + ref.removeprefix("refs/heads/")


def full_ref(ref: str) -> str:
    """`main` → `refs/heads/main`."""
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"


def is_commit_id(ref: str) -> bool:
    """Whether a ref is 40 hexadecimal digits."""
    return _COMMIT_ID.fullmatch(ref) is not None


def directory_of(url: str) -> Path:
    """The directory that a `file://` URL names.

    Raises:
        UsageError: it is another kind of URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        scheme = parts.scheme or "a path"
        raise UsageError(
            f"use remote: {scheme} is not supported by this version",
            hint="give file:///absolute/path of a bare repository",
        )
    return Path(unquote(parts.path))


class DirectoryRemote:
    """A bare repository in a directory of this machine."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def fetch(self, clone: Path, *, url: str, ref: str) -> str | None:
        """Fetch one branch through libgit2."""
        pygit2 = load_pygit2()
        directory = directory_of(url)
        repository = pygit2.Repository(str(clone))
        try:
            if is_commit_id(ref):
                return _copy_commit(repository, pygit2.Repository(str(directory)), ref)
            # A Remote keeps the list of branches that it saw first, so each operation takes a new one.
            remote = repository.remotes.create_anonymous(directory.as_uri())
            remote.fetch([f"+{ref}:{tracking_ref(ref)}"], prune=pygit2.enums.FetchPrune.PRUNE)
            found = repository.references.get(tracking_ref(ref))
            return None if found is None else str(found.target)
        except (pygit2.GitError, OSError, KeyError, ValueError) as error:
            raise RemoteUnreachableError(
                f"fetch {ref.removeprefix('refs/heads/')} of {url}: {error}",
                hint="is the repository there, and may this user read it?",
            ) from error
        finally:
            repository.free()

    def push(
        self, clone: Path, *, url: str, commit: str, ref: str, expected: str | None
    ) -> PushResult:
        """Push through `git receive-pack`, so that hooks run and nothing is overwritten."""
        answer = receive_pack(
            clone,
            directory=directory_of(url),
            commit=commit,
            ref=ref,
            expected=expected,
            timeout_s=self._timeout_s,
        )
        return _judge(answer)


def _copy_commit(clone: Any, source: Any, commit: str) -> str:
    """Copy a commit that no branch has any more; libgit2's local transport offers what branches have."""
    pygit2 = load_pygit2()
    walker = source.walk(commit)
    for name in clone.references:
        target = clone.references[name].target
        if target in source:
            walker.hide(target)
    builder = pygit2.PackBuilder(source)
    for found in walker:
        builder.add_recur(found.id)
    builder.write(str(Path(clone.path) / "objects" / "pack"))
    return commit


def _judge(answer: Answer) -> PushResult:
    if answer.broken:
        return PushResult("unreachable", answer.broken)
    if answer.moved:
        return PushResult("lost", answer.moved)
    if answer.refused:
        # These words of receive-pack mean that another writer was first; all else is a guard's.
        raced = ("failed to update ref", "failed to lock", "already exists", "fetch first")
        if any(word in answer.refused for word in raced):
            return PushResult("lost", answer.refused)
        return PushResult("rejected", answer.said or answer.refused)
    return PushResult("accepted")
