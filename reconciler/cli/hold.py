"""`reconciler hold POINT --reason …`: print the manifest; merging it is what holds the point."""

from __future__ import annotations

from datetime import datetime

import click

from reconciler.clock import format_instant, parse_instant


@click.command("hold")
@click.argument("point")
@click.option("--reason", required=True, help="Why it must be kept.")
@click.option("--owner", required=True, help="Who asks for it.")
@click.option("--until", help="When the hold ends by itself (RFC 3339).")
@click.option("--name", help="Name of the manifest.")
@click.pass_context
def command(
    ctx: click.Context, point: str, reason: str, owner: str, until: str | None, name: str | None
) -> int:
    """Print the Hold manifest that keeps POINT. Commit it to the policy repository to put it in force."""
    from reconciler.cli.arguments import as_manifest
    from reconciler.cli.compose import parts_of
    from reconciler.cli.points import find_record, parse_point
    from reconciler.errors import UsageError
    from reconciler.kinds.model import API_VERSION
    from reconciler.kinds.request import Hold
    from reconciler.kinds.writer import to_yaml

    parts = parts_of(ctx)
    parts.refresh()
    record = find_record(parts.ledger.view(), parse_point(point))
    end: datetime | None = None
    if until is not None:
        try:
            end = parse_instant(until)
        except ValueError as error:
            raise UsageError(
                f"read --until: {error}", hint="for example 2027-01-31T00:00:00Z"
            ) from error
    slug = record.spec.application.replace("/_", "").replace("/", "-").replace("_", "-")
    manifest = as_manifest(
        Hold,
        {
            "apiVersion": API_VERSION,
            "kind": "Hold",
            "metadata": {"name": name or f"{slug}-{record.spec.slot}".lower()},
            "spec": {
                "cluster": record.spec.cluster,
                "application": record.spec.application,
                "slot": record.spec.slot,
                "reason": reason,
                "owner": owner,
                **({"until": format_instant(end)} if end else {}),
            },
        },
        verb="hold",
    )
    click.echo(to_yaml(manifest), nl=False)
    click.echo("next: commit this under holds/ of the policy repository and push it", err=True)
    return 0
