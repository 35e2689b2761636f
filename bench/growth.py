"""100 changes among 1,000 and among 10,000 objects: what is stored grows with the changes, not with the cluster.

What does grow is the way from the root of a table to a changed row: few rows share their nodes with many edits, many do
not, and a longer table has another level. The second part counts these nodes alone, up to 100,000 objects.
"""

from __future__ import annotations

import random
import tempfile

from bench.town import PASSPHRASE, change, dump, town
from reconciler.clock import SystemClock
from reconciler.objects import ObjectKey, canonical
from reconciler.store.content import ContentStore, open_store
from reconciler.store.keys import init_location
from reconciler.store.port import ObjectInput, Root
from reconciler.store.sequence import read_nodes
from reconciler.store.storage import open_storage

CHANGES = 100
NAMESPACES = 10
DOMAIN = "local"


def main() -> None:
    """Measure both sizes and their ratio, then the nodes."""
    stored = {}
    for objects in (1_000, 10_000):
        with town(namespaces=NAMESPACES, objects=objects) as place:
            known, first = place.capture_all({})
            per_namespace = objects // NAMESPACES
            change(place.cluster, place.namespaces, count=CHANGES, per_namespace=per_namespace)
            _, second = place.capture_all(known)
            stored[objects] = second.stored_bytes
            print(first.line(f"{objects:,} objects, first"))
            print(second.line(f"{objects:,} objects, {CHANGES} changed"))
    ratio = stored[10_000] / stored[1_000]
    print(f"10 × the objects, the same changes: {ratio:.2f} × the bytes")
    nodes = {}
    for objects in (1_000, 10_000, 100_000):
        nodes[objects], size = new_nodes(objects)
        print(
            f"{objects:>7,} objects: {nodes[objects] / CHANGES:.2f} new nodes of tables a change, "
            f"{size / CHANGES:.0f} B before compression"
        )
    dump({"ratio": ratio, "nodesPerChange": {str(k): v / CHANGES for k, v in nodes.items()}})


def new_nodes(objects: int) -> tuple[int, int]:
    """How many nodes of tables (and how many bytes) 100 changes in ten tables make new."""
    chance = random.Random(1)
    changed = set(chance.sample(range(objects), CHANGES))
    per_table = objects // NAMESPACES
    count = size = 0
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(f"file://{folder}/location", create=True)
        init_location(storage, PASSPHRASE)
        store = open_store(storage, PASSPHRASE, clock=SystemClock())
        for table in range(NAMESPACES):
            rows = range(table * per_table, (table + 1) * per_table)
            before = nodes_of(store, write(store, rows, changed=set()))
            after = nodes_of(store, write(store, rows, changed=changed))
            fresh = after.keys() - before.keys()
            count += len(fresh)
            size += sum(after[node] for node in fresh)
    return count, size


def write(store: ContentStore, rows: range, *, changed: set[int]) -> Root:
    """Store a table."""
    objects = [
        ObjectInput(
            ObjectKey("", "ConfigMap", f"team-{row % NAMESPACES:02}", f"object-{row:06}"),
            canonical({"row": row, "changed": row in changed}),
            uid=str(row),
            resource_version="1",
        )
        for row in rows
    ]
    with store.session(DOMAIN) as session:
        return session.put_table(objects, previous=None)


def nodes_of(store: ContentStore, root: Root) -> dict[bytes, int]:
    """The nodes of a table, with their sizes."""
    domain = store.domain(DOMAIN)
    domain.refresh()
    sizes: dict[bytes, int] = {}

    def read(node: bytes) -> bytes:
        data = domain.blob("node", node)
        sizes[node] = len(data)
        return data

    for _ in read_nodes(read, bytes.fromhex(root.digest)):
        pass
    return sizes


if __name__ == "__main__":
    main()
