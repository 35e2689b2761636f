"""`reconciler schema [KIND]`: JSON Schema draft-07, for editors and other checkers."""

from __future__ import annotations

import json

import click

from reconciler.errors import UsageError


@click.command("schema")
@click.argument("kind", required=False)
def command(kind: str | None) -> None:
    """Print the JSON Schema of KIND, or of every kind in one.

    Put `# yaml-language-server: $schema=FILE` on the first line of a manifest to use it in an editor.
    """
    from reconciler.kinds.registry import DECLARATIVE
    from reconciler.kinds.schema import combined_schema, json_schema

    if kind is None:
        click.echo(json.dumps(combined_schema(), indent=2))
        return
    names = {name.lower(): name for name in DECLARATIVE}
    if kind.lower() not in names:
        raise UsageError(
            f"print schema: there is no kind {kind}", hint=f"one of {', '.join(DECLARATIVE)}"
        )
    click.echo(json.dumps(json_schema(names[kind.lower()]), indent=2))
