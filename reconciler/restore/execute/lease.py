"""The Lease of a restore's attempt: only its holder carries the attempt out or resumes it.

It is named after the attempt, renewed while work goes on, and free again when its time is over by the clock.
Contents that are loaded are noted on it, so that whoever resumes the attempt does not load them a second time
over what workloads have written since. Its creation time, by the server's clock, is when the attempt began.
Every write is guarded by the resourceVersion that was read: who loses a race has lost the Lease.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from reconciler.clock import Clock, parse_instant
from reconciler.cluster.port import (
    AlreadyExistsError,
    ApiError,
    Cluster,
    ConflictError,
    Discovery,
    NotFoundError,
    NotServedError,
    ResourceType,
)
from reconciler.errors import RefusedError, TransientError
from reconciler.objects import FIELD_MANAGER, LABEL_MANAGED, Manifest, annotations_of, field

TITLE = "backup.reconciler.dev/restore"
DONE = "backup.reconciler.dev/contents-done"
DURATION = timedelta(seconds=60)
_LOOK_S = 0.1
_NOTE_TRIES = 4

log = structlog.get_logger(__name__)


class LeaseHeldError(RefusedError):
    """Somebody else carries this attempt out."""


class LeaseLostError(RefusedError):
    """The Lease went to somebody else while work was going on."""


@dataclass(frozen=True)
class LeaseSettings:
    """Where leases are kept, who asks, and how long one lasts without being renewed."""

    namespace: str
    holder: str
    duration: timedelta = DURATION


class AttemptLease:
    """A held Lease. Made by `hold`."""

    def __init__(
        self,
        cluster: Cluster,
        kind: ResourceType,
        lease: Manifest,
        settings: LeaseSettings,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._lease = lease
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self.is_lost = threading.Event()

    @property
    def since(self) -> str:
        """When the attempt began, by the server's clock."""
        return str(self._lease["metadata"].get("creationTimestamp") or "")

    @property
    def title(self) -> str:
        """The attempt that it is of."""
        return annotations_of(self._lease).get(TITLE, "")

    @property
    def done(self) -> list[str]:
        """Contents that were loaded by this attempt so far."""
        names: list[str] = json.loads(annotations_of(self._lease).get(DONE) or "[]")
        return names

    def note(self, content: str) -> None:
        """Note that a content is loaded.

        Raises:
            LeaseLostError: somebody else has the Lease.
        """
        with self._lock:
            for attempt in range(1, _NOTE_TRIES + 1):
                names = sorted({*self.done, content})
                try:
                    self._write(annotations={DONE: json.dumps(names)})
                except TransientError:
                    if attempt == _NOTE_TRIES:
                        raise
                else:
                    return

    def renew(self) -> None:
        """Hold it for another while.

        Raises:
            LeaseLostError: somebody else has the Lease.
        """
        with self._lock:
            self._write()

    def release(self) -> None:
        """Delete the Lease: the attempt has ended and its record is pushed."""
        with self._lock:
            if self.is_lost.is_set():
                return
            try:
                self._cluster.delete(
                    self._kind,
                    self._lease["metadata"]["name"],
                    namespace=self._settings.namespace,
                    uid=self._lease["metadata"]["uid"],
                )
            except (NotFoundError, ConflictError):
                return
            except (ApiError, TransientError) as error:
                log.warning("lease left behind", reason=error.reason)

    def step_down(self) -> None:
        """Let somebody else go on at once: the attempt has not ended, its Lease stays."""
        with self._lock:
            if self.is_lost.is_set():
                return
            try:
                self._write(holder="")
            except (LeaseLostError, ApiError, TransientError) as error:
                log.warning("lease not handed over", reason=error.reason)

    def _write(
        self, *, annotations: dict[str, str] | None = None, holder: str | None = None
    ) -> None:
        metadata = self._lease["metadata"]
        wanted = {
            **self._lease,
            "metadata": {
                **metadata,
                "annotations": {**annotations_of(self._lease), **(annotations or {})},
            },
            "spec": {
                **self._lease["spec"],
                "holderIdentity": self._settings.holder if holder is None else holder,
                "renewTime": _micro(self._clock.now()),
            },
        }
        try:
            self._lease = self._cluster.replace(self._kind, wanted, manager=FIELD_MANAGER)
        except TransientError:
            # The answer may be lost and the write done: read again before the next one.
            self._reread(metadata)
            raise
        except (ConflictError, NotFoundError) as error:
            self.is_lost.set()
            raise LeaseLostError(
                f"renew lease {metadata['name']}: {error.message}",
                hint="another process has taken the attempt over",
            ) from error

    def _reread(self, metadata: Manifest) -> None:
        try:
            there = self._cluster.get(
                self._kind, metadata["name"], namespace=self._settings.namespace
            )
        except (ApiError, TransientError):
            return
        if there is not None and field(there, "spec", "holderIdentity") == self._settings.holder:
            self._lease = there


