"""`reconciler cel`: what an expression gives for an object, and why."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.output import CLI_VERSION, Column, counted, table, to_yaml
from reconciler.errors import TerminalError, UsageError

if TYPE_CHECKING:
    from reconciler.cel.explain import Explanation, Step

_WIDTH = 60
_file = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="A manifest that becomes `object`; one after the other, `-` is the standard input.",
)
_variable = click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="NAME=YAML",
    help="A further variable, such as params='{namespace: shop}'.",
)


@click.group("cel")
def command() -> None:
    """Try an expression on an object: its value, or every step on the way to it.

    Needs no cluster and no configuration.
    """


@command.command("eval")
@click.argument("expression")
@_file
@_variable
@click.option(
    "-o", "--output", type=click.Choice(["json", "yaml"]), default="json", show_default=True
)
def evaluate(
    expression: str, files: tuple[str, ...], variables: tuple[str, ...], output: str
) -> int:
    """Print the value of EXPRESSION, once for each object."""
    from reconciler.cel import CelError, compile_expression

    activations = _activations(files, variables)
    try:
        program = compile_expression(expression, variables=tuple(activations[0][1]))
    except CelError as error:
        raise _refused(error) from error
    for where, activation in activations:
        try:
            value = program.evaluate(activation)
        except CelError as error:
            raise TerminalError(
                f"evaluate expression{where}: {error}",
                hint="`reconciler cel explain` with the same arguments shows each step",
            ) from error
        if output == "yaml":
            click.echo("---" if len(activations) > 1 else "", nl=len(activations) > 1)
            click.echo(to_yaml(value), nl=False)
        else:
            click.echo(json.dumps(value, ensure_ascii=False))
    return 0


@command.command("explain")
@click.argument("expression")
@_file
@_variable
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def explain(
    expression: str, files: tuple[str, ...], variables: tuple[str, ...], output: str
) -> int:
    """Print what every part of EXPRESSION gave, how often it ran, its cost, and the place of a failure.

    Ends with 6 when the expression has no value for an object.
    """
    from reconciler.cel import CelError
    from reconciler.cel.explain import explain as watch
    from reconciler.cel.scope import Environment

    code = 0
    for where, activation in _activations(files, variables):
        try:
            found = watch(expression, Environment.of(tuple(activation)), activation)
        except CelError as error:
            raise _refused(error) from error
        if output == "json":
            click.echo(json.dumps(_document(found), ensure_ascii=False, indent=2))
        else:
            _show(found, where)
        code = code if found.error is None else TerminalError.exit_code
    return code


def _refused(error: Any) -> UsageError:
    return UsageError(f"compile expression: {error}", hint="the place is line:column of it")


def _activations(
    files: tuple[str, ...], variables: tuple[str, ...]
) -> list[tuple[str, dict[str, Any]]]:
    """The variables for each object, with the words that say which."""
    given: dict[str, Any] = {}
    for one in variables:
        name, mark, text = one.partition("=")
        if not mark or not name.isidentifier():
            raise UsageError(f"read --var {one!r}: no NAME=YAML", hint="for example --var 'n=3'")
        given[name] = _documents(text, f"--var {name}")[0]
    if not files:
        return [("", given)]
    objects = []
    for path in files:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        found = _documents(text, path)
        objects += [
            (f" for {path}" + (f" (document {n})" if len(found) > 1 else ""), one)
            for n, one in enumerate(found, start=1)
        ]
    return [(where, {"object": one, **given}) for where, one in objects]


def _documents(text: str, where: str) -> list[Any]:
    from reconciler.kinds.document import read_documents

    documents = read_documents(text)
    for document in documents:
        for fault in document.faults:
            raise UsageError(
                f"read {where}: {fault.line}:{fault.column}: {fault.message}",
                hint="it must be YAML or JSON",
            )
    values = [document.root.value for document in documents if document.root is not None]
    if not values:
        raise UsageError(f"read {where}: it is empty", hint="it must be YAML or JSON")
    return values


def _document(found: Explanation) -> dict[str, Any]:
    from reconciler.cel import written

    return {
        "apiVersion": CLI_VERSION,
        "kind": "CelExplanation",
        "value": None if found.error else written.value(found.value),
        "error": str(found.error) if found.error else None,
        "cost": found.cost,
        "items": [
            {
                "text": step.text,
                "line": step.line,
                "column": step.column,
                "depth": step.depth,
                "type": step.kind,
                "times": step.times,
                "cost": step.cost,
                "values": step.values,
                "errors": step.errors,
            }
            for step in found.steps
        ],
    }


def _outcome(step: Step) -> str:
    from reconciler.cel.written import cut

    if step.times == 0:
        return "(not reached)"
    parts = [*step.values, *(f"failed: {one}" for one in step.errors)]
    return cut(" | ".join(parts), _WIDTH)


def _show(found: Explanation, where: str) -> None:
    from reconciler.cel import written

    rows = [
        {
            "text": "  " * step.depth + written.cut(step.text, max(20, _WIDTH - 2 * step.depth)),
            "place": f"{step.line}:{step.column}",
            "outcome": _outcome(step),
            "times": str(step.times),
            "cost": str(step.cost),
        }
        for step in found.steps
    ]
    table(
        [
            Column("EXPRESSION", lambda row: row["text"]),
            Column("AT", lambda row: row["place"]),
            Column("VALUE", lambda row: row["outcome"]),
            Column("TIMES", lambda row: row["times"], right=True),
            Column("COST", lambda row: row["cost"], right=True),
        ],
        rows,
    )
    ended = f"failed at {found.error}" if found.error else f"gave {written.value(found.value)}"
    click.echo(written.cut(f"the expression{where} {ended}", 400), err=True)
    click.echo(f"it cost {counted(found.cost, 'unit')} of 1000000", err=True)
