"""`reconciler lint [PATH]`: every fault of a policy repository at once, each with its place."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli.output import CLI_VERSION


@click.command("lint")
@click.argument("path", type=click.Path(exists=True, path_type=Path), default=".")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option("--strict", is_flag=True, help="Warnings count as faults.")
def command(path: Path, output: str, strict: bool) -> int:
    """Check the policies under PATH: syntax, fields, references, expressions, guardrails.

    Ends with 1 when there are faults. Needs no cluster and no configuration.
    """
    from reconciler.source.tree import load_directory

    manifests, findings = load_directory(path)
    errors = [finding for finding in findings if finding.severity == "error"]
    if output == "json":
        click.echo(
            json.dumps(
                {
                    "apiVersion": CLI_VERSION,
                    "kind": "FindingList",
                    "manifests": len(manifests),
                    "items": [
                        {
                            "path": finding.path,
                            "line": finding.line,
                            "column": finding.column,
                            "field": finding.field,
                            "message": finding.message,
                            "severity": finding.severity,
                            "rule": finding.rule,
                        }
                        for finding in findings
                    ],
                },
                indent=2,
            )
        )
    else:
        for finding in findings:
            word = click.style(
                finding.severity, fg="red" if finding.severity == "error" else "yellow"
            )
            click.echo(f"{finding} [{word} {finding.rule}]")
        warnings = len(findings) - len(errors)
        click.echo(
            f"{len(manifests)} manifests, {len(errors)} errors, {warnings} warnings", err=True
        )
        if errors:
            click.echo("next: mend the lines above and run `reconciler lint` again", err=True)
    return 1 if errors or (strict and findings) else 0
