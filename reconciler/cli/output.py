"""How data leaves the command line: tables for people, JSON and YAML for programs.

stdout carries data only. JSON and YAML are lists under `items` with an `apiVersion` of their own; fields are
only ever added. Colour never carries meaning alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

CLI_VERSION = "cli.reconciler.dev/v1"
FORMS = ("table", "wide", "json", "yaml", "name")

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(FORMS),
    default="table",
    show_default=True,
    help="Form of the output.",
)


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, how to read it off an item, and whether only `wide` shows it."""

    title: str
    value: Callable[[Mapping[str, Any]], str]
    wide: bool = False
    right: bool = False


def show(
    items: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    *,
    form: str,
    kind: str,
    empty: str,
    summary: str = "",
) -> None:
    """Print items in the form asked for."""
    match form:
        case "json":
            click.echo(
                json.dumps(
                    {"apiVersion": CLI_VERSION, "kind": kind, "items": list(items)}, indent=2
                )
            )
        case "yaml":
            click.echo(
                to_yaml({"apiVersion": CLI_VERSION, "kind": kind, "items": list(items)}), nl=False
            )
        case "name":
            for item in items:
                click.echo(item["name"])
        case _:
            if not items:
                click.echo(empty, err=True)
                return
            table([c for c in columns if form == "wide" or not c.wide], items)
            if summary:
                click.echo(summary, err=True)


def table(columns: Sequence[Column], items: Sequence[Mapping[str, Any]]) -> None:
    """Print a table as kubectl does: capitals above, three spaces between, no lines."""
    rows = [[column.value(item) for column in columns] for item in items]
    widths = [
        max([len(column.title), *(len(row[i]) for row in rows)]) for i, column in enumerate(columns)
    ]
    for cells in [[column.title for column in columns], *rows]:
        line = "   ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        )
        click.echo(line.rstrip())


def to_yaml(value: Any) -> str:
    """Plain data as YAML that readers of YAML 1.1 understand too."""
    from reconciler.kinds.writer import to_yaml as write

    return write(value)


def counted(count: int, noun: str) -> str:
    """`1 object`, `2 objects`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size(count: int) -> str:
    """Bytes for people: `3.4 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def age(seconds: float) -> str:
    """A span for people: `12m`, `3h`, `2d`."""
    left = int(abs(seconds))
    if left < 120:
        return f"{left}s"
    if left < 7200:
        return f"{left // 60}m"
    if left < 172_800:
        return f"{left // 3600}h"
    return f"{left // 86400}d"


def is_interactive() -> bool:
    """Whether progress bars and colours make sense on stderr."""
    return sys.stderr.isatty() and not os.environ.get("CI") and not os.environ.get("NO_COLOR")
