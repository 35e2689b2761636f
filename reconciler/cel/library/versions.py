"""Semantic versions (semver.org 2.0), as Kubernetes reads and orders them; build metadata does not count."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from reconciler.cel.error import Fault
from reconciler.cel.library.table import Table, traversal
from reconciler.cel.values import INT_MAX, Foreign, Frame

VERSIONS = Table("semver", since="1.33")
_TEXT_MAX = 256
_NUMBER = r"(0|[1-9][0-9]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Semver(Foreign):
    """A version; `before` are the identifiers of a pre-release, each as it is ordered."""

    cel_type: ClassVar[str] = "kubernetes.Semver"
    numbers: tuple[int, int, int]
    before: tuple[tuple[int, int, str], ...]
    build: str = field(default="", compare=False)

    @property
    def order(self) -> tuple[Any, ...]:
        """What versions are ordered by: a pre-release comes before its version."""
        return (self.numbers, not self.before, self.before)


def read(text: str, *, normalize: bool = False) -> Semver:
    """Read a version; `normalize` takes `v1.2` and leading zeros too.

    Raises:
        Fault: it is none.
    """
    if len(text) > _TEXT_MAX:
        raise Fault("this string is no semantic version")
    found = _VERSION.fullmatch(_normal(text) if normalize else text)
    if found is None:
        raise Fault("this string is no semantic version such as 1.2.3")
    numbers = (int(found[1]), int(found[2]), int(found[3]))
    before = found[4].split(".") if found[4] else []
    build = found[5].split(".") if found[5] else []
    is_zeroed = any(one.isdigit() and len(one) > 1 and one[0] == "0" for one in before)
    if is_zeroed or "" in before or "" in build or max(numbers) > INT_MAX:
        raise Fault("this string is no semantic version such as 1.2.3")
    ordered = tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in before)
    return Semver(numbers, ordered, found[5] or "")


def _normal(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for at, part in enumerate(parts):
        if len(part) > 1:
            bare = part.lstrip("0")
            parts[at] = bare if bare[:1].isdigit() else f"0{bare}"
    if len(parts) < 3 and any(mark in parts[-1] for mark in "+-"):
        return ""
    return ".".join([*parts, "0", "0"][: max(3, len(parts))])


@VERSIONS.add("semver(string) -> Semver")
def _(frame: Frame, text: str) -> Semver:
    traversal(frame, len(text))
    return read(text)


@VERSIONS.add("semver(string, bool) -> Semver")
def _(frame: Frame, text: str, normalize: bool) -> Semver:  # noqa: FBT001  an argument of the language
    traversal(frame, len(text))
    return read(text, normalize=normalize)


@VERSIONS.add("isSemver(string) -> bool")
def _(frame: Frame, text: str) -> bool:
    return _is_version(frame, text, False)


@VERSIONS.add("isSemver(string, bool) -> bool")
def _is_version(frame: Frame, text: str, normalize: bool) -> bool:  # noqa: FBT001  an argument of the language
    traversal(frame, len(text))
    try:
        read(text, normalize=normalize)
    except Fault:
        return False
    return True


@VERSIONS.add("Semver.major() -> int")
def _(frame: Frame, value: Semver) -> int:
    return value.numbers[0]


@VERSIONS.add("Semver.minor() -> int")
def _(frame: Frame, value: Semver) -> int:
    return value.numbers[1]


@VERSIONS.add("Semver.patch() -> int")
def _(frame: Frame, value: Semver) -> int:
    return value.numbers[2]


@VERSIONS.add("Semver.isGreaterThan(Semver) -> bool")
def _(frame: Frame, left: Semver, right: Semver) -> bool:
    return left.order > right.order


@VERSIONS.add("Semver.isLessThan(Semver) -> bool")
def _(frame: Frame, left: Semver, right: Semver) -> bool:
    return left.order < right.order


@VERSIONS.add("Semver.compareTo(Semver) -> int")
def _(frame: Frame, left: Semver, right: Semver) -> int:
    return (left.order > right.order) - (left.order < right.order)
