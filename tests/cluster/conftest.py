"""Tests on real Kubernetes: they are skipped where no cluster is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clusters import REAL_KUBECONFIG, REAL_VARIABLE

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items):
    """Without a cluster, each of these tests is skipped with the line that says how to get one."""
    if REAL_KUBECONFIG:
        return
    how = f"`make test-cluster` starts a cluster and runs this, or set {REAL_VARIABLE}"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=how))
