"""cel-go's strings library, as Kubernetes has it (version 2): positions are those of characters, not bytes.

What differs from the conformance tests is listed in `docs/limits.md`: an offset beyond the end gives -1 here, as in
cel-go 0.26.
"""

from __future__ import annotations

from typing import Any

from reconciler.cel.error import Fault
from reconciler.cel.library.table import OURS, Table, strings, traversal, within
from reconciler.cel.values import Frame

STRINGS = Table("strings", since="1.23")
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    chr(point) for point in range(0x2000, 0x200B)
)
_LOWER = {ord("A") + n: ord("a") + n for n in range(26)}
_UPPER = {low: high for high, low in _LOWER.items()}
_QUOTED = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip


@STRINGS.add("string.charAt(int) -> string")
def _(frame: Frame, text: str, at: int) -> str:
    within(at, len(text))
    return text[at : at + 1]


@STRINGS.add("string.indexOf(string) -> int")
def _(frame: Frame, text: str, part: str) -> int:
    traversal(frame, len(text))
    return text.find(part)


@STRINGS.add("string.indexOf(string, int) -> int")
def _(frame: Frame, text: str, part: str, start: int) -> int:
    traversal(frame, len(text))
    if not part:
        return start
    if start < 0:
        raise Fault(f"index {start} is out of range")
    return text.find(part, start)


@STRINGS.add("string.lastIndexOf(string) -> int")
def _(frame: Frame, text: str, part: str) -> int:
    traversal(frame, len(text))
    return text.rfind(part)


@STRINGS.add("string.lastIndexOf(string, int) -> int")
def _(frame: Frame, text: str, part: str, upto: int) -> int:
    traversal(frame, len(text))
    if not part:
        return upto
    if upto < 0:
        raise Fault(f"index {upto} is out of range")
    return -1 if upto >= len(text) else text.rfind(part, 0, upto + len(part))


@STRINGS.add("string.substring(int) -> string")
def _(frame: Frame, text: str, start: int) -> str:
    traversal(frame, len(text))
    within(start, len(text))
    return text[start:]


@STRINGS.add("string.substring(int, int) -> string")
def _(frame: Frame, text: str, start: int, end: int) -> str:
    traversal(frame, len(text))
    if not 0 <= start <= end <= len(text):
        raise Fault(f"range {start}..{end} is out of range")
    return text[start:end]


@STRINGS.add("string.replace(string, string) -> string")
def _(frame: Frame, text: str, old: str, new: str) -> str:
    return _replace(frame, text, old, new, -1)


@STRINGS.add("string.replace(string, string, int) -> string")
def _replace(frame: Frame, text: str, old: str, new: str, limit: int) -> str:
    traversal(frame, len(text), factor=2)
    count = text.count(old)
    count = count if limit < 0 else min(count, limit)
    frame.fit(len(text) + count * max(0, len(new) - len(old)))
    return text.replace(old, new, count)


@STRINGS.add("string.split(string) -> list(string)")
def _(frame: Frame, text: str, separator: str) -> list[str]:
    return _split(frame, text, separator, -1)


@STRINGS.add("string.split(string, int) -> list(string)")
def _split(frame: Frame, text: str, separator: str, limit: int) -> list[str]:
    traversal(frame, len(text), factor=2)
    if limit == 0:
        return []
    if separator:
        frame.fit(text.count(separator) + 1)
        return text.split(separator, -1 if limit < 0 else limit - 1)
    frame.fit(len(text))
    if limit < 0 or limit >= len(text):
        return list(text)
    return [*text[: limit - 1], text[limit - 1 :]]


@STRINGS.add("list(string).join() -> string")
def _(frame: Frame, items: list[Any]) -> str:
    return _join(frame, items, "")


@STRINGS.add("list(string).join(string) -> string")
def _join(frame: Frame, items: list[Any], separator: str) -> str:
    frame.spend(len(items) // 10)
    strings("join", items)
    size = sum(map(len, items)) + len(separator) * max(0, len(items) - 1)
    frame.fit(size)
    traversal(frame, size)
    return separator.join(items)


@STRINGS.add("string.trim() -> string")
def _(frame: Frame, text: str) -> str:
    traversal(frame, len(text))
    return text.strip(_SPACE)


@STRINGS.add("string.lowerAscii() -> string")
def _(frame: Frame, text: str) -> str:
    traversal(frame, len(text))
    return text.translate(_LOWER)


@STRINGS.add("string.upperAscii() -> string")
def _(frame: Frame, text: str) -> str:
    traversal(frame, len(text))
    return text.translate(_UPPER)


@STRINGS.add("string.reverse() -> string", since=OURS)
def _(frame: Frame, text: str) -> str:
    traversal(frame, len(text))
    return text[::-1]


@STRINGS.add("strings.quote(string) -> string", since="1.29")
def _(frame: Frame, text: str) -> str:
    traversal(frame, len(text))
    quoted = "".join(_QUOTED.get(char, char) for char in text)
    frame.fit(len(quoted))
    return f'"{quoted}"'


@STRINGS.add("jsonpatch.escapeKey(string) -> string", since="1.32")
def _(frame: Frame, key: str) -> str:
    traversal(frame, len(key))
    frame.fit(2 * len(key))
    return key.replace("~", "~0").replace("/", "~1")
