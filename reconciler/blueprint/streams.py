"""Verified streams into and out of commands in containers.

An exec stream can lose its end and still report exit code 0: a container runtime closes stdin as soon as the
command's own stdout or stderr is closed, and the command takes that for the end of its input. So no
command runs by itself here. A shell starts it, stays alive until the end and holds stdout and stderr open;
`tee` copies what passes to `sha256sum` and `wc`, and the shell reports digest, size and the
command's own exit status in a last line on stderr, marked with a word of this run. What differs from what was sent
or received here, or is not reported, is `StreamCutError`.

The script runs under dash, bash and busybox sh, as any user. `tee` writes to its own stdout and, by
`/dev/fd/N`, to a pipe that this shell made: the original streams belong to another user and could not be opened
again. The command's words travel as positional parameters, so nothing is quoted or parsed, and are run by
`exec`, so that no built-in command of the shell takes the place of the program.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from reconciler.cluster.port import Cluster, ExecBrokenError, ExecResult, ExecSession, ExecTarget
from reconciler.errors import TerminalError, TransientError

RUN_LIMIT_BYTES = 1 << 20
_NEEDS = "tee sha256sum wc"
_POLL_S = 0.2
_LAST_LINE_CHARS = 200
# What programs like to quote of their connection settings.
_USERINFO = re.compile(r"//[^/@\s]*@")
_SECRETS = re.compile(r"((?:passw(?:or)?d|pwd|secret|token|key)['\"]?\s*[=:]\s*)\S+", re.IGNORECASE)

# $1 is the mark, the rest the command. File descriptors: 3 the original stdout, 5 the report, 6 and 8 the pipe
# to the digest, 7 the pipe to the count. Each part closes what is not its own, or a command that
# leaves a process behind would keep the report open.
_HEAD = f"""
mark=$1; shift
for tool in {_NEEDS}; do
  command -v $tool >/dev/null 2>&1 || {{ printf '\\n%s lacks %s\\n' "$mark" "$tool" >&2; exit 127; }}
done
[ -e /dev/fd/2 ] || {{ printf '\\n%s lacks /dev/fd\\n' "$mark" >&2; exit 127; }}
measure() {{ {{ tee /dev/fd/7 7>&9 9>&- | sha256sum >&5 9>&-; }} 9>&1 | wc -c >&5; }}
"""
_TAIL = """
printf '\\n%s report %s\\n' "$mark" "$(echo $report)" >&2
exit 0
"""
_PULL = f"""{_HEAD}
exec 3>&1
report=$({{
  {{ (exec "$@" 3>&- 5>&-); echo "exit $?" >&5; }} | tee /dev/fd/6 6>&1 >&3 5>&- | measure 3>&-
}} 5>&1)
{_TAIL}"""
_PUSH = f"""{_HEAD}
report=$({{
  {{ tee /dev/fd/6 6>&8 8>&- 5>&- | {{ (exec "$@" >/dev/null 5>&-); echo "exit $?" >&5; }} 8>&-; }} 8>&1 |
    measure
}} 5>&1)
{_TAIL}"""


class StreamCutError(TransientError):
    """What arrived is not what was sent, or nothing says that it is."""


class CommandFailedError(TerminalError):
    """The command itself ended with a non-zero exit code."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.command_exit_code = exit_code


class CommandTimeoutError(TransientError):
    """The command did not end in the time that it was given."""


class CommandStoppedError(TransientError):
    """The caller stopped it."""


class OutputTooLargeError(TerminalError):
    """A command whose output is read whole wrote more than 1 MiB."""


class NoShellError(TerminalError):
    """The container lacks what verified streams need: sh, tee, sha256sum, wc, /dev/fd."""


def pull(
    cluster: Cluster,
    target: ExecTarget,
    command: Sequence[str],
    *,
    timeout: timedelta,
    stop: threading.Event | None = None,
) -> Generator[bytes, None, None]:
    """Yield a command's stdout; what was yielded is valid only once the iterator has ended without an error.

    Raises:
        StreamCutError: the far side wrote something else, or did not report.
        CommandFailedError: a non-zero exit code.
        CommandTimeoutError, CommandStoppedError: at `timeout`, or when `stop` is set.
        NoShellError: the container lacks a tool.
        ApiError, ExecBrokenError: the stream could not be opened, or broke.
    """
    run_ = _Run(target, command)
    digest, size = hashlib.sha256(), 0
    with (
        cluster.execute(target, run_.argv(_PULL)) as session,
        _guarded(session, run_, timeout=timeout, stop=stop) as guard,
    ):
        for piece in session.read():
            digest.update(piece)
            size += len(piece)
            yield piece
            guard.check()
        result = session.result()
    run_.settle(result, digest=digest.hexdigest(), size=size)


def push(
    cluster: Cluster,
    target: ExecTarget,
    command: Sequence[str],
    chunks: Iterable[bytes],
    *,
    timeout: timedelta,
    stop: threading.Event | None = None,
) -> int:
    """Write `chunks` to a command's stdin, wait for its end and return the bytes sent; its stdout is dropped.

    The command must read all of its input. Raises what `pull` raises; after an error the command may have
    taken a part for the whole, so its effect has to be undone or repeated from the start.
    """
    run_ = _Run(target, command)
    digest, size = hashlib.sha256(), 0
    with (
        cluster.execute(target, run_.argv(_PUSH), stdin=True) as session,
        _guarded(session, run_, timeout=timeout, stop=stop) as guard,
    ):
        is_whole = True
        for chunk in chunks:
            guard.check()
            digest.update(chunk)
            size += len(chunk)
            try:
                session.send(chunk)
            except ExecBrokenError:
                # The command ended before its input did: the result says why, when there is one.
                guard.check()
                is_whole = False
                break
        session.close_stdin()
        result = session.result()
    run_.settle(result, digest=digest.hexdigest() if is_whole else "", size=size)
    return size


