"""Worlds for the command line: on disk, at the present time, so that real commands find them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import SystemClock
from reconciler.cluster.sandbox import Sandbox
from tests.support.sandbox import sandbox
from tests.support.town_hall import TownHall
from tests.support.world import World

__all__ = ["sandbox"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A world that tests of one module only look at: two points of `shop`, a hold, a restore, a tenant's namespace."""
    root = tmp_path_factory.mktemp("shown")
    with Sandbox(root / "sandbox", name="town") as running:
        yield TownHall(make(root, running)).furnish()


@pytest.fixture
def hall(tmp_path, sandbox):
    """A world that a test may change: one point of `shop`."""
    made = TownHall(make(tmp_path, sandbox))
    made.world.run_pass()
    return made


def make(root, running):
    """A world an hour or so ago."""
    world = World(root, running, on_disk=True)
    world.clock.move_to(SystemClock().now() - timedelta(hours=2))
    world.settle("shop")
    return world
