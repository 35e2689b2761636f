"""A sandbox for each test, with the real adapter to it."""

from __future__ import annotations

import pytest

from reconciler.cluster.kubernetes import connect
from reconciler.cluster.sandbox.server import Sandbox
from tests.support.town import Town


@pytest.fixture
def town(tmp_path):
    """A cluster without processes: pods are Ready at once."""
    yield from _town(tmp_path, processes=False)


@pytest.fixture
def living_town(tmp_path):
    """A cluster whose containers are processes."""
    yield from _town(tmp_path, processes=True)


def _town(tmp_path, *, processes):
    with Sandbox(tmp_path / "sandbox", name="town", processes=processes) as sandbox:
        path = sandbox.write_kubeconfig(tmp_path / "kubeconfig")
        with connect(name="town", kubeconfig=path, sleep=lambda _: None) as cluster:
            yield Town(sandbox, cluster)
