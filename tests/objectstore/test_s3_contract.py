"""A bucket is storage like any other: the contract suite of storages, on MinIO."""

from __future__ import annotations

import pytest

from tests.contract.store.test_storage import *  # noqa: F403 - the suite


@pytest.fixture
def storage(bucket, opened):
    """In the place of the suite's own storages."""
    return opened(bucket)
