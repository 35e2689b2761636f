"""A town with its store, for tests that destroy it and bring it back."""

from __future__ import annotations

import shutil

import pytest

from reconciler.clock import SteppedClock
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.sandbox.server import Sandbox
from reconciler.store.content import open_store
from reconciler.store.keys import Cost, init_location
from reconciler.store.memory import MemoryStorage
from tests.support.rescue import NOW, Rescue
from tests.support.sandbox import open_directory
from tests.support.town import Town


@pytest.fixture
def clock():
    """A clock that stands still."""
    return SteppedClock(NOW)


@pytest.fixture
def store(clock):
    """A location with quick keys."""
    storage = MemoryStorage(clock)
    init_location(storage, "a pass phrase", cost=Cost(memory_kib=64, iterations=1, lanes=1))
    return open_store(storage, "a pass phrase", clock=clock)


@pytest.fixture
def rescue(store, clock):
    """A cluster without processes, pods are Ready at once."""
    yield from _rescue(store, clock, processes=False)


@pytest.fixture
def living(store, clock):
    """A cluster whose containers are processes."""
    yield from _rescue(store, clock, processes=True)


def _rescue(store, clock, *, processes):
    directory = open_directory()
    try:
        with Sandbox(directory, name="town", processes=processes) as sandbox:
            path = sandbox.write_kubeconfig(directory / "kubeconfig")
            with connect(name="town", kubeconfig=path, sleep=lambda _: None) as cluster:
                yield Rescue(Town(sandbox, cluster), store, clock)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
