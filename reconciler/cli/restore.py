"""`reconciler restore plan|run|new`: look first, ask by pull request, or act now with a reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import files
from reconciler.cli.arguments import EXIT_CODES, check_namespace
from reconciler.cli.options import context_option
from reconciler.cli.output import CLI_VERSION
from reconciler.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts
    from reconciler.kinds.record import Aftermath
    from reconciler.restore.execute.once import RestoreResult, RestoreRunner
    from reconciler.restore.plan.entry import Plan
    from reconciler.restore.plan.request import RestoreRequest


def read_target(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Read `--to`.

    Raises:
        UsageError: it can be the name of no namespace.
    """
    if value is not None:
        check_namespace(value, option="--to")
    return value


def read_span(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    """Read a span of time.

    Raises:
        UsageError: it is none.
    """
    from reconciler.kinds.model import parse_span

    if value is None:
        return None
    try:
        return parse_span(value)
    except ValueError as error:
        raise UsageError(f"read {value}: expected a span such as 90s or 2m") from error


def read_paused(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> list[dict[str, str]]:
    """Read `--pause`.

    Raises:
        UsageError: it names no Deployment or StatefulSet with its namespace.
    """
    found = []
    for value in values:
        kind, _, place = value.partition("/")
        namespace, _, name = place.partition("/")
        kinds = {one.lower(): one for one in ("Deployment", "StatefulSet")}
        known = kinds.get(kind.lower().removesuffix(".apps"))
        if known is None or not namespace or not name or "/" in name:
            raise UsageError(
                f"read --pause {value}: expected Deployment/NAMESPACE/NAME or StatefulSet/NAMESPACE/NAME"
            )
        found.append({"kind": known, "namespace": namespace, "name": name})
    return found


def request_options(function: Any) -> Any:
    """Options that make a request of a POINT."""
    for option in reversed(
        [
            click.option(
                "--to",
                "to_namespace",
                metavar="NAMESPACE",
                callback=read_target,
                help="Into another namespace.",
            ),
            click.option(
                "--from-cluster", metavar="NAME", help="The cluster that the point is of."
            ),
            click.option(
                "--on-conflict",
                type=click.Choice(["skip", "update", "recreate", "fail"]),
                default="fail",
                show_default=True,
                help="What happens to objects that exist and differ.",
            ),
            click.option(
                "--recreate",
                multiple=True,
                metavar="KIND[.GROUP]/NAME",
                help="Delete this object and create it again if it differs, with all that goes with it; repeatable.",
            ),
            click.option(
                "--pause",
                multiple=True,
                metavar="KIND/NAMESPACE/NAME",
                callback=read_paused,
                help="Scale this Deployment or StatefulSet to zero while the restore goes on; repeatable.",
            ),
            click.option(
                "--transform", "transforms", multiple=True, help="A TransformSet; repeatable."
            ),
            click.option(
                "--content", "contents", multiple=True, help="Only this content; repeatable."
            ),
        ]
    ):
        function = option(function)
    return function


source_option = click.option(
    "--source",
    metavar="NAME",
    help="The source that FILE belongs to [default: found by its manifest or checkout].",
)


@click.group("restore")
def command() -> None:
    """Plan, request or run a restore."""


command.add_command(files.command)


@command.command("plan")
@click.argument("what", metavar="POINT|FILE")
@source_option
@request_options
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option(
    "--location",
    "url",
    metavar="URL",
    help="Plan from a location alone, without Git, as --break-glass runs.",
)
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--details", is_flag=True, help="Show objects that are unchanged too.")
@click.option(
    "--exit-code",
    is_flag=True,
    help="End with 1 when something would be changed, or is blocked.",
)
@context_option
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    what: str,
    source: str | None,
    output: str,
    url: str | None,
    passphrase_file: Path | None,
    details: bool,
    exit_code: bool,
    **options: Any,
) -> int:
    """Show what restoring POINT, or the Restore in FILE, would do to the cluster now. Changes nothing.

    Ends with 4 when `restore run` would refuse it.
    """
    from reconciler.cli.compose import parts_of, parts_without_git
    from reconciler.cli.plantext import plan_text
    from reconciler.cli.requests import is_file, request_of_file, request_of_point

    if url is not None:
        from reconciler.cli.breakglass import break_glass_plan

        made = break_glass_plan(
            parts_without_git(ctx), what, url=url, passphrase_file=passphrase_file, options=options
        )
    elif is_file(what):
        parts = parts_of(ctx)
        made = plan_of(parts, request_of_file(parts, Path(what), source=source))
    else:
        parts = parts_of(ctx)
        asked = request_of_point(parts, what, reason="plan", attempt=1, options=options)
        made = plan_of(parts, asked)
    if output == "json":
        click.echo(
            json.dumps({"apiVersion": CLI_VERSION, "kind": "Plan", **made.to_json()}, indent=2)
        )
    else:
        click.echo(plan_text(made, details=details))
    if made.refusals:
        click.echo("next: change what is refused above; nothing of this plan is run", err=True)
        return RefusedError.exit_code
    verdicts = {*(one.verdict for one in made.entries), *(one.verdict for one in made.contents)}
    return int(exit_code and bool(verdicts - {"unchanged", "skip"}))


@command.command("new")
@click.argument("point")
@click.option("--reason", required=True, help="Why; it is part of the audit trail.")
@click.option("--name", help="Name of the manifest.")
@click.option("--namespace", help="Make it a tenant's request, confined to this namespace.")
@request_options
@click.pass_context
def new(
    ctx: click.Context,
    /,
    point: str,
    reason: str,
    name: str | None,
    namespace: str | None,
    **options: Any,
) -> int:
    """Print the Restore manifest of POINT, for a pull request. Merging it runs it, exactly once."""
    from reconciler.cli.arguments import as_manifest
    from reconciler.cli.compose import parts_of
    from reconciler.cli.requests import spec_of_point
    from reconciler.kinds.model import API_VERSION
    from reconciler.kinds.request import Restore
    from reconciler.kinds.writer import to_yaml

    parts = parts_of(ctx)
    spec = spec_of_point(parts, point, reason=reason, options=options)
    slug = name or f"{spec['from']['point'].split('/')[0]}-{parts.clock.now():%Y%m%d-%H%M}"
    metadata = {"name": slug, **({"namespace": namespace} if namespace else {})}
    manifest = as_manifest(
        Restore,
        {"apiVersion": API_VERSION, "kind": "Restore", "metadata": metadata, "spec": spec},
        verb="restore new",
    )
    click.echo(to_yaml(manifest), nl=False)
    click.echo("next: commit this under restores/ of the policy repository and push it", err=True)
    return 0


@command.command("run")
@click.argument("what", metavar="POINT|FILE")
@source_option
@request_options
@click.option("--reason", help="Why; needed for a POINT.")
@click.option(
    "--yes",
    is_flag=True,
    help="A POINT is restored without a merged manifest: say that you mean it.",
)
@click.option(
    "--break-glass", is_flag=True, help="Without Git: from location and key alone, journalled."
)
@click.option("--location", "url", metavar="URL", help="The location, for --break-glass.")
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--attempt", default=1, show_default=True, help="Raise it to run the same request again."
)
@click.option(
    "--watch-after",
    metavar="SPAN",
    callback=read_span,
    help="Wait so long after its end, such as 2m, and tell what others changed or removed by then: 1 if they did.",
)
@context_option
@click.pass_context
def run(
    ctx: click.Context,
    /,
    what: str,
    source: str | None,
    reason: str | None,
    yes: bool,
    break_glass: bool,
    url: str | None,
    passphrase_file: Path | None,
    attempt: int,
    watch_after: timedelta | None,
    **options: Any,
) -> int:
    """Carry out a restore: the Restore in FILE, or POINT with --yes and --reason.

    The record goes to the ledger before the first write. With --break-glass nothing of Git is needed.
    """
    from reconciler.cli.compose import parts_of
    from reconciler.cli.plantext import summary
    from reconciler.cli.requests import is_file, request_of_file, request_of_point

    if break_glass:
        from reconciler.cli.breakglass import break_glass_run
        from reconciler.cli.compose import parts_without_git

        return break_glass_run(
            parts_without_git(ctx),
            what,
            url=url,
            passphrase_file=passphrase_file,
            reason=reason,
            attempt=attempt,
            watch_after=watch_after,
            options=options,
        )
    parts = parts_of(ctx)
    if is_file(what):
        request = request_of_file(parts, Path(what), source=source)
    else:
        if not (yes and reason):
            raise UsageError(
                "restore run: a POINT needs --yes and --reason",
                hint=f"or ask by pull request: reconciler restore new {what} --reason …",
            )
        request = request_of_point(parts, what, reason=reason, attempt=attempt, options=options)
    result = _run(parts, request, watch_after)
    if result is None:
        click.echo(
            "nothing to do: this attempt is over (raise the attempt to run it again)", err=True
        )
        return 0
    if result.plan is not None:
        click.echo(summary(result.plan))
    if result.phase == "Changed":
        show_aftermath(result.message, result.aftermath)
    else:
        show_result(result)
    code = EXIT_CODES[result.phase]
    if watch_after is not None and result.phase in ("Succeeded", "Partial"):
        found = _watch(parts, request, watch_after)
        return code or int(found)
    return code


