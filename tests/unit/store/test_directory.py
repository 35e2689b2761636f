"""A directory as storage: durability, faults of the file system, leftovers."""

from __future__ import annotations

import errno
import os
from datetime import timedelta

import pytest

from reconciler.errors import LocationMissingError, UsageError
from reconciler.store.directory import TEMPORARY, DirectoryStorage
from reconciler.store.port import (
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from reconciler.store.storage import open_storage
from tests.support.unprivileged import nobody, open_folder


@pytest.fixture
def storage(tmp_path):
    return DirectoryStorage(tmp_path / "location", create=True)


def test_a_missing_root_is_a_missing_location(tmp_path):
    """No method makes the root: it may be a disk that is not mounted. The hint says how to make a location."""
    storage = DirectoryStorage(tmp_path / "unmounted")

    for call in (
        lambda: storage.create("a", b""),
        lambda: storage.replace("a", b""),
        lambda: storage.read("a"),
        lambda: storage.delete("a"),
        lambda: list(storage.entries("")),
    ):
        with pytest.raises(LocationMissingError) as caught:
            call()
        assert "reconciler keys init --location file://" in caught.value.hint
    assert not (tmp_path / "unmounted").exists()


@pytest.mark.parametrize(
    ("code", "family"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EROFS, StorageReadOnlyError),
        (errno.EACCES, StorageReadOnlyError),
        (errno.EPERM, StorageReadOnlyError),
        (errno.EIO, StorageUnavailableError),
        (errno.ESTALE, StorageUnavailableError),
    ],
)
def test_faults_of_the_file_system(storage, monkeypatch, code, family):
    """What the kernel answers becomes the port's error, and no trace of the write is left."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        for write in (storage.create, storage.replace):
            with pytest.raises(family):
                write("a", b"data")

    assert list(storage.entries("")) == []
    assert list((storage._root / TEMPORARY).iterdir()) == []


def test_a_read_only_directory():
    """A directory without write permission is read-only."""
    with open_folder() as folder:
        folder.chmod(0o555)
        storage = DirectoryStorage(folder)
        with nobody(), pytest.raises(StorageReadOnlyError):
            storage.create("a", b"")


def test_every_write_is_synced(storage, monkeypatch):
    """The file is synced before it gets its name, its directory after, and each new directory into its parent."""
    steps = []
    real_fsync, real_link = os.fsync, os.link
    monkeypatch.setattr(
        os, "fsync", lambda fd: (steps.append(os.readlink(f"/proc/self/fd/{fd}")), real_fsync(fd))
    )
    monkeypatch.setattr(os, "link", lambda a, b: (steps.append("link"), real_link(a, b)))
    root = str(storage._root)

    storage.create("a/b/c", b"data")

    assert steps[0].startswith(f"{root}/{TEMPORARY}/")
    assert steps[1:] == [root, f"{root}/a", "link", f"{root}/a/b"]


def test_leftovers_are_hidden_and_swept(storage):
    """A temporary file of a dead writer is in no listing; sweep removes it once it is old."""
    storage.create("a", b"")
    left = storage._root / TEMPORARY / "dead"
    left.write_bytes(b"12345")

    assert [o.name for o in storage.entries("")] == ["a"]
    assert storage.sweep(before=storage.now() - timedelta(hours=1)) == 0
    assert left.exists()
    assert storage.sweep(before=storage.now() + timedelta(hours=1)) == 5
    assert not left.exists()


def test_urls(tmp_path):
    """file:// URLs open directories, spaces included; others are refused without their credentials."""
    place = tmp_path / "my backups"
    storage = open_storage(f"file://{tmp_path}/my%20backups", create=True)
    storage.create("x", b"1")

    assert (place / "x").read_bytes() == b"1"
    assert open_storage(storage.url).read("x") == b"1"
    for url in ("s3://user:hunter2@bucket/path", "file://host/path", "nowhere", "file:relative"):
        with pytest.raises(UsageError) as caught:
            open_storage(url)
        assert "hunter2" not in str(caught.value)
