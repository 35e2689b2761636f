"""A manifest with its place, and findings about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from reconciler.kinds.document import Path
from reconciler.kinds.finding import Finding
from reconciler.kinds.loader import Loaded
from reconciler.kinds.marks import Marks, spell
from reconciler.kinds.model import Kind


@dataclass(frozen=True)
class Located:
    """A manifest and where it stands; with marks its findings name the line of the field."""

    kind: Kind
    path: str
    line: int
    column: int = 1
    marks: Marks | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, loaded: Loaded) -> Located:
        """Take what the loader gave."""
        return cls(loaded.kind, loaded.path, loaded.line, loaded.column, loaded.marks)

    @property
    def place(self) -> str:
        """`file:line`, for other findings to point at."""
        return f"{self.path}:{self.line}"

    def finding(
        self,
        where: Path,
        message: str,
        *,
        rule: str,
        severity: Literal["error", "warning"] = "error",
        inside: tuple[int, int] | None = None,
    ) -> Finding:
        """Make a finding about a field; `inside` is a line and column within its text."""
        line, column = self.line, self.column
        if self.marks is not None and inside is not None:
            line, column = self.marks.inside(where, line=inside[0], column=inside[1])
        elif self.marks is not None:
            line, column = self.marks.place(where)
        return Finding(self.path, line, column, spell(where), message, severity, rule)

    def warning(self, where: Path, message: str, *, rule: str) -> Finding:
        """Make a finding that keeps nothing out of force."""
        return self.finding(where, message, rule=rule, severity="warning")