def _watch(parts: Parts, request: RestoreRequest, span: timedelta) -> bool:
    """Wait, then say what others changed of a restore; whether they did."""
    if not await_aftermath(parts, span):
        return False
    looked = _runner(parts, watch_after=span).look_again(request)
    if looked is None:
        return False
    show_aftermath(looked.message, looked.aftermath)
    return bool(looked.aftermath)


def await_aftermath(parts: Parts, span: timedelta) -> bool:
    """Wait for the time to look again; False when it was cut short."""
    from reconciler.daemon.daemon import stop_on_signals
    from reconciler.kinds.model import format_span

    click.echo(f"looks again in {format_span(span)}; Ctrl-C leaves it", err=True)
    with stop_on_signals() as stop:
        return parts.clock.wait_until(parts.clock.now() + span, stop=stop)


def show_aftermath(message: str, aftermath: Sequence[Aftermath]) -> None:
    """Print what others changed or removed since a restore ended."""
    from reconciler.cli.passes import mark

    click.echo(f"{mark('Changed' if aftermath else 'Succeeded')} {message}")
    for one in aftermath[:20]:
        by = f" by {', '.join(one.managers)}" if one.managers else ""
        fields = f": {', '.join(one.fields)}" if one.fields else ""
        note = f" ({one.message})" if one.message else ""
        click.echo(f"  {one.what}: {one.object}{fields}{by}{note}", err=True)
    if aftermath:
        click.echo("next: stop what did it (see `pause`), then raise the attempt", err=True)


