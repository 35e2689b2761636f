"""A location's keys: three classes, held by passphrases.

- *content*: an HPKE key pair (ML-KEM-768 with X25519). Each session's own key is wrapped to the public half,
  so that writing needs no opening key.
- *structure*: tables, listings, references, index, points. Who steals it learns names and sizes.
- *id*: the keyed hash that names content.

`format` says what the location is; each `keys/<id>` holds the three classes, sealed under a key that argon2id
makes of a passphrase. Both are canonical JSON, a line with its BLAKE3 (accidents), and a line with a MAC under the
structure key (malice; checked once a passphrase has opened a slot).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from reconciler.clock import format_instant
from reconciler.errors import KeyRejectedError, LocationMissingError, RefusedError, UsageError
from reconciler.objects import canonical
from reconciler.store.names import FORMAT, KEYS, key_object
from reconciler.store.port import DamagedError, ObjectExistsError, ObjectMissingError, Storage

FORMAT_VERSION = 0
READER_FEATURES: frozenset[str] = frozenset()
WRITER_FEATURES: frozenset[str] = frozenset()
GRACE = timedelta(days=1)
"""What writers count on: prune keeps what it drops for at least this long."""
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MEMORY_KIB_MAX, _ITERATIONS_MAX, _LANES_MAX = 1 << 20, 32, 16
"""A location cannot ask for more work than this, whoever wrote its key slots."""
_one_at_a_time = threading.Lock()


class FormatRefusedError(RefusedError):
    """The location's format is newer than this program, or something else altogether."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What argon2id spends on a passphrase; recorded with each key. The default is RFC 9106's second choice."""

    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4


@dataclass(frozen=True, slots=True)
class KeySlot:
    """A passphrase's holder, as anyone may read it."""

    id: str
    label: str = ""
    created_at: str = ""
    cost: Cost = Cost()
    damage: str = ""
    """Why it opens nothing, whatever the passphrase; empty for a sound one."""

    def __str__(self) -> str:
        if self.damage:
            return f"{self.id}  DAMAGED: {self.damage}"
        return f"{self.id}  {self.created_at}  {self.label or 'passphrase'}"


@dataclass(frozen=True)
class LocationKeys:
    """The opened keys of a location; never printed."""

    location: str
    structure: bytes = field(repr=False)
    ids: bytes = field(repr=False)
    mlkem_seed: bytes = field(repr=False)
    x25519_seed: bytes = field(repr=False)

    def sealing(self) -> bytes:
        """The key of structure frames."""
        return _derive(self.structure, "structure frames")

    def naming(self, kind: str) -> bytes:
        """The key of the keyed ids of one kind of blob."""
        return _derive(self.ids, f"ids of {kind}")

    def mac(self, data: bytes) -> bytes:
        """A MAC under the structure key, in hex."""
        return blake3(data, key=_derive(self.structure, "mac")).hexdigest().encode()

    def wrap(self, key: bytes, *, info: bytes) -> bytes:
        """Wrap a session's key to the content public key."""
        return bytes(_SUITE.encrypt(key, self._private().public_key(), info))

    def unwrap(self, wrapped: bytes, *, info: bytes, what: str) -> bytes:
        """Open a session's key.

        Raises:
            DamagedError: it was not wrapped for this location, domain and session.
        """
        try:
            return bytes(_SUITE.decrypt(wrapped, self._private(), info))
        except (InvalidTag, ValueError) as error:
            raise DamagedError(f"open {what}: its bytes are not what was written") from error

    @property
    def fingerprint(self) -> str:
        """Stands for these keys where they are pinned: over the location's id and the content public key."""
        public = (
            MLKEM768PrivateKey.from_seed_bytes(self.mlkem_seed).public_key().public_bytes_raw()
            + X25519PrivateKey.from_private_bytes(self.x25519_seed).public_key().public_bytes_raw()
        )
        return hashlib.sha256(bytes.fromhex(self.location) + public).hexdigest()[:32]

    def _private(self) -> MLKEM768X25519PrivateKey:
        return MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(self.mlkem_seed),
            X25519PrivateKey.from_private_bytes(self.x25519_seed),
        )


def init_location(
    storage: Storage, passphrase: str, *, cost: Cost = Cost(), label: str = ""
) -> None:
    """Make a location ready: fresh keys under a passphrase, then the format object, which makes it one.

    Raises:
        RefusedError: it is a location already.
    """
    if any(entry.name == FORMAT for entry in storage.entries(FORMAT)):
        raise _is_location(storage)
    keys = LocationKeys(
        location=os.urandom(16).hex(),
        structure=os.urandom(32),
        ids=os.urandom(32),
        mlkem_seed=os.urandom(64),
        x25519_seed=os.urandom(32),
    )
    _write_slot(storage, keys, passphrase, cost=cost, label=label)
    body = {
        "chunks": {"algorithm": "fastcdc-2020", "min": 1 << 18, "average": 1 << 20, "max": 1 << 22},
        "createdAt": format_instant(storage.now()),
        "fingerprint": keys.fingerprint,
        "format": "backup-reconciler",
        "location": keys.location,
        "readerFeatures": [],
        "version": FORMAT_VERSION,
        "writerFeatures": [],
    }
    try:
        storage.create(FORMAT, _enveloped(body, keys))
    except ObjectExistsError as error:
        raise _is_location(storage) from error


