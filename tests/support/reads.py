"""A cluster whose reads are counted, and whose watches can be made to keep something back."""

from __future__ import annotations

import threading
from collections import Counter


class MeteredCluster:
    """Counts what is read of another cluster.

    `swallowed` names objects of which no event comes through; events that are told while `held` come later, in order.
    """

    def __init__(self, inner):
        self.inner = inner
        self.read_bytes = 0
        self.lists = Counter()
        self.watches = Counter()
        self.swallowed = set()
        self.held = False
        self.overcount = 0
        self._lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def pages(self, kind, **how):
        with self._lock:
            self.lists[kind.kind] += 1
        for page in self.inner.pages(kind, **how):
            self._count(page.size_bytes)
            yield page

    def head(self, kind):
        head = self.inner.head(kind)
        self._count(1000)
        if self.overcount and head.count is not None:
            return type(head)(head.resource_version, head.count + self.overcount)
        return head

    def watch(self, kind, **how):
        with self._lock:
            self.watches[kind.kind] += 1
        return _Watch(self, self.inner.watch(kind, **how))

    def take_read_bytes(self):
        """What was read since this was asked last."""
        with self._lock:
            size, self.read_bytes = self.read_bytes, 0
        return size

    def _count(self, size):
        with self._lock:
            self.read_bytes += size


class _Watch:
    def __init__(self, meter, inner):
        self._meter = meter
        self._inner = inner
        self._held = []

    def __iter__(self):
        return self

    def __next__(self):
        meter = self._meter
        while True:
            if self._held and not meter.held:
                return self._held.pop(0)
            event = next(self._inner)
            meter._count(event.size_bytes)
            name = event.object["metadata"].get("name")
            if name not in meter.swallowed:
                self._held.append(event)

    def close(self):
        self._inner.close()
