"""Verification: every kind of damage in every object is found and named, with the points that need it."""

from __future__ import annotations

import pytest

from reconciler.store.keys import add_passphrase
from reconciler.store.port import Content, TreeEntry
from tests.support.storage import (
    DOMAIN,
    PASSPHRASE,
    QUICK,
    captured,
    faults,
    flip,
    item,
    memory_location,
    point,
    point_name,
    reopened,
)


def small_location():
    """A location with one of everything: two keys, sessions, packs, points, a table, a tree and a stream."""
    storage, clock = memory_location()
    add_passphrase(storage, PASSPHRASE, "another", cost=QUICK)
    store = reopened(storage, clock)
    with store.session(DOMAIN) as session:
        table = session.put_table(
            [item(f"x{n}", kind=k) for n in range(30) for k in ("Secret", "ConfigMap")],
            previous=None,
        )
        tree = session.put_tree(
            [
                TreeEntry(
                    "f",
                    "file",
                    0o644,
                    0,
                    0,
                    0,
                    content=lambda: [b"f" * 4000],
                    xattrs={"user.a": b"1"},
                )
            ]
        )
        stream = session.put_stream([bytes(range(256)) * 3000])
        contents = (Content("volume/v", tree), Content("content/c", stream))
        session.publish(
            point_name("1"),
            point(table, contents=contents, outcomes=[{"item": str(n)} for n in range(200)]),
        )
    captured(store, "2", [item("other")])
    return storage, clock


def test_a_sound_location_has_no_faults():
    """What was just written is whole, at every depth of looking."""
    storage, clock = small_location()
    store = reopened(storage, clock)

    assert list(store.verify()) == []
    assert faults(store) == []
    assert faults(store, name=point_name("1")) == []
    assert faults(store, domain=DOMAIN) == []
    assert faults(store, domain="elsewhere") == []


def objects():
    storage, _ = small_location()
    return len(list(storage.entries("")))


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_byte_in_every_object_is_found_and_named(where):
    """One byte changed, anywhere in any object, is found when everything is read, and that object is named."""
    storage, clock = small_location()
    store = reopened(storage, clock)
    kinds = set()
    for entry in list(storage.entries("")):
        good = storage.read(entry.name)
        flip(storage, entry.name, at={"first": 0, "middle": None, "last": entry.size - 1}[where])
        found = faults(store)
        assert entry.name in [f.object for f in found], entry.name
        assert {f.object for f in found} == {entry.name}, "and nothing else is blamed"
        storage.replace(entry.name, good)
        kinds.add(
            entry.name.split("/")[2]
            if entry.name.startswith("domains/")
            else entry.name.split("/")[0]
        )

    assert kinds == {"format", "keys", "sessions", "packs", "index", "points"}
    assert faults(store) == []


def test_every_byte_of_a_point_counts():
    """No byte of a small point object can change unseen."""
    storage, clock = small_location()
    store = reopened(storage, clock)
    name = f"domains/{DOMAIN}/points/shop/web/2"
    for at in range(storage.read(name).__len__()):
        good = storage.read(name)
        flip(storage, name, at=at)
        assert [f.object for f in faults(store)] == [name], at
        storage.replace(name, good)


@pytest.mark.parametrize("keep", [0, 1, 10])
def test_truncation_of_every_object_is_found_and_named(keep):
    """An object cut short is found, even when no data is read."""
    storage, clock = small_location()
    store = reopened(storage, clock)
    for entry in list(storage.entries("")):
        good = storage.read(entry.name)
        storage.replace(entry.name, good[:keep])
        assert {f.object for f in store.verify()} == {entry.name}
        assert {f.object for f in faults(store)} == {entry.name}
        storage.replace(entry.name, good)


def test_a_missing_object_is_named():
    """A missing format, key that opened the store, session, pack or index object is named, with its points.

    A missing point is found by asking for it: the location alone cannot know that it was there.
    """
    storage, clock = small_location()
    store = reopened(storage, clock)
    for entry in list(storage.entries("")):
        good = storage.read(entry.name)
        storage.delete(entry.name)
        found = list(store.verify())
        if "/points/" in entry.name:
            slot = entry.name.rpartition("/")[2]
            assert [f.object for f in store.verify(point_name(slot))] == [entry.name]
        elif entry.name.startswith("keys/") and entry.name != store.opened_with:
            assert found == []
        else:
            assert {f.object for f in found} == {entry.name}
            if entry.name.startswith("domains/"):
                assert all(f.points for f in found), found
        storage.replace(entry.name, good)


def test_damage_is_laid_at_the_points_that_need_it():
    """A damaged pack names the points whose segments are hurt, not the others."""
    storage, clock = small_location()
    store = reopened(storage, clock)
    packs = [o.name for o in storage.entries(f"domains/{DOMAIN}/packs/")]
    hurt = set()
    for pack in packs:
        good = storage.read(pack)
        flip(storage, pack, at=40)
        [fault] = faults(store)
        storage.replace(pack, good)
        hurt.add(fault.points)

    assert hurt == {("shop/web/1",), ("shop/web/2",)}


def test_one_point_is_checked_alone():
    """Verifying a point reads the packs it needs and no others."""
    storage, clock = small_location()
    store = reopened(storage, clock)
    for pack in [o.name for o in storage.entries(f"domains/{DOMAIN}/packs/")]:
        good = storage.read(pack)
        flip(storage, pack, at=40)
        one, two = (faults(store, name=point_name(slot)) for slot in ("1", "2"))
        assert sorted([len(one), len(two)]) == [0, 1]
        storage.replace(pack, good)


def test_a_point_cannot_take_another_s_name():
    """A point copied over another's name does not open: whoever can write cannot roll back or swap."""
    storage, clock = small_location()
    store = reopened(storage, clock)
    storage.replace(
        f"domains/{DOMAIN}/points/shop/web/2", storage.read(f"domains/{DOMAIN}/points/shop/web/1")
    )

    assert [f.object for f in faults(store)] == [f"domains/{DOMAIN}/points/shop/web/2"]


def test_strangers_are_nobody_s_fault():
    """Objects that are not the store's are left alone."""
    storage, clock = small_location()
    storage.create("README", b"do not delete")
    storage.create(f"domains/{DOMAIN}/packs/notes.txt", b"mine")

    assert faults(reopened(storage, clock)) == []


def test_points_with_many_segments():
    """A point that needs more segments than fit into it keeps them in a list; damage to any part is still named."""
    storage, clock = memory_location()
    store = reopened(storage, clock)
    table = None
    for turn in range(30):
        objects = [item(f"x{n}", value=str(min(n, turn))) for n in range(30)]
        with store.session(DOMAIN) as session:
            table = session.put_table(objects, previous=table)
            session.publish(point_name(f"{turn:02}"), point(table))
    for entry in list(storage.entries("domains/"))[::3]:
        good = storage.read(entry.name)
        flip(storage, entry.name)
        found = faults(store)
        assert {f.object for f in found} == {entry.name}
        storage.replace(entry.name, good)
        if "/points/" not in entry.name:
            storage.delete(entry.name)
            assert {f.object for f in faults(store)} == {entry.name}
            storage.replace(entry.name, good)

    assert faults(store) == []
