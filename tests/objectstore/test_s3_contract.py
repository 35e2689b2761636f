"""A bucket is storage like any other: the contract suites of storages and of stores, on two servers."""

from __future__ import annotations

import pytest

from reconciler.store.keys import init_location
from reconciler.store.s3 import Bucket, S3Storage
from tests.contract.store import test_store
from tests.contract.store.test_storage import *  # noqa: F403 - the suite
from tests.objectstore.conftest import new_bucket
from tests.support.storage import PASSPHRASE, QUICK


@pytest.fixture(params=["minio", "versitygw"])
def storage(request):
    """In the place of the suite's own storages."""
    server = request.getfixturevalue(request.param)
    place = Bucket.parse(server.url(new_bucket(server), "a/location"))
    return S3Storage(place, credentials=server.credentials)


def test_a_store_in_a_bucket(storage):
    """The whole way of a store: captured, restored by another process, pruned, damaged, found."""
    init_location(storage, PASSPHRASE, cost=QUICK)
    test_store.test_the_whole_way(storage)
