"""Prune: what nobody keeps goes, in two phases; what any point needs stays, whatever happens."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from reconciler.errors import UsageError
from reconciler.store import prune as prune_module
from reconciler.store.content import open_store, summarise
from reconciler.store.directory import TEMPORARY, DirectoryStorage
from reconciler.store.keys import init_location
from reconciler.store.port import Content, DamagedError
from reconciler.store.prune import plan_prune, run_prune
from reconciler.store.session import SessionExpiredError
from tests.support.storage import (
    DAY,
    DOMAIN,
    PASSPHRASE,
    QUICK,
    Broken,
    FailingStorage,
    captured,
    faults,
    flip,
    item,
    memory_location,
    objects_of,
    point,
    point_name,
    reopened,
)


def pruned(store, *, keep=lambda name: True, min_age=timedelta(0)):
    """Plan and carry out."""
    return run_prune(store, plan_prune(store, DOMAIN, keep=keep, min_age=min_age, grace=DAY))


def history(storage, clock, *, turns=6):
    """A location whose points share some objects and a stream, and differ in others."""
    store = reopened(storage, clock)
    chance = random.Random(1)
    noise = [chance.randbytes(30_000).hex() for _ in range(turns)]
    kept = {}
    for turn in range(turns):
        objects = [
            item("same", value="s" * 200),
            *(item(f"x{n}", value=noise[turn]) for n in range(3)),
        ]
        objects.append(
            item("secret", kind="Secret", value=noise[turn // 2], version=str(turn // 2))
        )
        contents = {"same": b"same" * 100_000, "own": noise[turn].encode()}
        captured(store, f"{turn}", objects, contents=contents)
        kept[f"{turn}"] = ({o.key.path: o.projection for o in objects}, contents)
        clock.advance(timedelta(hours=1))
    return kept


def check_whole(storage, clock, kept, slots):
    """Every point that should be there is, verifies with all data read, and restores what was captured."""
    from reconciler.objects import canonical

    store = reopened(storage, clock)
    assert {n.slot for n in store.points()} >= set(slots)
    assert faults(store) == []
    for slot in slots:
        found, _ = store.point(point_name(slot))
        objects, contents = kept[slot]
        assert {k: canonical(m) for k, m in objects_of(store, found.table).items()} == objects
        for content in found.contents:
            name = content.name.removeprefix("content/")
            assert b"".join(store.stream(DOMAIN, content.root)) == contents[name]


def test_two_phases():
    """First the points go and their packs are dropped; a grace period later the files; then there is nothing to do."""
    storage, clock = memory_location()
    kept = history(storage, clock)
    clock.advance(2 * DAY)
    store = reopened(storage, clock)
    before = summarise(store)

    first = pruned(store, keep=lambda n: n.slot == "5")
    assert (first.points_deleted, first.packs_deleted) == (5, 0)
    assert first.packs_dropped + first.packs_repacked >= 4
    check_whole(storage, clock, kept, ["5"])
    clock.advance(DAY / 2)
    assert pruned(store).packs_deleted == 0
    clock.advance(DAY)
    second = pruned(store)
    assert second.packs_deleted >= 4
    assert second.freed_bytes > 0
    clock.advance(2 * DAY)
    pruned(store)
    clock.advance(2 * DAY)
    plan = plan_prune(store, DOMAIN, keep=lambda n: True, min_age=timedelta(0), grace=DAY)
    assert plan.is_empty
    check_whole(storage, clock, kept, ["5"])
    assert summarise(store).stored_bytes < before.stored_bytes / 2
    assert [n.slot for n in store.points()] == ["5"]


def test_young_points_stay():
    """A point younger than the minimum age by the storage's clock stays, whoever rejects it."""
    storage, clock = memory_location()
    history(storage, clock, turns=3)
    store = reopened(storage, clock)

    assert pruned(store, keep=lambda n: False, min_age=timedelta(hours=2)).points_deleted == 2
    assert [n.slot for n in store.points()] == ["2"]


