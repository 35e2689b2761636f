"""From captures that are ready to restore points that are durable: many at a time, so that they share packs.

Each location makes everything durable once for all points of a batch and then creates the points one by one, only
if absent. Who finds a point of that name already takes it as the result: another writer has won the slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.capture.copies import Copies
from reconciler.capture.observe import Observation
from reconciler.capture.report import Findings, Occasion, as_json, ledger_form, record_of
from reconciler.clock import Clock
from reconciler.errors import ReconcilerError
from reconciler.kinds.record import LocationRef, RestorePointSpec
from reconciler.store.port import (
    ObjectInput,
    ObjectMissingError,
    Point,
    PointName,
    Published,
    Store,
)


@dataclass(frozen=True)
class Captured:
    """A restore point that is durable in the store; the ledger does not know it yet."""

    record: RestorePointSpec
    """For the ledger: with locations, at most 100 outcomes, failures first."""
    published: Mapping[str, Published]
    """Location → what was written there. Empty when another writer's point was found."""
    points: Mapping[str, Point] = field(default_factory=dict)
    """Location → the point, as `previous` for the next capture."""
    created: bool = True
    """False: the slot already had a point, and `record` is that point's."""

    @property
    def added_bytes(self) -> int:
        """What all copies together added."""
        return sum(entry.added_bytes for entry in self.published.values())


@dataclass
class Prepared:
    """A capture whose contents and objects are written, and whose point is not yet published."""

    occasion: Occasion
    copies: Copies = field(kw_only=True)
    findings: Findings = field(kw_only=True)
    objects: Sequence[ObjectInput] = field(kw_only=True)
    observation: Observation = field(kw_only=True)
    clock: Clock = field(kw_only=True)
    result: Captured | ReconcilerError | None = field(default=None, init=False)
    _record: RestorePointSpec | None = field(default=None, init=False)
    _published: dict[str, Published] = field(default_factory=dict, init=False)
    _points: dict[str, Point] = field(default_factory=dict, init=False)

    @property
    def name(self) -> PointName:
        """The point's name."""
        occasion = self.occasion
        application = occasion.application
        return PointName(
            occasion.cluster_uid, application.namespace, application.name, occasion.slot
        )

    def point(self, location: str) -> Point:
        """The point as it goes into a location."""
        if self._record is None:
            self.findings.add(self.copies.outcomes())
            self._record = record_of(
                self.occasion,
                objects=self.objects,
                contents=self.copies.contents[self.copies.live[0]],
                findings=self.findings,
                observation=self.observation,
                finished_at=self.clock.now(),
            )
        return Point(
            record=as_json(self._record),
            table=self.copies.tables[location],
            contents=tuple(self.copies.contents[location]),
        )

    def take(self, location: str, point: Point, result: Published | ReconcilerError) -> None:
        """Note how publishing ended in one location."""
        try:
            if isinstance(result, ReconcilerError):
                self.copies.drop(location, result)
            elif not result.created:
                stores = {key: store for key, (_, store) in self.copies.sessions.items()}
                self.result = found(self.name, stores)
            else:
                moved = self.copies.moved_bytes[location]
                self._published[location] = replace(result, added_bytes=result.added_bytes + moved)
                self._points[location] = point
        except ReconcilerError as error:
            self.result = error

    def end(self) -> Captured | ReconcilerError:
        """What came of it."""
        if self.result is None:
            assert self._record is not None, "a capture with a live location was published"
            record = ledger_form(self._record, self._published, self.copies.outcomes())
            self.result = Captured(record, self._published, self._points)
        return self.result


def publish_together(batch: Sequence[Prepared]) -> list[Captured | ReconcilerError]:
    """Publish the points of several captures, location by location; results in their order."""
    locations = dict.fromkeys(name for one in batch for name in one.copies.live)
    for location in locations:
        going = [one for one in batch if one.result is None and location in one.copies.live]
        sessions = {id(one.copies.session(location)): one.copies.session(location) for one in going}
        for key, session in sessions.items():
            mine = [one for one in going if id(one.copies.session(location)) == key]
            points = [one.point(location) for one in mine]
            results = session.publish_all(
                [(one.name, point) for one, point in zip(mine, points, strict=True)]
            )
            for one, point, result in zip(mine, points, results, strict=True):
                one.take(location, point, result)
    return [one.end() for one in batch]


def found(name: PointName, stores: Mapping[str, Store]) -> Captured:
    """Take the point that has this name already: its record, and every location where it is the same.

    Raises:
        ObjectMissingError: no location has it.
    """
    record: RestorePointSpec | None = None
    locations: list[LocationRef] = []
    points: dict[str, Point] = {}
    for location, store in stores.items():
        try:
            point, digest = store.point(name)
        except ObjectMissingError:
            continue
        theirs = RestorePointSpec.model_validate(point.record)
        if record is None:
            record = theirs
        if theirs == record:
            points[location] = point
            locations.append(
                LocationRef(name=location, domain=name.domain, digest=digest, added_bytes=0)
            )
    if record is None:
        raise ObjectMissingError(f"read point {name.path}: no location has it")
    cut = ledger_form(record, {}, ()).model_copy(update={"locations": locations})
    return Captured(cut, published={}, points=points, created=False)
