"""Write a batch of commits as one pack.

New objects are kept in memory by an object-database backend of our own; trees are rebuilt along the touched
paths only; then everything goes to disk as one pack with its index, flushed. Nothing refers to the new commits
until somebody moves a ref, so a crash at any point leaves at most a pack that is not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from reconciler.git.libgit2 import load_pygit2


@dataclass(frozen=True)
class Draft:
    """A commit to be made: path → new contents, or None to remove the file."""

    message: str
    edits: Mapping[str, bytes | None]
    at: datetime
    author: str
    email: str


def write_pack(clone: Path, drafts: Sequence[Draft], *, parent: str | None) -> list[str]:
    """Make one commit of each draft, in a row on top of `parent`; return their ids."""
    pygit2 = load_pygit2()
    repository = pygit2.Repository(str(clone))
    memory = _memory_backend(pygit2)
    repository.odb.add_backend(memory, 999)
    tree = repository[parent].tree.id if parent else None
    made: list[str] = []
    for draft in drafts:
        tree = _edit(repository, tree, _nested(draft.edits)) or repository.TreeBuilder().write()
        signature = pygit2.Signature(draft.author, draft.email, int(draft.at.timestamp()), 0)
        parents = [made[-1]] if made else ([parent] if parent else [])
        commit = repository.create_commit(None, signature, signature, draft.message, tree, parents)
        made.append(str(commit))
    builder = pygit2.PackBuilder(repository)
    for oid in memory.objects:
        builder.add(pygit2.Oid(oid))
    builder.write(str(clone / "objects" / "pack"))
    return made


def _memory_backend(pygit2: Any) -> Any:
    class Memory(pygit2.OdbBackend):  # type: ignore[misc]
        """Objects in a dict: what was written and is not yet on disk."""

        def __init__(self) -> None:
            super().__init__()
            self.objects: dict[bytes, tuple[int, bytes]] = {}

        def read_cb(self, oid: Any) -> tuple[int, bytes]:
            return self.objects[oid.raw]

        def read_header_cb(self, oid: Any) -> tuple[int, int]:
            kind, data = self.objects[oid.raw]
            return kind, len(data)

        def write_cb(self, oid: Any, data: bytes, kind: int) -> None:
            self.objects[oid.raw] = (kind, bytes(data))

        def exists_cb(self, oid: Any) -> bool:
            return oid.raw in self.objects

        def refresh_cb(self) -> None:
            """Nothing to read again: there is no disk behind it."""

        def __iter__(self) -> Iterator[Any]:
            return (pygit2.Oid(oid) for oid in self.objects)

    return Memory()


def _nested(edits: Mapping[str, bytes | None]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, data in edits.items():
        *folders, name = path.split("/")
        place = root
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = data
    return root


def _edit(repository: Any, tree: Any, edits: dict[str, Any]) -> Any:
    """The tree with the edits made; None when nothing is left in it."""
    pygit2 = load_pygit2()
    mode = pygit2.enums.FileMode
    builder = repository.TreeBuilder(repository[tree]) if tree else repository.TreeBuilder()
    for name, change in edits.items():
        there = builder.get(name)
        if isinstance(change, dict):
            is_folder = there is not None and there.type_str == "tree"
            below = _edit(repository, there.id if is_folder else None, change)
            if below is not None:
                builder.insert(name, below, mode.TREE)
            elif there is not None:
                builder.remove(name)
        elif change is not None:
            builder.insert(name, repository.create_blob(change), mode.BLOB)
        elif there is not None:
            builder.remove(name)
    return builder.write() if len(builder) else None
