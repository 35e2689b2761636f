"""A finding: something wrong in a file, with its place. Data, never an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where; `line` and `column` count from 1.

    `rule` is a lower-case word with dashes that stays the same between versions, for machines and
    suppressions: `unknown-field`, `missing-location`.
    """

    path: str
    line: int
    column: int
    field: str
    message: str
    severity: Literal["error", "warning"] = "error"
    rule: str = ""

    def __str__(self) -> str:
        """`file:line:column: field.path: what is wrong, what was expected`."""
        place = f"{self.path}:{self.line}:{self.column}: "
        text = place + (f"{self.field}: {self.message}" if self.field else self.message)
        # Names come from files that anybody may propose: nothing of them may steer a terminal.
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    @property
    def is_error(self) -> bool:
        """Whether it keeps the manifest out of force."""
        return self.severity == "error"
