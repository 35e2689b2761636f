"""`reconciler capture NAMESPACE[/APP]`: now, outside the schedule."""

from __future__ import annotations

import click

from reconciler.cli.options import context_option
from reconciler.errors import TransientError, UsageError


@click.command("capture")
@click.argument("application", metavar="NAMESPACE[/APP]")
@context_option
@click.pass_context
def command(ctx: click.Context, application: str) -> int:
    """Capture an application now, with the policy that covers it, into the policy's locations.

    The point is marked as manual: it counts neither for the calendar nor for the retention buckets. Ends
    with 3 when the point is partial, 6 when there is none.
    """
    from reconciler.cli.arguments import parse_application
    from reconciler.cli.compose import parts_of
    from reconciler.cli.passes import capture_hint, capture_text
    from reconciler.clock import format_slot
    from reconciler.daemon.captures import Capturing
    from reconciler.daemon.daemon import stop_on_signals
    from reconciler.daemon.due import DueCapture
    from reconciler.daemon.survey import survey

    wanted = parse_application(application)
    parts = parts_of(ctx)
    desired = parts.desired()
    with stop_on_signals() as stop:
        found = survey(
            parts.connect(),
            desired=desired,
            settings=parts.settings,
            view=parts.ledger.view(),
            clock=parts.clock,
            stop=stop,
        )
        policy = found.coverage.policy_of(wanted)
        if policy is None and not desired.locations:
            raise UsageError(
                f"capture {wanted}: no policy covers it and no Location is known",
                hint="see `reconciler get apps`",
            )
        if policy is None:
            click.echo(
                f"no policy covers {wanted}; capturing all of it into every location", err=True
            )
        work = Capturing(
            survey=found,
            desired=desired,
            settings=parts.settings,
            ledger=parts.ledger,
            locations=parts.locations,
            clock=parts.clock,
            stop=stop,
        )
        slot = format_slot(parts.clock.now())
        due = DueCapture(
            application=wanted, policy=policy, slot=slot, missed=0, attempt=1, manual=True
        )
        lines = work.capture_all([due])
    for line in lines:
        click.echo(capture_text(line))
        if line.message and line.phase != "Failed":
            click.echo(f"  {line.message}", err=True)
        if line.phase != "Succeeded":
            click.echo(f"  next: {capture_hint(line)}", err=True)
    if not lines:
        return 130
    try:
        parts.ledger.push()
    except TransientError as error:
        click.echo(
            f"warning: {error.message}; the record is kept and pushed by the next pass", err=True
        )
    return {"Succeeded": 0, "Partial": 3}.get(lines[0].phase) or lines[0].exit_code
