"""A seeded walk through everything at once: `make sim SEED=7` repeats one, the suite runs one.

Edits, captures, crashes after a random effect, two daemons, disasters, restores, retention and prune follow each
other by the seed. In the end all that must hold holds. A failure names its seed and its steps.
"""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from reconciler.daemon.prune import prune
from reconciler.ledger.chain import verify_chain
from reconciler.store.content import open_store
from tests.support.faults import Crash, Effects
from tests.support.sandbox import sandbox
from tests.support.world import PASSPHRASE, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
STEPS = 40


class Walk:
    """One walk; `steps` says what was done, for whoever has to repeat it."""

    def __init__(self, world, seed):
        self.world = world
        self.chance = random.Random(seed)
        self.steps = []
        self.edits = 0
        self.restores = 0
        self.expected = {}

    def parts(self, effects=None):
        """A restart, with the old disk or an empty one."""
        return self.world.parts(
            effects=effects, work=self.chance.choice(["a", "b", f"new{len(self.steps)}"])
        )

    def crashing(self):
        """Effects that end the process somewhere, or not at all."""
        number = self.chance.randint(1, 25)
        self.steps[-1] += f" crash after {number}"
        return Effects(crash_after=number)

    def step(self):
        """One thing happens."""
        name = self.chance.choice(
            [
                "edit",
                "edit",
                "capture",
                "capture",
                "crash",
                "crash",
                "beside",
                "disaster",
                "prune",
                "wait",
            ]
        )
        self.steps.append(name)
        getattr(self, name)()

    def edit(self):
        self.edits += 1
        self.world.edit("shop", "c1", f"edit {self.edits}")

    def wait(self):
        self.world.clock.advance(timedelta(minutes=self.chance.choice([1, 7, 60, 150])))

    def capture(self):
        self.world.clock.advance(timedelta(minutes=60))
        self.world.run_pass(self.parts())

    def crash(self):
        self.world.clock.advance(timedelta(minutes=60))
        try:
            self.world.run_pass(self.parts(self.crashing()))
        except Crash:
            pass

    def beside(self):
        """Another daemon, with a disk of its own, runs a pass in the middle of one."""
        self.world.clock.advance(timedelta(minutes=60))
        effects = Effects(
            crash_after=self.chance.randint(1, 8),
            meanwhile=lambda: self.world.run_pass(self.world.parts(work="other")),
        )
        self.world.run_pass(self.parts(effects))

    def disaster(self):
        """The shop is lost; a merged Restore brings it back, whatever dies on the way."""
        self.world.run_pass(self.parts())
        before = data_of(self.world)
        captured = self.world.parts(work="look")
        captured.ledger.refresh()
        if not captured.ledger.view().points("shop/_"):
            return
        self.world.clock.advance(timedelta(minutes=60))
        self.world.run_pass(self.parts())
        self.restores += 1
        self.world.destroy("shop")
        self.world.ask_restore("shop", name=f"back{self.restores}")
        try:
            self.world.run_pass(self.parts(self.crashing()))
        except Crash:
            pass
        for _ in range(4):
            self.world.clock.advance(timedelta(minutes=5))
            self.world.run_pass(self.parts())
        assert data_of(self.world) == before

    def prune(self):
        self.world.clock.advance(timedelta(days=2))
        self.world.run_pass(self.parts())
        for effects in (self.crashing(), None):
            parts = self.parts(effects)
            try:
                list(
                    prune(
                        parts.desired(),
                        settings=parts.settings,
                        domain=self.world.cluster.uid(),
                        ledger=parts.ledger,
                        locations=parts.locations,
                        clock=self.world.clock,
                        dry_run=False,
                    )
                )
                parts.ledger.push()
            except Crash:
                pass


def data_of(world):
    """The shop's own data."""
    return {k: v for k, v in world.data("shop").items() if k != "ConfigMap/kube-root-ca.crt"}


def test_a_seeded_walk(tmp_path, sandbox, seed):
    """After any walk each live record has its whole point, the chain is unbroken and restores ran once."""
    world = World(tmp_path, sandbox, keep_last=5)
    world.settle("shop")
    walk = Walk(world, seed)
    try:
        for _ in range(STEPS):
            walk.step()
        world.clock.advance(timedelta(hours=1))
        world.run_pass(world.parts(work="end"))
        check(world, walk)
    except BaseException:
        print(f"seed {seed}: " + ", ".join(walk.steps))
        raise


def check(world, walk):
    """What must hold in the end."""
    parts = world.parts(work="check")
    parts.ledger.refresh()
    view = parts.ledger.view()
    assert verify_chain(view) == []
    store = open_store(world.storage, PASSPHRASE, clock=world.clock)
    assert list(store.verify(read_data=1.0)) == []
    stored = {point.slot for point in store.points()}
    live = [entry.slot for entry in view.points("shop/_")]
    assert len(live) == len(set(live))
    assert set(live) <= stored
    newest = view.newest_succeeded("shop/_")
    assert newest is not None
    states = view.restores()
    assert len(states) == walk.restores
    assert all(
        state.finished and state.finished.spec.phase == "Succeeded" for state in states.values()
    )
