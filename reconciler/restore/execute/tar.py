"""Writes a file tree as a tar stream that both GNU tar and busybox read.

Long names go as GNU `L` and `K` records, which both know; times finer than a second and extended attributes
as pax headers, which busybox passes over. Owners are numbers, names are left empty. Memory is bounded by
one piece of a file.
Formats: POSIX.1-2001 pax, and the GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator

from reconciler.errors import TerminalError
from reconciler.store.port import TreeEntry

_BLOCK = 512
_XATTR = b"SCHILY.xattr."
_TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "character": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
}


class FileLengthError(TerminalError):
    """A file's content is not as long as its entry says."""


def tar_of(entries: Iterable[TreeEntry]) -> Iterator[bytes]:
    """Yield the tar stream of a tree, in pieces of any size.

    Raises:
        FileLengthError: a file's content is not as long as its entry says.
    """
    for entry in entries:
        yield _header(entry)
        if entry.type == "file":
            yield from _content(entry)
    yield bytes(2 * _BLOCK)


def _header(entry: TreeEntry) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.type = _TYPES[entry.type]
    info.mode = entry.mode & 0o7777
    info.uid, info.gid = entry.uid, entry.gid
    seconds, rest_ns = divmod(entry.mtime_ns, 1_000_000_000)
    info.mtime = max(seconds, 0)
    info.size = entry.size_bytes if entry.type == "file" else 0
    info.linkname = entry.link
    info.devmajor, info.devminor = entry.device
    header = info.tobuf(format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape")
    records = [f"mtime={seconds}.{rest_ns:09d}".encode()] if rest_ns or seconds < 0 else []
    records += [
        _XATTR + name.encode("utf-8", "surrogateescape") + b"=" + value
        for name, value in entry.xattrs.items()
    ]
    return (_extended(records, info.mtime) if records else b"") + header


def _extended(records: list[bytes], mtime: float) -> bytes:
    """The pax header that holds what the plain one cannot: fine times, extended attributes."""
    text = b"".join(_record(record) for record in records)
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(text)
    info.mode, info.mtime = 0o644, mtime
    return info.tobuf(format=tarfile.USTAR_FORMAT) + text + bytes(-len(text) % _BLOCK)


def _record(content: bytes) -> bytes:
    """`length content newline`, where the length counts its own digits."""
    rest = len(content) + 2
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s\n" % (length, content)


def _content(entry: TreeEntry) -> Iterator[bytes]:
    written = 0
    for chunk in entry.content() if entry.content else ():
        written += len(chunk)
        yield chunk
    if written != entry.size_bytes:
        raise FileLengthError(
            f"read {entry.path}: {written} bytes instead of {entry.size_bytes}",
            hint="run `reconciler verify --read-data 100%` on the point",
        )
    yield bytes(-written % _BLOCK)
