"""A sandbox whose containers are processes, with the real adapter to it."""

from __future__ import annotations

import shutil

import pytest

from reconciler.cluster.kubernetes import connect
from reconciler.cluster.sandbox.server import Sandbox
from tests.support.sandbox import open_directory
from tests.support.seen import manifest
from tests.support.service import stateful_set
from tests.support.town import Town


@pytest.fixture
def shop(tmp_path):
    """A namespace with the small data service, Ready."""
    directory = open_directory()
    try:
        with Sandbox(directory, name="town", processes=True) as sandbox:
            path = sandbox.write_kubeconfig(tmp_path / "kubeconfig")
            with connect(name="town", kubeconfig=path, sleep=lambda _: None) as cluster:
                town = Town(sandbox, cluster)
                town.create(manifest("Namespace", "shop", namespace=""), stateful_set())
                town.wait_ready("kv-0")
                yield town
    finally:
        shutil.rmtree(directory)
