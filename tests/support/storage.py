"""Stores for tests: quick keys, storage that fails when told to, and objects to put."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

from reconciler.clock import SteppedClock
from reconciler.objects import ObjectKey, canonical
from reconciler.store.content import open_store
from reconciler.store.keys import Cost, init_location
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import ObjectInput, Point, PointName

QUICK = Cost(memory_kib=64, iterations=1, lanes=1)
PASSPHRASE = "correct horse battery staple"
START = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
DAY = timedelta(days=1)
DOMAIN = "local"


class Broken(BaseException):
    """The process is gone: no handler of the product may swallow it."""


class FailingStorage:
    """Storage that counts its effects and, after (or instead of) the n-th, raises for good."""

    def __init__(self, inner, *, after=None, instead=None, error=Broken):
        self.inner = inner
        self.after = after
        self.instead = instead
        self.error = error
        self.effects = 0
        self.dead = False
        self._lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def create(self, name, data):
        self._effect(lambda: self.inner.create(name, data))

    def replace(self, name, data):
        self._effect(lambda: self.inner.replace(name, data))

    def delete(self, name):
        self._effect(lambda: self.inner.delete(name))

    def read(self, name, *, offset=0, length=None):
        if self.dead:
            raise self.error
        return self.inner.read(name, offset=offset, length=length)

    def _effect(self, call):
        with self._lock:
            if self.dead or (self.instead is not None and self.effects + 1 >= self.instead):
                self.dead = True
                raise self.error
            call()
            self.effects += 1
            if self.after is not None and self.effects >= self.after:
                self.dead = True
                raise self.error


def memory_location(clock=None):
    """A location in memory, ready, and the clock that it goes by."""
    clock = clock or SteppedClock(START)
    storage = MemoryStorage(clock)
    init_location(storage, PASSPHRASE, cost=QUICK)
    return storage, clock


def reopened(storage, clock, **options):
    """The store, as another process opens it."""
    return open_store(storage, PASSPHRASE, clock=clock, **options)


def item(name, *, kind="ConfigMap", namespace="shop", group="", value="", version="1", uid=None):
    """An object to put."""
    uid = uid or str(UUID(hashlib.md5(f"{kind}/{namespace}/{name}".encode()).hexdigest()))
    manifest = {
        "apiVersion": f"{group}/v1" if group else "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": uid},
        "data": {"value": value},
    }
    return ObjectInput(ObjectKey(group, kind, namespace, name), canonical(manifest), uid, version)


def point_name(slot="20261123T110000Z", *, namespace="shop", application="web", domain=DOMAIN):
    """The name of a point."""
    return PointName(domain, namespace, application, slot)


def point(table, *, contents=(), **record):
    """A point with a small record."""
    return Point(record={"phase": "Succeeded", **record}, table=table, contents=contents)


def captured(store, slot, objects, *, contents=None, previous=None, namespace="shop"):
    """Capture objects, and streams by name, in a session of their own."""
    from reconciler.store.port import Content

    with store.session(DOMAIN) as session:
        table = session.put_table(objects, previous=previous)
        kept = tuple(
            Content(name=f"content/{name}", root=session.put_stream([data]))
            for name, data in (contents or {}).items()
        )
        return session.publish(point_name(slot, namespace=namespace), point(table, contents=kept))


def faults(store, **options):
    """What verify finds when it reads everything."""
    return list(store.verify(read_data=1.0, **options))


def flip(storage, name, *, at=None):
    """Change one byte of an object, in the middle unless told."""
    data = bytearray(storage.read(name))
    data[len(data) // 2 if at is None else at] ^= 0x40
    storage.replace(name, bytes(data))


def objects_of(store, root, **options):
    """The objects of a table by path."""
    return {key.path: manifest for key, manifest in store.objects(DOMAIN, root, **options)}
