"""From decisions to retirements, the breaker, holds, and what prune may delete."""

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.clock import format_slot
from reconciler.kinds.record import Retired
from reconciler.kinds.request import HoldSpec
from reconciler.retention import (
    ApplicationPoints,
    Breaker,
    Decision,
    LivePoint,
    holding,
    kept_by,
    plan_retirement,
)
from reconciler.store.port import PointName

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
KEEP, GO = (
    Decision(keep=True, reasons=("Daily",)),
    Decision(keep=False, reasons=("BeyondRetention",)),
)
SLOTS = [NOW - timedelta(hours=h) for h in range(200)]


def application(name, *, total, going, locations=("primary",), deciding=None):
    """An application of `total` points whose oldest `going` are let go by the deciding locations."""
    points = [LivePoint(slot=slot, locations=locations, digest="0" * 64) for slot in SLOTS[:total]]
    decided = {slot: KEEP if n < total - going else GO for n, slot in enumerate(SLOTS[:total])}
    return ApplicationPoints(name, points, dict.fromkeys(deciding or locations, decided))


def test_a_point_leaves_the_list_with_its_last_location():
    """Where only one location lets it go, the point stays on the list."""
    entry = application(
        "shop/_", total=3, going=1, locations=("primary", "offsite"), deciding=("primary",)
    )
    (partly,) = plan_retirement([entry], breaker=Breaker()).retire
    assert (partly.locations, partly.leaves_list) == (("primary",), False)
    (wholly,) = plan_retirement([application("shop/_", total=3, going=1)], breaker=Breaker()).retire
    assert wholly.leaves_list
    assert wholly.retired == Retired(
        point=f"shop/_/{format_slot(SLOTS[2])}",
        locations=["primary"],
        digest="0" * 64,
        reason="BeyondRetention",
    )


def test_a_location_that_nothing_speaks_of_keeps_its_points():
    """Deleting a policy, or a location from it, retires nothing."""
    entry = application("shop/_", total=9, going=9, locations=("primary",), deciding=("offsite",))
    assert plan_retirement([entry], breaker=Breaker()).retire == []


@pytest.mark.parametrize(
    ("applications", "tripped"),
    [
        ([("a/_", 10, 5)], ""),
        ([("a/_", 5, 5)], ""),
        ([("a/_", 12, 7)], "7 of the 12 points of a/_"),
        ([("a/_", 100, 1), ("b/_", 8, 8)], "8 of the 8 points of b/_"),
        ([(f"n{n:02}/_", 5, 4) for n in range(12)], ""),
        ([(f"n{n:02}/_", 5, 4) for n in range(13)], "52 of all 65 points"),
        ([(f"n{n:02}/_", 30, 1) for n in range(80)], ""),
    ],
)
def test_the_breaker_stops_what_is_too_much_at_once(applications, tripped):
    """More than half of an application's points (above 5) or of all (above 50) stops everything."""
    entries = [application(name, total=total, going=going) for name, total, going in applications]
    plan = plan_retirement(entries, breaker=Breaker())
    assert tripped in plan.tripped
    assert bool(plan.tripped) == bool(tripped)
    assert len(plan.retire) == (0 if tripped else sum(going for _, _, going in applications))
    assert len(plan_retirement(entries, breaker=None).retire) == sum(
        going for _, _, going in applications
    )


def hold(**fields):
    return HoldSpec(**{"application": "shop/_", "reason": "audit", "owner": "legal", **fields})


@pytest.mark.parametrize(
    ("spec", "covered"),
    [
        (hold(slot=format_slot(NOW)), True),
        (hold(slot=format_slot(NOW - timedelta(hours=1))), False),
        (hold(since=NOW), True),
        (hold(since=NOW + timedelta(seconds=1)), False),
        (hold(upto=NOW), True),
        (hold(upto=NOW - timedelta(seconds=1)), False),
        (hold(since=NOW, until=NOW), False),
        (hold(since=NOW, until=NOW + timedelta(seconds=1)), True),
        (hold(since=NOW, release={"reason": "done", "approved_by": "legal"}), False),
        (hold(since=NOW, cluster="prod"), True),
        (hold(since=NOW, cluster="test"), False),
        (hold(since=NOW, application="wiki/_"), False),
    ],
)
def test_what_a_hold_covers(spec, covered):
    """A slot, or a range with both ends, until the hold ends by itself or is released."""
    found = holding([spec], cluster="prod", application="shop/_", slot=NOW, now=NOW)
    assert (found is spec) == covered


def test_prune_keeps_what_is_not_known_to_be_retired():
    """A root may go only when it was retired from this location, is live there no more, and is not held."""
    names = {h: PointName("domain", "shop", "_", format_slot(SLOTS[h])) for h in range(6)}
    retired = [
        Retired(point=names[h].path, locations=[where], digest="0" * 64, reason="BeyondRetention")
        for h, where in ((1, "primary"), (2, "offsite"), (3, "primary"), (4, "primary"))
    ]
    keep = kept_by(
        location="primary",
        domain="domain",
        cluster="prod",
        retired=retired,
        live={names[3].path},
        holds=[hold(slot=format_slot(SLOTS[4]))],
        now=NOW,
    )
    assert [h for h, name in names.items() if not keep(name)] == [1]
    assert keep(PointName("another", "shop", "_", names[1].slot))
