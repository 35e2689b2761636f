"""Keys of a location: who can open it, and who cannot."""

from __future__ import annotations

import threading

import msgspec
import pytest

from reconciler.clock import SteppedClock
from reconciler.errors import (
    KeyRejectedError,
    LocationMissingError,
    RefusedError,
    UsageError,
)
from reconciler.store import keys
from reconciler.store.content import open_store
from reconciler.store.keys import (
    FormatRefusedError,
    _enveloped,
    add_passphrase,
    envelope,
    fingerprint,
    init_location,
    list_keys,
    open_keys,
    remove_key,
)
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import DamagedError
from tests.support.storage import (
    PASSPHRASE,
    QUICK,
    START,
    captured,
    flip,
    item,
    memory_location,
    objects_of,
    point_name,
    reopened,
)


def test_a_passphrase_opens_what_it_made():
    """The right passphrase opens the location, a wrong one is rejected as a key error."""
    storage, clock = memory_location()

    assert reopened(storage, clock).url == storage.url
    with pytest.raises(KeyRejectedError) as caught:
        open_store(storage, "wrong", clock=clock)
    assert caught.value.exit_code == 12
    assert "wrong" not in str(caught.value)


def test_several_locations_open_at_once():
    """Threads that open locations at the same time all come to an end, each with several lanes of argon2id."""
    storage = MemoryStorage(SteppedClock(START))
    init_location(storage, PASSPHRASE, cost=keys.Cost(memory_kib=8192, iterations=2, lanes=4))
    opened = []
    threads = [
        threading.Thread(
            target=lambda: opened.append(
                open_store(storage, PASSPHRASE, clock=SteppedClock(START))
            ),
            daemon=True,
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(opened) == 4


def test_a_place_without_format_is_no_location():
    """The hint is the command that makes it one."""
    storage = MemoryStorage(SteppedClock(START), url="file:///backups")

    with pytest.raises(LocationMissingError) as caught:
        open_store(storage, PASSPHRASE, clock=SteppedClock(START))
    assert caught.value.hint == "reconciler keys init --location file:///backups"


def test_init_never_overwrites():
    """A location is made ready once: its keys are what all content hangs on."""
    storage, clock = memory_location()
    before = {o.name: storage.read(o.name) for o in storage.entries("")}

    with pytest.raises(RefusedError):
        init_location(storage, "another", cost=QUICK)
    assert {o.name: storage.read(o.name) for o in storage.entries("")} == before


def test_init_after_a_crash_between_key_and_format():
    """A key slot that a crash left behind opens nothing and is in nobody's way."""
    storage, clock = memory_location()
    storage.delete("format")
    init_location(storage, "second", cost=QUICK)

    assert len(list_keys(storage)) == 1
    open_store(storage, "second", clock=clock)
    with pytest.raises(KeyRejectedError):
        open_store(storage, PASSPHRASE, clock=clock)


def test_passphrases_come_and_go():
    """Any passphrase opens the same content; the last one stays."""
    storage, clock = memory_location()
    captured(reopened(storage, clock), "1", [item("a", value="kept")])
    [first] = list_keys(storage)
    second = add_passphrase(storage, PASSPHRASE, "new one", cost=QUICK, label="on call")

    assert [(k.id, k.label) for k in list_keys(storage) if k.id == second] == [(second, "on call")]
    remove_key(storage, "new one", first.id)
    with pytest.raises(KeyRejectedError):
        open_store(storage, PASSPHRASE, clock=clock)
    store = open_store(storage, "new one", clock=clock)
    found, _ = store.point(point_name("1"))
    assert objects_of(store, found.table)["/ConfigMap/shop/a"]["data"] == {"value": "kept"}
    with pytest.raises(RefusedError):
        remove_key(storage, "new one", second)
    with pytest.raises(UsageError):
        remove_key(storage, "new one", first.id)
    with pytest.raises(KeyRejectedError):
        add_passphrase(storage, PASSPHRASE, "thief", cost=QUICK)


def test_the_fingerprint_is_the_location_s():
    """What the location states is what its keys prove; another location has another."""
    storage, clock = memory_location()
    other, _ = memory_location()

    assert fingerprint(storage) == reopened(storage, clock).fingerprint
    assert fingerprint(storage) != fingerprint(other)


@pytest.mark.parametrize(
    "change", [{"version": 1}, {"readerFeatures": ["riddles"]}, {"format": "other"}]
)
def test_unknown_formats_are_refused(change):
    """A format that this version does not know is refused, whoever has the passphrase."""
    storage, clock = memory_location()
    keys = open_keys(storage, PASSPHRASE)
    body = envelope(storage.read("format"), what="format")
    storage.replace("format", _enveloped({**body, **change}, keys))

    with pytest.raises(FormatRefusedError) as caught:
        open_store(storage, PASSPHRASE, clock=clock)
    assert "not supported by this version" in str(caught.value)


def test_unknown_writer_features_allow_reading_only():
    """A location that asks writers for more than this version has can be read, not written."""
    storage, clock = memory_location()
    published = captured(reopened(storage, clock), "1", [item("a")])
    keys = open_keys(storage, PASSPHRASE)
    body = envelope(storage.read("format"), what="format")
    storage.replace("format", _enveloped({**body, "writerFeatures": ["signed"]}, keys))

    store = reopened(storage, clock)
    assert store.point(published.name)[1] == published.digest
    with pytest.raises(RefusedError, match="not supported by this version"):
        store.session("local")


def test_a_changed_format_with_a_mended_sum_is_found():
    """Who can write to the location but has no key cannot change what it says of itself."""
    storage, clock = memory_location()
    text, _, rest = storage.read("format").partition(b"\n")
    body = msgspec.json.decode(text)
    forged_keys = open_keys(*_stranger())
    storage.replace("format", _enveloped({**body, "chunks": {}}, forged_keys))

    with pytest.raises(DamagedError, match="without this location's keys"):
        open_store(storage, PASSPHRASE, clock=clock)


def test_damage_is_not_a_wrong_passphrase():
    """A flipped byte in the only key is damage; with a second key the location still opens."""
    storage, clock = memory_location()
    [first] = list_keys(storage)
    add_passphrase(storage, PASSPHRASE, "second", cost=QUICK)
    flip(storage, f"keys/{first.id}")

    open_store(storage, "second", clock=clock)
    with pytest.raises(DamagedError):
        open_store(storage, PASSPHRASE, clock=clock)


def test_a_key_cannot_ask_for_endless_work():
    """Costs beyond all reason are refused before any work is done."""
    storage, clock = memory_location()
    [slot] = list_keys(storage)
    keys = open_keys(storage, PASSPHRASE)
    name = f"keys/{slot.id}"
    body = envelope(storage.read(name), what=name)
    body["cost"]["memoryKib"] = 1 << 30
    storage.replace(name, _enveloped(body, keys, name=name))

    with pytest.raises(DamagedError, match="more work"):
        open_store(storage, PASSPHRASE, clock=clock)


def _stranger():
    storage, _ = memory_location()
    return storage, PASSPHRASE
