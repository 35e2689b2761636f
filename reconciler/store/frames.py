"""Sealed frames: compress, then encrypt; each frame says how it was made.

Two classes. A *structure* frame is sealed under a key derived from the location's structure key and 12 of
the frame's 24 random bytes (the other 12 are the nonce), so that any number of writers may seal any number of frames.
A *content* frame is sealed under its session's own key with a counter as nonce; it names the session.
What a frame is for (its purpose) is part of the associated data; the pack and offset where it lies is not.
"""

from __future__ import annotations

import os
import struct
import threading
from functools import cache
from importlib.resources import files

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.store.port import DamagedError

CONTENT, STRUCTURE = 1, 2
STORED, ZSTD, ZSTD_DICTIONARY = 0, 1, 2
LEVEL = 3
PLAIN_BYTES_MAX = 64 * 1024 * 1024
DICTIONARY_FRAME_MAX = 1024 * 1024
"""Larger plaintext brings its own context: the dictionary would only cost time."""
_STRUCTURE_HEADER = struct.Struct("<BB24s")
_CONTENT_HEADER = struct.Struct(">BB16sQ")
CONTENT_HEADER_BYTES = _CONTENT_HEADER.size
_local = threading.local()


@cache
def dictionary() -> zstandard.ZstdCompressionDict:
    """The words that manifests and records have in common; a part of the format, never changed."""
    data = files("reconciler.store").joinpath("dictionary-1.txt").read_bytes()
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def compress(data: bytes, *, words: bool) -> tuple[int, bytes]:
    """Compress where it helps; `words` says that the text resembles manifests. Return method and bytes."""
    if not hasattr(_local, "plain"):
        _local.plain = zstandard.ZstdCompressor(level=LEVEL)
        _local.words = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary())
    words = words and len(data) <= DICTIONARY_FRAME_MAX
    packed = (_local.words if words else _local.plain).compress(data)
    if len(packed) < len(data):
        return (ZSTD_DICTIONARY if words else ZSTD), packed
    return STORED, data


def decompress(method: int, data: bytes, *, what: str) -> bytes:
    """The reverse of `compress`.

    Raises:
        DamagedError: the method is unknown or the bytes do not decompress.
    """
    if method == STORED:
        return data
    try:
        size = zstandard.frame_content_size(data)
        if method not in (ZSTD, ZSTD_DICTIONARY) or not 0 <= size <= PLAIN_BYTES_MAX:
            raise DamagedError(f"open {what}: unknown compression")
        if not hasattr(_local, "unplain"):
            _local.unplain = zstandard.ZstdDecompressor()
            _local.unwords = zstandard.ZstdDecompressor(dict_data=dictionary())
        reader = _local.unwords if method == ZSTD_DICTIONARY else _local.unplain
        return bytes(reader.decompress(data))
    except zstandard.ZstdError as error:
        raise DamagedError(f"open {what}: its bytes do not decompress") from error


def seal_structure(key: bytes, data: bytes, *, purpose: str, words: bool = True) -> bytes:
    """Seal structure: tables, lists, index, points."""
    method, packed = compress(data, words=words)
    salt = os.urandom(24)
    header = _STRUCTURE_HEADER.pack(STRUCTURE, method, salt)
    sealing = AESGCM(blake3(salt[:12], key=key).digest())
    return header + sealing.encrypt(salt[12:], packed, header[:2] + purpose.encode())


def open_structure(key: bytes, frame: bytes, *, purpose: str, what: str) -> bytes:
    """Open what `seal_structure` made for the same purpose.

    Raises:
        DamagedError: it is not that.
    """
    if len(frame) < _STRUCTURE_HEADER.size or frame[0] != STRUCTURE:
        raise DamagedError(f"open {what}: its bytes are not what was written")
    salt = frame[2:26]
    opening = AESGCM(blake3(salt[:12], key=key).digest())
    try:
        packed = opening.decrypt(salt[12:], frame[26:], frame[:2] + purpose.encode())
    except InvalidTag as error:
        raise DamagedError(f"open {what}: its bytes are not what was written") from error
    return decompress(frame[1], packed, what=what)


def seal_content(key: bytes, data: bytes, *, session: bytes, counter: int, words: bool) -> bytes:
    """Seal content under a session's key; a counter must never be used twice."""
    method, packed = compress(data, words=words)
    header = _CONTENT_HEADER.pack(CONTENT, method, session, counter)
    frame = bytearray(len(header) + len(packed) + 16)
    frame[: len(header)] = header
    # Into a buffer of ours: the other way stalls all threads while it fills a new one.
    AESGCM(key).encrypt_into(
        _counter_nonce(counter), packed, header, memoryview(frame)[len(header) :]
    )
    return bytes(frame)


def session_of(frame: bytes, *, what: str) -> bytes:
    """The session that a content frame names.

    Raises:
        DamagedError: it is no content frame.
    """
    if len(frame) < CONTENT_HEADER_BYTES or frame[0] != CONTENT:
        raise DamagedError(f"open {what}: its bytes are not what was written")
    return frame[2:18]


def open_content(key: bytes, frame: bytes, *, what: str) -> bytes:
    """Open what `seal_content` made.

    Raises:
        DamagedError: it is not that, or of another session.
    """
    session_of(frame, what=what)
    _, method, _, counter = _CONTENT_HEADER.unpack_from(frame)
    header = frame[:CONTENT_HEADER_BYTES]
    try:
        packed = AESGCM(key).decrypt(
            _counter_nonce(counter), memoryview(frame)[CONTENT_HEADER_BYTES:], header
        )
    except InvalidTag as error:
        raise DamagedError(f"open {what}: its bytes are not what was written") from error
    return decompress(method, packed, what=what)


def _counter_nonce(counter: int) -> bytes:
    return b"\0\0\0\0" + counter.to_bytes(8, "big")
