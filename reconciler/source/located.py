"""A manifest with its place, and findings about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from reconciler.kinds.document import Path
from reconciler.kinds.finding import Finding
from reconciler.kinds.loader import Loaded, Remnant
from reconciler.kinds.marks import Marks, spell
from reconciler.kinds.model import Kind
from reconciler.kinds.rest import Rest


@dataclass(frozen=True)
class Located:
    """A manifest and where it stands; with marks its findings name the line of the field.

    With `rest` it is what is left of a document with faults: its paths are led back to those of the file.
    """

    kind: Kind
    path: str
    line: int
    column: int = 1
    marks: Marks | None = field(default=None, compare=False, repr=False)
    rest: Rest | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, loaded: Loaded) -> Located:
        """Take what the loader gave."""
        return cls(loaded.kind, loaded.path, loaded.line, loaded.column, loaded.marks)

    @classmethod
    def of_remnant(cls, remnant: Remnant) -> Located:
        """Take what the loader left of a document with faults."""
        kind = remnant.rest.kind
        return cls(
            kind, remnant.path, remnant.line, remnant.column, remnant.marks, rest=remnant.rest
        )

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
        if self.rest is not None:
            where = self.rest.original(where)
        if self.marks is not None and inside is not None:
            line, column = self.marks.inside(where, line=inside[0], column=inside[1])
        elif self.marks is not None:
            line, column = self.marks.place(where)
        return Finding(self.path, line, column, spell(where), message, severity, rule)

    def warning(self, where: Path, message: str, *, rule: str) -> Finding:
        """Make a finding that keeps nothing out of force."""
        return self.finding(where, message, rule=rule, severity="warning")
