"""What a mover is told to do, where it stands, and what came of it: JSON that passes between two processes.

An order holds keys. It is handed over through the stdin of a command in the mover's own container, kept in memory
there, and removed as soon as it is read; it is never in an object of the cluster, an argument or the environment.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from reconciler.errors import UsageError
from reconciler.store.keys import LocationKeys
from reconciler.store.port import EarlierTree, Root
from reconciler.store.s3 import Credentials

Act = Literal["save-files", "save-device", "load-files", "load-device"]
Phase = Literal["waiting", "running", "done", "failed"]


class RootText(msgspec.Struct, frozen=True):
    """A root as text."""

    form: Literal["table", "stream", "tree"]
    digest: str
    size_bytes: int
    items: int
    sha256: str = ""

    @classmethod
    def of(cls, root: Root) -> RootText:
        """Write a root down."""
        return cls(root.form, root.digest, root.size_bytes, root.items, root.sha256)

    def root(self) -> Root:
        """The root again."""
        return Root(
            form=self.form,
            digest=self.digest,
            size_bytes=self.size_bytes,
            items=self.items,
            sha256=self.sha256,
        )


class Keys(msgspec.Struct, frozen=True):
    """A location's opened keys, in hex."""

    location: str
    structure: str
    ids: str
    mlkem_seed: str
    x25519_seed: str

    @classmethod
    def of(cls, keys: LocationKeys) -> Keys:
        """Write keys down."""
        return cls(
            keys.location,
            keys.structure.hex(),
            keys.ids.hex(),
            keys.mlkem_seed.hex(),
            keys.x25519_seed.hex(),
        )

    def keys(self) -> LocationKeys:
        """The keys again."""
        return LocationKeys(
            location=self.location,
            structure=bytes.fromhex(self.structure),
            ids=bytes.fromhex(self.ids),
            mlkem_seed=bytes.fromhex(self.mlkem_seed),
            x25519_seed=bytes.fromhex(self.x25519_seed),
        )

    def __repr__(self) -> str:
        return f"Keys(location={self.location!r})"


class AccessKey(msgspec.Struct, frozen=True):
    """An access key of a bucket."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def credentials(self) -> Credentials:
        """What storage takes."""
        return Credentials(self.access_key_id, self.secret_access_key, self.session_token)

    def __repr__(self) -> str:
        return "AccessKey(…)"


class Earlier(msgspec.Struct, frozen=True):
    """The tree of the same volume in an earlier point."""

    root: RootText
    began_at: datetime

    def tree(self) -> EarlierTree:
        """What a session takes."""
        return EarlierTree(self.root.root(), self.began_at)


class Place(msgspec.Struct, frozen=True):
    """One location to write to or to read from."""

    name: str
    url: str
    keys: Keys
    domain: str
    grace_s: float
    access_key: AccessKey | None = None
    earlier: Earlier | None = None
    root: RootText | None = None
    """What to load."""


class Order(msgspec.Struct, frozen=True):
    """What to do: `path` is a folder, or a block device."""

    act: Act
    path: str
    places: tuple[Place, ...]


class Saved(msgspec.Struct, frozen=True):
    """What is in one location now."""

    root: RootText
    added_bytes: int


class Fault(msgspec.Struct, frozen=True):
    """Why a location, or all of the work, failed."""

    reason: str
    message: str
    is_transient: bool = False


class Status(msgspec.Struct, frozen=True):
    """Where a mover stands."""

    phase: Phase
    bytes_done: int = 0
    bytes_total: int = 0
    """0 while it is not known."""
    files_done: int = 0
    seconds: float = 0.0
    saved: dict[str, Saved] = {}
    faults: dict[str, Fault] = {}
    """By location; by an empty name when everything failed."""
    unreadable: int = 0
    changed: int = 0
    sockets: int = 0
    memory_bytes: int = 0
    """The most that the process has had."""


def encode(value: Order | Status) -> bytes:
    """As JSON."""
    return msgspec.json.encode(value)


decode_order: Callable[[bytes], Order] = msgspec.json.Decoder(Order).decode
decode_status: Callable[[bytes], Status] = msgspec.json.Decoder(Status).decode


def read_order(data: bytes) -> Order:
    """Read an order; what is wrong with it is said without any of it.

    Raises:
        UsageError: it is none.
    """
    try:
        return decode_order(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise UsageError("read order: it is no order of this version") from error
