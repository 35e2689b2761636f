"""Storage in memory, for tests and simulations: the same rules as any other, on a clock from outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime

from reconciler.clock import Clock
from reconciler.store.naming import check_name, check_prefix
from reconciler.store.port import ObjectExistsError, ObjectMissingError, StoredObject


class MemoryStorage:
    """Objects in a dictionary."""

    def __init__(self, clock: Clock, *, url: str = "memory://store") -> None:
        self._clock = clock
        self._url = url
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """A name for messages."""
        return self._url

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must be absent."""
        check_name(name)
        with self._lock:
            if name in self._objects:
                raise ObjectExistsError(f"write {name}: it exists")
            self._objects[name] = (bytes(data), self._clock.now())

    def replace(self, name: str, data: bytes) -> None:
        """Write an object whether it is there or not."""
        check_name(name)
        with self._lock:
            self._objects[name] = (bytes(data), self._clock.now())

    def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read an object or a part of it."""
        check_name(name)
        with self._lock:
            if name not in self._objects:
                raise ObjectMissingError(f"read {name}: it is not there")
            data = self._objects[name][0]
        return data[offset:] if length is None else data[offset : offset + length]

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose name starts with `prefix`, sorted by name."""
        check_prefix(prefix)
        with self._lock:
            found = [
                StoredObject(name, len(data), modified_at)
                for name, (data, modified_at) in self._objects.items()
                if name.startswith(prefix)
            ]
        yield from sorted(found, key=lambda o: o.name)

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens when it is absent."""
        check_name(name)
        with self._lock:
            self._objects.pop(name, None)

    def now(self) -> datetime:
        """The clock that it was given."""
        return self._clock.now()
