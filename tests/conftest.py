"""What holds for the whole suite: the summary says which half of the contract suite had no server."""

from __future__ import annotations

import pytest

from tests.support.clusters import REAL_KUBECONFIG, REAL_VARIABLE


def pytest_addoption(parser):
    """`--seed` chooses the walk of tests/simulation/test_seeded.py."""
    parser.addoption("--seed", type=int, default=1, help="seed of the simulation")


@pytest.fixture
def seed(request):
    """The seed of the simulation."""
    return request.config.getoption("--seed")


def pytest_terminal_summary(terminalreporter):
    """Say whether the contracts were held to a real API server."""
    if REAL_KUBECONFIG:
        terminalreporter.write_line(
            f"Cluster contracts ran on the sandbox and on the server of {REAL_VARIABLE}."
        )
    else:
        terminalreporter.write_line(
            f"Cluster contracts ran on the sandbox alone: set {REAL_VARIABLE} to a kubeconfig to hold a real server to them."
        )