def test_a_plan_changes_nothing_and_prune_does_no_more():
    """Planning writes nothing; a point that came later is not in the plan and stays, and so does what it needs."""
    storage, clock = memory_location()
    kept = history(storage, clock, turns=2)
    clock.advance(2 * DAY)
    store = reopened(storage, clock)
    before = {o.name: storage.read(o.name) for o in storage.entries("")}
    plan = plan_prune(store, DOMAIN, keep=lambda n: False, min_age=timedelta(0), grace=DAY)
    assert {o.name: storage.read(o.name) for o in storage.entries("")} == before
    assert "2 points" in plan.describe()

    found, _ = store.point(point_name("1"))
    with reopened(storage, clock).session(DOMAIN) as session:
        session.publish(point_name("late"), found)
    kept["late"] = kept["1"]
    run_prune(store, plan)

    assert [n.slot for n in store.points()] == ["late"]
    check_whole(storage, clock, kept, ["late"])


def effects_of(build):
    """How many effects a prune has on a location."""
    storage, clock, keep = build()
    counting = FailingStorage(storage)
    pruned(reopened(counting, clock), keep=keep)
    return counting.effects


def first_phase():
    storage, clock = memory_location()
    history(storage, clock)
    clock.advance(2 * DAY)
    return storage, clock, lambda n: n.slot in ("1", "5")


def second_phase():
    storage, clock, keep = first_phase()
    pruned(reopened(storage, clock), keep=keep)
    clock.advance(2 * DAY)
    return storage, clock, keep


@pytest.mark.parametrize("build", [first_phase, second_phase])
def test_killed_after_any_effect(build):
    """Killed after its n-th effect, for every n, prune harms no live point, and ends its work when run again."""
    count = effects_of(build)
    assert count >= 5
    for after in range(1, count + 1):
        kept = history(*memory_location())
        storage, clock, keep = build()
        with pytest.raises(Broken):
            pruned(reopened(FailingStorage(storage, after=after), clock), keep=keep)
        whole = reopened(storage, clock)
        assert faults(whole) == []
        for slot in ("1", "5"):
            found, _ = whole.point(point_name(slot))
            assert set(objects_of(whole, found.table)) == set(kept[slot][0])
        for _ in range(4):
            pruned(reopened(storage, clock), keep=keep)
            clock.advance(2 * DAY)
        check_whole(storage, clock, kept, ["1", "5"])
        plan = plan_prune(
            reopened(storage, clock), DOMAIN, keep=keep, min_age=timedelta(0), grace=DAY
        )
        assert plan.is_empty


def test_a_stream_under_way_survives():
    """What an unfinished session has written is young, and stays; so does what it relies on and others dropped."""
    storage, clock = memory_location()
    store = reopened(storage, clock)
    captured(store, "old", [item("shared", value="v" * 500)], contents={"big": b"b" * 2_000_000})
    clock.advance(2 * DAY)
    chance = random.Random(2)
    data = [chance.randbytes(5_000_000) for _ in range(8)]
    other = reopened(storage, clock)
    with other.session(DOMAIN) as session:

        def source():
            for number, piece in enumerate(data):
                if number == 7:
                    pruned(store, keep=lambda n: False)
                    clock.advance(timedelta(hours=11))
                    pruned(store, keep=lambda n: False)
                yield piece

        long = session.put_stream(source())
        again = session.put_stream([b"b" * 2_000_000])
        table = session.put_table([item("shared", value="v" * 500)], previous=None)
        session.publish(
            point_name("new"),
            point(table, contents=(Content("content/a", long), Content("content/b", again))),
        )
    assert [n.slot for n in store.points()] == ["new"]
    assert faults(reopened(storage, clock)) == []

    # The packs that it relies on had been dropped; marking again brings them back for good.
    for _ in range(4):
        clock.advance(2 * DAY)
        pruned(reopened(storage, clock))
        assert faults(reopened(storage, clock)) == []
    found, _ = store.point(point_name("new"))
    assert b"".join(store.stream(DOMAIN, found.contents[0].root)) == b"".join(data)
    assert b"".join(store.stream(DOMAIN, found.contents[1].root)) == b"b" * 2_000_000


