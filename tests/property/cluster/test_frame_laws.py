"""Frames: whatever way bytes come in, the same messages come out."""

from __future__ import annotations

from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cluster.frames import BadFrameError, FrameReader, Kind, frame

CONTROL = [Kind.CLOSE, Kind.PING, Kind.PONG]
payloads = st.binary(max_size=300) | st.integers(60_000, 70_000)
"""Contents, or how many zeros."""
messages = st.lists(
    st.tuples(st.integers(0, 255), st.lists(payloads, min_size=1, max_size=3))
    | st.tuples(st.sampled_from(CONTROL), st.binary(max_size=125)),
    max_size=8,
)


def plain(opcode, payload, *, last=True):
    """A frame as servers send it, without a mask."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 65536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes([(0x80 if last else 0) | opcode]) + length + payload


def encoded(said):
    """The bytes of messages: data in as many frames as it has parts, the channel's number first."""
    wire = b""
    for first, rest in said:
        if isinstance(first, Kind):
            wire += plain(first, rest)
            continue
        for n, part in enumerate(map(bytes, rest)):
            head = bytes([first]) if n == 0 else b""
            wire += plain(0 if n else Kind.DATA, head + part, last=n == len(rest) - 1)
    return wire


def wanted(said):
    """What should come out: neighbours of one channel joined, empty ones left out."""
    out = []
    for first, rest in said:
        is_control = isinstance(first, Kind)
        item = (first, -1, rest) if is_control else (Kind.DATA, first, b"".join(map(bytes, rest)))
        if not is_control and not item[2]:
            continue
        if not is_control and out and out[-1][:2] == item[:2]:
            item = (*item[:2], out.pop()[2] + item[2])
        out.append(item)
    return out


def taken(wire, pieces):
    """What a reader makes of bytes that come in these pieces."""
    reader, out, at = FrameReader(), [], 0
    while at < len(wire):
        space = reader.space()
        assert space
        size = min(next(pieces), len(space), len(wire) - at)
        space[:size] = wire[at : at + size]
        reader.received(size)
        at += size
        for kind, channel, payload in reader.take():
            item = (kind, channel, bytes(payload))
            if kind == Kind.DATA and out and out[-1][:2] == item[:2]:
                item = (*item[:2], out.pop()[2] + item[2])
            out.append(item)
    return out


@given(messages, st.lists(st.integers(1, 100_000), max_size=20))
def test_messages_come_out_as_they_went_in(said, sizes):
    """However the bytes are cut, every channel gets its bytes in order, and control frames come whole."""
    pieces = chain(sizes, repeat(50_000))

    assert taken(encoded(said), pieces) == wanted(said)


@given(st.binary(max_size=400))
def test_noise_is_refused_or_waited_for(noise):
    """Bytes that are no frames never do worse than BadFrameError."""
    try:
        taken(noise, repeat(7))
    except BadFrameError as error:
        assert str(error)


@given(payloads)
def test_what_we_send_is_masked(payload):
    """A client's frames carry a mask, and the payload under it."""
    payload = bytes(payload)
    made = frame(payload)
    size = made[1] & 0x7F
    start = 2 + {126: 2, 127: 8}.get(size, 0)
    mask, body = made[start : start + 4], made[start + 4 :]

    assert made[0] == 0x82 and made[1] & 0x80
    assert bytes(b ^ mask[n % 4] for n, b in enumerate(body)) == payload


@pytest.mark.parametrize("size", [1 << 24, 1 << 26])
def test_a_long_frame_needs_no_memory_of_its_length(size):
    """The payload of a frame is handed out while it comes; one beyond the limit is refused at its head."""
    reader = FrameReader()
    head = b"\x82\x7f" + size.to_bytes(8, "big") + b"\x01"
    reader.space()[: len(head)] = head
    reader.received(len(head))
    if size > 1 << 24:
        with pytest.raises(BadFrameError, match="too long"):
            list(reader.take())
        return
    assert list(reader.take()) == []
    got, left = 0, size - 1
    while left:
        piece = min(left, len(reader.space()))
        reader.received(piece)
        left -= piece
        got += sum(len(payload) for _, channel, payload in reader.take() if channel == 1)
    assert got == size - 1