def require_ready(storage: Storage) -> None:
    """Make sure that a location is there, before anybody is asked for its passphrase.

    Raises:
        LocationMissingError: it is not, or was never made ready.
        FormatRefusedError: this version does not support its format.
    """
    _read_format(storage)


def open_keys(storage: Storage, passphrase: str) -> LocationKeys:
    """Open the keys alone. Raises as `open_store`."""
    return open_location(storage, passphrase)[0]


def open_location(storage: Storage, passphrase: str) -> tuple[LocationKeys, dict[str, Any], str]:
    """The keys, the format object checked under them, and the name of the key slot."""
    data, body = _read_format(storage)
    damaged: DamagedError | None = None
    slots = 0
    for entry in list(storage.entries(KEYS)):
        try:
            raw = storage.read(entry.name)
            slot = envelope(raw, what=entry.name)
            if slot.get("location") != body.get("location"):
                continue
            slots += 1
            keys = _open_slot(slot, passphrase, what=entry.name)
        except DamagedError as error:
            damaged = error
            continue
        if keys is not None:
            check_mac(raw, keys, what=entry.name)
            check_mac(data, keys, what=FORMAT)
            return keys, body, entry.name
    if damaged is not None:
        raise damaged
    if not slots:
        raise DamagedError(
            f"open location {storage.url}: it has a format but no key", hint="bring keys/ back"
        )
    raise KeyRejectedError(
        f"open location {storage.url}: the passphrase opens none of its {slots} keys",
        hint="check $RECONCILER_PASSPHRASE or the location's passphrase file; see `reconciler keys list`",
    )


def add_passphrase(
    storage: Storage, passphrase: str, new_passphrase: str, *, cost: Cost = Cost(), label: str = ""
) -> str:
    """Let another passphrase open the location too; return its key's id. Raises as `open_store`."""
    keys = open_keys(storage, passphrase)
    return _write_slot(storage, keys, new_passphrase, cost=cost, label=label)


def list_keys(storage: Storage) -> list[KeySlot]:
    """The location's keys, oldest first, damaged ones last; needs no passphrase.

    Raises:
        LocationMissingError: it was never made ready.
    """
    _, body = _read_format(storage)
    found = []
    for entry in list(storage.entries(KEYS)):
        key = entry.name.removeprefix(KEYS)
        try:
            slot = envelope(storage.read(entry.name), what=entry.name)
            if slot.get("location") != body.get("location"):
                continue
            cost = _cost(slot, what=entry.name)
        except DamagedError as error:
            found.append(KeySlot(key, damage=error.message))
            continue
        label, created_at = str(slot.get("label", "")), str(slot.get("createdAt", ""))
        found.append(KeySlot(key, label=label, created_at=created_at, cost=cost))
    return sorted(found, key=lambda slot: (bool(slot.damage), slot.created_at, slot.id))


def remove_key(storage: Storage, passphrase: str, key: str) -> None:
    """Take a passphrase's key away; never the last. `passphrase` is any that opens the location.

    Raises:
        UsageError: there is no such key.
        RefusedError: it is the last one.
    """
    open_keys(storage, passphrase)
    slots = list_keys(storage)
    if key not in [slot.id for slot in slots]:
        raise UsageError(f"remove key {key[:80]}: there is none", hint="see `reconciler keys list`")
    if [slot.id for slot in slots if not slot.damage] == [key]:
        raise RefusedError(
            f"remove key {key}: it is the last one, and without it nothing can be restored",
            hint="add another passphrase first",
        )
    storage.delete(key_object(key))


def fingerprint(storage: Storage) -> str:
    """The fingerprint that the location states; compare with `ContentStore.fingerprint`, which is proven."""
    return str(_read_format(storage)[1].get("fingerprint", ""))


def envelope(data: bytes, *, what: str) -> dict[str, Any]:
    """Read the JSON of a plain object, checking its sum.

    Raises:
        DamagedError: the sum does not hold.
    """
    text, _, rest = data.partition(b"\n")
    lines = rest.split(b"\n")
    expected = b"blake3 " + blake3(text).hexdigest().encode()
    if len(lines) != 3 or lines[0] != expected or not lines[1].startswith(b"mac ") or lines[2]:
        raise DamagedError(f"read {what}: its bytes are not what was written")
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedError(f"read {what}: it is no JSON") from error
    if not isinstance(body, dict):
        raise DamagedError(f"read {what}: it is no JSON object")
    return body


