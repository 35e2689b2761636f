"""Real object stores: the tests are skipped where none is built."""

from __future__ import annotations

import uuid

import pytest

from reconciler.store.s3 import Bucket, S3Storage
from tests.cluster.node.build import program
from tests.support import minio as minios


@pytest.fixture(scope="session")
def minio(tmp_path_factory):
    """A running MinIO."""
    if not program("minio").is_file():
        pytest.skip(minios.MISSING)
    with minios.serving(tmp_path_factory.mktemp("minio")) as made:
        yield made


@pytest.fixture
def bucket(minio):
    """A new bucket's name."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    minio.make(name)
    return name


@pytest.fixture
def opened(minio):
    """Open storage below a prefix of a bucket."""

    def opened(bucket, prefix="a/location", *, endpoint="", credentials=None, **how):
        place = Bucket.parse(minio.url(bucket, prefix, endpoint=endpoint))
        return S3Storage(place, credentials=credentials or minio.credentials, **how)

    return opened
