"""Locations opened when first used and kept open: their keys cost an argon2id each.

One that cannot be opened is asked again at the next pass, and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

from reconciler.clock import Clock
from reconciler.errors import LocationMissingError, ReconcilerError
from reconciler.kinds.platform import Location
from reconciler.mover.order import AccessKey, Keys, Place
from reconciler.store.content import ContentStore, open_store
from reconciler.store.port import Storage
from reconciler.store.s3 import Credentials
from reconciler.store.storage import open_storage

OpenStorage = Callable[[str], Storage]


def _from_environment(_location: str) -> Credentials | None:
    return None


class Locations:
    """The stores behind `Location` manifests, by name."""

    def __init__(
        self,
        *,
        passphrase: Callable[[str], str],
        clock: Clock,
        grace: timedelta,
        storage: OpenStorage | None = None,
        credentials: Callable[[str], Credentials | None] = _from_environment,
    ) -> None:
        self._passphrase = passphrase
        self._clock = clock
        self._grace = grace
        self._storage = storage
        """Stands in the place of what a location's URL asks for."""
        self._credentials = credentials
        self._open: dict[str, tuple[str, ContentStore]] = {}
        self.faults: dict[str, ReconcilerError] = {}
        """Locations that did not open when last asked, and why."""

    def open(self, location: Location) -> ContentStore:
        """Open a location.

        Raises:
            LocationMissingError, KeyRejectedError and the errors of storage.
        """
        name, url = location.metadata.name, location.spec.url
        known = self._open.get(name)
        if known is not None and known[0] == url:
            return known[1]
        try:
            storage = (
                self._storage(url)
                if self._storage
                else open_storage(url, credentials=self._credentials(name))
            )
            store = open_store(
                storage, self._passphrase(name), clock=self._clock, grace=self._grace
            )
        except LocationMissingError as error:
            error.hint = error.hint or f"make it ready with `reconciler keys init --location {url}`"
            self.faults[name] = error
            raise
        except ReconcilerError as error:
            self.faults[name] = error
            raise
        self.faults.pop(name, None)
        self._open[name] = (url, store)
        return store

    def place(self, name: str) -> Place | None:
        """How a mover gets at an open location; None where it cannot, as at a directory of this machine."""
        known = self._open.get(name)
        if known is None or not known[0].startswith("s3://"):
            return None
        url, store = known
        key = self._credentials(name)
        return Place(
            name=name,
            url=url,
            keys=Keys.of(store.keys),
            domain="",
            grace_s=self._grace.total_seconds(),
            access_key=AccessKey(key.access_key_id, key.secret_access_key, key.session_token)
            if key
            else None,
        )

    def fail(self, name: str, error: ReconcilerError) -> None:
        """Take down that a location does not work; it is opened afresh when it is next used."""
        self.faults[name] = error
        self._open.pop(name, None)

    def closed(self, desired: Iterable[Location]) -> dict[str, ReconcilerError]:
        """Those of these locations that did not open when last asked, by name, and why."""
        names = [location.metadata.name for location in desired]
        return {name: self.faults[name] for name in names if name in self.faults}
