"""Laws of the calendar, in many zones and around changes of daylight saving time."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.daemon.calendar import due, latest_slot, next_slot, slots
from reconciler.kinds.policy import Schedule

ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
    ]
)
CRONS = st.sampled_from(
    [
        "0 * * * *",
        "*/15 * * * *",
        "30 2 * * *",
        "0 0 * * *",
        "15 1,2,3 * * *",
        "0 */2 * * *",
        "59 23 * * 0",
        "*/20 1-3 * * *",
    ]
)
CHANGES = [
    datetime(2026, 3, 29, 1),
    datetime(2026, 10, 25, 1),
    datetime(2026, 11, 1, 6),
    datetime(2018, 11, 4, 3),
    datetime(2026, 4, 4, 15),
]
INSTANTS = st.builds(
    lambda change, minutes: change.replace(tzinfo=UTC) + timedelta(minutes=minutes),
    st.sampled_from(CHANGES),
    st.integers(-60 * 40, 60 * 40),
)
SCHEDULES = st.builds(lambda cron, zone: Schedule(cron=cron, time_zone=zone), CRONS, ZONES)


@settings(max_examples=150, deadline=None)
@given(SCHEDULES, INSTANTS, st.integers(1, 60 * 30))
def test_slots_ascend_and_agree_with_next_and_latest(schedule, after, minutes):
    """Slots ascend strictly; walking with next_slot finds the same; the last of them is the latest."""
    upto = after + timedelta(minutes=minutes)
    found = slots(schedule, after=after, upto=upto)
    assert all(a < b for a, b in zip(found, found[1:]))
    walked, at = [], after
    while (at := next_slot(schedule, at)) <= upto:
        walked.append(at)
    assert walked == found
    latest = latest_slot(schedule, upto)
    assert latest == found[-1] if found else latest <= after


@settings(max_examples=100, deadline=None)
@given(SCHEDULES, INSTANTS, st.lists(st.integers(1, 600), min_size=1, max_size=12))
def test_a_daemon_that_wakes_now_and_then_captures_each_slot_at_most_once(schedule, now, naps):
    """Whenever it looks, no slot is due twice, and captured plus missed slots are all slots."""
    first = due(schedule, last_slot=None, now=now, key="shop/_").slot
    last, counted = first, 0
    for nap in naps:
        now += timedelta(minutes=nap)
        found = due(schedule, last_slot=last, now=now, key="shop/_")
        if found is not None:
            assert last < found.slot <= now
            counted += 1 + found.missed
            last = found.slot
    assert counted == len(slots(schedule, after=first, upto=now))
