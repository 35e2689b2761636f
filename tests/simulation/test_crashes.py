"""All memory is lost after each effect of each flow, and again with another daemon at work at that moment.

After the restart no restore point is lost or doubled, the ledger's chain is whole, the store verifies, and no
restore is carried out twice. Odd crashes find the old work directory, even ones an empty disk.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from itertools import count

import pytest

from reconciler.daemon.prune import prune
from reconciler.ledger.chain import verify_chain
from reconciler.ledger.layout import RestoreKey
from reconciler.store.content import open_store
from tests.support.faults import Crash, Effects
from tests.support.sandbox import sandbox
from tests.support.world import PASSPHRASE, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
HOUR = timedelta(hours=1)
MOST = 120


@pytest.fixture
def world(tmp_path, sandbox):
    """A world with two applications."""
    made = World(tmp_path, sandbox)
    for name in ("shop", "wiki"):
        made.settle(name)
    return made


def crash(world, n, *, interleave=False):
    """One pass that dies after effect `n`, or that meets another daemon there; the effects that happened."""
    other = (lambda: world.run_pass(world.parts(work=f"other{n}"))) if interleave else None
    effects = Effects(crash_after=n, meanwhile=other)
    try:
        world.run_pass(world.parts(effects=effects, work=work(n)))
    except Crash:
        pass
    return effects


def work(n):
    """Odd runs keep their disk, even ones start with an empty one."""
    return "work" if n % 2 else f"work{n}"


def recover(world, n, *, passes=1):
    """Restart; the last report."""
    for _ in range(passes):
        report = world.run_pass(world.parts(work="work" if n % 2 else f"again{n}"))
    return report


def check_points(world, expected):
    """Each application has exactly the points expected, in ledger and store alike, and all is sound."""
    parts = world.parts(work="check")
    parts.ledger.refresh()
    view = parts.ledger.view()
    store = open_store(world.storage, PASSPHRASE, clock=world.clock)
    stored = {(f"{p.namespace}/{p.application}", p.slot) for p in store.points()}
    recorded = [(entry.application, entry.slot) for entry in view.points()]
    assert len(recorded) == len(set(recorded))
    assert stored == set(recorded)
    for application in ("shop/_", "wiki/_"):
        assert len([slot for app, slot in recorded if app == application]) == expected
    assert verify_chain(view) == []
    assert list(store.verify(read_data=1.0)) == []
    for application, slot in recorded:
        record = view.point(application, slot)
        namespace, _, name = application.partition("/")
        found = next(
            p
            for p in store.points()
            if (p.namespace, p.application, p.slot) == (namespace, name, slot)
        )
        assert store.point(found)[1] == record.spec.locations[0].digest


@pytest.mark.parametrize("interleave", [False, True], ids=["alone", "beside-another"])
def test_capture_survives_a_crash_after_every_effect(world, interleave):
    """However a capture dies, its slot ends with one point and one record."""
    for n in count(1):
        assert n < MOST
        world.edit("shop", "c1", f"round {n}")
        effects = crash(world, n, interleave=interleave)
        recover(world, n)
        check_points(world, n)
        world.clock.advance(HOUR)
        if len(effects.done) < n:
            break

    assert n > 6, "a capture has several effects"


@pytest.mark.parametrize("interleave", [False, True], ids=["alone", "beside-another"])
def test_restore_survives_a_crash_after_every_effect(world, interleave):
    """However a restore dies, it ends once, with everything back, and is never carried out again."""
    world.run_pass()
    expected = world.data("shop")
    for n in count(1):
        assert n < MOST
        world.destroy("shop")
        world.ask_restore("shop", name=f"back{n}")
        effects = crash(world, n, interleave=interleave)
        for _ in range(4):
            world.clock.advance(timedelta(minutes=5))
            recover(world, n)
        parts = world.parts(work="check")
        parts.ledger.refresh()
        state = parts.ledger.view().restores()[RestoreKey("policies", "", f"back{n}", 1)]
        assert state.accepted is not None
        assert state.finished is not None, state
        assert state.finished.spec.phase == "Succeeded", state.finished.spec
        assert comparable(world.data("shop")) == comparable(expected)
        world.edit("shop", "c0", "edited since")
        recover(world, n)
        assert world.data("shop")["ConfigMap/c0"]["value"] == "edited since"
        world.edit("shop", "c0", "0")
        if len(effects.done) < n:
            break

    assert n > 8, "a restore has several effects"


def comparable(data):
    """Without what a namespace gets anew."""
    return {key: value for key, value in data.items() if key != "ConfigMap/kube-root-ca.crt"}


@pytest.mark.parametrize("beside", ["alone", "a-daemon", "a-prune"])
def test_retirement_and_prune_survive_a_crash_after_every_effect(tmp_path, sandbox, beside):
    """However they die, or whoever else is at work at that moment, the newest points stay whole, and what was retired
    goes in the end. The other daemon captures and retires in the middle of a prune, another prune frees what this one
    is about to free.
    """
    world = World(tmp_path, sandbox, keep_last=2)
    for name in ("shop", "wiki"):
        world.settle(name)
    seen = set()
    for n in count(1):
        assert n < MOST

        def another_daemon():
            world.edit("wiki", "c2", f"meanwhile {n}")
            world.clock.advance(HOUR)
            world.run_pass(world.parts(work=f"other{n}"))

        others = {
            "alone": None,
            "a-daemon": another_daemon,
            "a-prune": lambda: run_prune(world, work=f"other{n}"),
        }
        for _ in range(2):
            world.edit("wiki", "c1", f"round {n} {world.clock.now()}")
            world.run_pass()
            world.clock.advance(HOUR)
        retiring = crash(world, n, interleave=beside == "a-daemon")
        recover(world, n)
        # Beyond the grace period, so that what the round before has dropped is freed now.
        world.clock.advance(timedelta(days=2))
        pruning = Effects(crash_after=n, meanwhile=others[beside])
        try:
            run_prune(world, effects=pruning)
        except Crash:
            pass
        recover(world, n)
        check_live(world, 2)
        run_prune(world)
        check_points(world, 2)
        seen |= {*retiring.done, *pruning.done}
        if len(retiring.done) < n and len(pruning.done) < n:
            break

    deletions = {"store.delete points", "store.delete index", "store.delete packs"}
    assert {"ledger.commit retire", "ledger.commit prune", *deletions} <= seen


def check_live(world, expected):
    """Each application has the live points expected, and every one of them is whole in the store."""
    parts = world.parts(work="check")
    parts.ledger.refresh()
    view = parts.ledger.view()
    store = open_store(world.storage, PASSPHRASE, clock=world.clock)
    stored = {(f"{p.namespace}/{p.application}", p.slot) for p in store.points()}
    for application in ("shop/_", "wiki/_"):
        live = {(entry.application, entry.slot) for entry in view.points(application)}
        assert len(live) == expected
        assert live <= stored
    assert list(store.verify(read_data=1.0)) == []


def run_prune(world, *, effects=None, work="prune"):
    """Prune, as the command does."""
    parts = world.parts(effects=effects, work=work)
    list(
        prune(
            parts.desired(),
            settings=parts.settings,
            domain=world.cluster.uid(),
            ledger=parts.ledger,
            locations=parts.locations,
            clock=world.clock,
            dry_run=False,
        )
    )
    parts.ledger.push()


def test_two_daemons_at_once_make_one_point_each(world):
    """Two daemons that run the same pass at the same time end with one point a slot."""
    failures = []

    def run(name):
        try:
            world.run_pass(world.parts(work=name))
        except Exception as error:
            failures.append(error)

    for round_ in range(1, 4):
        threads = [threading.Thread(target=run, args=(f"d{i}",)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        world.run_pass(world.parts(work="d0"))
        assert failures == []
        check_points(world, round_)
        world.edit("shop", "c2", str(round_))
        world.clock.advance(HOUR)
