"""Laws of the forms: what goes in comes out, in any order, and an edit changes few nodes."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.store.port import DamagedError, TreeEntry
from reconciler.store.sequence import (
    SMALL,
    WIDE,
    SequenceWriter,
    decode_node,
    encode_node,
    read_sequence,
)
from reconciler.store.stream import PIECE_MAX, PIECE_MIN, cut
from tests.support.storage import DOMAIN, item, memory_location, objects_of, reopened

quick = settings(deadline=None, max_examples=40)
keys = st.lists(st.binary(min_size=1, max_size=12), unique=True, max_size=400).map(sorted)


class Nodes(dict):
    """Nodes by id, as a store keeps them."""

    def put(self, data):
        node = blake3(data).digest(16)
        self[node] = data
        return node

    def sequence(self, entries, shape=SMALL):
        writer = SequenceWriter(self.put, hash_of=lambda data: blake3(data).digest(), shape=shape)
        for key, value in entries:
            writer.add(key, value)
        return writer.finish()


@quick
@given(keys, st.sampled_from([SMALL, WIDE]))
def test_entries_come_back(names, shape):
    """Any sorted entries come back as they were; the same entries have the same root."""
    nodes = Nodes()
    entries = [(name, name * 2) for name in names]
    root = nodes.sequence(entries, shape)

    assert list(read_sequence(nodes.__getitem__, root)) == entries
    assert nodes.sequence(entries, shape) == root


@quick
@given(keys, st.binary(max_size=3), st.one_of(st.none(), st.binary(min_size=1, max_size=3)))
def test_ranges_are_what_filtering_gives(names, start, end):
    """A range read through separators has the entries that filtering all of them has."""
    nodes = Nodes()
    root = nodes.sequence([(name, b"v") for name in names])
    expected = [(n, b"v") for n in names if n >= start and (end is None or n < end)]

    assert list(read_sequence(nodes.__getitem__, root, start=start, end=end)) == expected


def test_a_range_reads_few_nodes():
    """One entry of 10,000 is found by reading a node a level."""
    nodes, read = Nodes(), []
    root = nodes.sequence([(b"%06d" % n, b"v") for n in range(10_000)])

    def reading(node):
        read.append(node)
        return nodes[node]

    assert list(read_sequence(reading, root, start=b"004711", end=b"004711\0")) == [
        (b"004711", b"v")
    ]
    assert len(read) <= 8


@quick
@given(st.integers(0, 2**32), st.sampled_from(["edit", "insert", "remove"]))
def test_an_edit_changes_few_nodes(seed, what):
    """One change in 2,000 entries makes a few new nodes; nearly always one a level."""
    chance = random.Random(seed)
    nodes = Nodes()
    entries = [(blake3(b"%d" % n).digest(8), b"value") for n in range(2000)]
    entries.sort()
    nodes.sequence(entries)
    before = set(nodes)
    at = chance.randrange(len(entries))
    if what == "edit":
        entries[at] = (entries[at][0], b"other")
    elif what == "remove":
        del entries[at]
    else:
        entries.insert(at, (entries[at][0][:-1] + b"\0\0", b"new"))
        entries = sorted(dict(entries).items())
    nodes.sequence(entries)

    new = set(nodes) - before
    assert len(new) <= (4 if what == "edit" else 16)
    assert sum(len(nodes[n]) for n in new) < 10_000


def test_leaves_have_about_sixteen_entries():
    """Leaves are small, so that one changed entry costs little."""
    nodes = Nodes()
    nodes.sequence([(b"%06d" % n, b"v") for n in range(10_000)])
    leaves = [len(e) for level, e in map(decode_node, nodes.values()) if level == 0]

    assert 12 <= sum(leaves) / len(leaves) <= 18
    assert max(leaves) <= SMALL.most


@quick
@given(st.integers(0, 12), keys, st.binary(max_size=40))
def test_nodes_are_read_or_refused(level, names, noise):
    """A node reads back; anything else is damage, never another exception."""
    entries = [(name, name[::-1]) for name in names]
    data = encode_node(level, entries)

    assert decode_node(data) == (level, entries)
    for broken in (noise, data[:-1], data + b"x"):
        try:
            decode_node(broken)
        except DamagedError:
            continue
        assert broken == noise


@quick
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ConfigMap", "Secret", "Pod"]),
            st.text("abc-", min_size=1, max_size=8),
            st.text(max_size=20),
        ),
        max_size=60,
    ),
    st.randoms(),
)
def test_tables_do_not_depend_on_order(rows, chance):
    """A set of objects comes back sorted by key, and its table is the same whatever order they came in."""
    store = reopened(*memory_location())
    objects = list({(k, n): item(n, kind=k, value=v) for k, n, v in rows}.values())
    plain = [o for o in objects if o.key.kind != "Secret"]
    with store.session(DOMAIN) as session:
        root = session.put_table(plain, previous=None)
        chance.shuffle(plain)
        again = session.put_table(plain, previous=None)
        chance.shuffle(objects)
        whole = session.put_table(objects, previous=None)

    assert root == again
    assert [e.key for e in store.table(DOMAIN, whole)] == sorted(o.key for o in objects)
    assert len(objects_of(store, whole)) == len(objects) == whole.items
    for wanted in objects[:3]:
        [(key, manifest)] = store.objects(DOMAIN, whole, keys={wanted.key})
        assert (key, manifest["metadata"]["uid"]) == (wanted.key, wanted.uid)


pieces = st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 2**32)), max_size=4)


@settings(deadline=None, max_examples=15)
@given(pieces, st.integers(1, 5_000_000))
def test_streams_come_back(parts, step):
    """Any bytes come back, however they arrived, cut in the same places, and the root knows their SHA-256."""
    import hashlib

    data = b"".join(random.Random(seed).randbytes(size) for size, seed in parts)
    cuts = list(cut([data]))
    store = reopened(*memory_location())
    with store.session(DOMAIN) as session:
        root = session.put_stream(data[n : n + step] for n in range(0, len(data), step))

    assert b"".join(store.stream(DOMAIN, root)) == data
    assert list(map(len, store.stream(DOMAIN, root))) == list(map(len, cuts))
    assert (root.size_bytes, root.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert all(PIECE_MIN <= len(c) <= PIECE_MAX for c in cuts[:-1])


paths = st.text("ab./-\udce4", min_size=1, max_size=6).filter(
    lambda p: all(part not in ("", ".", "..") for part in p.split("/"))
)
entries = st.builds(
    TreeEntry,
    path=paths,
    type=st.sampled_from(["file", "directory", "symlink", "fifo", "character"]),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32),
    gid=st.integers(0, 2**32),
    mtime_ns=st.integers(-(2**40), 2**62),
    link=st.text(max_size=5).filter(lambda t: "\0" not in t and t.isascii()),
    device=st.tuples(st.integers(0, 255), st.integers(0, 255)),
    xattrs=st.dictionaries(
        st.sampled_from(["user.a", "security.b"]), st.binary(max_size=30), max_size=2
    ),
)


@quick
@given(st.lists(entries, unique_by=lambda e: e.path, max_size=30), st.randoms())
def test_trees_come_back(files, chance):
    """Every entry of a tree comes back with what it had; parents stand before what is in them."""
    from dataclasses import replace

    contents = {
        e.path: chance.randbytes(chance.choice([0, 1, 5000, 300_000]))
        for e in files
        if e.type == "file"
    }
    given_ = [
        replace(e, content=(lambda p=e.path: [contents[p]])) if e.type == "file" else e
        for e in files
    ]
    store = reopened(*memory_location())
    with store.session(DOMAIN) as session:
        root = session.put_tree(given_)
        chance.shuffle(given_)
        assert session.put_tree(given_) == root
    found = list(store.tree(DOMAIN, root))

    assert {e.path: replace(e, content=None, size_bytes=0) for e in found} == {
        e.path: e for e in files
    }
    assert {e.path: b"".join(e.content()) for e in found if e.content} == contents
    assert [e.size_bytes for e in found if e.type == "file"] == [
        len(contents[e.path]) for e in found if e.type == "file"
    ]
    order = [e.path for e in found]
    assert all(
        order.index(path.rpartition("/")[0]) < order.index(path)
        for path in order
        if path.rpartition("/")[0] in order
    )


@pytest.mark.parametrize("level", [1, 12])
def test_a_node_that_names_itself_is_damage(level):
    """Levels fall on the way down, so nodes that form a ring are damage and no endless loop."""
    ring = {b"r" * 16: encode_node(level, [(b"", b"r" * 16)])}

    with pytest.raises(DamagedError):
        list(read_sequence(ring.__getitem__, b"r" * 16))
