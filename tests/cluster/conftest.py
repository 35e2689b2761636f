"""Tests on real Kubernetes: they are skipped where no cluster is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster.outpost import MARK, Outpost
from tests.support.clusters import REAL_KUBECONFIG, REAL_VARIABLE

SECOND_KUBECONFIG = os.environ.get(f"{REAL_VARIABLE}_2", "")

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items):
    """Without a cluster, each of these tests is skipped with the line that says how to get one."""
    if REAL_KUBECONFIG:
        return
    how = f"`make test-cluster` starts a cluster and runs this, or set {REAL_VARIABLE}"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=how))


@pytest.fixture
def outpost(tmp_path):
    """A real cluster with remotes, a ledger and a location of its own; its namespaces go at the end."""
    made = Outpost(tmp_path, Path(REAL_KUBECONFIG))
    yield made
    remove_marked(made)


@pytest.fixture
def harbor(outpost):
    """A second API server that shares the outpost's remotes and location."""
    if not SECOND_KUBECONFIG:
        pytest.skip(f"moving needs a second cluster: set {REAL_VARIABLE}_2")
    made = outpost.beside(Path(SECOND_KUBECONFIG))
    yield made
    remove_marked(made)


def remove_marked(outpost):
    """Delete the namespaces that carry the outpost's mark. The next test need not wait until they are gone."""
    outpost.kubectl("delete", "namespace", "-l", f"{MARK}={outpost.mark}", "--wait=false")
