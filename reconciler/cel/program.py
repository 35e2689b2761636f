"""A compiled expression, and the cache of them.

Results are copied into plain JSON, so that nothing that is made from one can change the activation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from reconciler.cel import moments, source
from reconciler.cel.compiler import Compiler, Node
from reconciler.cel.error import CelError, Interrupt
from reconciler.cel.result import known_type
from reconciler.cel.values import SIZE_MAX, Frame, TypeName, type_of

RESULT_DEPTH_MAX = 64


class Program:
    """An expression, ready to run any number of times, also from several threads."""

    def __init__(self, text: str, *, node: Node, result: str) -> None:
        self.source = text
        self.result = result
        """The type of its value where the text alone says so, else empty (`cel/result.py`)."""
        self._node = node

    def evaluate(self, activation: Mapping[str, Any]) -> Any:
        """Compute the value as plain JSON; timestamps and durations become strings.

        Raises:
            CelError: it has none, or took more than its budget (1,000,000 steps, 1 MiB).
        """
        frame = Frame(dict(activation))
        try:
            return _Plain().copy(self._node(frame))
        except Interrupt as error:
            line, column = error.place or (1, 1)
            raise CelError(error.message, line=line, column=column) from None
        except RecursionError:
            raise CelError("the expression or a value is nested too deeply") from None

    def test(self, activation: Mapping[str, Any]) -> bool:
        """Compute a condition.

        Raises:
            CelError: as `evaluate`, or the value is no boolean.
        """
        value = self.evaluate(activation)
        if not isinstance(value, bool):
            raise CelError(f"expected a boolean, the expression gave {type_of(value)}")
        return value


class _Plain:
    """Copies a value into plain JSON within the size limit, whatever is shared inside it."""

    def __init__(self) -> None:
        self._left = SIZE_MAX

    def copy(self, value: Any, *, depth: int = 0) -> Any:
        self._left -= 1
        if isinstance(value, str):
            self._left -= len(value)
        if self._left < 0 or depth > RESULT_DEPTH_MAX:
            bound = "large" if self._left < 0 else "deep"
            raise CelError(f"the result is too {bound} (at most {SIZE_MAX} characters and items)")
        match value:
            case dict():
                return {self._key(key): self.copy(v, depth=depth + 1) for key, v in value.items()}
            case list():
                return [self.copy(item, depth=depth + 1) for item in value]
            case datetime():
                return moments.write_timestamp(value)
            case timedelta():
                return moments.write_duration(value)
            case TypeName():
                raise CelError(f"the result holds the type {value.name}, which is no JSON value")
            case float() if not math.isfinite(value):
                raise CelError("the result holds a number that JSON does not have")
            case None | bool() | int() | float() | str():
                return value
        raise CelError(f"the result holds a {type(value).__name__}, which is no JSON value")

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise CelError("the result holds a map whose key is no string")
        self._left -= len(key)
        return key


def compile_expression(source: str, *, variables: Sequence[str] = ()) -> Program:
    """Compile an expression in which only `variables` are known. The same one is compiled once.

    Raises:
        CelError: it is no CEL, names something unknown, or passes a bound (5 KiB, nesting of 32, 2,000 parts,
            3 macros inside each other).
    """
    return _compile(source, tuple(variables))


@lru_cache(maxsize=4096)
def _compile(text: str, variables: tuple[str, ...]) -> Program:
    parsed = source.parse(text)
    node = Compiler(parsed, variables=variables).compile()
    return Program(text, node=node, result=known_type(parsed.tree, variables=frozenset(variables)))
