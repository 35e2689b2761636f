"""The mover's two halves: a folder becomes a tree, a tree becomes a folder, and nothing leads out of it."""

from __future__ import annotations

import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from reconciler.clock import SystemClock
from reconciler.errors import UsageError
from reconciler.mover.folder import Folder
from reconciler.mover.order import Earlier, Keys, Order, Place, Status, encode, read_order
from reconciler.mover.unpack import LeadsOutError, Unpacker
from reconciler.mover.work import Work
from reconciler.store.content import open_store
from reconciler.store.keys import Cost, init_location
from reconciler.store.port import EntryUnreadableError, StorageFullError, TreeEntry
from reconciler.store.storage import open_storage

NOW = SystemClock().now()
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def location(tmp_path):
    url = (tmp_path / "location").as_uri()
    storage = open_storage(url, create=True)
    init_location(storage, "secret", cost=Cost(memory_kib=64, iterations=1, lanes=1))
    return Place(
        "primary",
        url,
        Keys.of(open_store(storage, "secret", clock=SystemClock()).keys),
        "local",
        86400,
    )


@pytest.fixture
def source(tmp_path):
    """A folder with everything that a file system has names for."""
    top = tmp_path / "source"
    (top / "a" / "deep").mkdir(parents=True)
    (top / "a-b").write_bytes(b"sorts between a and what is in a")
    (top / "a" / "file").write_bytes(os.urandom(700_000))
    (top / "a" / "deep" / "small").write_text("small")
    (top / "empty").touch()
    (top / "link").symlink_to("a/file")
    os.link(top / "a-b", top / "same")
    os.mkfifo(top / "pipe")
    with (top / "sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"x")
    os.setxattr(top / "empty", "user.word", b"\x00\xff")
    (top / os.fsdecode(b"not-utf8-\xff")).write_text("x")
    (top / "a" / "deep").chmod(0o500)
    (top / "lost+found").mkdir()
    for path in [*top.rglob("*"), top]:
        if not path.is_symlink():
            os.utime(path, ns=(1, 1_500_000_000_123_456_789))
    yield top
    (top / "a" / "deep").chmod(0o700)


def seen(top):
    """What is there, as the file system says."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        if path.name == "lost+found":
            continue
        one = path.lstat()
        shown = [stat.filemode(one.st_mode), one.st_uid, one.st_gid, one.st_nlink]
        shown.append(one.st_mtime_ns)
        if path.is_symlink():
            shown.append(os.readlink(path))
        elif path.is_file():
            shown += [path.read_bytes(), sorted(os.listxattr(path))]
        found[str(path.relative_to(top))] = shown
    return found


def save(place, top, **more):
    order = Order("save-files", str(top), (msgspec.structs.replace(place, **more),))
    return Work(order, clock=SystemClock(), stop=threading.Event()).run()


def load(place, root, top):
    order = Order("load-files", str(top), (msgspec.structs.replace(place, root=root),))
    return Work(order, clock=SystemClock(), stop=threading.Event()).run()


def test_what_was_saved_comes_back(location, source, tmp_path):
    """Types, owners, modes, times to the nanosecond, links, attributes and contents; what was there before is gone."""
    target = tmp_path / "target"
    (target / "old" / "folder").mkdir(parents=True)
    (target / "lost+found").mkdir()
    saved = save(location, source)
    assert (saved.phase, saved.faults, saved.unreadable) == ("done", {}, 0)
    loaded = load(location, saved.saved["primary"].root, target)
    assert (loaded.phase, loaded.faults) == ("done", {})
    expected, found = seen(source), seen(target)
    # lost+found counts as a link of the top folder, and stays there.
    assert found == expected
    assert (target / "sparse").stat().st_blocks * 512 <= 128 * 1024
    assert (target / "lost+found").is_dir()


def test_an_unchanged_file_is_not_read_again(location, source):
    """By size and time, as long as the time is older than the reading of the earlier tree; else it is read."""
    first = save(location, source).saved["primary"]
    stop = threading.Event()

    def again(began_at):
        place = msgspec.structs.replace(location, earlier=Earlier(first.root, began_at))
        work = Work(Order("save-files", str(source), (place,)), clock=SystemClock(), stop=stop)
        status = work.run()
        return work._tally.read_bytes, status.saved["primary"].root

    assert again(NOW) == (0, first.root)
    read, root = again(datetime.fromtimestamp(1_400_000_000, UTC))
    assert read > 700_000
    assert root == first.root


def test_a_change_of_the_same_size_is_seen_by_its_time(location, source):
    """A file that was written over has another time; it is read, the rest is not."""
    first = save(location, source).saved["primary"]
    (source / "a" / "deep" / "small").write_text("SMALL")
    second = save(location, source, earlier=Earlier(first.root, NOW + timedelta(minutes=1)))
    assert second.saved["primary"].root != first.root
    assert second.saved["primary"].added_bytes < 20_000


@pytest.mark.skipif(not IS_ROOT, reason="other people's files need root")
def test_owners_come_back(location, tmp_path):
    """Files of several owners, and the top folder's."""
    top, target = tmp_path / "s", tmp_path / "t"
    top.mkdir()
    target.mkdir()
    (top / "one").write_text("1")
    os.chown(top / "one", 1001, 2001)
    os.chown(top, 1002, 2002)
    top.chmod(0o711)
    saved = save(location, top)
    assert load(location, saved.saved["primary"].root, target).phase == "done"
    assert (target / "one").stat().st_uid == 1001
    assert (target.stat().st_uid, target.stat().st_gid, target.stat().st_mode & 0o777) == (
        1002,
        2002,
        0o711,
    )


def test_a_file_that_cannot_be_read_is_counted(source):
    """One that became a link after it was listed is not followed; the rest goes on."""
    folder = Folder(str(source))
    for each in folder.entries():
        if each.path == "a-b":
            (source / "a-b").unlink()
            (source / "a-b").symlink_to("/etc/passwd")
            with pytest.raises(EntryUnreadableError):
                list(each.content())
    assert folder.tally.unreadable == 1


def test_a_file_that_vanishes_is_no_fault(location, source):
    """What goes away between being listed and being read was never part of the tree."""
    folder = Folder(str(source))
    entries = folder.entries()
    paths = []
    for entry in entries:
        paths.append(entry.path)
        if entry.path == ".":
            (source / "empty").unlink()
    assert "empty" not in paths
    assert folder.tally.unreadable == 0


def entry(path, type="file", **more):
    return TreeEntry(path, type, 0o755, os.geteuid(), os.getegid(), 0, **more)


@pytest.mark.parametrize(
    "entries",
    [
        [entry("out", "symlink", link="/tmp"), entry("out/file", content=lambda: [b"x"])],
        [entry("out", "symlink", link=".."), entry("out/sub", "directory")],
        [entry("f", content=lambda: [b""]), entry("f/sub", "directory")],
    ],
    ids=["file through a link", "folder through a link", "below a file"],
)
def test_a_tree_that_leads_out_is_refused(tmp_path, entries):
    """Nothing is written through a symbolic link, whoever made the tree."""
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(LeadsOutError):
        Unpacker(str(target)).unpack(entries)
    assert not (tmp_path / "sub").exists()
    assert not Path("/tmp/file").exists()


def test_a_full_volume_is_said(location, tmp_path):
    """A device that is smaller than the content, before anything is written."""
    device = tmp_path / "device"
    device.write_bytes(os.urandom(2 << 20))
    order = Order("save-device", str(device), (location,))
    saved = Work(order, clock=SystemClock(), stop=threading.Event()).run()
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(1 << 20))
    large.write_bytes(bytes(3 << 20))
    root = saved.saved["primary"].root

    def into(path):
        place = msgspec.structs.replace(location, root=root)
        return Work(
            Order("load-device", str(path), (place,)), clock=SystemClock(), stop=threading.Event()
        ).run()

    assert into(small).faults[""].reason == StorageFullError("x").reason
    assert small.read_bytes() == bytes(1 << 20)
    assert into(large).phase == "done"
    assert large.read_bytes()[: 2 << 20] == device.read_bytes()


