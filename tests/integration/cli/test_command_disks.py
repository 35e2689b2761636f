"""The command line and a location on a real disk that is full, or read-only: what it says, how it ends, what follows."""

from __future__ import annotations

import base64
import random
from datetime import timedelta

import pytest

from reconciler.store.content import open_store
from tests.integration.cli.conftest import make
from tests.support.command import reconciler
from tests.support.disks import small_disk
from tests.support.passes import failures, slots
from tests.support.town_hall import TownHall
from tests.support.world import PASSPHRASE, config_map

pytestmark = pytest.mark.slow
SIZE_MIB = 4


@pytest.fixture
def disk(tmp_path):
    """A small disk, where the location of the world will be."""
    with small_disk(tmp_path / "location", mebibytes=SIZE_MIB) as mounted:
        yield mounted


@pytest.fixture
def hall(tmp_path, sandbox, disk):
    """A world whose location is on the disk, with one point of `shop`."""
    made = TownHall(make(tmp_path, sandbox))
    made.world.run_pass()
    return made


def grow(hall, mebibytes):
    """Give the shop this much more that nothing makes smaller."""
    noise = random.Random(mebibytes)
    for number in range(mebibytes * 2):
        text = base64.b85encode(noise.randbytes(400_000)).decode()
        hall.world.objects(config_map("shop", f"noise{number}", value=text))


def check(hall, expected):
    """Ledger and store agree, and everything is whole."""
    store = open_store(hall.world.storage, PASSPHRASE, clock=hall.world.clock)
    assert len(slots(hall.world)) == expected
    assert sorted(point.slot for point in store.points()) == slots(hall.world)
    assert list(store.verify(read_data=1.0)) == []


def test_a_capture_onto_a_full_disk(hall, disk):
    """It ends with 10 and says what to do, a pass records the failure; with more space the next one is whole."""
    grow(hall, 6)
    by_hand = hall("capture", "shop")

    assert by_hand.code == 10
    assert "StorageFull" in by_hand.out
    assert "No space left on device" in by_hand.out
    check(hall, 1)

    hall.world.clock.advance(timedelta(hours=1))
    report = hall.world.run_pass()
    assert report.exit_code == 6
    (line,) = report.captured
    assert [spec.reason for spec in failures(hall.world, line.slot)] == ["StorageFull"]
    check(hall, 1)

    disk.resize(64)
    hall.world.clock.advance(timedelta(minutes=2))
    assert [one.phase for one in hall.world.run_pass().captured] == ["Succeeded"]
    assert hall("capture", "shop").code == 0
    check(hall, 3)


def test_a_full_disk_is_read_as_ever_and_pruned(hall, disk):
    """Points are listed, verified and restored from it; prune frees what retention let go."""
    config = hall.world.config
    config.write_text(config.read_text() + "prune: {minAge: 0s, grace: 0s}\n")
    policy = hall.world.root / "policies" / "policies" / "gold.yaml"
    hall.world.write("policies/gold.yaml", policy.read_text().replace("last: 24", "last: 1"))
    hall.world.merge("keep one")
    grow(hall, 1)
    for number in range(2):
        for name in ("noise0", "noise1") if number else ():
            hall.world.edit("shop", name, "nothing any more")
        hall.world.clock.advance(timedelta(hours=1))
        hall.world.run_pass()
    assert hall("prune").code == 0
    disk.fill()

    assert hall("verify", "--all").code == 0
    assert hall("get", "points", "-o", "name").code == 0
    assert hall("restore", "plan", "shop/latest").code == 0
    before = sum(disk.files().values())
    assert hall("prune").code == 0
    assert sum(disk.files().values()) < before - 500_000
    assert hall("verify", "--all").code == 0


def test_a_read_only_disk(hall, disk):
    """Captures and prune end with 10 and the cause; reading goes on; afterwards everything does."""
    before = disk.files()
    with disk.read_only():
        by_hand, passed = hall("capture", "shop"), hall("run", "--once")
        assert by_hand.code == 10
        assert "Read-only file system" in by_hand.out
        assert passed.code == 6
        assert "StorageReadOnly" in passed.out
        assert hall("verify", "--all").code == 0
        assert hall("restore", "plan", "shop/latest").code == 0
        assert disk.files() == before
    assert hall("capture", "shop").code == 0
    check(hall, len(slots(hall.world)))


def test_making_a_location_ready_on_a_full_disk(disk, tmp_path):
    """`keys init` ends with 10; the same command makes it ready when there is space."""
    url = (disk.path / "new").as_uri()
    (disk.path / "new").mkdir()
    ballast = disk.fill()
    argv = ("keys", "init", "--location", url)
    refused = reconciler(*argv, RECONCILER_PASSPHRASE=PASSPHRASE)

    assert refused.code == 10
    assert "No space left on device" in refused.err
    assert "next:" in refused.err
    ballast.unlink()
    assert reconciler(*argv, RECONCILER_PASSPHRASE=PASSPHRASE).code == 0
    assert reconciler("keys", "list", "--location", url).code == 0
