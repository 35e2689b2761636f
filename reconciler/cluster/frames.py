"""WebSocket frames as an exec stream needs them: received without copies, made with a mask.

Received bytes land in one buffer that is used again and again; what is found there is handed out as views, valid
until more is received. The payload of a data frame is handed out as it comes, so that memory does not grow
with the length of a frame. The first byte of a message is the number of its channel.

Source: RFC 6455 §5.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import websocket

NORMAL_CLOSE, NO_CODE = 1000, 1005
_BUFFER_BYTES = 256 << 10
_FRAME_LIMIT_BYTES = 16 << 20
_CONTROL_LIMIT_BYTES = 125
_CONTINUED = 0


class Kind(IntEnum):
    """What a frame is for, by its opcode."""

    DATA = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_CONTROL = {Kind.CLOSE, Kind.PING, Kind.PONG}


class BadFrameError(Exception):
    """The far side breaks the protocol."""


class FrameReader:
    """Finds frames in what a socket receives into `space`."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._filled = 0
        self._left = 0
        """Bytes of the data frame under way that are still to come."""
        self._channel = -1
        self._is_first = False
        """The channel's number is still to come."""

    def space(self) -> memoryview:
        """Where the next bytes go; never empty after `take` was read to its end."""
        return self._view[self._filled :]

    def received(self, size: int) -> None:
        """Say how much of `space` was filled."""
        self._filled += size

    def take(self) -> Iterator[tuple[Kind, int, memoryview]]:
        """Yield kind, channel (-1 for control frames) and payload of what has come, in its order.

        Raises:
            BadFrameError: a frame is masked, too long, or a control frame in parts.
        """
        at = 0
        while at < self._filled:
            if self._left:
                start, at = at, min(self._filled, at + self._left)
                self._left -= at - start
                if self._is_first:
                    self._channel, self._is_first = self._view[start], False
                    start += 1
                if start < at:
                    yield Kind.DATA, self._channel, self._view[start:at]
                continue
            head = self._head(at)
            if head is None:
                break
            opcode, start, length = head
            if opcode in _CONTROL:
                if start + length > self._filled:
                    break
                at = start + length
                yield Kind(opcode), -1, self._view[start:at]
            else:
                at, self._left = start, length
                if opcode != _CONTINUED:
                    self._channel, self._is_first = -1, True
        rest = self._filled - at
        if rest and at:
            self._view[:rest] = bytes(self._view[at : self._filled])
        self._filled = rest

    def _head(self, at: int) -> tuple[int, int, int] | None:
        """The opcode of the frame at `at`, and where its payload starts and how long it is; None when not whole."""
        view, end = self._view, self._filled
        if end < at + 2:
            return None
        opcode, length, start = view[at] & 0x0F, view[at + 1], at + 2
        if length > 127:
            raise BadFrameError("a frame is masked")
        if opcode in _CONTROL and (length > _CONTROL_LIMIT_BYTES or not view[at] & 0x80):
            raise BadFrameError("a control frame is too long or comes in parts")
        if length > 125:
            width = 2 if length == 126 else 8
            if end < start + width:
                return None
            length = int.from_bytes(view[start : start + width], "big")
            start += width
        if length > _FRAME_LIMIT_BYTES:
            raise BadFrameError("a frame is too long")
        return opcode, start, length


def frame(payload: bytes, kind: Kind = Kind.DATA) -> bytes:
    """Make a masked frame, as clients must."""
    made: bytes = websocket.ABNF.create_frame(payload, kind).format()
    return made


def read_close(payload: bytes) -> tuple[int, str]:
    """The code and the reason of a close frame."""
    if len(payload) < 2:
        return NO_CODE, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")
