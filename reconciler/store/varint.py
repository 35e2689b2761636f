"""Unsigned integers in 7-bit groups, least significant first; the high bit says that more follow."""

from __future__ import annotations

VARINT_BYTES_MAX = 10


def write_varint(out: bytearray, value: int) -> None:
    """Append a number."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number at an offset; return it and the offset behind it.

    Raises:
        IndexError: the bytes end inside the number, or it is longer than any number.
    """
    value = 0
    for place in range(VARINT_BYTES_MAX):
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise IndexError("number too long")
