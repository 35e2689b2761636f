"""The command line: verbs load when they are used, errors become messages, hints and exit codes.

`reconciler --help` and shell completion import nothing heavier than click. Data goes to stdout; progress,
hints and warnings go to stderr. Every failing line ends with what to type next.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from reconciler import __version__
from reconciler.errors import ReconcilerError, UsageError

EXIT_BUG = 5
EXIT_INTERRUPTED = 130

VERBS: dict[str, tuple[str, str]] = {
    "init": ("reconciler.cli.init", "Write a starter policy repository and configuration."),
    "lint": ("reconciler.cli.lint", "Check policies: every fault at once, with its place."),
    "run": ("reconciler.cli.run", "Run the daemon, or one pass with --once."),
    "capture": ("reconciler.cli.capture", "Capture an application now, outside its schedule."),
    "get": ("reconciler.cli.get", "List apps, policies, points, restores, holds or locations."),
    "describe": ("reconciler.cli.describe", "Show one thing in full: KIND/NAME."),
    "diff": ("reconciler.cli.diff", "Compare a restore point with another or with the cluster."),
    "restore": ("reconciler.cli.restore", "Plan, request or run a restore."),
    "hold": ("reconciler.cli.hold", "Print the Hold manifest that keeps a restore point."),
    "verify": ("reconciler.cli.verify", "Check content against digests, and the ledger's chain."),
    "prune": ("reconciler.cli.prune", "Delete retired points and free their content."),
    "keys": ("reconciler.cli.keys", "Make a location ready; manage its passphrases."),
    "cel": ("reconciler.cli.cel", "Try an expression on an object, and see each step."),
    "schema": ("reconciler.cli.schema", "Print the JSON Schema of a kind, for editors."),
    "doctor": ("reconciler.cli.doctor", "Is everything reachable, permitted and configured?"),
    "demo": ("reconciler.cli.demo", "The whole story in one command, on the embedded sandbox."),
    "completion": ("reconciler.cli.completion", "Print the completion script of a shell."),
}


class Verbs(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """All verbs, in the order of a day's work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a verb, by name or by a prefix of one."""
        names = [cmd_name] if cmd_name in VERBS else [v for v in VERBS if v.startswith(cmd_name)]
        if len(names) != 1:
            return None
        if ctx.resilient_parsing and cmd_name not in VERBS:
            return None
        command = importlib.import_module(VERBS[names[0]][0]).command
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete verbs from the table, without loading them."""
        verbs = [
            CompletionItem(name, help=text)
            for name, (_, text) in VERBS.items()
            if name.startswith(incomplete)
        ]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click calls it so
        formatter: click.HelpFormatter,
    ) -> None:
        """List the verbs from the table, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="reconciler")
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The operator's configuration [default: $RECONCILER_CONFIG, ./reconciler.yaml].",
)
@click.option(
    "--context", metavar="NAME", help="A context of the kubeconfig, instead of the configured one."
)
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, as JSON lines on stderr.")
@click.pass_context
def reconciler(ctx: click.Context, config: str | None, context: str | None, verbose: bool) -> None:
    """Policy-as-code backup and recovery for Kubernetes.

    Policies come from Git, restore points go to a store, and every capture, restore and retirement is a
    commit in the ledger.
    """
    ctx.obj = {"config": config, "context": context, "verbose": verbose}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(invoke(argv))


def invoke(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (docs/exit-codes.md)."""
    try:
        code = reconciler.main(
            args=list(argv) if argv is not None else None,
            prog_name="reconciler",
            complete_var="_RECONCILER_COMPLETE",
            standalone_mode=False,
        )
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        click.echo(f"{click.style('next:', fg='cyan')}  {_help_of(error)}", err=True)
        return error.exit_code
    except ReconcilerError as error:
        _show(error)
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; that is no fault of ours.
        sys.stderr.close()
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug, said as one
        _show_bug(error)
        return EXIT_BUG
    return code if isinstance(code, int) else 0


def _show(error: ReconcilerError) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    hint = error.hint or (
        "see `reconciler --help`"
        if isinstance(error, UsageError)
        else "`reconciler doctor` looks for the cause"
    )
    click.echo(f"{click.style('next:', fg='cyan')}  {hint}", err=True)


def _help_of(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    return f"{ctx.command_path if ctx else 'reconciler'} --help"


def _show_bug(error: Exception) -> None:
    import traceback

    trace = "".join(traceback.format_exception(error))
    click.echo(trace, err=True)
    click.echo(
        f"{click.style('bug:', fg='red', bold=True)} {type(error).__name__}: {error}", err=True
    )
    click.echo(
        "next:  report the lines above, without secrets; nothing half-done is lost", err=True
    )


if __name__ == "__main__":
    main()
