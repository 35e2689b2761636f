"""Push to a directory by talking to `git receive-pack`, the receiving half of `git push`.

Git's pack protocol (gitprotocol-pack): the server lists its refs; we send one command `old new ref` and one pack
of what it lacks; it answers whether the objects were taken in and whether the ref moved, and what its hooks
printed. The `old` in the command is a compare-and-swap under the remote's own lock.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from reconciler.errors import TerminalError
from reconciler.git.libgit2 import load_pygit2

ZERO = "0" * 40
SAID_MAX = 4000
_DURABLE = ("-c", "core.fsync=all", "-c", "core.fsyncMethod=batch")
"""Git flushes no loose object by default: a push that was answered must outlive a power cut."""
_CAPABILITIES = "report-status side-band-64k quiet agent=backup-reconciler"
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class GitMissingError(TerminalError):
    """The `git` program, which receives pushes on this machine, is not installed."""


@dataclass(frozen=True)
class Answer:
    """What came of a push: at most one of the first three is set; none means accepted."""

    broken: str = ""
    """The conversation ended early, or the objects were not taken in."""
    moved: str = ""
    """The branch is not where it was expected; nothing was sent."""
    refused: str = ""
    """The reason that receive-pack gives for not moving the branch."""
    said: str = ""
    """What hooks printed."""


def receive_pack(
    clone: Path,
    *,
    directory: Path,
    commit: str,
    ref: str,
    expected: str | None,
    timeout_s: float,
) -> Answer:
    """Carry out one push.

    Raises:
        GitMissingError: there is no `git` on this machine.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
        "LC_ALL": "C"
    }
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(  # noqa: S603 - every word is ours
                ["git", *_DURABLE, "receive-pack", str(directory)],  # noqa: S607 - on the operator's PATH
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                bufsize=0,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise GitMissingError(
                f"push to {directory}: git is not installed", hint="install git"
            ) from error
        timer = threading.Timer(timeout_s, _stop, [process])
        timer.start()
        try:
            answer = _converse(process, clone, commit=commit, ref=ref, expected=expected)
        except (OSError, ValueError, EOFError) as error:
            answer = Answer(broken=str(error) or "the connection was cut")
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()
            timed_out = not timer.is_alive()
            timer.cancel()
        if not answer.broken:
            return answer
        if timed_out:
            return Answer(broken=f"no answer within {timeout_s:g} s")
        errors.seek(0)
        text = clean(errors.read(SAID_MAX).decode(errors="replace"))
        return Answer(broken=text or answer.broken, said=answer.said)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End receive-pack and the hook that it waits for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _converse(
    process: subprocess.Popen[bytes], clone: Path, *, commit: str, ref: str, expected: str | None
) -> Answer:
    assert process.stdin is not None, "stdin is a pipe"
    assert process.stdout is not None, "stdout is a pipe"
    there = _advertised(process.stdout)
    found = there.get(ref)
    if found != expected:
        process.stdin.write(b"0000")
        return Answer(moved=f"{ref} is at {found or 'nothing'}, expected {expected or 'nothing'}")
    command = f"{expected or ZERO} {commit} {ref}\0 {_CAPABILITIES}".encode()
    _send(process.stdin, _packet(command) + b"0000" + _pack(clone, commit, there.values()))
    process.stdin.close()
    return _report(process.stdout, ref)


def _send(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[pipe.write(view) :]
    except BrokenPipeError:
        # The server has made up its mind; what it says is still to be read.
        return


def _packet(payload: bytes) -> bytes:
    return f"{len(payload) + 4:04x}".encode() + payload


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = pipe.read(count - len(data))
        if not part:
            raise EOFError("the server hung up")
        data += part
    return data


def _packets(pipe: IO[bytes]) -> list[bytes]:
    """The packets up to the next flush."""
    found = []
    while length := int(_exactly(pipe, 4), 16):
        if length < 4:
            raise ValueError(f"unexpected packet of length {length}")
        found.append(_exactly(pipe, length - 4))
    return found


def _advertised(pipe: IO[bytes]) -> dict[str, str]:
    there = {}
    for packet in _packets(pipe):
        line = packet.split(b"\0")[0].decode().strip()
        oid, _, name = line.partition(" ")
        if name and not name.endswith("^{}") and name != ".have":
            there[name] = oid
    return there


def _pack(clone: Path, commit: str, there: Any) -> bytes:
    """Everything reachable from `commit` that the commits in `there` do not have."""
    pygit2 = load_pygit2()
    repository = pygit2.Repository(str(clone))
    builder = pygit2.PackBuilder(repository)
    walker = repository.walk(commit)
    for oid in there:
        if oid in repository:
            walker.hide(oid)
    for found in walker:
        builder.add(found.id)
        parent = found.parents[0].tree if found.parents else None
        _add_new(repository, builder, found.tree, parent)
    with tempfile.TemporaryDirectory() as folder:
        builder.write(folder)
        (file,) = Path(folder).glob("*.pack")
        return file.read_bytes()


def _add_new(repository: Any, builder: Any, tree: Any, before: Any) -> None:
    builder.add(tree.id)
    known = {entry.raw_name: entry.id for entry in before} if before is not None else {}
    for entry in tree:
        old = known.get(entry.raw_name)
        if old == entry.id or entry.type_str == "commit":
            continue
        if entry.type_str == "tree":
            was = repository.get(old) if old is not None else None
            _add_new(
                repository,
                builder,
                entry,
                was if was is not None and was.type_str == "tree" else None,
            )
        else:
            builder.add(entry.id)


def _report(pipe: IO[bytes], ref: str) -> Answer:
    inner, said, fatal = b"", "", ""
    for packet in _packets(pipe):
        band, payload = packet[:1], packet[1:]
        if band == b"\x01":
            inner += payload
        elif band == b"\x02":
            said += payload.decode(errors="replace")
        else:
            fatal += payload.decode(errors="replace")
    said = clean(said)
    if fatal:
        return Answer(broken=clean(fatal), said=said)
    lines = []
    while inner and (length := int(inner[:4], 16)):
        lines.append(inner[4:length].decode(errors="replace").strip())
        inner = inner[length:]
    unpacked = next((line for line in lines if line.startswith("unpack ")), "unpack: no answer")
    if f"ok {ref}" in lines:
        return Answer(said=said)
    refusal = next((line for line in lines if line.startswith(f"ng {ref} ")), "")
    if unpacked != "unpack ok" or not refusal:
        return Answer(broken=said or unpacked, said=said)
    return Answer(refused=refusal.removeprefix(f"ng {ref} "), said=said)


def clean(text: str) -> str:
    """Text of a stranger, bounded, without control characters."""
    lines = [_CONTROL.sub("", line).rstrip() for line in text.replace("\r", "\n").split("\n")]
    return "\n".join(line for line in lines if line)[:SAID_MAX]
