"""Real object stores: the tests are skipped where none is built."""

from __future__ import annotations

import uuid

import pytest

from reconciler.store.s3 import Bucket, S3Storage
from tests.support.buckets import missing, serving


def running(part, tmp_path_factory):
    if how := missing(part):
        pytest.skip(how)
    with serving(part, tmp_path_factory.mktemp(part)) as made:
        yield made


@pytest.fixture(scope="session")
def minio(tmp_path_factory):
    """A running MinIO."""
    yield from running("minio", tmp_path_factory)


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory):
    """A running VersityGW."""
    yield from running("versitygw", tmp_path_factory)


@pytest.fixture
def bucket(minio):
    """A new bucket's name."""
    return new_bucket(minio)


def new_bucket(server):
    """Make a bucket; its name."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    server.make(name)
    return name


@pytest.fixture
def opened(minio):
    """Open storage below a prefix of a bucket."""

    def opened(bucket, prefix="a/location", *, endpoint="", credentials=None, **how):
        place = Bucket.parse(minio.url(bucket, prefix, endpoint=endpoint))
        return S3Storage(place, credentials=credentials or minio.credentials, **how)

    return opened
