"""What every part of an expression gave, how often it was run, what it cost, and where it failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.cel import source, syntax, written
from reconciler.cel.compiler import Compiler
from reconciler.cel.error import CelError, Interrupt
from reconciler.cel.program import Program
from reconciler.cel.scope import Environment

VALUES_MAX = 3
"""So many different values of a part inside a loop are kept."""


@dataclass(slots=True)
class Step:
    """One part: its text and place, how deep it is, and what came of it.

    `values` are written out, the first few different ones; `cost` includes the parts inside.
    """

    text: str
    line: int
    column: int
    depth: int
    kind: str
    times: int = 0
    cost: int = 0
    values: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The steps in the order of the text, the outermost first; the value, or why there is none."""

    steps: list[Step]
    cost: int
    value: Any
    error: CelError | None


def explain(text: str, environment: Environment, activation: Mapping[str, Any]) -> Explanation:
    """Evaluate an expression and watch every part.

    Raises:
        CelError: it does not compile.
    """
    compiler = Compiler(text, environment, watch=True)
    tree = source.parse(text)
    part = compiler.part(tree)
    program = Program(text, part=part, slots=compiler.scope.slots)
    numbers = {id(node): number for number, node in enumerate(compiler.nodes)}
    steps = {
        number: _step(compiler, number, node, depth)
        for node, depth in _walk(tree)
        if (number := numbers.get(id(node))) is not None
    }
    frame = program.frame(activation)
    before = frame.left

    def note(number: int, cost: int, outcome: Any) -> None:
        if number in steps:
            _note(steps[number], cost, outcome)

    frame.trace = note
    value, error = None, None
    try:
        value = part.run(frame)
    except Interrupt as stopped:
        line, column = stopped.place or (1, 1)
        error = CelError(stopped.message, line=line, column=column)
    except CelError as stopped:
        error = stopped
    except RecursionError:
        error = CelError("the expression or a value is nested too deeply")
    return Explanation(list(steps.values()), before - frame.left, value, error)


def _step(compiler: Compiler, number: int, node: syntax.Node, depth: int) -> Step:
    line, column = compiler.place(node)
    return Step(written.expression(node), line, column, depth, compiler.kinds[number])


def _walk(node: syntax.Node, depth: int = 0) -> Iterator[tuple[syntax.Node, int]]:
    """Every part that has something to tell, from the outside; literals speak for themselves."""
    is_literal = isinstance(node, syntax.Literal)
    if not is_literal:
        yield node, depth
    for part in syntax.children(node):
        yield from _walk(part, depth + 1)


def _note(step: Step, cost: int, outcome: Any) -> None:
    step.times += 1
    step.cost += cost
    if isinstance(outcome, Interrupt):
        if len(step.errors) < VALUES_MAX and outcome.message not in step.errors:
            step.errors.append(outcome.message)
    elif len(step.values) < VALUES_MAX:
        text = written.cut(written.value(outcome), 200)
        if text not in step.values:
            step.values.append(text)
