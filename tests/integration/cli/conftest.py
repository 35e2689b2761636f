"""Worlds for the command line: on disk, at the present time, so that real commands find them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import SystemClock
from reconciler.cluster.sandbox import Sandbox
from tests.support.sandbox import live_sandbox, sandbox
from tests.support.shop import CLAIM, pod_of, say, wiki
from tests.support.town import Town
from tests.support.town_hall import TownHall
from tests.support.world import World

__all__ = ["live_sandbox", "sandbox"]


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


@pytest.fixture
def library(tmp_path, live_sandbox):
    """A world with one point of `shop`, whose wiki keeps a page in a volume; `write` edits that page."""
    made = TownHall(make(tmp_path, live_sandbox))
    made.town = Town(live_sandbox, made.world.cluster)
    made.town.create(CLAIM, wiki())
    made.write = lambda text: say(made, pod_of(made, "wiki"), f"echo {text} > /pages/home")
    made.write("captured")
    report = made.world.run_pass()
    assert [line.phase for line in report.captured] == ["Succeeded"]
    return made


def make(root, running):
    """A world an hour or so ago."""
    world = World(root, running, on_disk=True)
    world.clock.move_to(SystemClock().now() - timedelta(hours=2))
    world.settle("shop")
    return world
