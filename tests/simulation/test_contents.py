"""All memory is lost in the middle of a claim's filling, of a service's loading, of the reading of either.

The application has real processes. After the restart its contents are whole, whoever takes over and whatever was
half written; no pod of ours stays behind. Plain objects and records are the matter of `test_crashes.py`.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.ledger.layout import RestoreKey
from tests.support.faults import Crash, Effects
from tests.support.furnished import FurnishedWorld, process
from tests.support.passes import slots, told, view_of
from tests.support.sandbox import live_sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
HOUR = timedelta(hours=1)
READING = ("cluster.exec service", "cluster.create Pod", "cluster.exec claim", "cluster.delete Pod")
WRITING = (
    "cluster.create Pod",
    "cluster.exec claim",
    "stream.send claim",
    "stream.end claim",
    "cluster.delete Pod",
    "cluster.replace Lease",
    "cluster.create StatefulSet",
    "cluster.exec service",
    "stream.send service",
    "stream.end service",
)
both = pytest.mark.parametrize("interleave", [False, True], ids=["alone", "beside-another"])


@pytest.fixture
def world(tmp_path, live_sandbox):
    """A world with an application that has contents."""
    made = FurnishedWorld(tmp_path, live_sandbox)
    made.furnish()
    return made


def broken_pass(world, at, number, *, interleave):
    """One pass that dies after an effect, or meets another daemon there."""

    def other():
        with process(f"other{number}"):
            world.run_pass(world.parts(work=f"other{number}"))

    effects = Effects(at=at, meanwhile=other if interleave else None)
    report = None
    try:
        with process(f"first{number}"):
            report = world.run_pass(world.parts(effects=effects))
    except Crash:
        pass
    assert at in effects.done, effects.done
    assert (report is not None) is interleave
    return report


def recover(world, number):
    """Another process, on the same disk or an empty one."""
    with process(f"later{number}"):
        return world.run_pass(world.parts(work="work" if number % 2 else f"later{number}"))


@both
def test_contents_are_captured_whole_after_a_crash_in_their_reading(world, interleave):
    """The slot ends with one Succeeded point that has both contents, and nobody's pod is left."""
    for number, at in enumerate(READING):
        world.fill({"home": f"round {number}".encode()}, {"table": f"r={number}\n".encode()})
        broken_pass(world, at, number, interleave=interleave)
        recover(world, number)

        assert len(slots(world)) == number + 1
        newest = view_of(world).latest("shop/_").spec
        assert newest.phase == "Succeeded", (at, newest.outcomes)
        assert world.captured() == world.contents(), at
        assert world.leftovers() == []
        world.clock.advance(HOUR)


@both
def test_contents_are_restored_whole_after_a_crash_in_their_writing(world, interleave):
    """The restore ends once; what was half written is gone; what the service was told since is not taken back."""
    with process("captor"):
        assert told(world.run_pass()) == [("shop", "Succeeded")]
    expected = world.contents()
    for number, at in enumerate(WRITING):
        world.destroy("shop")
        world.ask_restore("shop", name=f"back{number}")
        broken_pass(world, at, number, interleave=interleave)
        for _ in range(3):
            world.clock.advance(timedelta(minutes=5))
            recover(world, number)

        state = view_of(world).restores()[RestoreKey("policies", "", f"back{number}", 1)]
        assert state.finished is not None, at
        assert state.finished.spec.phase == "Succeeded", (at, state.finished.spec)
        assert world.contents() == expected, at
        assert world.leftovers() == []
        world.fill({"home": b"edited"}, {"table": b"edited=1\n"})
        edited = world.contents()
        recover(world, number)
        assert world.contents() == edited, at
