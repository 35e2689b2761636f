"""What every storage does, directory and memory alike."""

from __future__ import annotations

import threading

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import UsageError
from reconciler.store.directory import DirectoryStorage
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import ObjectExistsError, ObjectMissingError


@pytest.fixture(params=["directory", "memory"])
def storage(request, tmp_path):
    if request.param == "memory":
        return MemoryStorage(SystemClock())
    return DirectoryStorage(tmp_path / "location", create=True)


def test_what_was_created_is_read(storage):
    """An object reads as it was written, whole or in part; a part beyond its end is empty."""
    storage.create("a/b/c", b"0123456789")

    assert storage.read("a/b/c") == b"0123456789"
    assert storage.read("a/b/c", offset=3, length=4) == b"3456"
    assert storage.read("a/b/c", offset=8) == b"89"
    assert storage.read("a/b/c", offset=8, length=100) == b"89"
    assert storage.read("a/b/c", offset=50) == b""


def test_create_refuses_what_exists(storage):
    """A second create changes nothing."""
    storage.create("x", b"first")

    with pytest.raises(ObjectExistsError):
        storage.create("x", b"second")
    assert storage.read("x") == b"first"


def test_of_many_creators_one_wins(storage):
    """However many create one object at once, one succeeds and its bytes stay."""
    won, barrier = [], threading.Barrier(8)

    def create(number):
        barrier.wait()
        try:
            storage.create("race", b"%d" % number)
        except ObjectExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert storage.read("race") == b"%d" % won[0]


def test_replace_writes_over(storage):
    """Replace needs no object, and puts the new one in place of an old one."""
    storage.replace("x", b"one")
    storage.replace("x", b"two")

    assert storage.read("x") == b"two"


def test_missing_objects(storage):
    """Reading what is not there says so; deleting it is nothing."""
    storage.create("a/b", b"")
    storage.delete("a/never")
    storage.delete("never/there")

    for name in ("x", "a", "a/b/c", "a/x"):
        with pytest.raises(ObjectMissingError):
            storage.read(name)


def test_listing(storage):
    """A listing has what starts with the prefix, sorted by name, with sizes; deleted objects are gone."""
    for name in ("b/2", "b/1", "b.c", "b/10/x", "c", "ba/1"):
        storage.create(name, name.encode())
    storage.delete("ba/1")

    assert [(o.name, o.size) for o in storage.entries("b")] == [
        ("b.c", 3),
        ("b/1", 3),
        ("b/10/x", 6),
        ("b/2", 3),
    ]
    assert [o.name for o in storage.entries("b/")] == ["b/1", "b/10/x", "b/2"]
    assert [o.name for o in storage.entries("b/1")] == ["b/1", "b/10/x"]
    assert [o.name for o in storage.entries("")] == ["b.c", "b/1", "b/10/x", "b/2", "c"]
    assert list(storage.entries("nothing/here")) == []


def test_ages_are_by_the_storage_clock(storage):
    """What was just written is not in the storage's future."""
    before = storage.now()
    storage.create("x", b"")
    [entry] = storage.entries("x")

    assert before.tzinfo is not None
    assert (
        before.timestamp() - 0.1 <= entry.modified_at.timestamp() <= storage.now().timestamp() + 0.1
    )


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "a//b", "", ".", "a/.hidden", ".tmp/x", "a\0b", "a/", "ä"],
)
def test_names_cannot_escape(storage, name):
    """A name that leaves the location, hides or is not plain is refused by every method."""
    for call in (
        lambda: storage.create(name, b""),
        lambda: storage.replace(name, b""),
        lambda: storage.read(name),
        lambda: storage.delete(name),
    ):
        with pytest.raises(UsageError):
            call()
