"""`reconciler demo`: the whole story in one command, on the embedded sandbox or on a cluster of the user's."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import click

from reconciler.errors import UsageError

BUDGET_S = 60


@click.command("demo")
@click.option(
    "--keep", is_flag=True, help="Stay in the foreground with everything up, until Ctrl-C."
)
@click.option(
    "--context",
    help="Tell the story on this context's cluster. It makes and deletes namespaces there.",
)
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="The file of that context.")
@click.option(
    "--database-image", default="postgres:15", show_default=True, help="PostgreSQL, with --context."
)
@click.option(
    "--tools-image", default="busybox:1.37", show_default=True, help="busybox, with --context."
)
@click.pass_context
def command(
    ctx: click.Context,
    keep: bool,
    context: str | None,
    kubeconfig: Path | None,
    database_image: str,
    tools_image: str,
) -> int:
    """Policies in Git, captures, the ledger, a disaster, a restore, an upgrade: in under a minute.

    Uses the machine's PostgreSQL when there is one. Everything is made in a temporary folder and taken
    down at the end. With --context the shop and the wiki run on that cluster, in namespaces that must not exist
    before and are deleted at the end.
    """
    from reconciler.cli.compose import set_up_logging
    from reconciler.cli.demo.keep import stay
    from reconciler.cli.demo.setting import Real, real_setting, sandbox_setting
    from reconciler.cli.demo.stage import DemoFailedError, Stage, has_postgres
    from reconciler.cli.demo.story import Story

    set_up_logging(verbose=False)
    context = context or (ctx.obj or {}).get("context")
    if kubeconfig and not context:
        raise UsageError("demo: --kubeconfig needs --context", hint="name the context to use")
    real = Real(context, kubeconfig, database_image, tools_image) if context else None
    postgres = has_postgres() or real is not None
    if os.environ.get("CI") and not postgres:
        raise DemoFailedError(
            "find PostgreSQL: this machine has no server, and CI must not fall back to SQLite",
            hint="install the postgresql package",
        )
    started = time.monotonic()
    with Stage(Path(tempfile.mkdtemp(prefix="reconciler-demo-"))) as stage:
        setting = real_setting(real) if real else sandbox_setting()
        story = Story(stage, setting, postgres=postgres)
        story.tell()
        taken = time.monotonic() - started
        click.echo(click.style(f"\nThe whole story took {taken:.0f} s.", bold=True))
        if keep:
            stay(stage, branch=story.parts.ledger.branch)
    return 0
