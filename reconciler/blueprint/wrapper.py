"""The shell script around a command in a container, and what it reports.

The script begins with a line on stdout, `MARK DIGEST PID…`, which says what it measures with and by which process
a silent stream can be probed; after it comes the command's own output. It ends with a line on stderr,
`MARK report …`: the command's exit status (of the command itself, from the middle of a pipe, without bash's
`pipefail`), a digest and a count of what passed. MARK is a word of this run, so that nothing that a command writes
is taken for a report.

It works under dash, bash and busybox sh, as any user, and writes no file: `tee` copies what passes to its own stdout
and, by `/dev/fd/9`, to a pipe of the digest tool that this shell made, because the original streams belong to
another user and could not be opened again. `dd` counts, and makes large blocks of tee's small ones. What the container
has decides: `sha256sum`, else `md5sum`, else `cksum`; where there is no way to a digest, `dd` alone when it counts
bytes. A digest guards against accidents: who controls the container can hand over anything anyway.

Input is announced by a line, `eof` or `frames`, before the command is started, so that a stream that is cut before
starts nothing. Frames are for servers that cannot tell the end of input: `BLOCKS REST` and that many blocks of 64 KiB
and bytes, `end` at last. `dd` reads exactly what it is told to; `head` may read ahead.
A command that ends before its input does says `stop` on stdout, and the rest is read away: API servers lose the status
of a command, or keep its stream open for ever, when input is left that nobody reads.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

BLOCK_BYTES = 65536
HEADER_LIMIT_BYTES = 128
LAST_FRAME = b"end\n"
_FRAME_BYTES = 16 * BLOCK_BYTES
_WORD = re.compile(r"\w")
# Behind an error psql quotes the input that it is about, and points at it.
_ERROR = re.compile(r"\b(error|fatal|panic)\b", re.IGNORECASE)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

# $1 is the mark, the rest the command. File descriptors: 3 the original stdout, 4 where `carry` writes to, 5 the
# report, 9 the pipe to the digest. Each part closes what is not its own, or a command that leaves a process
# behind would keep the report open.
_HEAD = r"""
mark=$1; shift
set -f
exec 3>&1
digest=none count=none
if [ "$(echo y | tee /dev/fd/9 9>/dev/null 2>/dev/null)" = y ]; then
  for tool in sha256sum md5sum cksum; do
    if [ -n "$($tool </dev/null 2>/dev/null)" ]; then digest=$tool; break; fi
  done
  missing=sha256sum
elif [ -e /dev/fd/2 ]; then missing=tee
else missing=/dev/fd
fi
case $(LC_ALL=C dd bs=1 count=0 </dev/null 2>&1) in
  *bytes*copied*) count=bytes ;;
  *records*) count=blocks ;;
esac
case $digest$count in
  nonenone | noneblocks) printf '\n%s lacks %s\n' "$mark" "$missing" >&2; exit 127 ;;
