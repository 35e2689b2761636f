"""What a pass did, for people: one line for each thing, the worst last."""

from __future__ import annotations

import click

from reconciler.cli.output import size
from reconciler.daemon.captures import CaptureLine
from reconciler.daemon.reconcile import PassReport
from reconciler.daemon.restores import RestoreLine
from reconciler.source.adopt import HOLD_REMOVED

_MARKS = {
    "Succeeded": ("✔", "green"),
    "Partial": ("◐", "yellow"),
    "Failed": ("✗", "red"),
    "Changed": ("!", "yellow"),
}


def mark(phase: str) -> str:
    """A sign for a phase; the word beside it carries the meaning too."""
    sign, colour = _MARKS.get(phase, ("•", "cyan"))
    return click.style(sign, fg=colour)


def capture_text(line: CaptureLine) -> str:
    """`✔ shop  20261123T110000Z  Succeeded  31 objects  full 41.0 MiB  added 1.2 KiB`."""
    if line.phase == "Failed":
        return f"{mark('Failed')} {line.application.short}  {line.slot}  Failed  {line.message}"
    late = f"  (catches up {line.missed} missed)" if line.missed else ""
    return (
        f"{mark(line.phase)} {line.application.short:<8} {line.slot}  {line.phase:<9} "
        f"{line.objects:>4} objects  full {size(line.full_bytes):>9}  added {size(line.added_bytes):>9}{late}"
    )


def capture_hint(line: CaptureLine) -> str:
    """What to type when a capture was not whole."""
    if line.phase == "Failed":
        return "`reconciler doctor` looks for the cause; what is scheduled is tried again by itself"
    return f"`reconciler describe point/{line.application}/{line.slot}` names what is missing"


def restore_text(line: RestoreLine) -> str:
    """`✔ restore inc-4711 attempt 1  Succeeded  …`."""
    return f"{mark(line.phase)} restore {line.name} attempt {line.attempt}  {line.phase}  {line.message}"


def print_report(report: PassReport) -> None:
    """Print what a pass did on stdout, and its problems on stderr."""
    for adoption in report.adoptions:
        state = f"{len(adoption.manifests)} manifests in force"
        revision = (adoption.revision or "nothing")[:10]
        click.echo(
            f"{click.style('►', fg='cyan')} source {adoption.settings.name} at {revision}: {state}"
        )
    for line in report.restored:
        click.echo(restore_text(line))
        if line.hint:
            click.echo(f"  next: {line.hint}", err=True)
    for captured in report.captured:
        click.echo(capture_text(captured))
        if captured.phase != "Succeeded":
            click.echo(f"  next: {capture_hint(captured)}", err=True)
    if report.retirement is not None and report.retirement.points:
        click.echo(f"{click.style('►', fg='cyan')} retired {len(report.retirement.points)} points")
    waiting = f"{report.pending} commits wait to be pushed" if report.pending else "all is pushed"
    click.echo(f"{click.style('►', fg='cyan')} ledger: {waiting}")
    for finding in report.desired.findings:
        click.echo(str(finding), err=True)
    if any(finding.rule != HOLD_REMOVED for finding in report.desired.findings):
        click.echo("  next: mend these files; `reconciler lint` checks them", err=True)
    for kept in report.desired.kept:
        click.echo(f"{click.style('!', fg='yellow')} {kept}", err=True)
    for note in report.notes:
        click.echo(f"{click.style('!', fg='yellow')} {note}", err=True)
    for problem in report.problems:
        click.echo(f"{click.style('✗', fg='red')} {problem.where}: {problem.message}", err=True)
        if problem.hint:
            click.echo(f"  next: {problem.hint}", err=True)
