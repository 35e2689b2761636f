"""Regular expressions: RE2 only, in time linear to the text. `matches` searches; `find` is of Kubernetes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from reconciler.cel.error import Fault, Stop
from reconciler.cel.library.table import OURS, Table
from reconciler.cel.values import NONE, Frame, Optional

REGEXES = Table("regex", since="1.23")
_PATTERN_MAX = 1000
_PATTERNS_MAX = 32
"""Regular expressions in one evaluation: compiling one is dear, and a loop can compute many."""


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError):
        raise Fault("this is no regular expression of RE2") from None


def _pattern(frame: Frame, text: str, pattern: str) -> Any:
    if len(pattern) > _PATTERN_MAX:
        raise Fault(f"a regular expression is longer than {_PATTERN_MAX} characters")
    frame.spend(max(0, ((len(text) + 10) // 10) * ((len(pattern) + 3) // 4) - 1))
    frame.patterns.add(pattern)
    if len(frame.patterns) > _PATTERNS_MAX:
        raise Stop(f"more than {_PATTERNS_MAX} regular expressions in one evaluation")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise Fault("this string has half of a surrogate pair")
    return _compiled(pattern)


@REGEXES.add("matches(string, string) -> bool", "string.matches(string) -> bool")
def _(frame: Frame, text: str, pattern: str) -> bool:
    return _pattern(frame, text, pattern).search(text) is not None


@REGEXES.add("string.find(string) -> string")
def _(frame: Frame, text: str, pattern: str) -> str:
    found = _pattern(frame, text, pattern).search(text)
    return "" if found is None else str(found.group())


@REGEXES.add("string.findAll(string) -> list(string)")
def _(frame: Frame, text: str, pattern: str) -> list[str]:
    return _find_all(frame, text, pattern, -1)


@REGEXES.add("string.findAll(string, int) -> list(string)")
def _find_all(frame: Frame, text: str, pattern: str, limit: int) -> list[str]:
    """Go's: an empty match beside the match before it is none."""
    expression = _pattern(frame, text, pattern)
    made: list[str] = []
    if limit == 0:
        return made
    last = -1
    for found in expression.finditer(text):
        start, end = found.span()
        if start == end == last:
            continue
        last = end
        made.append(text[start:end])
        if len(made) == limit:
            break
    return made


@REGEXES.add("regex.extract(string, string) -> optional(string)", since=OURS)
def _(frame: Frame, text: str, pattern: str) -> Optional:
    expression = _pattern(frame, text, pattern)
    found = expression.search(text)
    if expression.groups > 1:
        raise Fault("regex.extract takes one group at most")
    if found is None or (expression.groups and found.group(1) is None):
        return NONE
    return Optional(found.group(1 if expression.groups else 0))


@REGEXES.add("regex.extractAll(string, string) -> list(string)", since=OURS)
def _(frame: Frame, text: str, pattern: str) -> list[str]:
    expression = _pattern(frame, text, pattern)
    if expression.groups > 1:
        raise Fault("regex.extractAll takes one group at most")
    found = [one.group(1 if expression.groups else 0) for one in expression.finditer(text)]
    return [one for one in found if one]
