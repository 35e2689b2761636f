"""A lock that a killed process left in the ledger's clone."""

from __future__ import annotations

import os
from datetime import timedelta

from tests.support.passes import view_of

BRANCH = "refs/heads/restore-points/town"


def lock_of(world):
    """The lock file of the ledger's branch, as git makes it."""
    return next((world.root / "work").rglob("*.git")) / f"{BRANCH}.lock"


def test_a_dead_lock_is_removed(world):
    """An old lock belongs to nobody: the next pass goes on as if it were not there."""
    world.run_pass()
    lock = lock_of(world)
    lock.touch()
    old = lock.stat().st_mtime - 60
    os.utime(lock, (old, old))
    world.clock.advance(timedelta(hours=1))

    report = world.run_pass()

    assert report.problems == []
    assert len(view_of(world).points("shop/_")) == 2
    assert not lock.exists()


def test_a_fresh_lock_is_respected(world):
    """A lock of this moment may be somebody's: it stays, and what could not be written is said."""
    world.run_pass()
    lock = lock_of(world)
    lock.touch()
    world.clock.advance(timedelta(hours=1))

    report = world.run_pass()

    assert lock.exists()
    assert any("locked" in problem.message for problem in report.problems)
    lock.unlink()
    world.run_pass()
    assert len(view_of(world).points("shop/_")) == 2