def test_a_session_that_relied_too_long_gives_up():
    """A session older than half the grace period does not publish what prune has dropped."""
    storage, clock = memory_location()
    store = reopened(storage, clock)
    captured(store, "old", [item("shared")])
    clock.advance(2 * DAY)
    with reopened(storage, clock).session(DOMAIN) as session:
        table = session.put_table([item("shared")], previous=None)
        pruned(store, keep=lambda n: False)
        clock.advance(timedelta(hours=13))
        with pytest.raises(SessionExpiredError):
            session.publish(point_name("new"), point(table))


def test_abandoned_packs_go():
    """What a crashed session left goes once it is older than the grace period; before, it may be at work."""
    storage, clock = memory_location()
    with pytest.raises(Broken):
        captured(reopened(FailingStorage(storage, after=2), clock), "1", [item("a")])
    store = reopened(storage, clock)

    assert pruned(store).packs_deleted == 0
    clock.advance(2 * DAY)
    assert pruned(store).packs_deleted == 1
    assert list(storage.entries("domains/")) == []


def test_small_packs_and_index_objects_are_joined():
    """Many little captures end in few packs and index objects, and the same points."""
    storage, clock = memory_location()
    store = reopened(storage, clock)
    for number in range(prune_module.SMALL_PACKS_MAX + 4):
        captured(store, f"{number}", [item("a", value=str(number))])
    clock.advance(2 * DAY)
    pruned(store)
    clock.advance(2 * DAY)
    pruned(store)

    assert summarise(store, DOMAIN).packs == 1
    assert len(list(storage.entries(f"domains/{DOMAIN}/index/"))) == 1
    assert faults(reopened(storage, clock)) == []
    assert summarise(store).points == prune_module.SMALL_PACKS_MAX + 4


def test_damage_stops_prune():
    """When a point or an index object does not open, what is in use is not known, and nothing is deleted."""
    for kind in ("points/shop/web/1", "index/"):
        storage, clock = memory_location()
        history(storage, clock, turns=3)
        clock.advance(2 * DAY)
        victim = next(iter(storage.entries(f"domains/{DOMAIN}/{kind}"))).name
        flip(storage, victim)
        before = {o.name: storage.read(o.name) for o in storage.entries("")}
        with pytest.raises(DamagedError):
            pruned(reopened(storage, clock), keep=lambda n: n.slot != "0")
        assert {o.name: storage.read(o.name) for o in storage.entries("")} == before


def test_grace_is_no_shorter_than_sessions_count_on():
    """A shorter grace period than writers count on is refused."""
    storage, clock = memory_location()

    with pytest.raises(UsageError):
        plan_prune(
            reopened(storage, clock),
            DOMAIN,
            keep=lambda n: True,
            min_age=DAY,
            grace=timedelta(hours=1),
        )


def test_prune_sweeps_temporary_files(tmp_path):
    """A temporary file of a dead writer goes with prune, by the file system's clock."""
    import os

    from reconciler.clock import SystemClock

    storage = DirectoryStorage(tmp_path / "location", create=True)
    init_location(storage, PASSPHRASE, cost=QUICK)
    left = tmp_path / "location" / TEMPORARY / "dead"
    left.write_bytes(b"12345")
    os.utime(left, (1, 1))
    pruned(open_store(storage, PASSPHRASE, clock=SystemClock()))

    assert not left.exists()


def test_a_root_whose_packs_were_dropped_is_not_published():
    """A root that waited so long for its point that prune dropped its packs must be captured again."""
    storage, clock = memory_location()
    store = reopened(storage, clock)
    with store.session(DOMAIN) as session:
        stream = session.put_stream([b"x" * 1000])
    clock.advance(2 * DAY)
    pruned(store)
    with reopened(storage, clock).session(DOMAIN) as session:
        table = session.put_table([], previous=None)
        with pytest.raises(SessionExpiredError):
            session.publish(point_name(), point(table, contents=(Content("content/c", stream),)))
        again = session.put_stream([b"x" * 1000])
        session.publish(point_name(), point(table, contents=(Content("content/c", again),)))

    assert again == stream
    assert faults(reopened(storage, clock)) == []
