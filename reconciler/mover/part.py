"""A part of a tree: some files and folders of it, with the folders that lead there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from reconciler.errors import UsageError
from reconciler.store.port import TreeEntry


class PathNotFoundError(UsageError):
    """A path is not in the tree."""


def part_of(
    entries: Callable[[], Iterable[TreeEntry]], paths: Collection[str]
) -> Iterator[TreeEntry]:
    """The entries at and below `paths`, parents first; everything when there are none.

    The tree is read as often as is needed: a hard link to a file outside of the part becomes a file of its own.

    Args:
        entries: opens the tree.
        paths: relative to its top, `/`-separated.

    Raises:
        PathNotFoundError: one of them is not there.
    """
    wanted = {path.strip("/").removeprefix("./") or "." for path in paths}
    if not wanted or "." in wanted:
        yield from entries()
        return
    found: set[str] = set()
    links: list[TreeEntry] = []
    for entry in entries():
        hits = {path for path in wanted if _is_at(entry.path, path)}
        found |= hits
        leads = entry.type == "directory" and any(
            path.startswith(f"{entry.path}/") for path in wanted
        )
        if hits and entry.type == "hardlink" and not _is_in(entry.link, wanted):
            links.append(entry)
        elif hits or leads:
            yield entry
    missing = sorted(wanted - found)
    if missing:
        raise PathNotFoundError(
            f"find {missing[0]}: the volume has no such path",
            hint="`reconciler restore files POINT --list` shows what it has",
        )
    if links:
        yield from _as_files(entries(), links)


def _as_files(entries: Iterable[TreeEntry], links: list[TreeEntry]) -> Iterator[TreeEntry]:
    sources = {link.link for link in links}
    files = {entry.path: entry for entry in entries if entry.path in sources}
    for link in links:
        source = files.get(link.link)
        if source is not None:
            yield replace(source, path=link.path)


def _is_at(path: str, wanted: str) -> bool:
    return path == wanted or path.startswith(f"{wanted}/")


def _is_in(path: str, wanted: Collection[str]) -> bool:
    return any(_is_at(path, one) for one in wanted)
