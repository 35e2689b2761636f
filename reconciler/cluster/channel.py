"""Streams of a command in a container, over one WebSocket: the exec protocol of the API server.

`websocket-client` makes the handshake and masks the frames; the socket is served by one thread per session,
because a TLS socket must not be read and written by two. Between that thread and the callers stand
two bounded buffers: when the caller reads slowly the thread stops reading, and TCP holds the far side
back; when the far side is slow `send` blocks. Every method may be called from any thread, and `close` wakes all.

Binary messages start with the number of their channel: 0 stdin, 1 stdout, 2 stderr, 3 the `Status` that says
how the command ended, 255 (v5 only) closes the channel that it names. Empty messages are skipped. A stream
that ends without a Status is broken, whatever came before and whatever its close code.

Source: https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

import msgspec

from reconciler.cluster.frames import (
    NO_CODE,
    NORMAL_CLOSE,
    BadFrameError,
    FrameReader,
    Kind,
    frame,
    read_close,
)
from reconciler.cluster.liveness import Pulse
from reconciler.cluster.port import ExecBrokenError, ExecResult
from reconciler.cluster.refusal import MESSAGE_LIMIT

STDERR_LIMIT_BYTES = 64 << 10
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255
_INBOX_BYTES = 4 << 20
_OUTBOX_BYTES = 1 << 20
_MESSAGE_BYTES = 32 << 10
_STATUS_LIMIT_BYTES = 64 << 10
_AFTER_STATUS_S = 5.0
_LONGEST_WAIT_S = 1.0
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_MISSING = ("executable file not found", "no such file or directory")
EXIT_NOT_FOUND = 127
"""What a shell answers for a program that is not there (POSIX sh, 2.8.2)."""


class ExecChannel:
    """A running command; see `ExecSession` for what each method promises."""

    def __init__(
        self,
        wire: socket.socket,
        *,
        stdin: bool,
        half_closes: bool,
        subject: str,
        pulse: Pulse,
        wait_s: float = _LONGEST_WAIT_S,
    ) -> None:
        self.half_closes = half_closes
        self._wire = wire
        self._subject = subject
        self._stdin_open = stdin
        self._pulse = pulse
        self._wait_ms = 1000 * min(_LONGEST_WAIT_S, wait_s)
        self._changed = threading.Condition()
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._urgent: dict[Kind, bytes] = {}
        """A ping and a pong at most; only the last ping has to be answered (RFC 6455 §5.5.3)."""
        self._stderr = bytearray()
        self._status = bytearray()
        self._status_at = 0.0
        self._closing = False
        self._deaf = False
        self._ended = False
        self._broken = ""
        self._reader = FrameReader()
        self._partial: memoryview | None = None
        self._is_input = False
        """The frame under way carries input."""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        wire.setblocking(False)
        self._server = threading.Thread(target=self._serve, name="exec", daemon=True)
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session now; whoever waits in another method gets ExecBrokenError."""
        with self._changed:
            self._closing = True
            self._wake()
        self._server.join()

    def send(self, chunk: bytes) -> None:
        """Write to stdin; blocks while the far side is slow."""
        assert self._stdin_open, "send needs stdin=True, and no close_stdin before it"
        view = memoryview(chunk)
        for start in range(0, len(view), _MESSAGE_BYTES):
            self._put(bytes([_STDIN]) + view[start : start + _MESSAGE_BYTES])

    def close_stdin(self) -> None:
        """Half-close; harmless when repeated, and when the command has ended."""
        if self._stdin_open:
            self._stdin_open = False
            if self.half_closes:
                with contextlib.suppress(ExecBrokenError):
                    self._put(bytes([_CLOSE, _STDIN]))

    def read(self) -> Iterator[bytes]:
        """Yield stdout until the command ends."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._inbox or self._ended)
                pieces = list(self._inbox)
                self._inbox.clear()
                if self._inbox_bytes > _INBOX_BYTES:
                    self._wake()
                self._inbox_bytes = 0
                ended = self._ended
            yield from pieces
            if ended:
                break
        if self._broken:
            raise ExecBrokenError(
                f"{self._subject}: {self._broken}", hint="see whether the pod still runs"
            )

    def read_now(self) -> bytes:
        """What of stdout has come and was not read yet."""
        with self._changed:
            pieces = b"".join(self._inbox)
            self._inbox.clear()
            self._inbox_bytes = 0
        return pieces

    def probe_by(self, argv: Sequence[str]) -> None:
        """See `Probe.by`."""
        self._pulse.probe.by(argv)

    def result(self) -> ExecResult:
        """Read stdout away and say how the command ended."""
        for _ in self.read():
            pass
        status = _read_status(bytes(self._status))
        if status.get("status") == "Success":
            return ExecResult(exit_code=0, stderr=bytes(self._stderr))
        for cause in (status.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdecimal():
                return ExecResult(exit_code=int(cause["message"]), stderr=bytes(self._stderr))
        message = " ".join(str(status.get("message") or "").split())
        if any(text in message.lower() for text in _MISSING):
            # The cause comes last, after the names of all who pass it on.
            said = message[-MESSAGE_LIMIT:].encode()
            return ExecResult(EXIT_NOT_FOUND, bytes(self._stderr) + said)
        said_first = message[:MESSAGE_LIMIT] or "unreadable status"
        raise ExecBrokenError(f"{self._subject}: it ended without an exit code: {said_first}")

    def _put(self, message: bytes) -> None:
        made = frame(message)
        with self._changed:
            self._changed.wait_for(lambda: self._outbox_bytes < _OUTBOX_BYTES or self._is_over())
            if self._is_over():
                raise ExecBrokenError(f"{self._subject}: {self._broken or 'the command has ended'}")
            self._outbox.append(made)
            self._outbox_bytes += len(made)
            self._wake()

    def _is_over(self) -> bool:
        """Whether nothing can be sent any more; the lock is held."""
        return self._ended or self._closing or self._deaf

    def _wake(self) -> None:
        """Interrupt the serving thread's wait; the lock is held."""
        if not self._ended:
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_write, b"\0")

    # What follows runs in the serving thread alone.

    def _serve(self) -> None:
        try:
            while not (broken := self._turn()):
                pass
        except BadFrameError as error:
            broken = str(error)
        except OSError as error:
            broken = f"the connection broke: {error.strerror or type(error).__name__}"
        with self._changed:
            if self._closing:
                broken = "it was closed here"
            self._broken = "" if self._status else broken
            self._ended = True
            os.close(self._wake_write)
            os.close(self._wake_read)
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            if self._partial is None:
                self._wire.send(frame(NORMAL_CLOSE.to_bytes(2, "big"), Kind.CLOSE))
        with contextlib.suppress(OSError):
            self._wire.close()

    def _turn(self) -> str:
        """Wait for something to do, do it; say why all is over when it is."""
        with self._changed:
            if self._closing:
                return "it was closed here"
            is_hungry = self._inbox_bytes <= _INBOX_BYTES
            has_output = bool(self._outbox or self._urgent) or self._partial is not None
        ready = self._wait(is_hungry=is_hungry, has_output=has_output)
        if is_hungry and ready and (over := self._receive()):
            return over
        if has_output:
            self._transmit()
        now = time.monotonic()
        if not is_hungry:
            self._pulse.heard(now)
            self._pulse.moved(now)
        if self._pulse.is_ping_due(now):
            self._say(Kind.PING, b"")
        if self._status and now - max(self._status_at, self._pulse.heard_at) > _AFTER_STATUS_S:
            return "the server did not close the stream"
        return self._pulse.why_gone(now)

    def _wait(self, *, is_hungry: bool, has_output: bool) -> bool:
        """Wait at most a second; True when there may be something to receive."""
        wanted = (select.POLLIN if is_hungry else 0) | (select.POLLOUT if has_output else 0)
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if wanted:
            poll.register(self._wire, wanted)
        # What TLS has decrypted already does not show on the socket.
        is_pending = isinstance(self._wire, ssl.SSLSocket) and self._wire.pending() > 0
        events = dict(poll.poll(0 if is_pending and is_hungry else self._wait_ms))
        if self._wake_read in events:
            os.read(self._wake_read, 4096)
        return is_pending or bool(events.get(self._wire.fileno(), 0) & ~select.POLLOUT)

    def _receive(self) -> str:
        """Take in what has come; say how the far side closed when it did."""
        reader, over, error = self._reader, "", None
        try:
            while not over and (space := reader.space()):
                size = self._wire.recv_into(space)
                reader.received(size)
                over = "" if size else "the stream ended without a status"
        except _NOT_NOW:
            pass
        except OSError as caught:
            error = caught  # what came before it counts
        self._pulse.heard(time.monotonic())
        over = self._sort() or over
        if error:
            raise error
        return over

    def _sort(self) -> str:
        """Give each whole piece that has come to whom it belongs; say how the far side closed when it did."""
        pieces: list[memoryview] = []
        over = ""
        for kind, channel, payload in self._reader.take():
            if kind == Kind.DATA and channel == _STDOUT:
                pieces.append(payload)
            elif kind == Kind.DATA and channel == _STDERR:
                self._stderr += payload
                del self._stderr[:-STDERR_LIMIT_BYTES]
            elif kind == Kind.DATA and channel == _ERROR:
                self._status_at = time.monotonic()
                self._status += payload
                if len(self._status) > _STATUS_LIMIT_BYTES:
                    raise BadFrameError("its status is too long")
            elif kind == Kind.PING:
                self._say(Kind.PONG, bytes(payload))
            elif kind == Kind.CLOSE:
                over = _why_closed(bytes(payload))
                break
            if kind == Kind.DATA:
                self._pulse.moved(self._pulse.heard_at)
        if pieces:
            joined = b"".join(pieces)
            with self._changed:
                self._inbox.append(joined)
                self._inbox_bytes += len(joined)
                self._changed.notify_all()
        return over

    def _transmit(self) -> None:
        """Send until the socket is full; a frame that was begun goes on first."""
        try:
            while True:
                if self._partial is None and (made := self._next()) is not None:
                    self._partial = memoryview(made)
                if self._partial is None:
                    return
                sent = self._wire.send(self._partial)
                if self._is_input:
                    self._pulse.moved(time.monotonic())
                self._partial = self._partial[sent:] if sent < len(self._partial) else None
        except _NOT_NOW:
            return
        except OSError:
            # The far side takes no more, but what it said before, the status perhaps, can still be read.
            with self._changed:
                self._deaf, self._partial = True, None
                self._outbox.clear()
                self._urgent.clear()
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        """The frame to send next: pings and pongs go before input."""
        with self._changed:
            self._is_input = not self._urgent
            if self._urgent:
                return self._urgent.pop(next(iter(self._urgent)))
            if not self._outbox:
                return None
            made = self._outbox.popleft()
            self._outbox_bytes -= len(made)
            self._changed.notify_all()
            return made

    def _say(self, kind: Kind, payload: bytes) -> None:
        if not self._deaf:
            self._urgent[kind] = frame(payload, kind)


def _why_closed(payload: bytes) -> str:
    code, reason = read_close(payload)
    if code in (NORMAL_CLOSE, NO_CODE):
        return "the stream ended without a status"
    said = " ".join(reason.split())[:MESSAGE_LIMIT]
    return f"the server closed the stream without a status: close code {code}" + (
        f": {said}" if said else ""
    )


def _read_status(text: bytes) -> dict[str, Any]:
    """Decode the last message, a `Status` that comes without its kind."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}
