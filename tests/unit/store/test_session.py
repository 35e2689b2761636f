"""Sessions: what a capture costs, what it relies on, who wins a slot, and how it fails."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.errors import ReconcilerError, UsageError
from reconciler.objects import canonical
from reconciler.store.port import (
    Content,
    DamagedError,
    ObjectMissingError,
    Root,
    StorageFullError,
    StorageReadOnlyError,
    TreeEntry,
)
from reconciler.store.session import SessionExpiredError
from tests.support.storage import (
    DAY,
    DOMAIN,
    Broken,
    FailingStorage,
    captured,
    faults,
    item,
    memory_location,
    objects_of,
    point,
    point_name,
    reopened,
)


@pytest.fixture
def place():
    return memory_location()


@pytest.fixture
def store(place):
    return reopened(*place)


def stored_bytes(storage):
    return sum(o.size for o in storage.entries(""))


def test_a_point_reads_back_in_another_process(place, store):
    """Record, table, contents and blueprints come back as they were published, large ones too."""
    record = {
        "phase": "Succeeded",
        "objects": 40,
        "outcomes": [{"item": f"thing-{n}", "result": "Succeeded"} for n in range(300)],
        "versions": {f"Kind{n}": {"since": str(n), "upto": str(n)} for n in range(200)},
        "message": "x" * 5000,
        "none": None,
    }
    blueprint = {"kind": "Blueprint", "spec": {"actions": ["y" * 9000]}}
    with store.session(DOMAIN) as session:
        table = session.put_table([item(f"a{n}") for n in range(40)], previous=None)
        dump = session.put_stream([b"dump " * 100_000])
        given = replace(
            point(
                table,
                contents=(
                    Content(
                        "content/pg/dump",
                        dump,
                        "2026-11-23T11:00:00Z",
                        "apps/StatefulSet/shop/db",
                        blueprint,
                    ),
                ),
            ),
            record=record,
        )
        published = session.publish(point_name(), given)
    found, digest = reopened(*place).point(point_name())

    assert found == given
    assert digest == published.digest
    assert published.created
    assert list(reopened(*place).points()) == [point_name()]
    assert list(store.points("elsewhere")) == []


def test_what_a_point_added_is_what_the_location_grew_by(place, store):
    """`added_bytes` of all points of a session together is what the location holds more, to the byte."""
    storage, _ = place
    before = stored_bytes(storage)
    with store.session(DOMAIN) as session:
        added = 0
        for namespace in ("a", "b", "c"):
            table = session.put_table(
                [item(f"x{n}", namespace=namespace) for n in range(50)], previous=None
            )
            added += session.publish(point_name(namespace=namespace), point(table)).added_bytes

    assert abs(stored_bytes(storage) - before - added) <= 6


def test_an_unchanged_capture_adds_only_its_point(place, store):
    """The same objects, Secrets included, add one object of at most a kilobyte."""
    storage, _ = place
    objects = [item(f"x{n}", kind=kind) for n in range(150) for kind in ("ConfigMap", "Secret")]
    outcomes = [
        {"item": o.key.path, "result": "Succeeded", "reason": "Captured", "message": ""}
        for o in objects
    ]
    with store.session(DOMAIN) as session:
        table = session.put_table(objects, previous=None)
        session.publish(point_name("1"), point(table, outcomes=outcomes))
    before = {o.name for o in storage.entries("")}
    with reopened(*place).session(DOMAIN) as session:
        again = session.put_table(objects, previous=table)
        published = session.publish(point_name("2"), point(again, outcomes=outcomes))
    new = [o for o in storage.entries("") if o.name not in before]

    assert again == table
    assert [o.name for o in new] == [f"domains/{DOMAIN}/points/shop/web/2"]
    assert new[0].size == published.added_bytes <= 1024


def deployment(number, *, image="1.0"):
    """An object of some 3 kB, as clusters have them."""
    import hashlib

    name = f"service-{number:03}"
    noise = hashlib.sha512(f"{name}{number}".encode()).hexdigest()
    made = item(name, kind="Deployment", group="apps", value=noise)
    manifest = {
        **__import__("json").loads(made.projection),
        "spec": {
            "replicas": number % 5,
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "app",
                            "image": f"registry.example/{name}:{image}",
                            "env": [
                                {"name": f"SETTING_{n}", "value": f"{noise[n : n + 24]}-{n}"}
                                for n in range(24)
                            ],
                        }
                    ]
                }
            },
        },
        "note": [hashlib.md5(f"{name}{n}".encode()).hexdigest() for n in range(12)],
    }
    return replace(made, projection=canonical(manifest))


def test_growth_is_with_the_changes(place, store):
    """One per cent changed stores at most 3 % of the first capture, beyond a kilobyte a point."""
    storage, _ = place
    tables, cost = {}, []
    for turn in range(3):
        before = stored_bytes(storage)
        with reopened(*place).session(DOMAIN) as session:
            for app in range(10):
                changed = {50, 150} if turn == 2 else set()
                objects = [
                    deployment(n, image="2.0" if n in changed else "1.0") for n in range(app, 200)
                ]
                namespace = f"ns{app}"
                tables[app] = session.put_table(objects, previous=tables.get(app))
                session.publish(point_name(str(turn), namespace=namespace), point(tables[app]))
        cost.append(stored_bytes(storage) - before)
    first, unchanged, changed = cost

    assert unchanged <= 10 * 1024
    assert changed - 10 * 1024 <= 0.03 * first


def test_equal_projections_have_equal_records(store):
    """Rows tell what changed: equal records mean equal objects, other kinds than Secrets."""
    with store.session(DOMAIN) as session:
        one = session.put_table([item("a", value="1"), item("b", value="1")], previous=None)
        two = session.put_table([item("a", value="2"), item("b", value="1")], previous=one)
    rows_one, rows_two = (
        {e.key.name: e.record for e in store.table(DOMAIN, r)} for r in (one, two)
    )

    assert rows_one["b"] == rows_two["b"]
    assert rows_one["a"] != rows_two["a"]


@pytest.mark.parametrize(
    ("change", "same"),
    [({}, True), ({"version": "2"}, False), ({"uid": "another"}, False), ({"version": ""}, False)],
)
def test_secrets_are_reused_only_while_unchanged(store, change, same):
    """A Secret's record is random, and is used again only while uid and resourceVersion are the same."""
    with store.session(DOMAIN) as session:
        first = session.put_table([item("s", kind="Secret", value="pw")], previous=None)
        twin = session.put_table([item("s", kind="Secret", value="pw")], previous=None)
        after = session.put_table([item("s", kind="Secret", value="pw", **change)], previous=first)
    [record], [other], [later] = (
        [e.record for e in store.table(DOMAIN, r)] for r in (first, twin, after)
    )

    assert record != other
    assert (record == later) is same
    assert objects_of(store, after)["/Secret/shop/s"]["data"] == {"value": "pw"}


