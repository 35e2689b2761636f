"""What there is to work on volumes with, as the operator has set it up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reconciler.mover.order import Place
from reconciler.volumes.movers import Movers
from reconciler.volumes.snapshots import Snapshots

PlaceOf = Callable[[str], Place | None]
"""Location → how a mover gets at it (without a domain's contents); None where it cannot."""


@dataclass(frozen=True)
class VolumeMeans:
    """Snapshots, movers, and the locations that movers reach."""

    namespace: str
    """Ours, where claims of snapshots and movers are."""
    snapshots: Snapshots
    movers: Movers | None
    place_of: PlaceOf

    def places(self, locations: Iterable[str]) -> list[Place] | None:
        """How a mover gets at all of these locations; None where it does not."""
        if self.movers is None:
            return None
        found = [self.place_of(name) for name in locations]
        places = [place for place in found if place is not None]
        return places if len(places) == len(found) else None
