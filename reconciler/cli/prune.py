"""`reconciler prune [--dry-run]`: delete retired roots and free content that nothing refers to."""

from __future__ import annotations

import click

from reconciler.cli.options import context_option
from reconciler.cli.output import size


@click.command("prune")
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@context_option
@click.pass_context
def command(ctx: click.Context, dry_run: bool) -> int:
    """Free content in every location: only points that a record retired, that no hold keeps, and that are old
    enough (`prune.minAge` and `prune.grace` of the configuration, by the store's clock).
    """
    from reconciler.cli.compose import parts_of
    from reconciler.daemon.prune import prune

    parts = parts_of(ctx)
    desired = parts.desired()
    done = prune(
        desired,
        settings=parts.settings,
        domain=parts.connect().uid(),
        ledger=parts.ledger,
        locations=parts.locations,
        clock=parts.clock,
        dry_run=dry_run,
    )
    for entry in done:
        if entry.report is None:
            click.echo(f"{entry.location}: would delete {entry.plan.describe()}")
        else:
            report = entry.report
            click.echo(
                f"{entry.location}: {report.points_deleted} points and {report.packs_deleted} packs deleted, "
                f"{size(report.freed_bytes)} freed"
            )
    if not dry_run:
        parts.ledger.push()
    return 0
