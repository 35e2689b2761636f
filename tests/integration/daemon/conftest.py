"""A world for each test: sandbox, Git remotes, location and a stepped clock."""

from __future__ import annotations

import pytest

from tests.support.sandbox import live_sandbox, sandbox
from tests.support.world import World

__all__ = ["live_sandbox", "sandbox"]


@pytest.fixture
def world(tmp_path, sandbox):
    """A world with one application, `shop`, that the policy `gold` protects every hour."""
    made = World(tmp_path, sandbox)
    made.settle("shop")
    return made
