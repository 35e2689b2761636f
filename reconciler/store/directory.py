"""Storage in a directory (`file://`), durable and whole by the rules of POSIX.

An object is written to `.tmp/<random>` on the same file system, synced, and then linked to its name
(`create`: link refuses a name that is taken) or renamed over it (`replace`); then the directory that got
the new entry is synced, and so is every directory made on the way. A writer that dies leaves at most a file
in `.tmp`, which no listing shows and `sweep` removes. The root is never made by a write: a missing root is
an unmounted disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from reconciler.clock import Clock, SystemClock
from reconciler.errors import LocationMissingError, ReconcilerError, UsageError
from reconciler.store.naming import check_name, check_prefix
from reconciler.store.port import (
    ObjectExistsError,
    ObjectMissingError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
    StoredObject,
)

TEMPORARY = ".tmp"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DirectoryStorage:
    """Objects as files below one directory."""

    def __init__(self, path: Path, *, clock: Clock | None = None, create: bool = False) -> None:
        self._root = path.absolute()
        self._clock = clock or SystemClock()
        """Asked only where the file system cannot be: it is read-only."""
        self._synced: set[Path] = set()
        if create:
            with self._translated("make", str(self._root)):
                self._root.mkdir(parents=True, exist_ok=True)
                _sync_directory(self._root.parent)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"file://{quote(str(self._root))}"

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must be absent; durable when it returns."""
        target = self._root / check_name(name)
        with self._translated("write", name):
            if target.exists():
                raise ObjectExistsError(f"write {name}: it exists")
            temporary = self._write_temporary(data)
            try:
                self._make_parents(target)
                os.link(temporary, target)
            finally:
                with suppress(OSError):
                    temporary.unlink()
            _sync_directory(target.parent)

    def replace(self, name: str, data: bytes) -> None:
        """Write an object whether it is there or not."""
        target = self._root / check_name(name)
        with self._translated("write", name):
            temporary = self._write_temporary(data)
            try:
                self._make_parents(target)
                temporary.replace(target)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
            _sync_directory(target.parent)

    def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read an object or a part of it."""
        with self._translated("read", name):
            try:
                with (self._root / check_name(name)).open("rb", buffering=0) as file:
                    return _read_part(file.fileno(), offset, length)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                self._check_root()
                raise ObjectMissingError(f"read {name}: it is not there") from None

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose name starts with `prefix`, sorted by name."""
        check_prefix(prefix)
        with self._translated("list", prefix or "location"):
            self._check_root()
            found = sorted(self._walk(prefix.rpartition("/")[0], prefix), key=lambda o: o.name)
        yield from found

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens when it is absent."""
        target = self._root / check_name(name)
        with self._translated("delete", name):
            try:
                target.unlink()
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return
            _sync_directory(target.parent)

    def now(self) -> datetime:
        """The file system's clock, which stamps `modified_at`: seen by touching a temporary file."""
        probe = self._root / TEMPORARY / f"now-{os.urandom(8).hex()}"
        try:
            self._check_root()
            probe.parent.mkdir(exist_ok=True)
            probe.touch()
            try:
                return _instant(probe.stat().st_mtime_ns)
            finally:
                probe.unlink(missing_ok=True)
        except OSError:
            return self._clock.now()

    def sweep(self, *, before: datetime) -> int:
        """Remove temporary files of writers that died before an instant; return their bytes."""
        freed = 0
        with self._translated("sweep", TEMPORARY):
            for path in sorted((self._root / TEMPORARY).glob("*")):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    if _instant(status.st_mtime_ns) < before:
                        path.unlink()
                        freed += status.st_size
        return freed

    def _write_temporary(self, data: bytes) -> Path:
        self._check_root()
        folder = self._root / TEMPORARY
        folder.mkdir(exist_ok=True)
        path = folder / os.urandom(12).hex()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise
        return path

    def _make_parents(self, target: Path) -> None:
        """Make the directories above `target`, below the root, each one synced into its parent.

        One that exists may have been made by another writer a moment ago, so it is synced too, once a process.
        """
        folders = [f for f in reversed(target.parents) if f.is_relative_to(self._root)][1:]
        for folder in folders:
            if folder not in self._synced or not folder.is_dir():
                folder.mkdir(exist_ok=True)
                _sync_directory(folder.parent)
                self._synced.add(folder)

    def _walk(self, folder: str, prefix: str) -> Iterator[StoredObject]:
        try:
            listing = list(os.scandir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in listing:
            if entry.name.startswith("."):
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not (name.startswith(prefix) or prefix.startswith(f"{name}/")):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk(name, prefix)
            elif stat.S_ISREG(status.st_mode) and name.startswith(prefix):
                yield StoredObject(name, status.st_size, _instant(status.st_mtime_ns))

    def _check_root(self) -> None:
        if not self._root.is_dir():
            raise LocationMissingError(
                f"open location {self.url}: the directory is not there",
                hint=f"mount it, or make a new one: reconciler keys init --location {self.url}",
            )

    @contextmanager
    def _translated(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except ReconcilerError:
            raise
        except OSError as error:
            raise self._translate(error, verb, name) from error

    def _translate(self, error: OSError, verb: str, name: str) -> ReconcilerError:
        message = f"{verb} {name} in {self.url}: {os.strerror(error.errno or errno.EIO)}"
        code = error.errno
        if code == errno.EEXIST and verb == "write":
            return ObjectExistsError(f"write {name}: it exists")
        if code in _FULL:
            return StorageFullError(message, hint="free space or raise the quota, then try again")
        if code in _READ_ONLY and verb in ("read", "list"):
            return LocationMissingError(
                message, hint="give this user the right to read the directory"
            )
        if code in _READ_ONLY:
            return StorageReadOnlyError(
                message, hint="mount it writable, and check who owns the directory"
            )
        if code == errno.ENAMETOOLONG:
            return UsageError(message, hint="the file system wants shorter names")
        if code in (errno.ENOENT, errno.ENOTDIR) and not self._root.is_dir():
            return LocationMissingError(message, hint="is the disk mounted?")
        return StorageUnavailableError(message, hint="check the disk or the network file system")


def _read_part(descriptor: int, offset: int, length: int | None) -> bytes:
    if length is None:
        length = max(os.fstat(descriptor).st_size - offset, 0)
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _instant(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)
