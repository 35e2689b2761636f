"""Real processes killed by SIGKILL right after an effect; each kind of effect once, on a real disk.

The application has real contents. Every victim must have died of the signal, at the effect that was named: a list
that grows stale fails. Who comes afterwards runs in this process, on the victim's disk.
"""

from __future__ import annotations

import json
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
from tests.support.furnished import FurnishedWorld
from tests.support.passes import slots, view_of
from tests.support.sandbox import live_sandbox
from tests.support.world import PASSPHRASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
VICTIM = Path(__file__).with_name("victim.py")
ROOT = VICTIM.parents[2]
HOUR = timedelta(hours=1)
CAPTURE = (
    "cluster.exec claim",
    "store.create sessions",
    "store.create packs",
    "store.create index",
    "store.create points",
    "ledger.write capture",
    "ledger.commit capture",
    "git.push",
)
RESTORE = (
    "cluster.create Lease",
    "git.push",
    "ledger.commit restore",
    "cluster.create Namespace",
    "cluster.create ConfigMap",
    "cluster.create Pod",
    "stream.send claim",
    "stream.end claim",
    "cluster.create StatefulSet",
    "stream.send service",
    "stream.end service",
)
RETIREMENT = ("ledger.write retire", "ledger.commit retire")
PRUNE = (
    "store.delete points",
    "store.create index",
    "store.delete index",
    "store.delete packs",
    "ledger.commit prune",
)


def make(tmp_path, sandbox, **options):
    """A world on disk whose application has contents; its first point is there."""
    world = FurnishedWorld(tmp_path, sandbox, on_disk=True, **options)
    world.furnish()
    world.run_pass()
    return world


def run(world, at="", *, verb="pass", config=None):
    """One pass or prune in a process of its own, which must die at the effect when one is named."""
    argv = [str(config or world.config), format_instant(world.clock.now()), at, verb]
    made = subprocess.run(
        [sys.executable, str(VICTIM), *argv],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == (-signal.SIGKILL if at else 0), (at, made.stdout, made.stderr)
    return [] if at else json.loads(made.stdout.splitlines()[-1])["effects"]


def check(world, expected, *, only_live=False):
    """The points expected are there, once, whole, and in the ledger."""
    view = view_of(world)
    store = open_store(world.storage, PASSPHRASE, clock=world.clock)
    live = slots(world)
    assert len(live) == len(set(live)) == expected
    stored = sorted(point.slot for point in store.points())
    assert set(live) <= set(stored) if only_live else stored == live
    assert verify_chain(view) == []
    assert list(store.verify(read_data=1.0)) == []
    assert world.captured() == world.contents()


def test_each_kind_of_effect_is_killed_once():
    """At least twenty, no one twice in a flow."""
    flows = (CAPTURE, RESTORE, RETIREMENT, PRUNE)
    assert sum(map(len, flows)) >= 20
    assert all(len(set(flow)) == len(flow) for flow in flows)


def test_kill_during_capture(tmp_path, live_sandbox):
    """A capture killed after any kind of effect leaves one point for its slot after the next pass."""
    world = make(tmp_path, live_sandbox)
    for number, at in enumerate(CAPTURE, 1):
        world.clock.advance(HOUR)
        world.edit("shop", "c0", f"before kill {number}")
        world.fill({"home": f"files {number}".encode()}, {"table": f"n={number}\n".encode()})
        run(world, at)
        world.run_pass()
        check(world, number + 1)
        assert world.leftovers() == []


def test_kill_during_restore(tmp_path, live_sandbox):
    """A restore killed after any kind of effect ends once and whole."""
    world = make(tmp_path, live_sandbox)
    contents, data = world.contents(), world.data("shop")
    for number, at in enumerate(RESTORE):
        world.destroy("shop")
        world.ask_restore("shop", name=f"killed{number}")
        run(world, at)
        for _ in range(2):
            world.clock.advance(timedelta(minutes=5))
            world.run_pass()
        state = view_of(world).restores()[RestoreKey("policies", "", f"killed{number}", 1)]
        assert state.finished is not None, at
        assert state.finished.spec.phase == "Succeeded", (at, state.finished.spec)
        assert world.contents() == contents, at
        assert world.leftovers() == []
        found = world.data("shop")
        assert all(found[key] == data[key] for key in data if "kube-root-ca" not in key), at


def test_kill_during_retirement_and_prune(tmp_path, live_sandbox):
    """Retirement and prune killed after any kind of effect leave the newest point whole, and end their work."""
    world = make(tmp_path, live_sandbox, keep_last=1)
    impatient = tmp_path / "prune.yaml"
    impatient.write_text(world.config.read_text() + "prune: {minAge: 0s, grace: 0s}\n")
    for number, at in enumerate(RETIREMENT, 1):
        age(world, number)
        run(world, at)
        world.run_pass()
        check(world, 1, only_live=True)
    for number, at in enumerate(PRUNE):
        spent(world, impatient, 10 + 2 * number)
        age(world, 11 + 2 * number)
        world.run_pass()
        run(world, at, verb="prune", config=impatient)
        check(world, 1, only_live=True)
        run(world, verb="prune", config=impatient)
        check(world, 1)


def age(world, number):
    """An hour passes in which everything changes."""
    world.clock.advance(HOUR)
    world.edit("shop", "c0", f"before {number}")
    noise = f"{number} ".encode() * 20_000
    world.fill({"home": noise, "sub/a b": noise[::-1]}, {"table": noise})


def spent(world, config, number):
    """A round without a kill, so that the next one finds packs that were dropped before."""
    age(world, number)
    world.run_pass()
    run(world, verb="prune", config=config)
