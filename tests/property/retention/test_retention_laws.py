"""Laws of retention, for any history of points."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.kinds.policy import Retention
from reconciler.retention.buckets import PointFacts, decide

unhurried = settings(deadline=None)  # the machine may be busy; time is not what is tested here
START = datetime(2026, 9, 1, tzinfo=UTC)
NOW = START + timedelta(hours=3000)
POINTS = st.lists(
    st.builds(
        lambda hour, phase, manual, held: PointFacts(
            slot=START + timedelta(hours=hour), phase=phase, manual=manual, held=held
        ),
        st.integers(0, 2999),
        st.sampled_from(["Succeeded", "Succeeded", "Succeeded", "Partial", "Failed"]),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([False] * 9 + [True]),
    ),
    max_size=60,
    unique_by=lambda point: point.slot,
)
COUNT = st.integers(0, 5)
RETENTIONS = st.builds(
    Retention,
    last=COUNT,
    hourly=COUNT,
    daily=COUNT,
    weekly=COUNT,
    monthly=COUNT,
    yearly=COUNT,
    manual=COUNT,
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"])


def left(points, retention, zone, now=NOW):
    decisions = decide(points, retention, zone=zone, now=now)
    assert set(decisions) == {point.slot for point in points}
    return [point for point in points if decisions[point.slot].keep]


@unhurried
@given(POINTS, RETENTIONS, ZONES)
def test_a_second_run_retires_nothing_more(points, retention, zone):
    """What stays is stable while nothing is added."""
    kept = left(points, retention, zone)
    assert left(kept, retention, zone) == kept


@unhurried
@given(POINTS, RETENTIONS, ZONES)
def test_no_more_stays_than_the_buckets_say(points, retention, zone):
    """Succeeded points that are not held are at most the sum of the buckets, and the newest one."""
    kept = [p for p in left(points, retention, zone) if p.phase == "Succeeded" and not p.held]
    room = sum(
        getattr(retention, name) for name in Retention.model_fields if name != "after_delete"
    )
    assert len(kept) <= room + 1


@unhurried
@given(POINTS, RETENTIONS, ZONES, st.integers(0, 3000))
def test_the_last_good_point_is_never_lost(points, retention, zone, hour):
    """Whatever the policy and the clock, the newest Succeeded point of the past stays, and all held ones."""
    now = START + timedelta(hours=hour)
    kept = left(points, retention, zone, now)
    good = [p for p in points if p.phase == "Succeeded" and p.slot <= now]
    if good:
        assert max(good, key=lambda p: p.slot) in kept
    else:
        assert kept == points
    assert all(p in kept for p in points if p.held)


@unhurried
@given(POINTS, RETENTIONS, ZONES)
def test_a_larger_policy_keeps_no_fewer(points, retention, zone):
    """Adding one to every bucket never lets go of a point that stayed before."""
    larger = Retention(
        **{
            name: getattr(retention, name) + 1
            for name in Retention.model_fields
            if name != "after_delete"
        }
    )
    assert {p.slot for p in left(points, retention, zone)} <= {
        p.slot for p in left(points, larger, zone)
    }


@unhurried
@given(POINTS, RETENTIONS, ZONES)
def test_time_that_passes_without_points_changes_nothing(points, retention, zone):
    """Buckets count periods that have points: a daemon that sleeps for a year loses nothing."""
    assert left(points, retention, zone) == left(points, retention, zone, NOW + timedelta(days=400))
