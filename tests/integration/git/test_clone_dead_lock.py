"""Locks in a bare clone that a killed process left behind, and locks that are somebody's."""

from __future__ import annotations

import os

import pytest

from reconciler.git.clone import DEAD_LOCK_S, BareClone, RefMovedError
from reconciler.git.remote import RemoteUnreachableError
from reconciler.ledger.ledger import Entry
from tests.support.gitremote import GitRemote, git
from tests.support.ledgers import ledger, point

LOCAL, TRACKED = "refs/heads/main", "refs/remotes/origin/main"


@pytest.fixture
def remote(tmp_path):
    return GitRemote(tmp_path / "remote.git")


@pytest.fixture
def clone(tmp_path, remote):
    return BareClone(tmp_path / "clone.git", url=remote.url)


def leave_lock(clone, name, *, age=0.0):
    """A lock file as git makes it, `age` seconds old."""
    lock = clone.path / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch(exist_ok=False)
    made = lock.stat().st_mtime - age
    os.utime(lock, (made, made))
    return lock


@pytest.mark.parametrize("exists", [True, False])
def test_a_dead_lock_does_not_stop_a_move(clone, remote, exists):
    """A ref is moved, and created, past the lock of a killed process."""
    first = remote.commit({"a.yaml": "1"})
    clone.fetch("main")
    if exists:
        clone.move("main", first, expected=None)
    second = remote.commit({"a.yaml": "2"})
    clone.fetch("main")
    lock = leave_lock(clone, LOCAL, age=DEAD_LOCK_S + 5)

    clone.move("main", second, expected=first if exists else None)

    assert clone.tip("main") == second
    assert not lock.exists()
    assert list(clone.path.glob(".now-*")) == []


def test_a_dead_lock_does_not_excuse_a_lost_race(clone, remote):
    """The comparison holds after a dead lock too: a ref that is elsewhere is not moved."""
    first = remote.commit({"a.yaml": "1"})
    second = remote.commit({"a.yaml": "2"})
    clone.fetch("main")
    clone.move("main", second, expected=None)
    leave_lock(clone, LOCAL, age=DEAD_LOCK_S + 5)

    with pytest.raises(RefMovedError):
        clone.move("main", second, expected=first)

    assert clone.tip("main") == second


def test_a_dead_lock_does_not_stop_a_fetch(clone, remote):
    """A fetch that was killed does not stop every later one."""
    remote.commit({"a.yaml": "1"})
    clone.fetch("main")
    tip = remote.commit({"a.yaml": "2"})
    lock = leave_lock(clone, TRACKED, age=DEAD_LOCK_S + 5)

    assert clone.fetch("main") == tip
    assert clone.seen("main") == tip
    assert not lock.exists()


def test_a_dead_lock_of_packed_refs_does_not_stop_a_fetch(clone, remote):
    """A branch that vanished is forgotten, though the packed refs were locked when a process was killed."""
    remote.commit({"a.yaml": "1"})
    clone.fetch("main")
    git(clone.path, "pack-refs", "--all")
    git(remote.path, "update-ref", "-d", LOCAL)
    lock = leave_lock(clone, "packed-refs", age=DEAD_LOCK_S + 5)

    assert clone.fetch("main") is None
    assert clone.seen("main") is None
    assert not lock.exists()


def test_a_fresh_lock_is_left(clone, remote):
    """A lock of this moment is a live process's: nothing is moved, and the lock stays."""
    first = remote.commit({"a.yaml": "1"})
    clone.fetch("main")
    second = remote.commit({"a.yaml": "2"})
    locks = [leave_lock(clone, LOCAL), leave_lock(clone, TRACKED)]

    with pytest.raises(RefMovedError, match="locked"):
        clone.move("main", first, expected=None)
    with pytest.raises(RemoteUnreachableError):
        clone.fetch("main")

    assert all(lock.exists() for lock in locks)
    assert clone.tip("main") is None
    for lock in locks:
        lock.unlink()
    assert clone.fetch("main") == second


def test_a_dead_lock_does_not_hide_that_the_remote_is_away(clone, remote):
    """A remote that is away stays one, with a dead lock or without."""
    tip = remote.commit({"a.yaml": "1"})
    clone.fetch("main")
    leave_lock(clone, TRACKED, age=DEAD_LOCK_S + 5)
    remote.path.rename(remote.path.with_name("away.git"))

    with pytest.raises(RemoteUnreachableError):
        clone.fetch("main")

    assert clone.seen("main") == tip


def test_a_ledger_goes_on_past_dead_locks(tmp_path, remote):
    """Appending, pushing and refreshing go on, whichever ref's lock was left behind."""
    here = ledger(tmp_path / "work", remote.url)
    here.refresh()
    here.append([Entry(point(0))])
    here.push()
    here.refresh()
    locks = [
        leave_lock(here.clone, ref, age=DEAD_LOCK_S + 5)
        for ref in (
            f"refs/heads/{here.branch}",
            f"refs/confirmed/{here.branch}",
            f"refs/remotes/origin/{here.branch}",
        )
    ]

    here.append([Entry(point(1))])
    here.push()
    other = ledger(tmp_path / "other", remote.url)
    other.refresh()
    other.append([Entry(point(2))])
    other.push()
    here.refresh()

    assert [lock for lock in locks if lock.exists()] == []
    assert len(here.view().points()) == 3
