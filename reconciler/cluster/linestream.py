"""The lines of one endless answer, read by one thread and ended by another.

A watch waits minutes for its next line. Whoever ends it shuts the connection down from outside, and the reader sees the
end of its lines at once. An answer that is cut within a line, silent for too long or without end is an error.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Generator, Iterator

import urllib3
from urllib3.exceptions import HTTPError

from reconciler.cluster.port import UnavailableError

_PIECE_BYTES = 1 << 20


class LineStream:
    """An iterator over the lines of an answer, without their line breaks.

    Args:
        answer: The answer, unread.
        subject: What messages call it.
        longest_s: It lasts no longer.
        line_bytes_max: No line is longer.
        broken: Makes the error for what the connection raised.
    """

    def __init__(
        self,
        answer: urllib3.BaseHTTPResponse,
        *,
        subject: str,
        longest_s: float,
        line_bytes_max: int,
        broken: Callable[[Exception], UnavailableError],
    ) -> None:
        self._answer = answer
        self._subject = subject
        self._longest_s = longest_s
        self._line_bytes_max = line_bytes_max
        self._broken = broken
        self._over = threading.Event()
        self._lines = self._read()

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def close(self) -> None:
        """End it, from any thread; the reader's iteration ends without an error."""
        self._over.set()
        # ValueError, RuntimeError: the answer is over, or this kind of it cannot be shut down.
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            self._answer.shutdown()
        # ValueError: another thread is reading; it has been woken, and closes the answer itself.
        with contextlib.suppress(ValueError):
            self._lines.close()
            self._answer.close()

    def _read(self) -> Generator[bytes]:
        started = time.monotonic()
        rest = bytearray()
        try:
            while piece := self._answer.read1(_PIECE_BYTES):
                rest += piece
                if b"\n" in piece:
                    *whole, last = bytes(rest).split(b"\n")
                    rest = bytearray(last)
                    yield from (line for line in whole if line)
                is_endless = time.monotonic() - started > self._longest_s
                if is_endless or len(rest) > self._line_bytes_max:
                    raise UnavailableError(f"{self._subject}: the stream has no end")
        except (HTTPError, OSError, http.client.HTTPException) as error:
            if not self._over.is_set():
                raise self._broken(error) from error
            rest.clear()
        finally:
            self._answer.close()
        if rest and not self._over.is_set():
            raise UnavailableError(f"{self._subject}: the stream was closed within a line")