def test_a_location_that_fails_does_not_stop_the_others(location, source, tmp_path):
    """Each location has its own result."""
    gone = msgspec.structs.replace(location, name="gone", url=(tmp_path / "nowhere").as_uri())
    order = Order("save-files", str(source), (gone, location))
    status = Work(order, clock=SystemClock(), stop=threading.Event()).run()
    assert status.phase == "done"
    assert set(status.saved) == {"primary"}
    assert status.faults["gone"].reason == "LocationMissing"


def test_a_mover_that_is_stopped_says_so(location, source):
    """Nothing of it counts, and another may try again."""
    stop = threading.Event()
    stop.set()
    status = Work(
        Order("save-files", str(source), (location,)), clock=SystemClock(), stop=stop
    ).run()
    assert status.phase == "failed"
    assert status.faults["primary"].is_transient


def test_an_order_is_never_shown(location):
    """Neither keys nor any part of a broken order are in texts."""
    order = Order("save-files", "/volume", (location,))
    assert location.keys.structure not in repr(order)
    with pytest.raises(UsageError) as caught:
        read_order(encode(order).replace(b"save-files", b"burn-files"))
    assert location.keys.structure not in str(caught.value)
    assert read_order(encode(order)) == order
    assert len(encode(Status("done"))) < 4096
