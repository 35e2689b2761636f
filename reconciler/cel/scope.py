"""The names that an expression can see: variables of the activation, and what macros bind.

Names are resolved by cel-spec's langdef ("Name Resolution"): what a macro binds comes first, then in a container
`a.b` the name `x` may be `a.b.x`, `a.x` or `x`; a name with a leading dot is taken as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reconciler.cel.types import DYN, Type


@dataclass(frozen=True, slots=True)
class Environment:
    """What an expression is compiled against.

    `variables` with their types, the `container` for short names, whether types are checked, and the `kinds` of
    typed literals (`Object`, `JSONPatch`) with their fields; None: any field.
    """

    variables: Mapping[str, Type]
    container: str = ""
    checks: bool = True
    extra: tuple[Any, ...] = ()
    messages: Mapping[str, tuple[str, ...] | None] = field(
        default_factory=lambda: {"Object": None, "JSONPatch": ("op", "path", "from", "value")}
    )

    @classmethod
    def of(cls, variables: Sequence[str]) -> Environment:
        """Variables of which nothing is known."""
        return cls(variables=dict.fromkeys(variables, DYN))

    def candidates(self, name: str) -> Iterator[str]:
        """What a name may stand for, the nearest first."""
        if name.startswith("."):
            yield name[1:]
            return
        container = self.container
        while container:
            yield f"{container}.{name}"
            container = container.rpartition(".")[0]
        yield name


@dataclass(frozen=True, slots=True)
class Bound:
    """What a macro binds: the slot of the frame, and its type."""

    slot: int
    kind: Type


class Scope:
    """The names bound at a place of the expression."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.slots = 0
        self._bound: dict[str, list[Bound]] = {}

    @contextmanager
    def binding(self, names: Mapping[str, Type]) -> Iterator[list[int]]:
        """Bind names for the parts compiled inside; gives their slots."""
        slots = []
        for name, kind in names.items():
            self._bound.setdefault(name, []).append(Bound(self.slots, kind))
            slots.append(self.slots)
            self.slots += 1
        yield slots
        for name in names:
            self._bound[name].pop()

    def bound(self, name: str) -> Bound | None:
        """What a macro binds a name to here."""
        stack = self._bound.get(name)
        return stack[-1] if stack else None

    def variable(self, name: str) -> str | None:
        """The variable of the activation that a name stands for."""
        variables = self.environment.variables
        return next((one for one in self.environment.candidates(name) if one in variables), None)

    def known(self) -> list[str]:
        """Every name that can be written here."""
        return sorted({*self.environment.variables, *(n for n, s in self._bound.items() if s)})


def suggest(name: str, known: Iterable[str], *, none: str = "") -> str:
    """What may have been meant, else what there is; `none` when there is nothing."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return none
