"""Captures as the daemon makes them: look, open a session in each location, capture, remember the points."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta

from reconciler.capture.capture import Captured, capture
from reconciler.capture.observe import observe_cluster
from reconciler.clock import SteppedClock
from reconciler.kinds.effective import Application
from reconciler.store.content import open_store
from reconciler.store.keys import Cost, init_location
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import PointName, StorageFullError

PASSPHRASE = "correct horse battery staple"
CHEAP = Cost(memory_kib=64, iterations=1, lanes=1)
FIRST_SLOT = datetime(2026, 11, 23, 11, tzinfo=UTC)


class Shelf:
    """Locations in memory, and the captures that were put there."""

    def __init__(self, town, *names, kinds=None):
        self.town = town
        self.clock = SteppedClock(FIRST_SLOT + timedelta(seconds=90))
        self.storages = {
            name: (kinds or {}).get(name, MemoryStorage)(self.clock)
            for name in names or ("primary",)
        }
        self.stores = {}
        for name, storage in self.storages.items():
            init_location(storage, PASSPHRASE, cost=CHEAP)
            self.stores[name] = open_store(storage, PASSPHRASE, clock=self.clock)
        self.last = dict.fromkeys(self.stores)
        self.slot = FIRST_SLOT

    def capture(
        self,
        application="shop",
        *,
        policy=None,
        blueprints=(),
        observation=None,
        same_slot=False,
        **options,
    ) -> Captured:
        """Capture into every location; the next call is for the next hour, unless it is for the same slot."""
        if not same_slot and any(self.last.values()):
            self.slot += timedelta(hours=1)
            self.clock.move_to(self.slot + timedelta(seconds=90))
        discovery = self.town.discovery
        observation = observation or observe_cluster(self.town.cluster, discovery, clock=self.clock)
        with ExitStack() as stack:
            sessions = {
                n: (stack.enter_context(self._session(s)), s) for n, s in self.stores.items()
            }
            captured = capture(
                Application.parse(application),
                cluster=self.town.cluster,
                discovery=discovery,
                observation=observation,
                policy=policy,
                blueprints=blueprints,
                sessions=sessions,
                previous=self.last,
                slot=self.slot,
                clock=self.clock,
                helper_image="example/helper:1",
                **options,
            )
        self.last = {**self.last, **captured.points}
        return captured

    @contextmanager
    def _session(self, store):
        """A session whose failure, known from the capture already, does not come again when it is left."""
        session = store.session(self.town.cluster.uid())
        session.__enter__()
        try:
            yield session
        except BaseException:
            session.__exit__(*sys.exc_info())
            raise
        with suppress(StorageFullError):
            session.__exit__(None, None, None)

    def name(self, captured) -> PointName:
        """The name of a captured point."""
        application = Application.parse(captured.record.application)
        return PointName(
            captured.record.cluster_uid,
            application.namespace,
            application.name,
            captured.record.slot,
        )

    def point(self, captured, location="primary"):
        """The point as it lies in a location."""
        return self.stores[location].point(self.name(captured))[0]

    def objects(self, captured, location="primary"):
        """The manifests of a point by key."""
        point = self.point(captured, location)
        return dict(self.stores[location].objects(captured.record.cluster_uid, point.table))

    def records(self, captured, location="primary"):
        """The record ids of a point by key."""
        point = self.point(captured, location)
        return {
            entry.key: entry.record
            for entry in self.stores[location].table(captured.record.cluster_uid, point.table)
        }

    def stream(self, captured, name, location="primary"):
        """The bytes of an artifact."""
        content = next(c for c in self.point(captured, location).contents if c.name == name)
        return b"".join(self.stores[location].stream(captured.record.cluster_uid, content.root))

    def tree(self, captured, name, location="primary"):
        """The files of a volume: path → bytes, or the type of what is no file."""
        content = next(c for c in self.point(captured, location).contents if c.name == name)
        entries = self.stores[location].tree(captured.record.cluster_uid, content.root)
        return {e.path: b"".join(e.content()) if e.type == "file" else e.type for e in entries}


def outcomes(captured, result=None):
    """(item, reason) of a capture's outcomes."""
    return [(o.item, o.reason) for o in captured.record.outcomes if result in (None, o.result)]
