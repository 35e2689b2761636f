"""Carries an order out: a folder or a block device into locations, or back out of one.

What was read is made durable every half minute, so a mover that is killed loses no more than that: the next one reads
again, and stores only what is not there yet. A location that fails drops out; the others go on.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from reconciler.clock import Clock
from reconciler.errors import ReconcilerError, TransientError, UsageError
from reconciler.mover.folder import PIECE_BYTES, Folder, Tally
from reconciler.mover.order import Fault, Order, Place, RootText, Saved, Status
from reconciler.mover.unpack import Unpacker, Written, clear
from reconciler.store.content import ContentStore
from reconciler.store.port import DamagedError, Root, Session, StorageFullError
from reconciler.store.storage import open_storage

CHECKPOINT_S = 30.0


class StoppedEarlyError(TransientError):
    """The mover was told to end."""


class Work:
    """One order, carried out once; `status` may be asked at any time from another thread."""

    def __init__(self, order: Order, *, clock: Clock, stop: threading.Event) -> None:
        self._order = order
        self._clock = clock
        self._stop = stop
        self._tally = Tally()
        self._written = Written()
        self._total_bytes = 0
        self._saved: dict[str, Saved] = {}
        self._faults: dict[str, Fault] = {}
        self._began = time.monotonic()
        self._ended: float | None = None

    def run(self) -> Status:
        """Do it; every expected failure is in the status."""
        loads = self._order.act.startswith("load-")
        try:
            if loads:
                self._load(self._order.places[0])
            else:
                for place in self._order.places:
                    self._save(place)
        except (ReconcilerError, OSError, InterruptedError) as error:
            self._faults[""] = _fault(error)
        self._ended = time.monotonic()
        return self.status()

    def status(self) -> Status:
        """Where it stands."""
        tally, order = self._tally, self._order
        loads = order.act.startswith("load-")
        is_over = self._ended is not None
        is_done = bool(self._saved) or (loads and not self._faults)
        phase = "running" if not is_over else "done" if is_done else "failed"
        return Status(
            phase=phase,  # type: ignore[arg-type]
            bytes_done=self._written.size_bytes if loads else tally.size_bytes,
            bytes_total=self._total_bytes,
            files_done=self._written.files if loads else tally.files,
            seconds=round((self._ended or time.monotonic()) - self._began, 3),
            saved=dict(self._saved),
            faults=dict(self._faults),
            unreadable=tally.unreadable,
            changed=tally.changed,
            sockets=tally.sockets,
            memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )

    def _save(self, place: Place) -> None:
        """Write to one location; the others do not suffer from what is wrong with it."""
        try:
            with _store(place, self._clock).session(place.domain) as session:
                with self._checkpoints(session):
                    root = self._put(session, place)
                session.checkpoint()
                added = session.added_bytes(root)
            self._saved[place.name] = Saved(RootText.of(root), added)
        except (ReconcilerError, InterruptedError) as error:
            self._faults[place.name] = _fault(error)

    def _put(self, session: Session, place: Place) -> Root:
        if self._order.act == "save-device":
            return session.put_stream(self._device())
        folder = Folder(self._order.path, stopped=self._stop.is_set)
        self._tally = folder.tally
        # A file system in use says roughly how much there is, files that have several names counted once.
        seen = os.statvfs(self._order.path)
        self._total_bytes = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
        earlier = place.earlier.tree() if place.earlier is not None else None
        return session.put_tree(folder.entries(), is_sorted=True, earlier=earlier)

    def _device(self) -> Iterator[bytes]:
        tally = self._tally = Tally(files=1)
        with Path(self._order.path).open("rb", buffering=0) as device:
            self._total_bytes = device.seek(0, os.SEEK_END)
            device.seek(0)
            while piece := device.read(PIECE_BYTES):
                if self._stop.is_set():
                    raise InterruptedError("stopped")
                tally.size_bytes += len(piece)
                tally.read_bytes += len(piece)
                yield piece

    def _load(self, place: Place) -> None:
        if place.root is None:
            raise UsageError("load volume: the order names no root")
        root = place.root.root()
        store = _store(place, self._clock)
        self._total_bytes = root.size_bytes
        if self._order.act == "load-device":
            self._write_device(store.stream(place.domain, root), root)
            return
        clear(self._order.path)
        unpacker = Unpacker(self._order.path, stopped=self._stop.is_set)
        self._written = unpacker.written
        unpacker.unpack(store.tree(place.domain, root))
        if self._written.files != root.items:
            raise DamagedError(
                f"load volume: {self._written.files} files instead of {root.items}",
                hint="run `reconciler verify --read-data 100%` on the point",
            )

    def _write_device(self, pieces: Iterable[bytes], root: Root) -> None:
        with Path(self._order.path).open("r+b", buffering=0) as device:
            room = device.seek(0, os.SEEK_END)
            if room < root.size_bytes:
                raise StorageFullError(
                    f"write device: it has {room} bytes, the content {root.size_bytes}",
                    hint="ask for a larger claim",
                )
            device.seek(0)
            for piece in pieces:
                if self._stop.is_set():
                    raise InterruptedError("stopped")
                view = memoryview(piece)
                while view:
                    view = view[device.write(view) :]
                self._written.size_bytes += len(piece)
            os.fsync(device.fileno())
        self._written.files = 1

    @contextmanager
    def _checkpoints(self, session: Session) -> Iterator[None]:
        """Make durable what was put, every half minute, while the block runs."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(CHECKPOINT_S):
                try:
                    session.checkpoint()
                except ReconcilerError:
                    return  # the writer raises it where it can be told

        thread = threading.Thread(target=keep, name="checkpoint", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _store(place: Place, clock: Clock) -> ContentStore:
    credentials = place.access_key.credentials() if place.access_key else None
    storage = open_storage(place.url, credentials=credentials)
    grace = timedelta(seconds=place.grace_s)
    return ContentStore(storage, place.keys.keys(), clock=clock, grace=grace)


def _fault(error: Exception) -> Fault:
    if isinstance(error, InterruptedError):
        return Fault("Stopped", "the mover was told to end", is_transient=True)
    if isinstance(error, ReconcilerError):
        return Fault(error.reason, error.message[:256], isinstance(error, TransientError))
    assert isinstance(error, OSError)
    return Fault("VolumeUnreadable", f"read volume: {error.strerror}")
