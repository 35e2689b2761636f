"""What goes wrong with an expression.

    CelError          what callers see: terminal, with the place in the source
    Fault             inside: a value that could not be made; `&&`, `||`, `all` and `exists` may absorb it
    Stop              inside: the budget is spent, or a condition is no boolean; nothing absorbs it

Messages name keys, functions and types, never values: an activation may hold Secrets.
"""

from __future__ import annotations

from reconciler.errors import TerminalError

MESSAGE_MAX = 400


class CelError(TerminalError):
    """An expression cannot be compiled, or gave no usable value. `line` and `column` count from 1."""

    def __init__(self, message: str, *, line: int = 1, column: int = 1, hint: str = "") -> None:
        super().__init__(message[:MESSAGE_MAX], hint=hint)
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}"


class Interrupt(Exception):  # noqa: N818  the two leaves are what is raised
    """Ends the evaluation of a part; carries the place once a node has put it there."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.place: tuple[int, int] | None = None


class Fault(Interrupt):
    """A value that could not be made: a missing key, an index out of range, no such overload."""


class Stop(Interrupt):
    """The end of the whole evaluation."""
