"""The working tree that a file lies in: which repositories it is of, and where in it the file is. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reconciler.git.libgit2 import load_pygit2


@dataclass(frozen=True)
class Checkout:
    """A file in a working tree. `urls` are the tree's own and its remotes', paths written as `file://`."""

    urls: frozenset[str]
    path: str


def checkout_of(file: Path) -> Checkout | None:
    """Find the working tree of a file; None when it is in none that can be read."""
    pygit2 = load_pygit2()
    file = file.resolve()
    try:
        found = pygit2.discover_repository(str(file.parent))
        repository = pygit2.Repository(found) if found else None
        if repository is None or not repository.workdir:
            return None
        urls = [remote.url for remote in repository.remotes if remote.url]
    except pygit2.GitError:
        return None
    tree = Path(repository.workdir).resolve()
    places = {(tree / url).resolve().as_uri() if "://" not in url else url for url in urls}
    return Checkout(frozenset({tree.as_uri(), *places}), file.relative_to(tree).as_posix())
