"""A location on a disk that is full, or that nobody may write to: nothing half-published, and it goes on afterwards."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from reconciler.clock import SystemClock
from reconciler.store.directory import TEMPORARY, DirectoryStorage
from reconciler.store.keys import init_location
from reconciler.store.port import Content, StorageFullError, StorageReadOnlyError
from reconciler.store.prune import plan_prune, run_prune
from reconciler.store.writer import PACK_BYTES
from tests.support.disks import largest_file, small_disk
from tests.support.storage import (
    DOMAIN,
    PASSPHRASE,
    QUICK,
    captured,
    faults,
    item,
    point,
    point_name,
    reopened,
)

MIB = 1 << 20
NONE = timedelta(0)
NOISE = random.Random(7).randbytes(2 * PACK_BYTES)


class Shelf:
    """A location in a directory, with one point in it."""

    def __init__(self, path):
        self.path = path
        self.storage = DirectoryStorage(path, create=True)
        init_location(self.storage, PASSPHRASE, cost=QUICK)
        self.first = self.capture("1", b"the first")

    @property
    def store(self):
        """The store, as another process opens it."""
        return reopened(self.storage, SystemClock())

    def capture(self, slot, data):
        """Capture an object and a stream."""
        return captured(self.store, slot, [item("a", value=slot)], contents={"d": data})

    def slots(self):
        """The points that are there."""
        return sorted(point.slot for point in self.store.points())

    def data(self, slot):
        """A point's stream."""
        store = self.store
        (content,) = store.point(point_name(slot))[0].contents
        return b"".join(store.stream(DOMAIN, content.root))

    def check_untouched(self):
        """The first point is there, alone and whole, and no temporary file is left."""
        assert self.slots() == ["1"]
        assert self.data("1") == b"the first"
        assert faults(self.store) == []
        assert list((self.path / TEMPORARY).glob("*")) == []


@pytest.fixture
def disk(tmp_path):
    """A disk that holds one pack and a half."""
    with small_disk(tmp_path / "disk", mebibytes=PACK_BYTES * 3 // 2 // MIB) as mounted:
        yield mounted


def prune(shelf):
    """Prune without waiting; give the report."""
    store = reopened(shelf.storage, SystemClock(), grace=NONE)
    plan = plan_prune(
        store, DOMAIN, keep=lambda name: name.slot != "gone", min_age=NONE, grace=NONE
    )
    return run_prune(store, plan)


def test_a_disk_that_fills_up_in_the_middle_of_a_pack(disk):
    """The pack is not there at all, nor is the point; with more space the same capture is made, with less nothing."""
    shelf = Shelf(disk.path / "location")
    for _ in range(2):
        with pytest.raises(StorageFullError, match="No space left on device") as caught:
            shelf.capture("2", NOISE)
        assert "free space" in caught.value.hint
        shelf.check_untouched()
    packs = {name: size for name, size in disk.files().items() if "/packs/" in name}
    assert sum(packs.values()) > PACK_BYTES, (
        "the first pack was whole, and stays until it is pruned"
    )

    disk.resize(200)
    shelf.capture("2", NOISE)
    assert shelf.slots() == ["1", "2"]
    assert shelf.data("2") == NOISE
    assert faults(shelf.store) == []


def test_what_a_failed_capture_left_is_freed(disk):
    """Packs that no point came to need go like all others, and then there is room again."""
    shelf = Shelf(disk.path / "location")
    with pytest.raises(StorageFullError):
        shelf.capture("2", NOISE)
    before = sum(disk.files().values())
    assert prune(shelf).packs_dropped == prune(shelf).packs_deleted == 1

    shelf.check_untouched()
    assert sum(disk.files().values()) < before - PACK_BYTES + MIB
    shelf.capture("2", NOISE[:PACK_BYTES])
    assert shelf.slots() == ["1", "2"]


def test_a_disk_that_is_full_to_the_last_byte(disk):
    """Reading and verifying need no space; a capture says what is wrong."""
    shelf = Shelf(disk.path / "location")
    ballast = disk.fill()

    with pytest.raises(StorageFullError):
        shelf.capture("2", b"small")
    shelf.check_untouched()

    ballast.unlink()
    shelf.capture("2", b"small")
    assert shelf.slots() == ["1", "2"]
    assert faults(shelf.store) == []


def test_prune_makes_room_on_a_full_disk(disk):
    """What was dropped in time is freed before anything is written, so not a byte of space is needed for it."""
    shelf = Shelf(disk.path / "location")
    with shelf.store.session(DOMAIN) as session:
        table = session.put_table([item("b")], previous=None)
        for slot, data in (("gone", NOISE[:PACK_BYTES]), ("2", b"the second")):
            root = session.put_stream([data])
            session.publish(
                point_name(slot), point(table, contents=(Content(name="content/d", root=root),))
            )
    first = prune(shelf)
    assert first.packs_dropped >= 1
    disk.fill()
    report = prune(shelf)

    # Where chunks end is a matter of the key: a pack that holds the end of one and the start of the other is repacked.
    assert report.packs_deleted == first.packs_dropped + first.packs_repacked
    assert report.freed_bytes > PACK_BYTES / 2
    assert faults(shelf.store) == []
    shelf.capture("3", b"small")
    assert shelf.slots() == ["1", "2", "3"]
    assert shelf.data("2") == b"the second"


def test_a_disk_that_nobody_may_write_to(disk):
    """Captures and prune say so and change nothing; restores and verify read as ever."""
    shelf = Shelf(disk.path / "location")
    before = disk.files()
    with disk.read_only():
        with pytest.raises(StorageReadOnlyError, match="Read-only file system") as caught:
            shelf.capture("2", b"small")
        assert "writable" in caught.value.hint
        with pytest.raises(StorageReadOnlyError):
            shelf.storage.delete("format")
        shelf.check_untouched()
        assert disk.files() == before
    shelf.capture("2", b"small")
    assert shelf.slots() == ["1", "2"]


def test_a_limit_on_the_size_of_files(tmp_path):
    """A quota that cuts a pack short is a full location too."""
    shelf = Shelf(tmp_path / "location")
    with largest_file(PACK_BYTES // 2), pytest.raises(StorageFullError, match="File too large"):
        shelf.capture("2", NOISE)
    shelf.check_untouched()
    shelf.capture("2", NOISE)
    assert shelf.data("2") == NOISE
