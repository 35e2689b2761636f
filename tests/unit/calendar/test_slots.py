"""Slots in time zones, and what is due."""

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.daemon.calendar import (
    LATE_MAX,
    CronError,
    due,
    jitter,
    latest_slot,
    next_slot,
    slots,
)
from reconciler.kinds.policy import Schedule


def schedule(cron, zone="UTC", **fields):
    return Schedule(cron=cron, time_zone=zone, **fields)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days(first, last, cron, zone):
    return [
        slot.strftime("%dT%H:%M")
        for slot in slots(schedule(cron, zone), after=at(first), upto=at(last))
    ]


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        (
            "a time that does not exist runs right after the gap",
            days("2026-03-28", "2026-03-31", "30 2 * * *", "Europe/Berlin"),
            ["28T01:30", "29T01:00", "30T00:30"],
        ),
        (
            "a time that comes twice runs once",
            days("2026-10-24", "2026-10-27", "30 2 * * *", "Europe/Berlin"),
            ["24T00:30", "25T00:30", "26T01:30"],
        ),
        (
            "a midnight that does not exist loses no day",
            days("2018-11-03", "2018-11-06", "0 0 * * *", "America/Sao_Paulo"),
            ["03T03:00", "04T03:00", "05T02:00"],
        ),
        (
            "New York in autumn runs once",
            days("2026-10-31", "2026-11-03", "15 1 * * *", "America/New_York"),
            ["31T05:15", "01T05:15", "02T06:15"],
        ),
        (
            "Lord Howe turns by half an hour and runs once",
            days("2026-04-03", "2026-04-07", "30 1 * * *", "Australia/Lord_Howe"),
            ["03T14:30", "04T14:30", "05T15:00", "06T15:00"],
        ),
        (
            "hours go on in spring",
            days("2026-03-28T23:30", "2026-03-29T03:30", "0 * * * *", "Europe/Berlin"),
            ["29T00:00", "29T01:00", "29T02:00", "29T03:00"],
        ),
        (
            "hours go on in autumn, none twice",
            days("2026-10-24T23:30", "2026-10-25T03:30", "0 * * * *", "Europe/Berlin"),
            ["25T00:00", "25T01:00", "25T02:00", "25T03:00"],
        ),
        (
            "two times that fall on one instant are one slot",
            days("2026-03-29", "2026-03-29T12:00", "0 2,3 * * *", "Europe/Berlin"),
            ["29T01:00"],
        ),
    ],
)
def test_daylight_saving_time(name, found, expected):
    """Slots follow Debian's cron at changes of daylight saving time."""
    assert found == expected, name


def test_sunday_is_0_and_7():
    """Both spellings mean the same day."""
    span = {"after": at("2026-11-01"), "upto": at("2026-11-30")}
    sundays = slots(schedule("0 3 * * 0"), **span)
    assert sundays == slots(schedule("0 3 * * 7"), **span)
    assert {slot.isoweekday() for slot in sundays} == {7}


def test_day_of_month_or_day_of_week():
    """When both day fields are given, either is enough."""
    found = slots(schedule("0 0 13 * 5"), after=at("2026-11-01"), upto=at("2026-11-22"))
    assert [slot.day for slot in found] == [6, 13, 20]


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_a_cron_that_never_fires(cron):
    """A day that no month has gives no slot, at once."""
    assert next_slot(schedule(cron), at("2026-01-01")) is None
    assert latest_slot(schedule(cron), at("2026-01-01")) is None
    assert due(schedule(cron), last_slot=None, now=at("2026-01-01"), key="a") is None


@pytest.mark.parametrize(
    "cron", ["* * * *", "60 * * * *", "0 0 0 * * *", "x * * * *", "@daily", "0 0 31 13 *"]
)
def test_what_is_no_cron_is_refused(cron):
    """Five fields of crontab(5), nothing else: seconds are not known."""
    with pytest.raises(CronError, match="read cron"):
        next_slot(schedule(cron), at("2026-01-01"))


