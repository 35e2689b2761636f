"""`reconciler keys …`: make a location ready, and manage the passphrases that open it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from reconciler.errors import KeyRejectedError, UsageError

location_option = click.option(
    "--location", "url", required=True, metavar="URL", help="file:///path"
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the passphrase from a file [default: $RECONCILER_PASSPHRASE, then a prompt].",
)
PASSPHRASE_MIN = 8


@click.group("keys")
def command() -> None:
    """Make a location ready; manage its passphrases."""


def read_passphrase(file: Path | None, *, prompt: str = "Passphrase", confirm: bool = False) -> str:
    """Take a passphrase from a file, the environment or a prompt, in this order.

    Raises:
        KeyRejectedError: there is none, or it is too short to be one.
    """
    if file is not None:
        text = file.read_text().removesuffix("\n")
    elif os.environ.get("RECONCILER_PASSPHRASE"):
        text = os.environ["RECONCILER_PASSPHRASE"]
    elif sys.stdin.isatty():
        text = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    else:
        raise KeyRejectedError(
            "read passphrase: none given",
            hint="set $RECONCILER_PASSPHRASE or use --passphrase-file",
        )
    if len(text) < PASSPHRASE_MIN:
        raise KeyRejectedError(
            f"read passphrase: shorter than {PASSPHRASE_MIN} characters", hint="use a longer one"
        )
    return text


@command.command("init")
@location_option
@passphrase_option
def init(url: str, passphrase_file: Path | None) -> None:
    """Make the location at URL ready: write its format and keys.

    Keep the passphrase in a second place: without it nothing can be restored.
    """
    from reconciler.store.keys import init_location
    from reconciler.store.storage import open_storage

    text = read_passphrase(passphrase_file, confirm=True)
    init_location(open_storage(url, create=True), text)
    click.echo(f"{url} is ready.", err=True)
    click.echo("Keep the passphrase in a second place: nobody can restore without it.", err=True)


@command.command("list")
@location_option
@passphrase_option
def list_(url: str, passphrase_file: Path | None) -> int:
    """List the passphrases (never their text) that open the location. Ends with 1 when none of them is sound."""
    from reconciler.store.keys import list_keys
    from reconciler.store.storage import open_storage

    _ = passphrase_file
    keys = list_keys(open_storage(url))
    for key in keys:
        click.echo(str(key))
    damaged = [key.id for key in keys if key.damage]
    if not keys:
        click.echo("next: no key is left: bring keys/ back from a copy of the location", err=True)
    elif damaged:
        click.echo(
            f"next: bring keys/{damaged[0]} back from a copy of the location, or `reconciler keys add` "
            "a passphrase anew and remove it",
            err=True,
        )
    return int(len(damaged) == len(keys))


@command.command("add")
@location_option
@passphrase_option
@click.option(
    "--new-passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the new passphrase from a file [default: a prompt].",
)
def add(url: str, passphrase_file: Path | None, new_passphrase_file: Path | None) -> None:
    """Add a passphrase; the present one must be given."""
    from reconciler.store.keys import add_passphrase, require_ready
    from reconciler.store.storage import open_storage

    storage = open_storage(url)
    require_ready(storage)
    present = read_passphrase(passphrase_file, prompt="Present passphrase")
    if new_passphrase_file is not None:
        fresh = new_passphrase_file.read_text().removesuffix("\n")
    elif sys.stdin.isatty():
        fresh = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    else:
        raise UsageError("add passphrase: no new one given", hint="use --new-passphrase-file")
    add_passphrase(storage, present, fresh)
    click.echo("added", err=True)


@command.command("remove")
@location_option
@click.argument("key")
@passphrase_option
def remove(url: str, key: str, passphrase_file: Path | None) -> None:
    """Remove the passphrase KEY of `keys list`; never the last one."""
    from reconciler.store.keys import remove_key, require_ready
    from reconciler.store.storage import open_storage

    storage = open_storage(url)
    require_ready(storage)
    remove_key(storage, read_passphrase(passphrase_file), key)
    click.echo("removed", err=True)
