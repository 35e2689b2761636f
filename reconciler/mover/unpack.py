"""Writes the entries of a tree into a folder: the reverse of `folder`.

What was in the folder is removed first. Nothing is ever written through a symbolic link: each parent is opened one name
at a time, so a tree that was made to lead out of the folder cannot. Runs of zeros become holes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reconciler.errors import TerminalError, TransientError
from reconciler.mover.folder import LOST_AND_FOUND
from reconciler.store.port import StorageFullError, TreeEntry

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HOLE_BYTES = 64 * 1024
_ZEROS = bytes(_HOLE_BYTES)
_MODE_WHILE_WRITTEN = 0o700


class UnpackError(TerminalError):
    """A file cannot be written as it was."""


class LeadsOutError(UnpackError):
    """A path of a tree leads through something that is no folder."""


@dataclass
class Written:
    """What was written so far."""

    files: int = 0
    size_bytes: int = 0


def clear(top: str) -> None:
    """Remove everything in a folder but the file system's own `lost+found`."""
    with os.scandir(top) as found:
        for each in found:
            if os.fsencode(each.name) == LOST_AND_FOUND:
                continue
            if each.is_dir(follow_symlinks=False):
                shutil.rmtree(each.path)
            else:
                os.unlink(each)  # noqa: PTH108


class Unpacker:
    """Writes entries below a folder; parents come before what is in them, hard links after what they link to."""

    def __init__(
        self, top: str, *, stopped: Callable[[], bool] = lambda: False, owns: bool = True
    ) -> None:
        self._top = os.open(top, _FOLDER)
        self._stopped = stopped
        self._owns = owns
        self._open: list[tuple[bytes, int]] = []
        self._folders: list[TreeEntry] = []
        self.written = Written()

    def unpack(self, entries: Iterable[TreeEntry]) -> None:
        """Write all entries and make them durable.

        Raises:
            LeadsOutError: a path leads out of the folder.
            UnpackError: the file system refuses something.
            StorageFullError: no space is left.
            InterruptedError: it was stopped.
        """
        try:
            for entry in entries:
                if self._stopped():
                    raise InterruptedError(errno.EINTR, "stopped")
                self._attempt(entry, self._write)
                self.written.files += 1
            # A folder's own time changes with what is written into it, and a mode may forbid writing.
            for entry in reversed(self._folders):
                self._attempt(entry, self._finish_folder)
            _sync(self._top)
        finally:
            self._close_to(0)
            os.close(self._top)

    def _attempt(self, entry: TreeEntry, act: Callable[[TreeEntry], None]) -> None:
        try:
            act(entry)
        except (InterruptedError, TransientError, TerminalError):
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError("write files: no space is left in the volume") from error
            raise UnpackError(f"write a {entry.type}: {error.strerror}") from error

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """The open folder that a path is in, and its name there."""
        *folders, name = path.split(b"/")
        depth = 0
        while depth < min(len(folders), len(self._open)) and self._open[depth][0] == folders[depth]:
            depth += 1
        self._close_to(depth)
        for folder in folders[depth:]:
            above = self._open[-1][1] if self._open else self._top
            try:
                self._open.append((folder, os.open(folder, _FOLDER, dir_fd=above)))
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise LeadsOutError("write files: a path leads through a link") from error
                raise
        return (self._open[-1][1] if self._open else self._top), name

    def _close_to(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])

    def _write(self, entry: TreeEntry) -> None:
        if entry.path == ".":
            self._folders.append(entry)
            return
        folder, name = self._parent(os.fsencode(entry.path))
        match entry.type:
            case "directory":
                os.mkdir(name, _MODE_WHILE_WRITTEN, dir_fd=folder)
                self._folders.append(entry)
            case "file":
                self._write_file(entry, folder, name)
            case "hardlink":
                self._link(entry, folder, name)
            case "symlink":
                os.symlink(os.fsencode(entry.link), name, dir_fd=folder)
                self._mark(entry, folder, name, is_link=True)
            case _:
                kind = {"fifo": stat.S_IFIFO, "character": stat.S_IFCHR, "block": stat.S_IFBLK}
                os.mknod(name, kind[entry.type] | 0o600, os.makedev(*entry.device), dir_fd=folder)
                self._mark(entry, folder, name)

    def _write_file(self, entry: TreeEntry, folder: int, name: bytes) -> None:
        descriptor = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            size = 0
            for piece in entry.content() if entry.content else ():
                if self._stopped():
                    raise InterruptedError(errno.EINTR, "stopped")
                size += len(piece)
                self.written.size_bytes += len(piece)
                _write_sparse(descriptor, piece)
            if size and os.fstat(descriptor).st_size < size:
                os.ftruncate(descriptor, size)
            if self._owns:
                os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, self._mode(entry))
            self._set_attributes(descriptor, entry)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _mode(self, entry: TreeEntry) -> int:
        """Rights of the owner's are for the owner: without owners, none of set-user and set-group."""
        return entry.mode & (0o7777 if self._owns else 0o1777)

    def _set_attributes(self, descriptor: int, entry: TreeEntry) -> None:
        for attribute, value in entry.xattrs.items():
            if self._owns or attribute.startswith("user."):
                os.setxattr(descriptor, attribute, value)

    def _link(self, entry: TreeEntry, folder: int, name: bytes) -> None:
        folder = os.dup(folder)
        try:
            source, old = self._parent(os.fsencode(entry.link))
            os.link(old, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def _mark(self, entry: TreeEntry, folder: int, name: bytes, *, is_link: bool = False) -> None:
        """Owner, mode, attributes and time of what is no regular file."""
        if self._owns:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if not is_link:
            os.chmod(name, self._mode(entry), dir_fd=folder)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _finish_folder(self, entry: TreeEntry) -> None:
        if entry.path == ".":
            descriptor = os.dup(self._top)
        else:
            above, name = self._parent(os.fsencode(entry.path))
            descriptor = os.open(name, _FOLDER, dir_fd=above)
        try:
            if self._owns:
                os.fchown(descriptor, entry.uid, entry.gid)
            self._set_attributes(descriptor, entry)
            os.fchmod(descriptor, self._mode(entry))
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)


def _write_sparse(descriptor: int, piece: bytes) -> None:
    """Write bytes at the file's place, and go over long runs of zeros without writing them."""
    view = memoryview(piece)
    done = at = 0
    while at < len(view):
        is_hole = len(view) - at >= _HOLE_BYTES and view[at : at + _HOLE_BYTES] == _ZEROS
        if is_hole:
            _write_all(descriptor, view[done:at])
            os.lseek(descriptor, _HOLE_BYTES, os.SEEK_CUR)
            done = at + _HOLE_BYTES
        at += _HOLE_BYTES
    _write_all(descriptor, view[done:])


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(folder: int) -> None:
    """Make durable what the file system of a folder holds."""
    if ctypes.CDLL(None, use_errno=True).syncfs(folder):
        raise OSError(ctypes.get_errno(), "syncfs")
