"""Streams of a command in a container, over one WebSocket: the exec protocol of the API server.

`websocket-client` makes the handshake and masks the frames; the socket is served by one thread per session,
because a TLS socket must not be read and written by two. Between that thread and the callers stand
two bounded buffers: when the caller reads slowly the thread stops reading, and TCP holds the far side
back; when the far side is slow `send` blocks. Every method may be called from any thread, and `close` wakes all.

Binary messages start with the number of their channel: 0 stdin, 1 stdout, 2 stderr, 3 the `Status` that says
how the command ended, 255 (v5 only) closes the channel that it names. Empty messages are skipped. A stream
that ends without a Status is broken, whatever came before.

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
import websocket

from reconciler.cluster.connection import Connection
from reconciler.cluster.port import (
    ExecBrokenError,
    ExecResult,
    NotFoundError,
    NotServedError,
    UnavailableError,
)
from reconciler.cluster.refusal import MESSAGE_LIMIT, decode_status, refusal_of

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
STDERR_LIMIT_BYTES = 64 << 10
PING_AFTER_S = 20.0
SILENT_PINGS = 3
"""So many unanswered pings mean that the far side is gone."""
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255
_INBOX_BYTES = 4 << 20
_OUTBOX_BYTES = 1 << 20
_MESSAGE_BYTES = 32 << 10
_FRAME_LIMIT_BYTES = 16 << 20
_STATUS_LIMIT_BYTES = 64 << 10
_RECEIVE_BYTES = 256 << 10
_AFTER_STATUS_S = 5.0
_CLOSE_FRAME = websocket.ABNF.create_frame(b"\x03\xe8", websocket.ABNF.OPCODE_CLOSE).format()
_MISSING = ("executable file not found", "no such file or directory")
EXIT_NOT_FOUND = 127
"""What a shell answers for a program that is not there (POSIX sh, 2.8.2)."""


def open_channel(
    connection: Connection,
    path: str,
    *,
    query: Sequence[tuple[str, str]],
    stdin: bool,
    subject: str,
    ping_after_s: float = PING_AFTER_S,
) -> ExecChannel:
    """Upgrade a request to a WebSocket and start to serve it.

    Raises:
        NotFoundError: no such pod or container.
        NotServedError: stdin is wanted and the server cannot tell its end (no v5 protocol).
        ExecBrokenError: it could not be opened.
    """
    wire = connection.open_socket(subject=subject)
    try:
        web: Any = websocket.WebSocket()
        web.connect(
            connection.url(path, query).replace("http", "ws", 1),
            socket=wire,
            header=connection.headers(),
            subprotocols=[V5, V4],
            suppress_origin=True,
            redirect_limit=0,
        )
        if stdin and web.subprotocol != V5:
            raise NotServedError(
                f"{subject}: {connection.cluster} speaks only {web.subprotocol}, which cannot tell "
                "a command that its input has ended",
                hint="use Kubernetes 1.30 or newer",
            )
        return ExecChannel(wire, stdin=stdin, subject=subject, ping_after_s=ping_after_s)
    except websocket.WebSocketBadStatusException as error:
        wire.close()
        raise _refused(error, subject) from error
    except (OSError, websocket.WebSocketException) as error:
        wire.close()
        raise ExecBrokenError(f"{subject}: the handshake broke: {type(error).__name__}") from error
    except BaseException:
        wire.close()
        raise


def _refused(error: websocket.WebSocketBadStatusException, subject: str) -> Exception:
    status = decode_status(error.resp_body or b"")
    message = str(status.get("message") or "")
    if error.status_code == 400 and "is not valid for pod" in message:
        return NotFoundError(f"{subject}: {message[:MESSAGE_LIMIT]}")
    if error.status_code < 400:
        return ExecBrokenError(f"{subject}: the server answered {error.status_code} and no stream")
    headers = {name.title(): text for name, text in (error.resp_headers or {}).items()}
    refused = refusal_of(subject, code=error.status_code, status=status, headers=headers)
    if isinstance(refused, UnavailableError) and error.status_code != 429:
        return ExecBrokenError(refused.message, hint=refused.hint)
    return refused


class ExecChannel:
    """A running command; see `ExecSession` for what each method promises."""

    def __init__(
        self, wire: socket.socket, *, stdin: bool, subject: str, ping_after_s: float
    ) -> None:
        self._wire = wire
        self._subject = subject
        self._stdin_open = stdin
        self._has_stdin = stdin
        self._ping_after_s = ping_after_s
        self._changed = threading.Condition()
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._stderr = bytearray()
        self._status = bytearray()
        self._status_at = 0.0
        self._closing = False
        self._deaf = False
        self._ended = False
        self._broken = ""
        self._received = bytearray()
        self._channel = -1
        self._heard_at = self._pinged_at = time.monotonic()
        self._partial: memoryview | None = None
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
        message = " ".join(str(status.get("message") or "").split())[:MESSAGE_LIMIT]
        if any(text in message.lower() for text in _MISSING):
            return ExecResult(EXIT_NOT_FOUND, bytes(self._stderr) + message.encode())
        raise ExecBrokenError(
            f"{self._subject}: it ended without an exit code: {message or 'unreadable status'}"
        )

    def _put(self, message: bytes) -> None:
        frame = websocket.ABNF.create_frame(message, websocket.ABNF.OPCODE_BINARY).format()
        with self._changed:
            self._changed.wait_for(lambda: self._outbox_bytes < _OUTBOX_BYTES or self._is_over())
            if self._is_over():
                raise ExecBrokenError(f"{self._subject}: {self._broken or 'the command has ended'}")
            self._outbox.append(frame)
            self._outbox_bytes += len(frame)
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
        broken = "the stream ended without a status"
        try:
            while self._turn():
                pass
        except _BadFrameError as error:
            broken = str(error)
        except OSError:
            broken = "the connection broke"
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
                self._wire.send(_CLOSE_FRAME)
        with contextlib.suppress(OSError):
            self._wire.close()

    def _turn(self) -> bool:
        """Wait for something to do, do it; False when all is over."""
        with self._changed:
            if self._closing:
                return False
            is_hungry = self._inbox_bytes <= _INBOX_BYTES
            has_output = bool(self._outbox) or self._partial is not None
        ready = self._wait(is_hungry=is_hungry, has_output=has_output)
        if is_hungry and ready and not self._receive():
            return False
        if has_output:
            self._transmit()
        now = time.monotonic()
        if not is_hungry:
            self._heard_at = now
        self._beat(now)
        return not (self._status_at and now - self._status_at > _AFTER_STATUS_S)

    def _wait(self, *, is_hungry: bool, has_output: bool) -> bool:
        """Wait at most a second; True when there may be something to receive."""
        wanted = (select.POLLIN if is_hungry else 0) | (select.POLLOUT if has_output else 0)
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if wanted:
            poll.register(self._wire, wanted)
        # What TLS has decrypted already does not show on the socket.
        is_pending = isinstance(self._wire, ssl.SSLSocket) and self._wire.pending() > 0
        events = dict(
            poll.poll(0 if is_pending and is_hungry else 1000 * min(1, self._ping_after_s))
        )
        if self._wake_read in events:
            os.read(self._wake_read, 4096)
        return is_pending or bool(events.get(self._wire.fileno(), 0) & ~select.POLLOUT)

    def _receive(self) -> bool:
        """Take in what has come; False when the far side closed."""
        pieces: list[bytes] = []
        is_open = True
        try:
            taken = 0
            while is_open and taken < _RECEIVE_BYTES:
                data = self._wire.recv(_RECEIVE_BYTES)
                taken += len(data)
                self._received += data
                is_open = bool(data) and self._take_frames(pieces)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        finally:
            self._heard_at = time.monotonic()
            if pieces:
                with self._changed:
                    self._inbox.extend(pieces)
                    self._inbox_bytes += sum(map(len, pieces))
                    self._changed.notify_all()
        return is_open

    def _take_frames(self, pieces: list[bytes]) -> bool:
        """Sort the whole frames received so far; False after a close frame."""
        at = 0
        with memoryview(self._received) as view:
            while (found := _frame_at(view, at)) is not None:
                opcode, start, at = found
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    return False
                if opcode == websocket.ABNF.OPCODE_PING:
                    self._answer(bytes(view[start:at]), websocket.ABNF.OPCODE_PONG)
                elif opcode != websocket.ABNF.OPCODE_PONG and start < at:
                    if opcode != websocket.ABNF.OPCODE_CONT:
                        self._channel = view[start]
                        start += 1
                    self._sort(bytes(view[start:at]), pieces)
        del self._received[:at]
        return True

    def _sort(self, payload: bytes, pieces: list[bytes]) -> None:
        if not payload:
            return
        if self._channel == _STDOUT:
            pieces.append(payload)
        elif self._channel == _STDERR:
            self._stderr += payload
            del self._stderr[:-STDERR_LIMIT_BYTES]
        elif self._channel == _ERROR:
            self._status_at = time.monotonic()
            self._status += payload
            if len(self._status) > _STATUS_LIMIT_BYTES:
                raise _BadFrameError("its status is too long")

    def _transmit(self) -> None:
        """Send until the socket is full; a frame that was begun goes on first."""
        try:
            while True:
                if self._partial is None:
                    with self._changed:
                        if not self._outbox:
                            return
                        frame = self._outbox.popleft()
                        self._outbox_bytes -= len(frame)
                        self._changed.notify_all()
                    self._partial = memoryview(frame)
                sent = self._wire.send(self._partial)
                self._partial = self._partial[sent:] if sent < len(self._partial) else None
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            # The far side takes no more, but what it said before, the status perhaps, can still be read.
            with self._changed:
                self._deaf, self._partial = True, None
                self._outbox.clear()
                self._changed.notify_all()

    def _answer(self, payload: bytes, opcode: int) -> None:
        frame = websocket.ABNF.create_frame(payload, opcode).format()
        with self._changed:
            if not self._deaf:
                self._outbox.append(frame)
                self._outbox_bytes += len(frame)

    def _beat(self, now: float) -> None:
        """Ping a silent far side; give it up when it answers none.

        While stdin flows its answers may stand behind data that the command has not read yet, so that
        only TCP can tell.
        """
        silent_s = now - self._heard_at
        if silent_s > self._ping_after_s and now - self._pinged_at > self._ping_after_s:
            self._pinged_at = now
            self._answer(b"", websocket.ABNF.OPCODE_PING)
        if not self._has_stdin and silent_s > self._ping_after_s * (SILENT_PINGS + 1):
            raise _BadFrameError("the far side answers no ping")


def _read_status(text: bytes) -> dict[str, Any]:
    """Decode the last message, a `Status` that comes without its kind."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


class _BadFrameError(Exception):
    """The far side breaks the protocol."""


def _frame_at(view: memoryview, at: int) -> tuple[int, int, int] | None:
    """Find the frame at `at` (RFC 6455 §5.2): its opcode, start and end of its payload; None when not whole."""
    if len(view) < at + 2:
        return None
    start, length = at + 2, view[at + 1]
    if length > 127:
        raise _BadFrameError("a frame is masked")
    if length > 125:
        width = 2 if length == 126 else 8
        if len(view) < start + width:
            return None
        length = int.from_bytes(view[start : start + width], "big")
        start += width
    if length > _FRAME_LIMIT_BYTES:
        raise _BadFrameError("a frame is too long")
    return (view[at] & 0x0F, start, start + length) if len(view) >= start + length else None
