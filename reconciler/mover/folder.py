"""Reads a folder as the entries of a tree, sorted by path, with everything that a file system keeps of them.

Kept are owners, modes, times to the nanosecond, hard links, devices, extended attributes of users, POSIX ACLs and file
capabilities. Other file systems mounted below, sockets, and `lost+found` at the top are no part of the tree. A file
that cannot be read, or that changed while it was read, is counted; what was read of it stays.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from reconciler.store.port import EntryUnreadableError, TreeEntry

PIECE_BYTES = 1 << 20
LOST_AND_FOUND = b"lost+found"
_KEPT_EXACTLY = frozenset(
    {"system.posix_acl_access", "system.posix_acl_default", "security.capability"}
)
_TYPES: dict[int, Literal["file", "directory", "symlink", "fifo", "character", "block"]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
}
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass
class Tally:
    """What was met so far."""

    files: int = 0
    size_bytes: int = 0
    read_bytes: int = 0
    unreadable: int = 0
    changed: int = 0
    sockets: int = 0


Listed = tuple[bytes, "os.DirEntry[bytes]"]


class Folder:
    """A folder that is read once; `tally` says how far it is."""

    def __init__(self, top: str, *, stopped: Callable[[], bool] = lambda: False) -> None:
        self._top = os.fsencode(top)
        self._stopped = stopped
        self.tally = Tally()
        self._links: dict[int, str] = {}
        self._device = 0
        self._has_attributes = True

    def entries(self) -> Iterator[TreeEntry]:
        """The entries below the folder, in the order of their paths.

        Raises:
            OSError: the folder itself cannot be read.
            InterruptedError: it was stopped.
        """
        seen = os.stat(self._top)  # noqa: PTH116 - paths are bytes here
        self._device = seen.st_dev
        yield _plain(".", "directory", seen, attributes=self._attributes(self._top))
        stack: list[tuple[bytes, Iterator[Listed]]] = [
            (b"", iter(self._list(self._top, is_top=True)))
        ]
        while stack:
            prefix, rest = stack[-1]
            listed = next(rest, None)
            if listed is None:
                stack.pop()
                continue
            key, found = listed
            path = prefix + found.name
            if key.endswith(b"/"):
                if self._stopped():
                    raise InterruptedError(errno.EINTR, "stopped")
                try:
                    below = self._list(found.path)
                except OSError:
                    self.tally.unreadable += 1
                    continue
                stack.append((path + b"/", iter(below)))
                continue
            try:
                entry = self._entry(path, found)
            except OSError as error:
                # One that is gone was never part of it; one that cannot be asked is missing.
                self.tally.unreadable += error.errno != errno.ENOENT
                continue
            if entry is not None:
                self.tally.files += 1
                self.tally.size_bytes += entry.size_bytes
                yield entry

    def _list(self, path: bytes, *, is_top: bool = False) -> list[Listed]:
        """The names of a folder in the order of whole paths: itself, what sorts before `/`, then what is in it."""
        listed: list[Listed] = []
        with os.scandir(path) as found:
            for each in found:
                if is_top and each.name == LOST_AND_FOUND:
                    continue
                listed.append((each.name + b"\0", each))
                if each.is_dir(follow_symlinks=False) and (
                    each.stat(follow_symlinks=False).st_dev == self._device
                ):
                    listed.append((each.name + b"/", each))
        listed.sort(key=_key)
        return listed

    def _entry(self, path: bytes, found: os.DirEntry[bytes]) -> TreeEntry | None:
        seen = found.stat(follow_symlinks=False)
        mode = seen.st_mode
        kind = _TYPES.get(stat.S_IFMT(mode))
        if kind is None:
            self.tally.sockets += 1
            return None
        name = os.fsdecode(path)
        if seen.st_nlink > 1 and kind != "directory":
            first = self._links.setdefault(seen.st_ino, name)
            if first is not name:
                return _plain(name, "hardlink", seen, link=first)
        attributes = self._attributes(found.path) if self._has_attributes else {}
        if kind == "file":
            return TreeEntry(
                name,
                "file",
                mode & 0o7777,
                seen.st_uid,
                seen.st_gid,
                seen.st_mtime_ns,
                seen.st_size,
                xattrs=attributes,
                content=lambda: self._read(found.path, seen),
            )
        link = os.fsdecode(os.readlink(found.path)) if kind == "symlink" else ""  # noqa: PTH115
        return _plain(name, kind, seen, link=link, attributes=attributes)

    def _attributes(self, path: bytes) -> dict[str, bytes]:
        try:
            names = os.listxattr(path, follow_symlinks=False)
            return {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in names
                if name.startswith("user.") or name in _KEPT_EXACTLY
            }
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                self._has_attributes = False
            elif error.errno not in (errno.ENOENT, errno.ENODATA):
                raise
            return {}

    def _read(self, path: bytes, seen: os.stat_result) -> Iterator[bytes]:
        """The bytes of a file, as many as it had when it was seen or fewer."""
        try:
            descriptor = os.open(path, _OPEN)
        except OSError as error:
            self.tally.unreadable += error.errno != errno.ENOENT
            raise EntryUnreadableError("open file: it cannot be read") from error
        try:
            left = seen.st_size
            while left > 0:
                if self._stopped():
                    raise InterruptedError(errno.EINTR, "stopped")
                piece = os.read(descriptor, min(left, PIECE_BYTES))
                if not piece:
                    break
                left -= len(piece)
                self.tally.read_bytes += len(piece)
                yield piece
            now = os.fstat(descriptor)
            if (now.st_mtime_ns, now.st_size) != (seen.st_mtime_ns, seen.st_size):
                self.tally.changed += 1
        except InterruptedError:
            raise
        except OSError as error:
            self.tally.unreadable += 1
            raise EntryUnreadableError("read file: it cannot be read") from error
        finally:
            os.close(descriptor)


def _key(listed: Listed) -> bytes:
    return listed[0]


def _plain(
    name: str,
    kind: Literal["directory", "symlink", "hardlink", "fifo", "character", "block"],
    seen: os.stat_result,
    *,
    link: str = "",
    attributes: dict[str, bytes] | None = None,
) -> TreeEntry:
    return TreeEntry(
        name,
        kind,
        seen.st_mode & 0o7777,
        seen.st_uid,
        seen.st_gid,
        seen.st_mtime_ns,
        link=link,
        device=(os.major(seen.st_rdev), os.minor(seen.st_rdev))
        if kind in ("character", "block")
        else (0, 0),
        xattrs=attributes or {},
    )