esac
blocks() { echo count $( { LC_ALL=C dd ibs=32768 obs=65536 >&4; } 2>&1 ) >&5; }
carry() {
  case $digest$count in
    none*) blocks ;;
    *none) tee /dev/fd/9 >&4 ;;
    *) tee /dev/fd/9 | blocks ;;
  esac
}
summarize() { [ $digest = none ] || echo digest $($digest) >&5; }
pid=0
[ -r /proc/$$/cmdline ] && pid=$$
"""
_TAIL = r"""
printf '\n%s report %s\n' "$mark" "$(echo $report)" >&2
exit 0
"""
PULL = f"""{_HEAD}
printf '%s %s %s\\n' "$mark" $digest $pid
report=$({{
  {{ {{ (exec "$@" 3>&- 5>&-); echo exit $? >&5; }} 9>&- | carry 4>&3; }} 9>&1 | summarize
}} 5>&1)
{_TAIL}"""
# After a command that succeeded nothing of its input may be left, however small.
PUSH = f"""{_HEAD}
frames=
if [ "$(printf abc | dd bs=2 count=1 iflag=fullblock 2>/dev/null)" = ab ]; then frames=frames; fi
printf '%s %s %s %s\\n' "$mark" $digest $pid $frames
read -r how || exit 1
unframe() {{
  while read -r blocks rest; do
    [ "$blocks" != end ] || return 0
    [ "$blocks" = 0 ] || dd bs={BLOCK_BYTES} count="$blocks" iflag=fullblock
    [ "$rest" = 0 ] || dd bs="$rest" count=1 iflag=fullblock
  done 2>/dev/null
  echo cut >&5
}}
has_rest() {{
  case $(LC_ALL=C dd bs=1 count=1 2>&1 >/dev/null) in
    0+0*) return 1 ;;
    *records*) echo unread >&5 ;;
    *) return 1 ;;
  esac
}}
drain() {{
  echo stop >&3
  case $digest in
    none) dd bs={BLOCK_BYTES} 2>/dev/null ;;
    *) tee ;;
  esac
}}
report=$({{
  {{
    if [ $how = frames ]; then unframe | carry 4>&1; else carry 4>&1; fi | {{
      (exec "$@" >/dev/null 3>&- 5>&-); code=$?
      echo exit $code >&5
      if [ $code != 0 ] || has_rest; then drain; fi
    }} >/dev/null 9>&-
  }} 9>&1 | summarize
}} 5>&1)
{_TAIL}"""
# Whether process $1 is still the script with mark $2; the mark stands in its command line, behind zero bytes.
_PROBE = r"""
while read -r line || [ -n "$line" ]; do
  case $line in *"$2"*) exit 0 ;; esac
done <"/proc/$1/cmdline"
exit 1
"""


class Digest(Protocol):
    """Takes what passes and says what the tool of the same name would."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        ...

    def hexdigest(self) -> str:
        """What the tool prints first."""
        ...


class _Cksum:
    """POSIX `cksum`: its CRC is zlib's with the bits of every byte, and of the result, the other way round."""

    def __init__(self) -> None:
        self._crc, self._size = 0xFFFFFFFF, 0

    def update(self, data: bytes, /) -> None:
        self._crc = zlib.crc32(data.translate(_REVERSED), self._crc)
        self._size += len(data)

    def hexdigest(self) -> str:
        width = (self._size.bit_length() + 7) // 8
        length = self._size.to_bytes(width, "little").translate(_REVERSED)
        return str(int(f"{zlib.crc32(length, self._crc):032b}"[::-1], 2))


class _NoDigest:
    """Where the container can only count."""

    def update(self, data: bytes, /) -> None:
        pass

    def hexdigest(self) -> str:
        return ""


def _digest(tool: str) -> Digest | None:
    match tool:
        case "sha256sum":
            return hashlib.sha256()
        case "md5sum":
            return hashlib.md5(usedforsecurity=False)
        case "cksum":
            return _Cksum()
        case "none":
            return _NoDigest()
    return None


@dataclass
class Meter:
    """What passed on this side, measured as the far side does."""

    digest: Digest
    pid: int
    """The script's process in its container; 0 when it cannot be seen."""
    takes_frames: bool
    size: int = 0

    def add(self, piece: bytes) -> None:
        """Count a piece."""
        self.digest.update(piece)
        self.size += len(piece)


