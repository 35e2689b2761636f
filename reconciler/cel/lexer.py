"""Source text → tokens, by the rules of cel-spec's langdef ("Syntax"), in time linear to the text.

The parser's grammar is celpy's, its tokens are not: celpy's patterns for literals backtrack exponentially on a run
of backslashes, misread some escapes and split names such as `trueish`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from reconciler.cel.error import CelError
from reconciler.cel.values import INT_MAX, UINT_MAX, Uint

_TOKEN = re.compile(
    r"""(?P<space>(?:[ \t\r\n\f]|//[^\n]*)+)
    |(?P<FLOAT_LIT>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<INT_LIT>0[xX][0-9a-fA-F]+|[0-9]+)
    |(?P<IDENT>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quote>["'])
    |`(?P<QUOTED>[A-Za-z0-9_.\-/ ]+)`
    |(?P<mark>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_WORDS = {"true": ("BOOL_LIT", True), "false": ("BOOL_LIT", False), "null": ("NULL_LIT", None)}
_PREFIXES = frozenset(("r", "b", "rb", "br"))
_SIMPLE = {
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11,
    "\\": 92, "?": 63, '"': 34, "'": 39, "`": 96,
}  # fmt: skip
_HEX_DIGITS = {"x": 2, "X": 2, "u": 4, "U": 8}
_HEX = frozenset("0123456789abcdefABCDEF")
_NUMBER_DIGITS_MAX = 400


def tokens(text: str) -> Iterator[tuple[str, Any, int]]:
    """Cut the text into (kind, value, offset). Marks and the word `in` are their own kinds.

    Raises:
        CelError: a character or literal is none of the language.
    """
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise refuse(text, at, f"syntax error at {_near(text, at)!r}")
        kind, end = str(found.lastgroup), found.end()
        if kind == "quote":
            end, value = _literal(text, at, is_raw=False, is_bytes=False)
            yield ("STRING_LIT", value, at)
        elif kind == "IDENT":
            word = found[0]
            if text[end : end + 1] in ('"', "'") and word.lower() in _PREFIXES:
                is_bytes, is_raw = "b" in word.lower(), "r" in word.lower()
                end, value = _literal(text, end, is_raw=is_raw, is_bytes=is_bytes)
                yield ("BYTES_LIT" if is_bytes else "STRING_LIT", value, at)
            elif word == "in":
                yield ("in", word, at)
            else:
                yield (*_WORDS.get(word, ("IDENT", word)), at)
        elif kind == "INT_LIT":
            if text[end : end + 1] in ("u", "U"):
                end += 1
                yield ("UINT_LIT", Uint(_whole(text, at, found[0], UINT_MAX)), at)
            else:
                yield ("INT_LIT", _whole(text, at, found[0], INT_MAX + 1), at)
        elif kind == "FLOAT_LIT":
            if len(found[0]) > _NUMBER_DIGITS_MAX:
                raise refuse(text, at, "this number is too long")
            yield ("FLOAT_LIT", float(found[0]), at)
        elif kind == "QUOTED":
            yield ("QUOTED", found["QUOTED"], at)
        elif kind == "mark":
            yield (found[0], found[0], at)
        at = end


def place(text: str, at: int) -> tuple[int, int]:
    """Line and column of an offset, from 1."""
    before = text[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1


def refuse(text: str, at: int, message: str, *, hint: str = "") -> CelError:
    """The error about a place in the text; the hint is told in the message too."""
    line, column = place(text, at)
    message = f"{message}; {hint}" if hint else message
    return CelError(message, line=line, column=column, hint=hint)


def _near(text: str, at: int) -> str:
    found = text[at : at + 12].split()
    return found[0] if found else " "


def syntax_error(text: str, at: int | None) -> CelError:
    """A token that does not fit; None: the text ended too early."""
    if at is None:
        return refuse(text, len(text), "syntax error: the expression ends too early")
    return refuse(text, at, f"syntax error at {_near(text, at)!r}")


def _whole(text: str, at: int, digits: str, largest: int) -> int:
    if len(digits) <= 40:
        value = int(digits, 16) if digits[:2] in ("0x", "0X") else int(digits)
        if value <= largest:
            return value
    raise refuse(text, at, "this integer does not fit 64 bits")


def _literal(text: str, start: int, *, is_raw: bool, is_bytes: bool) -> tuple[int, str | bytes]:
    """A string or bytes literal from its first quote: where it ends, and its value."""
    quote = text[start] * 3 if text.startswith(text[start] * 3, start) else text[start]
    at = start + len(quote)
    plain = re.compile(r"[^\\\r\n\"']+")
    parts: list[str] = []
    raw = bytearray()
    while at < len(text):
        if text.startswith(quote, at):
            value = bytes(raw) if is_bytes else "".join(parts)
            return at + len(quote), value
        char = text[at]
        if char in "\r\n" and len(quote) == 1:
            break
        end, piece, octet = at + 1, char, None
        if (run := plain.match(text, at)) is not None:
            end, piece = run.end(), run[0]
        elif char == "\\" and is_raw:
            end, piece = at + 2, text[at : at + 2]
            if len(quote) == 1 and piece[1:] in ("\r", "\n", ""):
                break
            if piece[1:] not in ('"', "'"):
                end, piece = at + 1, char
        elif char == "\\":
            end, point, octet = _escape(text, at, is_bytes=is_bytes)
            piece = "" if octet is not None else chr(point)
        if octet is not None:
            raw.append(octet)
        elif is_bytes:
            raw += piece.encode("utf-8", "surrogatepass")
        else:
            parts.append(piece)
        at = end
    raise refuse(text, start, "this string does not end")


def _escape(text: str, at: int, *, is_bytes: bool) -> tuple[int, int, int | None]:
    """Where an escape ends, its code point, and in bytes the octet that it stands for."""
    kind = text[at + 1 : at + 2]
    if kind and kind in _SIMPLE:
        return at + 2, _SIMPLE[kind], None
    if kind and kind in _HEX_DIGITS:
        end, base = at + 2 + _HEX_DIGITS[kind], 16
        digits = text[at + 2 : end]
        is_valid = len(digits) == _HEX_DIGITS[kind] and set(digits) <= _HEX
        is_valid = is_valid and not (is_bytes and kind in "uU")
    else:
        end, base = at + 4, 8
        digits = text[at + 1 : end]
        is_valid = len(digits) == 3 and digits[0] in "0123" and set(digits) <= set("01234567")
    if not is_valid:
        raise refuse(text, at, "unknown escape in a string; write \\\\ for a backslash")
    point = int(digits, base)
    if is_bytes:
        return end, point, point
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise refuse(text, at, "this escape is no Unicode character")
    return end, point, None
