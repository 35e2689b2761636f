"""Walking a graph of steps: order, width of a lane, errors, circles."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from reconciler.restore.execute.walk import WIDTHS, walk


@dataclass(frozen=True)
class Step:
    name: str
    after: frozenset[str] = frozenset()
    lane: str = "write"


def steps(*made):
    return {step.name: step for step in made}


def test_each_step_starts_when_those_before_it_have_ended():
    """A diamond: the last one sees all others; nothing runs twice."""
    seen, lock = [], threading.Lock()

    def act(step):
        with lock:
            assert step.after <= set(seen)
            seen.append(step.name)

    walk(
        steps(
            Step("d", frozenset("bc")),
            Step("b", frozenset("a")),
            Step("c", frozenset("a"), lane="wait"),
            Step("a", lane="content"),
        ),
        act,
    )

    assert sorted(seen) == ["a", "b", "c", "d"]


def test_a_lane_is_as_wide_as_it_says_and_waits_keep_no_writer():
    """Twelve writers meet at a barrier while every waiting thread is taken."""
    meeting, all_wrote = threading.Barrier(WIDTHS["write"]), threading.Event()
    writers = [Step(f"w{number}") for number in range(WIDTHS["write"])]
    waiters = [Step(f"x{number}", lane="wait") for number in range(WIDTHS["wait"] + 5)]

    def act(step):
        if step.lane == "wait":
            assert all_wrote.wait(20)
        else:
            meeting.wait(20)
            all_wrote.set()

    walk(steps(*waiters, *writers), act)

    assert all_wrote.is_set()


def test_an_error_ends_the_walk_when_what_runs_has_ended():
    """What runs is waited for; what comes after is not started; the error is raised."""
    goes_on, ended = threading.Event(), []

    def act(step):
        if step.name == "bad":
            goes_on.set()
            raise RuntimeError("it broke")
        assert goes_on.wait(20)
        ended.append(step.name)

    made = steps(Step("bad"), Step("beside"), Step("later", frozenset({"bad", "beside"})))
    with pytest.raises(RuntimeError, match="it broke"):
        walk(made, act)

    assert ended == ["beside"]


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (steps(Step("a", frozenset("b")), Step("b", frozenset("a"))), "each other: a, b"),
        (steps(Step("a", frozenset("z"))), "a waits for z, which is no step"),
    ],
    ids=["circle", "absent"],
)
def test_steps_that_can_never_start_are_told(made, what):
    """Nothing hangs."""
    with pytest.raises(ValueError, match=what):
        walk(made, lambda step: None)
