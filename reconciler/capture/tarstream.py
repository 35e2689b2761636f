"""Read a tar archive as it arrives: entries in order, contents in pieces, nothing kept.

Understands what GNU tar, BusyBox and the POSIX interchange format write: ustar with prefixes, GNU long names,
pax headers (names, sizes, owners, times to the nanosecond, extended attributes), numbers in base 256. Every header's
checksum is checked, the end-of-archive mark must come, and a path that leaves the tree is an error: what cannot be
read fully is never taken for the end. Format: POSIX.1-2017, pax, and GNU tar's manual, chapter "Basic Tar Format".

The content of an entry must be read before the next entry is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from reconciler.errors import TransientError
from reconciler.store.port import TreeEntry

BLOCK = 512
PIECE = 1 << 20
HEADER_TEXT_MAX = 1 << 20
TRAILER_MAX = 64 * 1024

_TYPES: dict[
    bytes, Literal["file", "directory", "symlink", "hardlink", "fifo", "character", "block"]
]
_TYPES = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "character",
    b"4": "block",
    b"5": "directory",
    b"6": "fifo",
}
_XATTR = "SCHILY.xattr."
LOST_AND_FOUND = "lost+found"
"""The file system's own folder at the top of a volume: no part of its contents."""


class ArchiveError(TransientError):
    """A tar stream ended early or is none."""


@dataclass
class _Overrides:
    """What long-name and pax headers say of the entry that follows them."""

    path: str | None = None
    link: str | None = None
    pax: dict[str, str] = field(default_factory=dict)
    xattrs: dict[str, bytes] = field(default_factory=dict)