def show_result(result: RestoreResult) -> None:
    """Print how a restore ended, what failed first."""
    from reconciler.cli.passes import mark

    click.echo(f"{mark(result.phase)} {result.phase}: {result.message or result.point}")
    for outcome in result.outcomes[:20]:
        if outcome.result == "Failed":
            click.echo(f"  {outcome.item}: {outcome.reason} {outcome.message}", err=True)
    if result.hint:
        click.echo(f"next: {result.hint}", err=True)


def plan_of(parts: Parts, request: RestoreRequest) -> Plan:
    """The live plan, with everything that would keep it from being run."""
    restores = _runner(parts)
    made = restores.plan(request)
    refusals = [*_used(parts, request), *made.refusals]
    try:
        restores.check(request)
    except RefusedError as error:
        refusals.insert(0, error.message)
    return replace(made, refusals=tuple(refusals))


def _used(parts: Parts, request: RestoreRequest) -> list[str]:
    """Why this attempt does nothing any more: it was used already."""
    from reconciler.restore.execute.once import key_of

    state = parts.ledger.view().restores().get(key_of(request))
    known = (state.finished or state.accepted) if state else None
    if known is None:
        return []
    used = f"attempt {request.attempt} was used already ({known.spec.phase or 'accepted'})"
    if known.spec.spec_digest != request.digest:
        return [f"{used}, and edited after that; raise spec.attempt"]
    return [f"{used}; raise spec.attempt"] if known.spec.stage == "finished" else []


def _runner(parts: Parts, **how: Any) -> RestoreRunner:
    from reconciler.daemon.restores import runner

    return runner(
        parts.desired(),
        cluster=parts.connect(),
        settings=parts.settings,
        ledger=parts.ledger,
        locations=parts.locations,
        clock=parts.clock,
        **how,
    )


def _run(
    parts: Parts, request: RestoreRequest, watch_after: timedelta | None
) -> RestoreResult | None:
    from reconciler.cli.progress import restoring
    from reconciler.daemon.daemon import stop_on_signals

    with restoring() as watch, stop_on_signals() as stop:
        results = _runner(parts, watch=watch, watch_after=watch_after).step([request], stop=stop)
    if not results and stop.is_set():
        raise RefusedError(
            "restore run: stopped before it was accepted",
            hint="nothing was changed; run it again",
        )
    return results[0] if results else None
