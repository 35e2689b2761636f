"""What a store does on every storage: capture, restore, verify, prune."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import SystemClock
from reconciler.store.content import open_store, summarise
from reconciler.store.directory import DirectoryStorage
from reconciler.store.keys import init_location
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import Content, TreeEntry
from reconciler.store.prune import plan_prune, run_prune
from tests.support.storage import (
    DOMAIN,
    PASSPHRASE,
    QUICK,
    faults,
    flip,
    item,
    objects_of,
    point,
    point_name,
)


@pytest.fixture(params=["directory", "memory"])
def storage(request, tmp_path):
    if request.param == "memory":
        made = MemoryStorage(SystemClock())
    else:
        made = DirectoryStorage(tmp_path / "location", create=True)
    init_location(made, PASSPHRASE, cost=QUICK)
    return made


def test_the_whole_way(storage):
    """Captured, restored by another process, pruned without a grace period, and still whole; then damaged, and found."""
    no_time = timedelta(0)
    objects = [
        item(f"x{n}", kind=k, value=str(n)) for n in range(50) for k in ("Secret", "ConfigMap")
    ]
    files = {f"d/f{n}": b"%d" % n * (n * 997) for n in range(60)}
    table = None
    for slot in ("1", "2", "3"):
        store = open_store(storage, PASSPHRASE, clock=SystemClock(), grace=no_time)
        with store.session(DOMAIN) as session:
            table = session.put_table([*objects, item("changing", value=slot)], previous=table)
            tree = session.put_tree(
                TreeEntry(path, "file", 0o644, 0, 0, 0, content=lambda data=data: [data])
                for path, data in files.items()
            )
            assert session.publish(
                point_name(slot), point(table, contents=(Content("volume/v", tree),))
            ).created
    plan = plan_prune(store, DOMAIN, keep=lambda n: n.slot == "3", min_age=no_time, grace=no_time)
    assert run_prune(store, plan).points_deleted == 2
    for _ in range(3):
        run_prune(
            store, plan_prune(store, DOMAIN, keep=lambda n: True, min_age=no_time, grace=no_time)
        )

    other = open_store(storage, PASSPHRASE, clock=SystemClock())
    assert faults(other) == []
    assert summarise(other).points == 1
    found, _ = other.point(point_name("3"))
    restored = objects_of(other, found.table)
    assert restored.keys() == {o.key.path for o in objects} | {"/ConfigMap/shop/changing"}
    assert restored["/ConfigMap/shop/changing"]["data"]["value"] == "3"
    assert {
        e.path: b"".join(e.content()) for e in other.tree(DOMAIN, found.contents[0].root)
    } == files
    for entry in list(storage.entries("")):
        good = storage.read(entry.name)
        flip(storage, entry.name)
        assert {f.object for f in faults(other)} == {entry.name}
        storage.replace(entry.name, good)