def test_slots_are_bounded():
    """A minutely cron over years gives as many slots as asked for."""
    found = slots(schedule("* * * * *"), after=at("2020-01-01"), upto=at("2026-01-01"), limit=10)
    assert found[-1] == at("2020-01-01T00:10")
    assert len(found) == 10


def test_after_is_open_and_upto_is_closed():
    """The slot at `after` is over, the one at `upto` counts."""
    assert slots(
        schedule("0 * * * *"), after=at("2026-01-01T01:00"), upto=at("2026-01-01T02:00")
    ) == [at("2026-01-01T02:00")]


HOURLY = schedule("0 * * * *")
NOON = at("2026-01-01T12:00")


def test_an_application_without_a_point_is_due_at_once():
    """Its slot is the latest cron instant, however long ago, whatever the jitter."""
    weekly = schedule("0 3 * * 1", jitter=timedelta(hours=2))
    found = due(weekly, last_slot=None, now=at("2026-01-04T10:00"), key="shop/_")
    assert found.slot == found.starts_at == at("2025-12-29T03:00")
    assert found.missed == 0


def test_missed_slots_are_coalesced():
    """The newest slot is caught up, and how many were lost is said."""
    found = due(
        HOURLY, last_slot=NOON - timedelta(hours=5), now=NOON + timedelta(minutes=40), key="a"
    )
    assert (found.slot, found.missed) == (NOON, 4)


def test_missed_slots_are_skipped():
    """With Skip, a slot that nobody started in time is left; the next one runs."""
    skip = schedule("0 * * * *", missed_runs="Skip")
    last = NOON - timedelta(hours=5)
    assert due(skip, last_slot=last, now=NOON + LATE_MAX + timedelta(seconds=1), key="a") is None
    assert due(skip, last_slot=last, now=NOON + timedelta(minutes=1), key="a").slot == NOON


def test_nothing_is_due_twice_and_a_clock_that_jumps_back_makes_no_doubles():
    """A slot that has a point is over, also when the clock stands before it."""
    assert due(HOURLY, last_slot=NOON, now=NOON + timedelta(minutes=59), key="a") is None
    for hours in (0, 1, 48):
        assert due(HOURLY, last_slot=NOON, now=NOON - timedelta(hours=hours), key="a") is None


def test_jitter_is_the_same_every_time_and_differs_between_applications():
    """Starts are spread over the span by the application's name."""
    spread = schedule("0 * * * *", jitter=timedelta(minutes=30))
    offsets = {key: jitter(spread, key) for key in ("shop/_", "wiki/_", "blog/_", "mail/_")}
    assert offsets == {key: jitter(spread, key) for key in offsets}
    assert len(set(offsets.values())) > 1
    assert all(timedelta() <= offset < timedelta(minutes=30) for offset in offsets.values())


def test_a_slot_waits_for_its_jitter():
    """Before its start a slot is announced with the start ahead; then it is due."""
    spread = schedule("0 * * * *", jitter=timedelta(minutes=30))
    starts_at = NOON + jitter(spread, "shop/_")
    waiting = due(spread, last_slot=NOON - timedelta(hours=1), now=NOON, key="shop/_")
    assert (waiting.slot, waiting.starts_at) == (NOON, starts_at)
    assert (
        due(spread, last_slot=NOON - timedelta(hours=1), now=starts_at, key="shop/_").starts_at
        == starts_at
    )


def test_a_jitter_longer_than_the_period_still_lets_slots_start():
    """The newest slot that may start is due, so that waiting ends."""
    spread = schedule("*/5 * * * *", jitter=timedelta(hours=1))
    offset = jitter(spread, "shop/_")
    now = NOON + timedelta(minutes=2)
    found = due(spread, last_slot=NOON - timedelta(hours=5), now=now, key="shop/_")
    assert found.slot + offset <= now < found.slot + offset + timedelta(minutes=5)
