"""Ending work early: whoever sets the event gets StoppedError at the next safe place."""

from __future__ import annotations

import threading

from reconciler.errors import TransientError


class StoppedError(TransientError):
    """The work was asked to stop before it was done."""

    exit_code = 130


def check_stop(stop: threading.Event | None) -> None:
    """Raise when `stop` is set.

    Raises:
        StoppedError: it is set.
    """
    if stop is not None and stop.is_set():
        raise StoppedError("stop work: asked to")