class _Linked(threading.Event):
    """An event that is set when it is set itself or when another one is."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left_s = _LOOK_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return False
            super().wait(min(left_s, _LOOK_S))
        return True


@contextmanager
def renewed(
    lease: AttemptLease, *, every_s: float, stop: threading.Event
) -> Iterator[threading.Event]:
    """Renew a Lease beside other work; gives an event that is set when work must end.

    It is set when `stop` is, and when the Lease is lost.
    """
    end, halt = threading.Event(), _Linked(stop)

    def work() -> None:
        while not end.wait(every_s):
            try:
                lease.renew()
            except LeaseLostError as error:
                log.error("lease lost", reason=error.reason, message=error.message)
                halt.set()
            except (ApiError, TransientError) as error:
                log.warning("lease not renewed", reason=error.reason)

    thread = threading.Thread(target=work, name="lease", daemon=True)
    thread.start()
    try:
        yield halt
    finally:
        end.set()
        thread.join()


def hold(
    cluster: Cluster,
    discovery: Discovery,
    *,
    title: str,
    settings: LeaseSettings,
    clock: Clock,
) -> AttemptLease:
    """Take the Lease of an attempt: a new one, one's own, or one whose time is over.

    Raises:
        LeaseHeldError: somebody else holds it.
    """
    kind = discovery.find("coordination.k8s.io", "Lease")
    if kind is None:
        raise NotServedError("take lease: the server does not serve coordination.k8s.io Leases")
    name = name_of_lease(title)
    there = cluster.get(kind, name, namespace=settings.namespace)
    now = clock.now()
    if there is None:
        _make_namespace(cluster, discovery, settings.namespace)
        try:
            made = cluster.create(kind, _fresh(name, title, settings, now), manager=FIELD_MANAGER)
        except AlreadyExistsError as error:
            raise LeaseHeldError(f"take lease {name}: somebody was first") from error
        return AttemptLease(cluster, kind, made, settings, clock)
    holder = field(there, "spec", "holderIdentity", default="")
    if holder not in ("", settings.holder) and not _is_over(there, now):
        raise LeaseHeldError(
            f"take lease {name}: {holder} carries this attempt out",
            hint="it is free again when its holder has not renewed it for a minute",
        )
    taken = {
        **there,
        "spec": {
            **there["spec"],
            "holderIdentity": settings.holder,
            "acquireTime": _micro(now),
            "renewTime": _micro(now),
            "leaseTransitions": int(field(there, "spec", "leaseTransitions", default=0)) + 1,
        },
    }
    try:
        made = cluster.replace(kind, taken, manager=FIELD_MANAGER)
    except (ConflictError, NotFoundError) as error:
        raise LeaseHeldError(f"take lease {name}: somebody was first") from error
    return AttemptLease(cluster, kind, made, settings, clock)


def name_of_lease(title: str) -> str:
    """A DNS name for an attempt: readable at its start, distinct at its end."""
    readable = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-")
    return f"restore-{readable}-{hashlib.sha256(title.encode()).hexdigest()[:12]}"


def _fresh(name: str, title: str, settings: LeaseSettings, now: datetime) -> Manifest:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": {LABEL_MANAGED: FIELD_MANAGER},
            "annotations": {TITLE: title},
        },
        "spec": {
            "holderIdentity": settings.holder,
            "leaseDurationSeconds": int(settings.duration.total_seconds()),
            "acquireTime": _micro(now),
            "renewTime": _micro(now),
            "leaseTransitions": 0,
        },
    }


def _is_over(lease: Manifest, now: datetime) -> bool:
    renewed_at = field(lease, "spec", "renewTime")
    lasts_s = field(lease, "spec", "leaseDurationSeconds", default=0)
    if not renewed_at:
        return True
    try:
        return parse_instant(renewed_at) + timedelta(seconds=lasts_s) < now
    except ValueError:
        return True


def _make_namespace(cluster: Cluster, discovery: Discovery, name: str) -> None:
    kind = discovery.find("", "Namespace")
    if kind is None or cluster.get(kind, name) is not None:
        return
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {LABEL_MANAGED: FIELD_MANAGER}},
    }
    try:
        cluster.create(kind, manifest, manager=FIELD_MANAGER)
    except AlreadyExistsError:
        return


def _micro(instant: datetime) -> str:
    """A MicroTime as the API writes it: always six digits."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
