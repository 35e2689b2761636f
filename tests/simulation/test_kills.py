"""Real processes killed by SIGKILL after an effect; each kind of effect once, on a real disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.clock import format_instant
from reconciler.ledger.chain import verify_chain
from reconciler.ledger.layout import RestoreKey
from reconciler.store.content import open_store
from tests.support.sandbox import sandbox
from tests.support.world import PASSPHRASE, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
VICTIM = Path(__file__).with_name("victim.py")
ROOT = VICTIM.parents[2]


@pytest.fixture
def world(tmp_path, sandbox):
    """A world on disk with one application."""
    made = World(tmp_path, sandbox, on_disk=True)
    made.settle("shop")
    return made


def run(world, number, verb="pass"):
    """One pass in a process of its own; its exit status and what it printed."""
    made = subprocess.run(
        [
            sys.executable,
            str(VICTIM),
            str(world.config),
            format_instant(world.clock.now()),
            str(number),
            verb,
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode in (0, -signal.SIGKILL), made.stderr
    return made.returncode, json.loads(made.stdout.splitlines()[-1]) if made.returncode == 0 else {}


def first_of_each(effects):
    """The number of the first effect of each kind."""
    found = {}
    for number, name in enumerate(effects, 1):
        found.setdefault(name, number)
    return found


def check(world, expected, *, only_live=False):
    """The points expected are there, once, whole, and in the ledger."""
    parts = world.parts(work="check")
    parts.ledger.refresh()
    view = parts.ledger.view()
    store = open_store(world.storage, PASSPHRASE, clock=world.clock)
    slots = [entry.slot for entry in view.points("shop/_")]
    assert len(slots) == len(set(slots)) == expected
    stored = sorted(point.slot for point in store.points())
    assert set(slots) <= set(stored) if only_live else stored == slots
    assert verify_chain(view) == []
    assert list(store.verify(read_data=1.0)) == []


def test_kill_during_capture(world):
    """A capture killed after any kind of effect leaves one point for its slot after the next pass."""
    _, printed = run(world, 0)
    numbers = first_of_each(printed["effects"])
    assert len(numbers) >= 4, printed
    points = 1
    for number in sorted(set(numbers.values()) | set(range(1, 8))):
        world.clock.advance(timedelta(hours=1))
        world.edit("shop", "c1", f"before kill {number}")
        run(world, number)
        status, printed = run(world, 0)
        assert status == 0, printed
        points += 1
        check(world, points)


def test_kill_during_restore(world):
    """A restore killed after any kind of effect ends once and whole."""
    run(world, 0)
    expected = world.data("shop")
    world.destroy("shop")
    world.ask_restore("shop", name="whole")
    _, printed = run(world, 0)
    numbers = sorted(first_of_each(printed["effects"]).values())
    assert len(numbers) >= 6, printed
    for turn, number in enumerate(numbers):
        world.destroy("shop")
        world.ask_restore("shop", name=f"killed{turn}")
        status, _ = run(world, number)
        assert status == -signal.SIGKILL
        for _ in range(2):
            world.clock.advance(timedelta(minutes=5))
            run(world, 0)
        parts = world.parts(work="check")
        parts.ledger.refresh()
        state = parts.ledger.view().restores()[RestoreKey("policies", "", f"killed{turn}", 1)]
        assert state.finished is not None
        assert state.finished.spec.phase == "Succeeded", state.finished.spec
        found = world.data("shop")
        for key, value in expected.items():
            if key != "ConfigMap/kube-root-ca.crt":
                assert found[key] == value


def test_kill_during_retirement_and_prune(tmp_path, sandbox):
    """Retirement and prune killed after any kind of effect leave the newest point whole."""
    world = World(tmp_path, sandbox, keep_last=1, on_disk=True)
    world.settle("shop")
    run(world, 0)
    kills = 0
    for number in range(1, 6):
        world.clock.advance(timedelta(hours=1))
        world.edit("shop", "c1", f"before kill {number}")
        run(world, number)
        run(world, 0)
        backdate(tmp_path / "location")
        status, _ = run(world, number, "prune")
        kills += status == -signal.SIGKILL
        status, printed = run(world, 0, "prune")
        assert status == 0, printed
        check(world, 1, only_live=True)
    assert kills >= 3


def backdate(location):
    """Let everything in a location be ten days old."""
    for path in location.rglob("*"):
        if path.is_file():
            at = path.stat().st_mtime - 864_000
            os.utime(path, (at, at))