class TarReader:
    """Iterates over an archive once; `trailer` then holds the bytes that followed it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._source = iter(chunks)
        self._buffer = bytearray()
        self._left = 0
        self._padding = 0
        self._globals: dict[str, str] = {}
        self.trailer = b""
        self.is_done = False
        self.bytes_read = 0

    def __iter__(self) -> Iterator[TreeEntry]:
        """Yield entries, the root directory `.` included as an empty path's `.`; `lost+found` is left out.

        Raises:
            ArchiveError: the stream ends early, or a header is damaged.
        """
        overrides = _Overrides(pax=dict(self._globals))
        while True:
            assert self._left == 0, "the content of an entry must be read before the next one"
            self._skip(self._padding)
            self._padding = 0
            header = self._exactly(BLOCK)
            if header == bytes(BLOCK):
                self._finish()
                return
            _check_sum(header)
            kind, size = header[156:157], _number(header[124:136])
            if kind in b"LKxg" and kind:
                self._take_override(kind, size, overrides)
                continue
            try:
                entry = self._entry(header, kind, size, overrides)
            except ValueError:
                raise ArchiveError("read archive: a number in a pax header is damaged") from None
            overrides = _Overrides(pax=dict(self._globals))
            if entry.path.partition("/")[0] == LOST_AND_FOUND:
                self._skip(self._left)
                self._left = 0
                continue
            yield entry

    def _take_override(self, kind: bytes, size: int, overrides: _Overrides) -> None:
        if size > HEADER_TEXT_MAX:
            raise ArchiveError(f"read archive: a header of {size} bytes is too long")
        text = self._exactly(size)
        self._skip(-size % BLOCK)
        if kind == b"L":
            overrides.path = _text(text.rstrip(b"\0"))
        elif kind == b"K":
            overrides.link = _text(text.rstrip(b"\0"))
        elif kind == b"x":
            _parse_pax(text, overrides)
        else:
            common = _Overrides()
            _parse_pax(text, common)
            self._globals.update(common.pax)
            overrides.pax = {**self._globals, **overrides.pax}

    def _entry(self, header: bytes, kind: bytes, size: int, overrides: _Overrides) -> TreeEntry:
        if kind not in _TYPES:
            raise ArchiveError(f"read archive: entries of type {kind!r} are not supported")
        pax, type_ = overrides.pax, _TYPES[kind]
        path = pax.get("path") or overrides.path or _path(header)
        link = pax.get("linkpath") or overrides.link or _text(_string(header[157:257]))
        size = int(pax.get("size", size))
        if type_ == "file" and path.endswith("/"):
            type_ = "directory"  # as archives older than ustar write them
        has_content = type_ == "file"
        self._left = size if has_content else 0
        self._padding = -size % BLOCK if has_content else 0
        if not has_content and size and type_ != "hardlink":
            self._skip(size + -size % BLOCK)
        return TreeEntry(
            path=clean_path(path),
            type=type_,
            mode=_number(header[100:108]) & 0o7777,
            uid=int(pax.get("uid", _number(header[108:116]))),
            gid=int(pax.get("gid", _number(header[116:124]))),
            mtime_ns=_nanoseconds(pax["mtime"])
            if "mtime" in pax
            else _number(header[136:148]) * 1_000_000_000,
            size_bytes=self._left,
            link=clean_path(link) if type_ == "hardlink" else link if type_ == "symlink" else "",
            device=(_number(header[329:337]), _number(header[337:345]))
            if type_ in ("character", "block")
            else (0, 0),
            xattrs=overrides.xattrs,
            content=self._content if has_content else None,
        )

    def _content(self) -> Iterator[bytes]:
        while self._left:
            piece = self._some(min(self._left, PIECE))
            self._left -= len(piece)
            yield piece

    def _finish(self) -> None:
        """Read the second block of zeros, the padding of the record, and keep what follows."""
        rest = bytearray()
        for chunk in (bytes(self._buffer), *self._source):
            self.bytes_read += len(chunk)
            rest += chunk if rest else chunk.lstrip(b"\0")
            if len(rest) > TRAILER_MAX:
                raise ArchiveError("read archive: bytes follow its end")
        self._buffer.clear()
        self.trailer = bytes(rest)
        self.is_done = True

    def _fill(self) -> None:
        for chunk in self._source:
            if chunk:
                self._buffer += chunk
                return
        raise ArchiveError("read archive: the stream ended before the archive did")

    def _some(self, most: int) -> bytes:
        if not self._buffer:
            self._fill()
        return self._cut(min(most, len(self._buffer)))

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        return self._cut(count)

    def _cut(self, count: int) -> bytes:
        piece = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        self.bytes_read += count
        return piece

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._some(min(count, PIECE)))


def clean_path(path: str) -> str:
    """Bring a path to the form of trees: relative, no `.` parts; `.` for the root itself.

    Raises:
        ArchiveError: it leaves the tree.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError("read archive: a path leaves the tree")
    return "/".join(parts) or "."


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _string(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _path(header: bytes) -> str:
    name, prefix = _string(header[:100]), b""
    if header[257:263] == b"ustar\0":
        prefix = _string(header[345:500])
    return _text(prefix + b"/" + name if prefix else name)


def _number(raw: bytes) -> int:
    """Octal text, or base 256 when the first bit is set."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big", signed=False)
        if raw[0] == 0xFF:
            return int.from_bytes(raw, "big", signed=True)
        return value & ~(1 << (8 * len(raw) - 1))
    digits = _string(raw).strip(b" ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise ArchiveError("read archive: a number in a header is damaged") from None


def _check_sum(header: bytes) -> None:
    wanted = _number(header[148:156])
    blanked = header[:148] + b" " * 8 + header[156:]
    if wanted != sum(blanked):
        raise ArchiveError("read archive: a header's checksum is wrong")


def _nanoseconds(text: str) -> int:
    whole, _, fraction = text.partition(".")
    sign = -1 if whole.startswith("-") else 1
    return int(whole) * 1_000_000_000 + sign * int((fraction + "0" * 9)[:9])


def _parse_pax(text: bytes, overrides: _Overrides) -> None:
    """Read records of the form `length key=value newline`."""
    at = 0
    while at < len(text) and text[at : at + 1] != b"\0":
        space = text.find(b" ", at)
        digits = text[at:space]
        if space < 0 or not digits.isdigit() or at + int(digits) > len(text) or int(digits) < 5:
            raise ArchiveError("read archive: a pax header is damaged")
        record = text[space + 1 : at + int(digits) - 1]
        key, _, value = record.partition(b"=")
        name = _text(key)
        if name.startswith(_XATTR):
            overrides.xattrs[name.removeprefix(_XATTR)] = value
        elif name.startswith("GNU.sparse."):
            raise ArchiveError("read archive: sparse entries are not supported")
        else:
            overrides.pax[name] = _text(value)
        at += int(digits)
