"""The format is what docs/format.md says: read here by its text alone, without the product's own reader."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from pathlib import Path

import msgspec
import pytest
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from reconciler.store.port import Content, TreeEntry
from reconciler.store.sequence import encode_node
from reconciler.store.stream import cut
from tests.support.storage import (
    DOMAIN,
    PASSPHRASE,
    item,
    memory_location,
    point,
    point_name,
    reopened,
)

ROOT = Path(__file__).parents[3]
FROZEN = [2887635, 1497989, 1362853, 1120302, 581459, 1164261, 1297194, 2198069, 473150]
DICTIONARY = (ROOT / "reconciler/store/dictionary-1.txt").read_bytes()


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def row_key(key):
    return f"{key.group}\0{key.kind}\0{key.namespace}\0{key.name}".encode()


def unpacked(method, data):
    if method == 0:
        return data
    words = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=words if method == 2 else None).decompress(data)


class ByTheBook:
    """A reader of locations, written from docs/format.md."""

    def __init__(self, storage, passphrase):
        self.objects = {o.name: storage.read(o.name) for o in storage.entries("")}
        self.format = self.plain("format")
        [slot] = [self.plain(name) for name in self.objects if name.startswith("keys/")]
        header = {k: v for k, v in slot.items() if k != "sealed"}
        cost = slot["cost"]
        key = Argon2id(
            salt=base64.b64decode(slot["salt"]),
            length=32,
            iterations=cost["iterations"],
            lanes=cost["lanes"],
            memory_cost=cost["memoryKib"],
        ).derive(passphrase.encode())
        text = json.dumps(
            header, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
        secret = AESGCM(key).decrypt(bytes(12), base64.b64decode(slot["sealed"]), text)
        self.structure, self.ids, self.mlkem, self.x25519 = msgspec.msgpack.decode(secret)
        for name in ("format", *(n for n in self.objects if n.startswith("keys/"))):
            self.check_mac(name)
        self.where = {}
        for name in self.objects:
            if "/index/" in name:
                self.read_index(name)

    def use(self, key, use):
        return blake3(key, derive_key_context=f"backup-reconciler store 0: {use}").digest()

    def plain(self, name):
        text, total, _mac, end = self.objects[name].split(b"\n")
        assert total == b"blake3 " + blake3(text).hexdigest().encode()
        assert end == b""
        return json.loads(text)

    def check_mac(self, name):
        text, _, mac, _ = self.objects[name].split(b"\n")
        key = self.use(self.structure, "mac")
        assert mac == b"mac " + blake3(name.encode() + b"\0" + text, key=key).hexdigest().encode()

    def open_structure(self, frame, purpose):
        assert frame[0] == 2
        salt = frame[2:26]
        key = blake3(salt[:12], key=self.use(self.structure, "structure frames")).digest()
        return unpacked(
            frame[1], AESGCM(key).decrypt(salt[12:], frame[26:], frame[:2] + purpose.encode())
        )

    def open_content(self, frame):
        assert frame[0] == 1
        key = self.session_key(frame[2:18])
        return unpacked(
            frame[1], AESGCM(key).decrypt(bytes(4) + frame[18:26], frame[26:], frame[:26])
        )

    def session_key(self, session):
        name = f"domains/{DOMAIN}/sessions/{session.hex()}"
        _, wrapped = msgspec.msgpack.decode(
            self.open_structure(self.objects[name], f"session {name}")
        )
        private = MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(self.mlkem),
            X25519PrivateKey.from_private_bytes(self.x25519),
        )
        info = (
            b"backup-reconciler store 0: session\0"
            + self.format["location"].encode()
            + b"\0"
            + DOMAIN.encode()
            + b"\0"
            + session
        )
        return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).decrypt(
            wrapped, private, info
        )

    def read_index(self, name):
        packs, _dropped = msgspec.msgpack.decode(
            self.open_structure(self.objects[name], f"index {name}")
        )
        for pack, size, sessions, segments in packs:
            data = self.objects[f"domains/{DOMAIN}/packs/{pack.hex()[:2]}/{pack.hex()}"]
            assert len(data) == size
            assert blake3(data).digest()[:16] == pack
            assert data[:8] == b"BRPACK0\n"
            length = int.from_bytes(data[-4:], "little")
            footer = msgspec.msgpack.decode(self.open_structure(data[-4 - length : -4], "footer"))
            assert footer == [b"", 0, sessions, segments]
            at = 8
            for _order, session, length, digest, ids in segments:
                frame = data[at : at + length]
                at += length
                assert blake3(frame).digest()[:16] == digest
                if session:
                    assert frame[2:18] == sessions[session - 1]
                for number, start in enumerate(range(0, len(ids), 16)):
                    self.where[ids[start : start + 16]] = (frame, number)

    def blob(self, blob):
        frame, number = self.where[blob]
        plain = self.open_structure(frame, "segment") if frame[0] == 2 else self.open_content(frame)
        count, at = varint(plain, 0)
        lengths = []
        for _ in range(count):
            length, at = varint(plain, at)
            lengths.append(length)
        at += sum(lengths[:number])
        return plain[at : at + lengths[number]]

    def named(self, kind, blob):
        data = self.blob(blob)
        assert blake3(data, key=self.use(self.ids, f"ids of {kind}")).digest()[:16] == blob
        return data

    def sequence(self, root):
        data = self.named("node", root)
        level, at = varint(data, 0)
        count, at = varint(data, at)
        columns = []
        for _ in range(3 * count):
            number, at = varint(data, at)
            columns.append(number)
        shared, rests, lengths = columns[:count], columns[count : 2 * count], columns[2 * count :]
        keys, before = [], b""
        for keep, rest in zip(shared, rests, strict=True):
            before = before[:keep] + data[at : at + rest]
            keys.append(before)
            at += rest
        for key, length in zip(keys, lengths, strict=True):
            value = data[at : at + length]
            at += length
            yield from [(key, value)] if level == 0 else self.sequence(value)

    def point(self, path):
        name = f"domains/{DOMAIN}/points/{path}"
        return msgspec.msgpack.decode(self.open_structure(self.objects[name], f"point {name}"))


def test_a_location_reads_by_the_book():
    """Objects, Secrets, files, streams and the record are found by following docs/format.md and nothing else."""
    storage, clock = memory_location()
    outcomes = [{"item": str(n), "result": "Succeeded"} for n in range(100)]
    uid = "7c6f0d6e-2f4b-4f6c-9a53-0c7d1a2b3c4d"
    objects = [
        item(f"x{n}", kind=kind, value=f"{n}") for n in range(40) for kind in ("ConfigMap", "Pod")
    ]
    objects += [item("s", kind="Secret", value="pw", uid=uid, version="4711")]
    big = random.Random(1).randbytes(3_000_000)
    with reopened(storage, clock).session(DOMAIN) as session:
        table = session.put_table(objects, previous=None)
        stream = session.put_stream([big])
        tree = session.put_tree(
            [
                TreeEntry(".", "directory", 0o755, 0, 0, 1),
                TreeEntry("big", "file", 0o600, 1, 2, 3, content=lambda: [big]),
                TreeEntry("link", "symlink", 0o777, 0, 0, 1, link="big"),
                TreeEntry(
                    "small",
                    "file",
                    0o640,
                    5,
                    6,
                    7,
                    xattrs={"user.a": b"v"},
                    content=lambda: [b"tiny"],
                ),
            ]
        )
        contents = (
            Content("volume/v", tree),
            Content("content/c", stream, "", "", {"kind": "Blueprint"}),
        )
        published = session.publish(
            point_name("1"), point(table, contents=contents, outcomes=outcomes)
        )

    book = ByTheBook(storage, PASSPHRASE)
    assert (
        hashlib.sha256(book.objects[f"domains/{DOMAIN}/points/shop/web/1"]).hexdigest()
        == published.digest
    )
    record, apart, table_row, content_rows, segments, segment_list = book.point("shop/web/1")
    assert json.loads(record) == {"phase": "Succeeded"}
    assert apart.keys() == {"outcomes"}
    assert [json.loads(v) for _, v in book.sequence(apart["outcomes"][1])] == outcomes
    listed = {segments[n : n + 16] for n in range(0, len(segments), 16)} or {
        v[8:] for _, v in book.sequence(segment_list)
    }
    assert listed <= {blake3(frame).digest()[:16] for frame, _ in book.where.values()}

    rows = dict(book.sequence(table_row[1]))
    assert table_row[0] == "table"
    assert list(rows) == sorted(row_key(o.key) for o in objects)
    for given in objects:
        value = rows[row_key(given.key)]
        if given.key.kind == "Secret":
            assert book.blob(value[:16]) == given.projection
            assert msgspec.msgpack.decode(value[16:]) == [bytes.fromhex(uid.replace("-", "")), 4711]
        else:
            assert book.named("record", value) == given.projection

    (_, tree_root, *_), (_, stream_root, *_, blueprint) = content_rows
    assert [json.loads(v) for _, v in book.sequence(blueprint)] == [{"kind": "Blueprint"}]

    def bytes_of(root):
        for _, value in book.sequence(root):
            length, end = varint(value, 16)
            piece = book.named("chunk", value[:16])
            assert (len(piece), end) == (length, len(value))
            yield piece

    assert stream_root[4] == hashlib.sha256(big).digest()
    assert b"".join(bytes_of(stream_root[1])) == big
    files = {path: msgspec.msgpack.decode(row) for path, row in book.sequence(tree_root[1])}
    assert list(files) == [b"", b"big", b"link", b"small"]
    assert files[b""] == [1, 0o755, 0, 0, 1]
    assert files[b"big"][:6] == [0, 0o600, 1, 2, 3, len(big)]
    assert b"".join(bytes_of(files[b"big"][7])) == big
    assert files[b"link"][0] == 2
    assert files[b"link"][9] == b"big"
    assert book.named("chunk", files[b"small"][6]) == b"tiny"
    assert msgspec.msgpack.decode(book.named("chunk", files[b"small"][8])) == {b"user.a": b"v"}


def test_the_dictionary_never_changes():
    """Dictionary 1 is a part of the format, and the page states its digest."""
    digest = hashlib.sha256(DICTIONARY).hexdigest()

    assert digest == "5b5163f54ce34f8e36990da00e2ac3fef35548b77efa2775fff21a185634bd6b"
    assert digest in (ROOT / "docs/format.md").read_text()


def test_streams_are_cut_where_they_always_were():
    """Borders of chunks decide what is found again, so they are frozen."""
    data = random.Random(42).randbytes(12 << 20)

    assert [len(piece) for piece in cut([data])] == FROZEN


def test_nodes_are_written_as_they_always_were():
    """The bytes of a node, to the byte."""
    node = encode_node(1, [(b"", b"A" * 2), (b"abc", b"B"), (b"abd", b"")])

    assert node.hex() == "0103" + "000002" + "000301" + "020100" + b"abcd".hex() + b"AAB".hex()


@pytest.mark.parametrize("word", ["least", "bits", "most"])
def test_the_page_states_the_shapes(word):
    """The numbers that decide where nodes end are those in docs/format.md."""
    from reconciler.store.sequence import SMALL, WIDE

    text = (ROOT / "docs/format.md").read_text()
    rows = dict(re.findall(r"\| (small|wide) \| (\d+ \| \d+ \| \d+) \|", text))
    place = ["least", "bits", "most"].index(word)

    assert int(rows["small"].split(" | ")[place]) == getattr(SMALL, word)
    assert int(rows["wide"].split(" | ")[place]) == getattr(WIDE, word)
