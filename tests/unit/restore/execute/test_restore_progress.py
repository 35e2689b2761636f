"""What is said of a restore while it goes on."""

from __future__ import annotations

import structlog

from reconciler.cli import progress as shown
from reconciler.restore.execute import progress
from reconciler.restore.execute.progress import Progress, Waits


class Time:
    """A monotonic clock that is moved by hand."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


def test_what_is_waited_for_is_told_in_the_order_in_which_it_began():
    """A problem that changes is told again, the same one is not, and an ended wait goes."""
    told = []
    waits = Waits(lambda: told.append(waits.lines()))
    waits("a", "")
    waits("a", "0 of 2")
    waits("b", "Pending")
    waits("a", "0 of 2")
    waits("a", "1 of 2")
    waits("a", "")

    assert told == [
        ("a: 0 of 2",),
        ("a: 0 of 2", "b: Pending"),
        ("a: 1 of 2", "b: Pending"),
        ("b: Pending",),
    ]


def test_a_long_wait_is_logged_after_five_seconds_and_every_thirty(monkeypatch):
    """A short one is not; one that begins anew counts anew."""
    clock = Time()
    monkeypatch.setattr(progress, "time", clock)
    waits = Waits()
    with structlog.testing.capture_logs() as logs:
        for _ in range(41):
            waits("web", "not Ready")
            clock.now += 1
        waits("web", "")
        waits("web", "not Ready")

    assert [(line["object"], line["seconds"]) for line in logs] == [("web", 5), ("web", 35)]


def test_a_line_every_ten_seconds_where_there_is_no_terminal(monkeypatch, capsys):
    """It names what is waited for longest, and how much else."""
    clock = Time()
    monkeypatch.setattr(shown, "time", clock)
    with shown.restoring() as watch:
        for second in range(25):
            watch(Progress(second, 99, ("Deployment/web: 0 of 1", "Job/load: none")))
            clock.now += 1

    assert capsys.readouterr().err.splitlines() == [
        "restoring: 10 of 99; waits for Deployment/web: 0 of 1 and 1 more",
        "restoring: 20 of 99; waits for Deployment/web: 0 of 1 and 1 more",
    ]
