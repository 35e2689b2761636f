"""How far a long verb is, on stderr: a bar on a terminal, a line from time to time elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from reconciler.cli.output import is_interactive

if TYPE_CHECKING:
    from reconciler.restore.execute.progress import Progress, Watch

_LINE_EVERY_S = 10.0
_WAIT_CHARACTERS = 70


@contextmanager
def restoring() -> Iterator[Watch]:
    """Something that shows how far a restore is."""
    if not is_interactive():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("restoring"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[waits]}", markup=False),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, waits="")

        def show(progress: Progress) -> None:
            bars.update(
                task, completed=progress.done, total=progress.total, waits=waits_of(progress)
            )

        yield show


def waits_of(progress: Progress) -> str:
    """What is waited for longest, and how many other things are."""
    if not progress.waits:
        return ""
    first, *others = progress.waits
    more = f" and {len(others)} more" if others else ""
    return f"waits for {first[:_WAIT_CHARACTERS]}{more}"


class _Lines:
    """Says it where there is no terminal, not more often than every ten seconds, and nothing of a short restore."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            if time.monotonic() - self._told < _LINE_EVERY_S:
                return
            self._told = time.monotonic()
        waits = waits_of(progress)
        line = f"restoring: {progress.done} of {progress.total}"
        click.echo(f"{line}; {waits}" if waits else line, err=True)