def test_only_core_secrets_are_secrets(store):
    """A custom kind that is called Secret, in another group, is an object like any other."""
    with store.session(DOMAIN) as session:
        one = session.put_table([item("s", kind="Secret", group="vault.example")], previous=None)
        two = session.put_table(
            [item("s", kind="Secret", group="vault.example", version="9")], previous=one
        )

    assert one == two


def test_nothing_in_the_location_is_plaintext(place, store):
    """No object holds a name, a value, a path or a passphrase in the clear."""
    storage, _ = place
    marker = "UNMISTAKABLE-MARKER"
    with store.session(DOMAIN) as session:
        table = session.put_table(
            [
                item(f"{marker}-name", kind=k, value=f"{marker}-value")
                for k in ("Secret", "ConfigMap")
            ],
            previous=None,
        )
        tree = session.put_tree(
            [
                TreeEntry(
                    f"{marker}-path",
                    "file",
                    0o600,
                    0,
                    0,
                    0,
                    xattrs={"user.x": marker.encode()},
                    content=lambda: [marker.encode()],
                )
            ]
        )
        stream = session.put_stream([marker.encode() * 100_000])
        contents = (
            Content("volume/a", tree),
            Content("content/b", stream, blueprint={"x": marker}),
        )
        session.publish(point_name(), point(table, contents=contents, message=marker))

    for entry in storage.entries(""):
        data = storage.read(entry.name)
        assert marker.encode() not in data
        assert b"MARKER" not in data
        assert b"correct horse" not in data


