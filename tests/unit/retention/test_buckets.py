"""Which points stay in a location."""

from datetime import UTC, datetime, timedelta

from reconciler.kinds.policy import Retention
from reconciler.retention.buckets import PointFacts, decide

NOW = datetime(2026, 12, 1, 12, 30, tzinfo=UTC)


def hours_ago(*hours, **facts):
    return [
        PointFacts(
            slot=NOW.replace(minute=0) - timedelta(hours=h), **{"phase": "Succeeded", **facts}
        )
        for h in hours
    ]


def kept(points, zone="UTC", now=NOW, **buckets):
    decisions = decide(points, Retention(**buckets), zone=zone, now=now)
    return {slot: decision.reasons for slot, decision in decisions.items() if decision.keep}


def ages(points, **options):
    return sorted(
        int((NOW.replace(minute=0) - slot).total_seconds() // 3600)
        for slot in kept(points, **options)
    )


def test_the_newest_of_each_period_stays():
    """Hourly 3 and daily 2 of two days of hourly points keep five points, the newest one once."""
    points = hours_ago(*range(48))
    assert ages(points, hourly=3, daily=2) == [0, 1, 2, 13]
    reasons = kept(points, hourly=3, daily=2)
    assert reasons[NOW.replace(minute=0)] == ("NewestSucceeded", "Hourly", "Daily")


def test_periods_without_points_do_not_count():
    """Daily 3 keeps three days that have points, however far apart."""
    assert ages(hours_ago(0, 24 * 10, 24 * 40, 24 * 90), daily=3) == [0, 240, 960]


def test_weeks_are_iso_weeks():
    """Sunday and the Monday after it are two weeks, also across the turn of the year."""
    days = [
        datetime(2027, 1, 3, 10, tzinfo=UTC),
        datetime(2027, 1, 4, 10, tzinfo=UTC),
        datetime(2026, 12, 28, 10, tzinfo=UTC),
    ]
    points = [PointFacts(slot=day, phase="Succeeded") for day in days]
    assert set(kept(points, now=datetime(2027, 2, 1, tzinfo=UTC), weekly=5)) == {days[0], days[1]}


def test_days_are_those_of_the_zone():
    """23:30 UTC is tomorrow in Berlin."""
    late, early = (
        datetime(2026, 11, 30, 23, 30, tzinfo=UTC),
        datetime(2026, 12, 1, 10, 0, tzinfo=UTC),
    )
    points = [PointFacts(slot=late, phase="Succeeded"), PointFacts(slot=early, phase="Succeeded")]
    assert len(kept(points, daily=5)) == 2
    assert set(kept(points, zone="Europe/Berlin", daily=5)) == {early}


def test_the_hour_that_comes_twice_is_two_hours():
    """Both points of the doubled hour stay, and none is merged in spring."""
    for first in (datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 3, 29, 0, tzinfo=UTC)):
        points = [PointFacts(slot=first + timedelta(hours=h), phase="Succeeded") for h in range(4)]
        assert len(kept(points, zone="Europe/Berlin", hourly=4)) == 4


def test_the_newest_succeeded_point_always_stays():
    """Even when no bucket has room: it was made by hand and manual is 0."""
    points = hours_ago(5, manual=True)
    assert kept(points, daily=1, manual=0) == {points[0].slot: ("NewestSucceeded",)}


def test_nothing_goes_while_nothing_has_succeeded():
    """Partial points are better than none."""
    assert ages(hours_ago(*range(10), phase="Partial"), last=1) == list(range(10))


def test_a_partial_point_stays_until_a_newer_one_succeeds():
    """Then it goes, whatever buckets are free."""
    points = hours_ago(1, phase="Partial") + hours_ago(2) + hours_ago(3, phase="Partial")
    assert ages(points, hourly=24) == [1, 2]
    decision = decide(points, Retention(hourly=24), zone="UTC", now=NOW)[points[2].slot]
    assert decision.reasons == ("SupersededPartial",)


def test_manual_points_have_their_own_number():
    """They take no place in the buckets, and the newest N of them stay."""
    points = hours_ago(0, 2, 4) + hours_ago(1, 3, 5, manual=True)
    assert ages(points, hourly=2, manual=2) == [0, 1, 2, 3]


def test_held_points_stay():
    """A hold keeps a point that no bucket would."""
    points = hours_ago(0) + hours_ago(900, held=True)
    assert kept(points, last=1)[points[1].slot] == ("Held",)


def test_points_ahead_of_the_clock_neither_go_nor_count():
    """After the clock has jumped back, the newest point of the past is still protected."""
    points = hours_ago(-5, 1, 2)
    assert ages(points, last=1) == [-5, 1]


def test_last_counts_points():
    """`last` keeps the newest N whatever their period."""
    assert ages(hours_ago(0, 1, 2, 3), last=2) == [0, 1]
