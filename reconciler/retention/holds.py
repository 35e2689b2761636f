"""Which points a Hold covers.

A hold is in force from the moment it is merged until its `until` or its `release`. It covers one slot, or every
slot from `since` to `upto`, both included. A slot that cannot be read covers the whole application: a typo must
not cost a restore point.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from reconciler.clock import parse_instant
from reconciler.kinds.request import HoldSpec


def is_in_force(hold: HoldSpec, *, now: datetime) -> bool:
    """Whether a hold still counts."""
    return hold.release is None and (hold.until is None or now < hold.until)


def covers(hold: HoldSpec, *, cluster: str, application: str, slot: datetime) -> bool:
    """Whether a hold names a point. `cluster` is the one that the point was captured from."""
    if hold.application != application or hold.cluster not in (None, cluster):
        return False
    if hold.slot is not None:
        try:
            return parse_instant(hold.slot) == slot
        except ValueError:
            return True
    return (hold.since is None or hold.since <= slot) and (hold.upto is None or slot <= hold.upto)


def holding(
    holds: Iterable[HoldSpec], *, cluster: str, application: str, slot: datetime, now: datetime
) -> HoldSpec | None:
    """The first hold in force that covers a point; None when it is free."""
    for hold in holds:
        if is_in_force(hold, now=now) and covers(
            hold, cluster=cluster, application=application, slot=slot
        ):
            return hold
    return None
