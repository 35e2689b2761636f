"""Source text → syntax tree, within bounds.

celpy's grammar is the parser. Its patterns for string literals backtrack exponentially on a run of
backslashes and misread some escapes, so literals are read here first (`_blank`), by the rules of cel-spec's
langdef, and replaced by blanks of the same length; the parser sees only those, and the tree's tokens lead back
to the values by their position. Comments are blanked too.

Importing celpy takes up to half a second, so it happens at the first expression. Its `Environment`, which raises
the recursion limit of the whole process, is not used.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from reconciler.cel.error import CelError

SOURCE_BYTES_MAX = 5 * 1024

_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "?": "?",
    '"': '"',
    "'": "'",
    "`": "`",
}
_HEX_DIGITS = {"x": 2, "X": 2, "u": 4, "U": 8}
_HEX = frozenset("0123456789abcdefABCDEF")
_parsing = threading.Lock()


@dataclass(frozen=True)
class Source:
    """A parsed expression. `strings` holds the value of each literal by the offset of its first quote."""

    tree: Any
    strings: dict[int, str]


def parse(text: str) -> Source:
    """Parse an expression.

    Raises:
        CelError: it is too long, or no CEL.
    """
    if len(text.encode("utf-8", "surrogatepass")) > SOURCE_BYTES_MAX:
        raise CelError(f"the expression is longer than {SOURCE_BYTES_MAX} bytes")
    blanked, strings = _blank(text)
    with _parsing:  # the parser's lexer callbacks are shared
        from celpy.celparser import CELParseError, CELParser

        try:
            tree = CELParser().parse(blanked)
        except CELParseError as error:
            raise _syntax_error(text, error) from None
        except RecursionError:
            raise CelError("the expression is nested too deeply") from None
    return Source(tree=tree, strings=strings)


def _syntax_error(text: str, error: Any) -> CelError:
    lines = text.split("\n")
    line = error.line if isinstance(error.line, int) and error.line > 0 else len(lines)
    column = error.column if isinstance(error.column, int) and error.column > 0 else None
    if column is None:
        column = len(lines[-1]) + 1
    ended = getattr(getattr(error.__context__, "token", None), "type", "") == "$END"
    if ended:
        line, column = len(lines), len(lines[-1]) + 1
    if ended or line > len(lines) or column > len(lines[line - 1]):
        return CelError(
            "syntax error: the expression ends too early", line=line, column=max(1, column)
        )
    found = lines[line - 1][column - 1 : column + 11].split()
    near = found[0] if found else " "
    return CelError(f"syntax error at {near!r}", line=line, column=column)


def _place(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _refuse(text: str, offset: int, message: str) -> CelError:
    line, column = _place(text, offset)
    return CelError(message, line=line, column=column)


def _blank(text: str) -> tuple[str, dict[int, str]]:
    out: list[str] = []
    strings: dict[int, str] = {}
    at = 0
    while at < len(text):
        char = text[at]
        if text.startswith("//", at):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            out.append(" " * (end - at))
            at = end
        elif char in "\"'":
            end, value = _literal(text, at, raw=False)
            strings[at] = value
            out.append(_hollow(text[at:end]))
            at = end
        elif char.isalnum() or char == "_":
            end = at
            while end < len(text) and (text[end].isalnum() or text[end] == "_"):
                end += 1
            word = text[at:end]
            if end < len(text) and text[end] in "\"'" and word.lower() in ("r", "b", "br", "rb"):
                if word.lower() != "r":
                    raise _refuse(text, at, "bytes are not supported by this version")
                stop, strings[end] = _literal(text, end, raw=True)
                out.append(" " + _hollow(text[end:stop]))
                at = stop
            else:
                out.append(word)
                at = end
        else:
            out.append(char)
            at += 1
    return "".join(out), strings


def _hollow(literal: str) -> str:
    """Keep the quotes and the line breaks of a literal, so that every later place stays the same."""
    quotes = 3 if literal[:3] in ('"""', "'''") and len(literal) >= 6 else 1
    inner = "".join("\n" if char == "\n" else "_" for char in literal[quotes:-quotes])
    return literal[:quotes] + inner + literal[-quotes:]


def _literal(text: str, start: int, *, raw: bool) -> tuple[int, str]:
    quote = text[start] * 3 if text.startswith(text[start] * 3, start) else text[start]
    at = start + len(quote)
    parts: list[str] = []
    while at < len(text):
        if text.startswith(quote, at):
            return at + len(quote), "".join(parts)
        char = text[at]
        if char in "\r\n" and len(quote) == 1:
            break
        if char == "\\" and not raw:
            at, value = _escape(text, at)
            parts.append(value)
        else:
            parts.append(char)
            at += 1
    raise _refuse(text, start, "this string does not end")


def _escape(text: str, at: int) -> tuple[int, str]:
    kind = text[at + 1 : at + 2]
    if kind in _SIMPLE and kind:
        return at + 2, _SIMPLE[kind]
    if kind in _HEX_DIGITS and kind:
        end = at + 2 + _HEX_DIGITS[kind]
        digits, base = text[at + 2 : end], 16
        valid = len(digits) == _HEX_DIGITS[kind] and set(digits) <= _HEX
    else:
        end = at + 4
        digits, base = text[at + 1 : end], 8
        valid = len(digits) == 3 and digits[0] in "0123" and set(digits) <= set("01234567")
    if not valid:
        raise _refuse(text, at, "unknown escape in a string; write \\\\ for a backslash")
    point = int(digits, base)
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise _refuse(text, at, "this escape is no Unicode character")
    return end, chr(point)
