"""What a transformation says it did, and how it ended for one object.

A change names its author (`migrate`, `certificates`, `storageClasses`, `registries`, `rule/<set>/<rule>`,
`namespace`) and says in one line what happened. Lines hold paths and references, never values from Secrets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.errors import TerminalError
from reconciler.objects import Manifest

Verdict = Literal["keep", "skip", "fail"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done to an object, or a warning about it."""

    by: str
    what: str
    warning: bool = False
    """Nothing was changed; a person should look."""


@dataclass(frozen=True)
class Transformed:
    """An object after all transformations; `object` is None unless it is kept."""

    object: Manifest | None
    changes: tuple[Change, ...] = ()
    verdict: Verdict = "keep"
    reason: str = ""
    """A CamelCase word when it is not kept."""
    message: str = ""
    """One line, without values from Secrets."""


class Dismissed(Exception):  # noqa: N818  it ends the way of one object; it is not an error of the program
    """Inside the pipeline: the object is not kept."""

    def __init__(self, verdict: Verdict, *, reason: str, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.reason = reason
        self.message = message[:500]


class TransformError(TerminalError):
    """A TransformSet cannot be used: an expression does not compile."""