def test_one_of_two_sessions_wins_a_slot(store):
    """Whoever creates the point has it; the other learns whose it is and loses nothing."""
    barrier, results = threading.Barrier(2), []

    def capture(value):
        with store.session(DOMAIN) as session:
            table = session.put_table([item("a", value=value)], previous=None)
            barrier.wait()
            results.append((value, session.publish(point_name(), point(table))))

    threads = [threading.Thread(target=capture, args=(v,)) for v in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, digest = store.point(point_name())
    [winner] = [value for value, published in results if published.created]

    assert {published.digest for _, published in results} == {digest}
    assert objects_of(store, found.table)["/ConfigMap/shop/a"]["data"]["value"] == winner
    assert faults(store) == []


def test_a_lost_answer_is_no_lost_race(place):
    """When the point was created but the answer got lost and the call repeated, the point is ours."""
    storage, clock = place

    class Repeating:
        def __getattr__(self, name):
            return getattr(storage, name)

        def create(self, name, data):
            storage.create(name, data)
            if "/points/" in name:
                storage.create(name, data)

    assert captured(reopened(Repeating(), clock), "1", [item("a")]).created


def test_many_threads_share_a_session(place, store):
    """Captures in parallel share packs, and each comes out whole."""
    storage, _ = place
    roots = {}
    with store.session(DOMAIN) as session:

        def capture(number):
            namespace = f"ns{number}"
            table = session.put_table(
                [item(f"x{n}", namespace=namespace, value=str(n)) for n in range(200)],
                previous=None,
            )
            dump = session.put_stream([bytes([number]) * 700_000, b"tail"])
            roots[number] = session.publish(
                point_name(namespace=namespace),
                point(table, contents=(Content("content/dump", dump),)),
            )

        threads = [threading.Thread(target=capture, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(roots) == 12
    assert faults(reopened(*place)) == []
    for number, published in roots.items():
        found, _ = store.point(published.name)
        assert (
            b"".join(store.stream(DOMAIN, found.contents[0].root))
            == bytes([number]) * 700_000 + b"tail"
        )


def test_a_root_can_be_published_by_another_session(place, store):
    """What a session put is durable when it ends well, and another process can put it into a point."""
    with store.session(DOMAIN) as session:
        stream = session.put_stream([b"x" * 3_000_000])
        tree = session.put_tree([TreeEntry("f", "file", 0o644, 1, 2, 3, content=lambda: [b"data"])])
    second = reopened(*place)
    with second.session(DOMAIN) as session:
        table = session.put_table([item("a")], previous=None)
        session.publish(
            point_name(),
            point(table, contents=(Content("volume/v", tree), Content("content/c", stream))),
        )

    assert faults(reopened(*place)) == []
    with second.session(DOMAIN) as session, pytest.raises(DamagedError):
        session.publish(point_name("2"), point(Root("table", "00" * 16, 0, 0)))
    with second.session(DOMAIN) as session, pytest.raises(UsageError):
        session.publish(point_name("2"), point(Root("table", "nonsense", 0, 0)))


def test_an_abandoned_session_publishes_nothing(place, store):
    """After an exception nothing of the session is in any index."""
    with pytest.raises(ZeroDivisionError), store.session(DOMAIN) as session:
        session.put_table([item("a")], previous=None)
        raise ZeroDivisionError

    assert list(store.points()) == []
    assert [o.name for o in place[0].entries("domains/")] == []
    with pytest.raises(RuntimeError):
        session.put_table([item("a")], previous=None)


@pytest.mark.parametrize("error", [StorageFullError, StorageReadOnlyError])
def test_a_full_location_fails_and_harms_nothing(place, error):
    """At whichever write the location turns full or read-only, the error comes out and old points stay whole."""
    storage, clock = place
    first = captured(reopened(storage, clock), "1", [item("a", value="old")])
    for instead in range(1, 6):
        broken = FailingStorage(storage, instead=instead, error=error("write: no"))
        broken.read = storage.read
        try:
            captured(
                reopened(broken, clock),
                f"x{instead}",
                [item("a", value=str(instead))],
                contents={"d": b"z" * 400_000},
            )
        except error:
            continue
        break
    else:
        pytest.fail("a capture has fewer than five writes")

    assert instead >= 4
    store = reopened(storage, clock)
    assert store.point(first.name)[1] == first.digest
    assert faults(store) == []


def test_a_crash_after_any_effect_loses_no_point(place):
    """Killed after its n-th effect, for every n, a capture leaves old points whole and can be done again."""
    storage, clock = place
    captured(reopened(storage, clock), "0", [item("a", value="old")])
    total = FailingStorage(storage)
    captured(reopened(total, clock), "1", [item("a", value="new")], contents={"d": b"d" * 300_000})
    assert total.effects == 4, "session, pack, index, point"

    for after in range(1, total.effects + 1):
        slot = f"crash-{after}"
        objects, contents = [item("a", value=slot)], {"d": slot.encode() * 50_000}
        with pytest.raises(Broken):
            captured(
                reopened(FailingStorage(storage, after=after), clock),
                slot,
                objects,
                contents=contents,
            )
        store = reopened(storage, clock)
        assert faults(store) == []
        again = captured(store, slot, objects, contents=contents)
        assert again.created is (after < total.effects)
        found, _ = store.point(point_name(slot))
        assert objects_of(store, found.table)["/ConfigMap/shop/a"]["data"]["value"] == slot
        assert b"".join(store.stream(DOMAIN, found.contents[0].root)) == contents["d"]
        assert faults(store) == []


def test_a_failing_source_does_not_hang(store):
    """An exception in what is read comes out as it is; the session goes on for others."""

    def source():
        yield b"x" * 5_000_000
        raise OSError("the pod died")

    with store.session(DOMAIN) as session:
        with pytest.raises(OSError, match="pod died"):
            session.put_stream(source())
        table = session.put_table([item("a")], previous=None)
        assert session.publish(point_name(), point(table)).created


def test_an_old_session_looks_again(place):
    """Past half the grace period a session publishes only what the index still lists."""
    storage, clock = place
    store = reopened(storage, clock, grace=DAY)
    captured(store, "1", [item("a", value="shared")])
    with store.session(DOMAIN) as old:
        table = old.put_table([item("a", value="shared"), item("b")], previous=None)
        clock.advance(timedelta(hours=13))
        assert old.publish(point_name("2"), point(table)).created
    with store.session(DOMAIN) as old:
        table = old.put_table([item("a", value="shared")], previous=None)
        clock.advance(timedelta(hours=13))
        for entry in list(storage.entries(f"domains/{DOMAIN}/index/")):
            storage.delete(entry.name)
        with pytest.raises(SessionExpiredError):
            old.publish(point_name("3"), point(table))

    assert {n.slot for n in store.points()} == {"1", "2"}


def test_refusals(store):
    """What makes no sense is refused with a message that names it."""
    with store.session(DOMAIN) as session:
        table = session.put_table([], previous=None)
        for call in (
            lambda: session.put_table([item("a"), item("a", value="2")], previous=None),
            lambda: session.publish(point_name(domain="elsewhere"), point(table)),
            lambda: session.publish(point_name("../1"), point(table)),
            lambda: session.put_tree([TreeEntry("../x", "file", 0, 0, 0, 0)]),
            lambda: session.put_tree([TreeEntry("/x", "file", 0, 0, 0, 0)]),
            lambda: session.put_tree([TreeEntry("x", "directory", 0, 0, 0, 0)] * 2),
            lambda: session.put_tree([TreeEntry("x", "hardlink", 0, 0, 0, 0, link="../y")]),
            lambda: store.session("../elsewhere"),
        ):
            with pytest.raises(ReconcilerError):
                call()
    with pytest.raises(ObjectMissingError):
        store.point(point_name("never"))


def test_empty_forms(store):
    """No objects, no bytes and no files are a table, a stream and a tree."""
    with store.session(DOMAIN) as session:
        table = session.put_table([], previous=None)
        stream = session.put_stream([])
        tree = session.put_tree([])
        session.publish(
            point_name(),
            point(table, contents=(Content("volume/t", tree), Content("content/s", stream))),
        )

    assert list(store.objects(DOMAIN, table)) == []
    assert list(store.stream(DOMAIN, stream)) == []
    assert list(store.tree(DOMAIN, tree)) == []
    assert faults(store) == []


def test_hard_links_come_last_and_the_root_first(store):
    """A tree's own directory leads; a hard link follows what it links to; large files are cut and come back."""
    big = b"0123456789abcdef" * 100_000
    with store.session(DOMAIN) as session:
        root = session.put_tree(
            [
                TreeEntry("a-link", "hardlink", 0, 0, 0, 0, link="z/file"),
                TreeEntry(
                    "z/file", "file", 0o600, 0, 0, 5, content=lambda: iter([big[:10], big[10:]])
                ),
                TreeEntry("-odd", "file", 0o600, 0, 0, 5, content=lambda: [b"x"]),
                TreeEntry("z", "directory", 0o700, 0, 0, 5),
                TreeEntry(".", "directory", 0o755, 0, 0, 5),
            ]
        )
    found = list(store.tree(DOMAIN, root))

    assert [e.path for e in found] == [".", "-odd", "z", "z/file", "a-link"]
    assert b"".join(found[3].content()) == big
    assert found[3].size_bytes == len(big)
    assert root.size_bytes == len(big) + 1
