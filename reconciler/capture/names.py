"""Names and shell patterns: `team-*`, `web-?`, `[ab]*`; without a wildcard, the exact name."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def is_pattern(text: str) -> bool:
    """Whether it has a wildcard."""
    return any(mark in text for mark in "*?[")


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the names or patterns is for `name`."""
    return any(
        fnmatchcase(name, pattern) if is_pattern(pattern) else name == pattern
        for pattern in patterns
    )


def takes_namespace(name: str, patterns: Iterable[str]) -> bool:
    """As `matches_any`, but a pattern, or no pattern at all, never takes `kube-*`: only its exact name does."""
    listed = list(patterns)
    if name.startswith("kube-"):
        return name in listed
    return not listed or matches_any(name, listed)
