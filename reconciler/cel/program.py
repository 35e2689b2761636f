"""A compiled expression, and the cache of them.

Results are copied into plain JSON, so that nothing that is made from one can change the activation.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from reconciler.cel import moments, source
from reconciler.cel.compiler import ARITHMETIC, Compiler
from reconciler.cel.error import CelError, Interrupt
from reconciler.cel.moments import Duration, Timestamp
from reconciler.cel.part import Part
from reconciler.cel.scope import Environment
from reconciler.cel.types import Type, closed
from reconciler.cel.values import (
    SIZE_MAX,
    BoolKeys,
    Foreign,
    Frame,
    Optional,
    TypeName,
    adopted,
    shown_type,
)

RESULT_DEPTH_MAX = 64
UNSURE = "the result of arithmetic"
"""What `Program.result` is where only running tells whether it is a number, text, a list, an instant or a span."""


class Program:
    """An expression, ready to run any number of times, also from several threads."""

    def __init__(self, text: str, *, part: Part, slots: int) -> None:
        self.source = text
        self.kind: Type = closed(part.kind)
        self._run = part.run
        self._slots = slots

    @property
    def result(self) -> str:
        """The type of its value where the text alone says so, else empty."""
        if self.kind == closed(ARITHMETIC):
            return UNSURE
        return "" if self.kind.name == "dyn" else self.kind.name

    def value(self, activation: Mapping[str, Any]) -> Any:
        """Compute the value as the language has it (`cel/values.py`).

        Raises:
            CelError: it has none, or took more than its budget.
        """
        frame = self.frame(activation)
        try:
            return self._run(frame)
        except Interrupt as error:
            line, column = error.place or (1, 1)
            raise CelError(error.message, line=line, column=column) from None
        except RecursionError:
            raise CelError("the expression or a value is nested too deeply") from None

    def frame(self, activation: Mapping[str, Any]) -> Frame:
        """A new evaluation."""
        return Frame(adopted(activation), slots=self._slots)

    def evaluate(self, activation: Mapping[str, Any]) -> Any:
        """Compute the value as plain JSON; timestamps and durations become strings, bytes base64.

        Raises:
            CelError: it has none, or took more than its budget (1,000,000 units, 1 MiB, 5 seconds).
        """
        return plain(self.value(activation))

    def test(self, activation: Mapping[str, Any]) -> bool:
        """Compute a condition.

        Raises:
            CelError: as `evaluate`, or the value is no boolean.
        """
        value = self.value(activation)
        if not isinstance(value, bool):
            raise CelError(f"expected a boolean, the expression gave {shown_type(value)}")
        return value


def plain(value: Any) -> Any:
    """A value as plain JSON, copied.

    Raises:
        CelError: it is none, or too large.
    """
    if value is True or value is False or value is None:
        return value
    try:
        return _Plain().copy(value)
    except RecursionError:
        raise CelError("the expression or a value is nested too deeply") from None


class _Plain:
    """Copies a value into plain JSON within the size limit, whatever is shared inside it."""

    def __init__(self) -> None:
        self._left = SIZE_MAX

    def copy(self, value: Any, *, depth: int = 0) -> Any:
        self._left -= 1
        if isinstance(value, (str, bytes)):
            self._left -= len(value)
        if self._left < 0 or depth > RESULT_DEPTH_MAX:
            bound = "large" if self._left < 0 else "deep"
            raise CelError(f"the result is too {bound} (at most {SIZE_MAX} characters and items)")
        match value:
            case BoolKeys():
                raise CelError("the result holds a map whose key is no string")
            case dict():
                return {self._key(key): self.copy(v, depth=depth + 1) for key, v in value.items()}
            case list():
                return [self.copy(item, depth=depth + 1) for item in value]
            case Timestamp():
                return moments.write_timestamp(value)
            case Duration():
                return moments.write_duration(value)
            case bytes():
                return base64.b64encode(value).decode()
            case TypeName():
                raise CelError(f"the result holds the type {value.name}, which is no JSON value")
            case Optional():
                raise CelError("the result holds an optional; end it with orValue(…) or value()")
            case Foreign():
                raise CelError(f"the result holds a {value.cel_type}, which is no JSON value")
            case float() if not math.isfinite(value):
                raise CelError("the result holds a number that JSON does not have")
            case None | bool() | float() | str():
                return value
            case int():
                return int(value)
        raise CelError(f"the result holds a {type(value).__name__}, which is no JSON value")

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise CelError("the result holds a map whose key is no string")
        self._left -= len(key)
        return key


def compile_expression(source: str, *, variables: Sequence[str] = ()) -> Program:
    """Compile an expression in which only `variables` are known. The same one is compiled once.

    Raises:
        CelError: it is no CEL, names something unknown, has a type that cannot be right, or passes a bound (5 KiB,
            64 levels, 2,000 parts, 3 macros inside each other).
    """
    return _compile(source, tuple(variables))


@lru_cache(maxsize=4096)
def _compile(text: str, variables: tuple[str, ...]) -> Program:
    return build(text, Environment.of(variables))


def build(text: str, environment: Environment) -> Program:
    """Compile an expression in an environment, without the cache.

    Raises:
        CelError: as `compile_expression`.
    """
    compiler = Compiler(text, environment)
    part = compiler.part(source.parse(text))
    return Program(text, part=part, slots=compiler.scope.slots)