def check_mac(data: bytes, keys: LocationKeys, *, what: str) -> None:
    """Check that a plain object was written by a holder of this location's structure key.

    Raises:
        DamagedError: it was not.
    """
    text, _, rest = data.partition(b"\n")
    stated = rest.split(b"\n")[1].removeprefix(b"mac ") if rest.count(b"\n") == 2 else b""
    if not hmac.compare_digest(stated, keys.mac(what.encode() + b"\0" + text)):
        raise DamagedError(f"read {what}: it was changed by somebody without this location's keys")


def _enveloped(body: dict[str, Any], keys: LocationKeys, *, name: str = FORMAT) -> bytes:
    text = canonical(body)
    return b"\n".join(
        (
            text,
            b"blake3 " + blake3(text).hexdigest().encode(),
            b"mac " + keys.mac(name.encode() + b"\0" + text),
            b"",
        )
    )


def _read_format(storage: Storage) -> tuple[bytes, dict[str, Any]]:
    try:
        data = storage.read(FORMAT)
    except ObjectMissingError as error:
        raise LocationMissingError(
            f"open location {storage.url}: it was never made ready",
            hint=f"reconciler keys init --location {storage.url}",
        ) from error
    body = envelope(data, what=FORMAT)
    needs = sorted(set(body.get("readerFeatures", [])) - READER_FEATURES)
    if body.get("format") != "backup-reconciler" or body.get("version") != FORMAT_VERSION or needs:
        cause = ", ".join(needs) or f"format version {body.get('version')!r}"
        raise FormatRefusedError(
            f"open location {storage.url}: {cause} is not supported by this version",
            hint="use the version of reconciler that wrote it, or a newer one",
        )
    return data, body


def _write_slot(
    storage: Storage, keys: LocationKeys, passphrase: str, *, cost: Cost, label: str
) -> str:
    if not passphrase:
        raise UsageError("make key: the passphrase is empty", hint="give one")
    key = os.urandom(8).hex()
    salt = os.urandom(16)
    header = {
        "cost": {"iterations": cost.iterations, "lanes": cost.lanes, "memoryKib": cost.memory_kib},
        "createdAt": format_instant(storage.now()),
        "holder": "passphrase",
        "kdf": "argon2id",
        "label": label,
        "location": keys.location,
        "salt": base64.b64encode(salt).decode(),
    }
    secret = msgspec.msgpack.encode([keys.structure, keys.ids, keys.mlkem_seed, keys.x25519_seed])
    # The salt makes the key fresh, so the nonce may be fixed.
    sealed = AESGCM(_stretch(passphrase, salt, cost)).encrypt(bytes(12), secret, canonical(header))
    body = {**header, "sealed": base64.b64encode(sealed).decode()}
    storage.create(key_object(key), _enveloped(body, keys, name=key_object(key)))
    return key


def _open_slot(slot: dict[str, Any], passphrase: str, *, what: str) -> LocationKeys | None:
    """The keys; None when the passphrase is another one."""
    cost = _cost(slot, what=what)
    header = {key: value for key, value in slot.items() if key != "sealed"}
    try:
        salt = base64.b64decode(slot["salt"])
        sealed = base64.b64decode(slot["sealed"])
        secret = AESGCM(_stretch(passphrase, salt, cost)).decrypt(
            bytes(12), sealed, canonical(header)
        )
    except InvalidTag:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"open {what}: it is no key") from error
    structure, ids, mlkem_seed, x25519_seed = msgspec.msgpack.decode(secret)
    return LocationKeys(
        location=slot["location"],
        structure=structure,
        ids=ids,
        mlkem_seed=mlkem_seed,
        x25519_seed=x25519_seed,
    )


def _cost(slot: dict[str, Any], *, what: str) -> Cost:
    try:
        stated = slot["cost"]
        cost = Cost(
            memory_kib=int(stated["memoryKib"]),
            iterations=int(stated["iterations"]),
            lanes=int(stated["lanes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"open {what}: it is no key") from error
    if slot.get("kdf") != "argon2id":
        raise FormatRefusedError(f"open {what}: its kdf is not supported by this version")
    if not (
        0 < cost.memory_kib <= _MEMORY_KIB_MAX
        and 0 < cost.iterations <= _ITERATIONS_MAX
        and 0 < cost.lanes <= _LANES_MAX
    ):
        raise DamagedError(f"open {what}: it asks for more work than any key does")
    return cost


def _stretch(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    # Two at once, of several lanes each, wait for each other's threads inside of OpenSSL and never end.
    with _one_at_a_time:
        return Argon2id(
            salt=salt,
            length=32,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        ).derive(passphrase.encode())


def _derive(key: bytes, use: str) -> bytes:
    return blake3(key, derive_key_context=f"backup-reconciler store 0: {use}").digest()


def _is_location(storage: Storage) -> RefusedError:
    return RefusedError(
        f"make {storage.url} ready: it is a location already",
        hint="manage its passphrases with `reconciler keys add` and `keys remove`",
    )