def run(
    cluster: Cluster,
    target: ExecTarget,
    command: Sequence[str],
    *,
    timeout: timedelta,
    stop: threading.Event | None = None,
) -> bytes:
    """Run a command and return its stdout, at most 1 MiB; raises what `pull` raises, and OutputTooLargeError."""
    pieces: list[bytes] = []
    left = RUN_LIMIT_BYTES
    with closing(pull(cluster, target, command, timeout=timeout, stop=stop)) as stream:
        for piece in stream:
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise OutputTooLargeError(
                    f"{_Run(target, command).subject}: it wrote more than 1 MiB",
                    hint="use a stream phase for contents",
                )
    return b"".join(pieces)


@dataclass(frozen=True)
class _Report:
    """What the far side measured."""

    exit_code: int
    digest: str
    size: int


class _Run:
    """One command: its words, its mark, and what its end means. Its arguments stay out of messages."""

    def __init__(self, target: ExecTarget, command: Sequence[str]) -> None:
        assert command, "a command has at least a program"
        self._command = tuple(command)
        self._mark = f"reconciler-{secrets.token_hex(8)}"
        program = self._command[0].rpartition("/")[2][:64]
        self.subject = f"run {program} in {target.namespace}/{target.pod}"

    def argv(self, script: str) -> list[str]:
        return ["sh", "-c", script, "sh", self._mark, *self._command]

    def settle(self, result: ExecResult, *, digest: str, size: int) -> None:
        """Compare what the far side reports with what was seen here."""
        said, report = self._read(result)
        if report is None:
            raise StreamCutError(
                f"{self.subject}: the stream was cut: the far side did not report what it saw "
                f"(exit code {result.exit_code}){_quoted(said)}",
                hint="try again; see whether the container was restarted",
            )
        if report.exit_code:
            raise CommandFailedError(
                f"{self.subject}: exit code {report.exit_code}{_quoted(said)}",
                exit_code=report.exit_code,
            )
        if (report.digest, report.size) != (digest, size):
            raise StreamCutError(
                f"{self.subject}: the stream was cut: {size} bytes here, {report.size} bytes there"
                if size != report.size
                else f"{self.subject}: the stream was altered on its way",
                hint="try again; a command that reads its input must read all of it",
            )

    def _read(self, result: ExecResult) -> tuple[str, _Report | None]:
        """Split stderr into the command's own last line and our report.

        Raises:
            NoShellError: the script, or the container runtime, says that a program is missing.
        """
        said, report = "", None
        for line in result.stderr.decode("utf-8", "replace").splitlines():
            mark, _, rest = line.partition(" ")
            if mark != self._mark:
                said = line.strip() or said
            elif rest.startswith("lacks "):
                raise self._no_shell(rest.removeprefix("lacks "))
            else:
                report = _parse(rest.removeprefix("report ").split())
        if report is None and result.exit_code in (126, 127):
            raise self._no_shell("sh")
        return said, report

    def _no_shell(self, tool: str) -> NoShellError:
        return NoShellError(
            f"{self.subject}: its container has no {tool}",
            hint="name a container that has sh, tee, sha256sum and wc",
        )


def _parse(words: Sequence[str]) -> _Report | None:
    """Read `exit N`, a digest with its file name `-`, and a count, which come in any order."""
    exit_code = digest = size = None
    left = iter(words)
    for word in left:
        if word == "exit":
            exit_code = next(left, "")
        elif len(word) == 64:
            digest = word.lower()
        elif word.isdecimal():
            size = word
    if digest is None or size is None or not (exit_code or "").isdecimal():
        return None
    return _Report(exit_code=int(exit_code or 0), digest=digest, size=int(size))


def _quoted(line: str) -> str:
    line = _SECRETS.sub(r"\1***", _USERINFO.sub("//***@", line))
    return f": {line[:_LAST_LINE_CHARS]}" if line else ""


class _Guard:
    """Knows why a session was ended from here."""

    def __init__(self, run_: _Run, *, timeout: timedelta, stop: threading.Event | None) -> None:
        self._run = run_
        self._timeout = timeout
        self._ends_at = time.monotonic() + timeout.total_seconds()
        self._stop = stop
        self.done = threading.Event()

    def is_over(self) -> bool:
        return time.monotonic() >= self._ends_at or (self._stop is not None and self._stop.is_set())

    def watch(self, session: ExecSession) -> None:
        """Close the session when its time is over; runs in a thread of its own."""
        while not self.done.wait(_POLL_S):
            if self.is_over():
                session.close()
                return

    def check(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise CommandStoppedError(f"{self._run.subject}: stopped")
        if time.monotonic() >= self._ends_at:
            seconds = self._timeout.total_seconds()
            raise CommandTimeoutError(
                f"{self._run.subject}: not done in {seconds:g} s", hint="raise the phase's timeout"
            )


@contextmanager
def _guarded(
    session: ExecSession, run_: _Run, *, timeout: timedelta, stop: threading.Event | None
) -> Iterator[_Guard]:
    guard = _Guard(run_, timeout=timeout, stop=stop)
    watcher = threading.Thread(target=guard.watch, args=(session,), name="exec-guard", daemon=True)
    watcher.start()
    try:
        yield guard
    except ExecBrokenError:
        guard.check()
        raise
    finally:
        guard.done.set()
        watcher.join()
