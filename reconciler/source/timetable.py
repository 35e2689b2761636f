"""What a cron expression can be known to do without a clock: whether it reads, ever fires, and how far apart.

The longest gap is exact up to changes of daylight saving time: the times of day of one day, and the days of nine
years (leap days are at most eight years apart), each taken from cronsim.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

from cronsim import CronSim, CronSimError

_START = datetime(2023, 12, 31, 23, 59, tzinfo=UTC)
_DAY = timedelta(days=1)
_YEAR = timedelta(days=366)
_LEAP_DAYS = timedelta(days=366 * 9)


class CronFaultError(ValueError):
    """An expression cannot be read, or never fires; the text says which and what was expected."""


@lru_cache(maxsize=1024)
def longest_gap(cron: str) -> timedelta:
    """The longest time between two slots.

    Raises:
        CronFaultError: the expression cannot be read, or never fires.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise CronFaultError(
            f"found {len(fields)} fields, expected five: minute, hour, day of month, month, day of week"
        )
    minute, hour, day, month, weekday = fields
    times = _slots(f"{minute} {hour} * * *", _DAY)
    for alone in (f"0 0 {day} * {weekday}", f"0 0 * {month} {weekday}"):
        _slots(alone, _DAY)
    try:
        horizon = _YEAR if day == month == "*" else _LEAP_DAYS
        days = _slots(f"0 0 {day} {month} {weekday}", horizon)
    except CronFaultError:
        days = []
    if len(days) < 2:
        raise CronFaultError("never fires: no month has such a day")
    inner = max((b - a for a, b in pairwise(times)), default=timedelta())
    between = max(b - a for a, b in pairwise(days))
    return max(inner, between - (times[-1] - times[0]))


def _slots(cron: str, span: timedelta) -> list[datetime]:
    found: list[datetime] = []
    try:
        for slot in CronSim(cron, _START):
            if slot > _START + span:
                break
            found.append(slot)
    except CronSimError as error:
        reason = str(error).lower() or "malformed"
        raise CronFaultError(f"{reason}, expected five fields as in crontab(5)") from error
    return found
