"""A compiled node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reconciler.cel.error import Interrupt
from reconciler.cel.types import Type
from reconciler.cel.values import Frame

Run = Callable[[Frame], Any]
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of a node's type, and how its value comes about."""

    kind: Type
    run: Run
    constant: Any = Ellipsis
    """The value of a literal; Ellipsis for everything else."""

    @property
    def is_constant(self) -> bool:
        """Whether the node is a literal."""
        return self.constant is not Ellipsis


def placed(place: Place, run: Run) -> Run:
    """Give what `run` raises a place, unless it has one already."""

    def guarded(frame: Frame) -> Any:
        try:
            return run(frame)
        except Interrupt as error:
            if error.place is None:
                error.place = place
            raise

    return guarded
