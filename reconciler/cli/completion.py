"""`reconciler completion SHELL`: the script that makes a shell complete verbs and flags."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    For example: source <(reconciler completion bash)
    """
    from click.shell_completion import get_completion_class

    from reconciler.cli.main import reconciler

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(reconciler, {}, "reconciler", "_RECONCILER_COMPLETE").source())
