"""Verified streams into and out of commands in containers.

An exec stream can lose its end and still report exit code 0: a container runtime closes stdin as soon as the
command's own stdout or stderr is closed, and the command takes that for the end of its input. So no
command runs by itself here. A shell starts it, stays alive until the end, holds stdout and stderr open and
reports what passed (see `wrapper`). What differs from what was sent or received here, or is not reported, is
`StreamCutError`.

Input is sent only once the far side has said what it measures with, so a container that cannot is told before
anything is read from the source.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import chain

from reconciler.blueprint.wrapper import (
    LAST_FRAME,
    PULL,
    PUSH,
    Meter,
    Wrapper,
    framed,
    split_header,
)
from reconciler.cluster.port import Cluster, ExecBrokenError, ExecResult, ExecSession, ExecTarget
from reconciler.errors import TerminalError, TransientError

RUN_LIMIT_BYTES = 1 << 20
_POLL_S = 0.2
_LAST_LINE_CHARS = 200
# What programs like to quote of their connection settings.
_USERINFO = re.compile(r"//[^/@\s]*@")
_SECRETS = re.compile(r"((?:passw(?:or)?d|pwd|secret|token|key)['\"]?\s*[=:]\s*)\S+", re.IGNORECASE)


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
    """The container lacks what verified streams need: a shell, and tee with a digest tool or a dd that counts bytes."""


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
    guard = _Guard(run_, timeout=timeout, stop=stop)
    meter = None
    with guard.open(cluster, PULL, stdin=False) as session, _guarded(session, guard):
        pieces = session.read()
        header, rest = split_header(pieces)
        if meter := run_.wrapper.meter(header):
            session.probe_by(run_.wrapper.probe(meter))
            for piece in chain([rest] if rest else [], pieces):
                meter.add(piece)
                yield piece
                guard.check()
        result = session.result()
    run_.settle(result, meter)


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
    guard = _Guard(run_, timeout=timeout, stop=stop)
    with guard.open(cluster, PUSH, stdin=True) as session, _guarded(session, guard):
        meter = run_.wrapper.meter(split_header(session.read())[0])
        is_whole = False
        if meter:
            session.probe_by(run_.wrapper.probe(meter))
        if meter and (session.half_closes or meter.takes_frames):
            is_whole = _send(session, meter, chunks, guard=guard)
        elif meter:
            raise run_.no_shell("dd with iflag=fullblock, which this server's protocol needs")
        session.close_stdin()
        result = session.result()
    run_.settle(result, meter, is_whole=is_whole)
    return meter.size if meter else 0


def _send(session: ExecSession, meter: Meter, chunks: Iterable[bytes], *, guard: _Guard) -> bool:
    """Send all of the input; False when the command ended before it did, and its result says why."""

    def measured() -> Iterator[bytes]:
        for chunk in chunks:
            guard.check()
            meter.add(chunk)
            yield chunk

    is_plain = session.half_closes
    pieces = chain([b"eof\n"], measured()) if is_plain else chain([b"frames\n"], framed(measured()))
    for piece in pieces:
        try:
            session.send(piece)
            if session.read_now():
                if not is_plain:
                    session.send(LAST_FRAME)
                return False
        except ExecBrokenError:
            guard.check()
            return False
    return True


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


class _Run:
    """One command, and what its end means. Its arguments stay out of messages."""

    def __init__(self, target: ExecTarget, command: Sequence[str]) -> None:
        assert command, "a command has at least a program"
        self.target = target
        self.wrapper = Wrapper(tuple(command))
        program = command[0].rpartition("/")[2][:64]
        self.subject = f"run {program} in {target.namespace}/{target.pod}"

    def settle(self, result: ExecResult, meter: Meter | None, *, is_whole: bool = True) -> None:
        """Compare what the far side reports with what was seen here.

        Raises:
            NoShellError: the script, or the container runtime, says that a program is missing.
            CommandFailedError: the command's own exit status is not 0.
            StreamCutError: anything else that is not as it should be.
        """
        said = self.wrapper.read(result.stderr)
        report = said.report
        if said.lacks:
            raise self.no_shell(said.lacks)
        if meter is None and report is None and result.exit_code in (126, 127):
            raise self.no_shell("sh")
        if report and report.exit_code:
            raise CommandFailedError(
                f"{self.subject}: exit code {report.exit_code}{_quoted(said.last_line)}",
                exit_code=report.exit_code,
            )
        is_right = report is not None and meter is not None and report.is_of(meter)
        if report and is_whole and is_right and not (report.is_cut or report.is_unread):
            return
        why = "the far side did not report what it saw"
        if report and report.is_unread:
            why = "the command ended before its input did"
        elif report and meter and not report.is_as_long_as(meter):
            why = f"{meter.size} bytes here, {report.counted()} there"
        elif report and meter and is_whole and report.digest:
            why = "it was altered on its way"
        raise StreamCutError(
            f"{self.subject}: the stream was cut: {why} (exit code {result.exit_code})"
            + _quoted(said.last_line),
            hint="try again; a command that reads its input must read all of it",
        )

    def no_shell(self, tool: str) -> NoShellError:
        """The error for a container without a tool."""
        return NoShellError(
            f"{self.subject}: its container has no {tool}",
            hint="name a container that has sh, tee, dd and sha256sum",
        )


def _quoted(line: str) -> str:
    line = _SECRETS.sub(r"\1***", _USERINFO.sub("//***@", line))
    return f": {line[:_LAST_LINE_CHARS]}" if line else ""


class _Guard:
    """Knows until when a command may run, and why it was ended from here."""

    def __init__(self, run_: _Run, *, timeout: timedelta, stop: threading.Event | None) -> None:
        self._run = run_
        self._timeout = timeout
        self._ends_at = time.monotonic() + timeout.total_seconds()
        self._stop = stop
        self.done = threading.Event()

    def open(self, cluster: Cluster, script: str, *, stdin: bool) -> ExecSession:
        """Start the command; whoever stops it does not wait for a server that does not answer.

        Raises:
            CommandStoppedError, CommandTimeoutError: while it was being started.
        """
        opening: Future[ExecSession] = Future()

        def start() -> None:
            try:
                argv = self._run.wrapper.argv(script)
                session = cluster.execute(self._run.target, argv, stdin=stdin)
            except BaseException as error:  # noqa: BLE001  # handed to the caller
                if opening.set_running_or_notify_cancel():
                    opening.set_exception(error)
            else:
                if opening.set_running_or_notify_cancel():
                    opening.set_result(session)
                else:
                    session.close()

        threading.Thread(target=start, name="exec-open", daemon=True).start()
        while not wait([opening], timeout=_POLL_S).done:
            if self.is_over() and opening.cancel():
                self.check()
        return opening.result()

    def is_over(self) -> bool:
        """Whether its time has come."""
        return time.monotonic() >= self._ends_at or (self._stop is not None and self._stop.is_set())

    def watch(self, session: ExecSession) -> None:
        """Close the session when its time is over; runs in a thread of its own."""
        while not self.done.wait(_POLL_S):
            if self.is_over():
                session.close()
                return

    def check(self) -> None:
        """Raise what ends the command, when something does."""
        if self._stop is not None and self._stop.is_set():
            raise CommandStoppedError(f"{self._run.subject}: stopped")
        if time.monotonic() >= self._ends_at:
            seconds = self._timeout.total_seconds()
            raise CommandTimeoutError(
                f"{self._run.subject}: not done in {seconds:g} s", hint="raise the phase's timeout"
            )


@contextmanager
def _guarded(session: ExecSession, guard: _Guard) -> Iterator[None]:
    watcher = threading.Thread(target=guard.watch, args=(session,), name="exec-guard", daemon=True)
    watcher.start()
    try:
        yield
    except ExecBrokenError:
        guard.check()
        raise
    finally:
        guard.done.set()
        watcher.join()
