"""The families of expected error, and the exit code that each one ends a command with.

    ReconcilerError                 expected: has a message, a hint, an exit code
    ├── TerminalError               trying again cannot help                         6
    │   ├── UsageError              the request itself is wrong                      2
    │   ├── FindingsError           the files have faults                            1
    │   ├── RefusedError            a guard says no                                  4
    │   ├── LocationMissingError    the location is absent, unreachable or not ready 10
    │   ├── LostRaceError           somebody else was first, after retries           11
    │   └── KeyRejectedError        a key or credential is wrong                     12
    └── TransientError              may pass when tried again                        7

Leaf classes live beside the code that raises them. A finding (a guardrail not met, an object skipped)
is data and never an exception; a bug is an assertion.
"""

from __future__ import annotations


class ReconcilerError(Exception):
    """An expected failure: `message` reads `verb object: cause`, `hint` says what to do next."""

    exit_code = 6

    def __init__(self, message: str, *, hint: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.reason = reason or type(self).__name__.removesuffix("Error")
        """A CamelCase word for outcomes and metrics."""


class TerminalError(ReconcilerError):
    """Trying the same thing again cannot help."""


class TransientError(ReconcilerError):
    """The same thing may work when tried again."""

    exit_code = 7


class UsageError(TerminalError):
    """What was asked for makes no sense."""

    exit_code = 2


class FindingsError(TerminalError):
    """Files have faults; the message lists them."""

    exit_code = 1


class RefusedError(TerminalError):
    """A guard refused: limits, drift, a hold, an expired request."""

    exit_code = 4


class LocationMissingError(TerminalError):
    """A location is missing, cannot be reached, or was never made ready."""

    exit_code = 10


class LostRaceError(TerminalError):
    """Another writer was first, and stayed first after every retry."""

    exit_code = 11


class KeyRejectedError(TerminalError):
    """A passphrase, key or credential does not open what it should."""

    exit_code = 12