@dataclass(frozen=True)
class Report:
    """What the far side measured; `size` None where it counts whole blocks only, `blocks` None where not even these."""

    exit_code: int
    digest: str
    size: int | None
    blocks: int | None
    is_cut: bool
    """The input ended before its last frame."""
    is_unread: bool
    """The command succeeded and left input behind."""

    def is_of(self, meter: Meter) -> bool:
        """Whether it saw what this side did."""
        return self.digest == meter.digest.hexdigest() and self.is_as_long_as(meter)

    def is_as_long_as(self, meter: Meter) -> bool:
        """Whether it counted as much as this side did, as far as it counted."""
        return self.size in (None, meter.size) and self.blocks in (None, meter.size // BLOCK_BYTES)

    def counted(self) -> str:
        """Its count, in words."""
        if self.size is not None:
            return f"{self.size} bytes"
        return "another number of" if self.blocks is None else f"{self.blocks} blocks of 64 KiB"


@dataclass(frozen=True)
class Said:
    """What came on stderr: the command's own telling line, the tool that is lacking, the report."""

    last_line: str
    lacks: str
    report: Report | None


@dataclass(frozen=True)
class Wrapper:
    """One command in its script."""

    command: tuple[str, ...]
    mark: str = field(default_factory=lambda: f"reconciler-{secrets.token_hex(8)}")

    def argv(self, script: str) -> list[str]:
        """The words to run; those of the command are positional parameters, so nothing is quoted or parsed."""
        return ["sh", "-c", script, "sh", self.mark, *self.command]

    def meter(self, header: bytes) -> Meter | None:
        """Read the first line; None when it is not ours."""
        mark, tool, pid, *more = [*header.decode("ascii", "replace").split(), "", "", ""]
        digest = _digest(tool) if mark == self.mark and pid.isdecimal() else None
        return None if digest is None else Meter(digest, int(pid), takes_frames="frames" in more)

    def probe(self, meter: Meter) -> list[str]:
        """The words that ask whether the script still runs; empty when nobody can know."""
        return ["sh", "-c", _PROBE, "sh", str(meter.pid), self.mark] if meter.pid else []

    def read(self, stderr: bytes) -> Said:
        """Split stderr into what the command said and what the script did."""
        last_line, last_error, lacks, report = "", "", "", None
        for line in stderr.decode("utf-8", "replace").splitlines():
            mark, _, rest = line.partition(" ")
            if mark != self.mark:
                last_line = line.strip() if _WORD.search(line) else last_line
                last_error = line.strip() if _ERROR.search(line) else last_error
            elif rest.startswith("lacks "):
                lacks = rest.removeprefix("lacks ")
            else:
                report = _parse(rest)
        return Said(last_error or last_line, lacks, report)


def split_header(pieces: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Take the first line of a stream, and what came with it of the rest."""
    taken = b""
    for piece in pieces:
        taken += piece
        line, newline, rest = taken.partition(b"\n")
        if newline:
            return line, rest
        if len(taken) > HEADER_LIMIT_BYTES:
            break
    return b"", b""


def framed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Tell with the chunks how long they are, in whole frames; small ones go together."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= _FRAME_BYTES:
            whole = b"".join(held)
            at = size - size % BLOCK_BYTES
            yield b"%d 0\n" % (at // BLOCK_BYTES) + whole[:at]
            held, size = [whole[at:]], size - at
    yield b"%d %d\n" % divmod(size, BLOCK_BYTES) + b"".join(held)
    yield LAST_FRAME


def _parse(text: str) -> Report | None:
    """Read the words of a report, which come in any order; None when the exit status or every measure is missing."""
    exit_ = re.search(r"\bexit (\d+)", text)
    digest = re.search(r"\bdigest ([0-9a-f]+) (-|\d+)", text)
    blocks = re.search(r"\b(\d+)\+\d+ records out", text)
    size = re.search(r"\b(\d+) bytes?\b", text)
    if exit_ is None or (digest is None and size is None):
        return None
    if digest is not None and digest.group(2) != "-":
        size = re.match(r"(\d+)", digest.group(2))
    return Report(
        exit_code=int(exit_.group(1)),
        digest=digest.group(1) if digest else "",
        size=int(size.group(1)) if size else None,
        blocks=int(blocks.group(1)) if blocks else None,
        is_cut=bool(re.search(r"\bcut\b", text)),
        is_unread=bool(re.search(r"\bunread\b", text)),
    )
