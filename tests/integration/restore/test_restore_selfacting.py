"""CronJobs in place: what is released does not catch up a run that it missed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import SystemClock, parse_instant
from tests.support.rescue import request
from tests.support.seen import manifest

API = "batch/v1"
LONG_AGO = "2026-01-01T00:00:00Z"


def cron(name="report", **spec):
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "i"}]}}
    given = {"schedule": "7 * * * *", "jobTemplate": {"spec": {"template": template}}, **spec}
    return manifest("CronJob", name, api=API, spec=given)


@pytest.fixture
def shop(rescue):
    """A namespace with a CronJob that runs and one that is suspended, captured; both ran last long ago."""
    space = manifest("Namespace", "shop", namespace="")
    rescue.town.create(space, cron(), cron("paused", suspend=True))
    for name in ("report", "paused"):
        change(rescue, name, {"status": {"lastScheduleTime": LONG_AGO}}, subresource="status")
    rescue.capture()
    return rescue


def change(rescue, name, body, **how):
    cluster, kind = rescue.town.cluster, rescue.town.kind(API, "CronJob")
    return cluster.patch(kind, name, body, namespace="shop", manager="somebody", **how)


def last_run(rescue, name="report"):
    return rescue.town.get(API, "CronJob", name)["status"]["lastScheduleTime"]


@pytest.mark.parametrize(
    "spoiled",
    [{"suspend": True}, {"schedule": "1 1 1 1 *"}, {"timeZone": "Asia/Tokyo"}],
    ids=["suspended", "schedule", "time zone"],
)
def test_a_missed_run_is_not_caught_up(shop, spoiled):
    """Before it is released its last run is put to now, so that the controller counts from here."""
    change(shop, "report", {"spec": spoiled})

    result = shop.restore(request())

    assert result.phase == "Succeeded"
    live = shop.town.get(API, "CronJob", "report")["spec"]
    assert (live["schedule"], live.get("suspend", False)) == ("7 * * * *", False)
    assert SystemClock().now() - parse_instant(last_run(shop)) < timedelta(minutes=2)


def test_what_starts_nothing_keeps_its_history(shop):
    """One that stays suspended is left to its history; one that is released counts its runs from then on."""
    change(shop, "report", {"metadata": {"labels": {"added": "since"}}})
    change(shop, "paused", {"spec": {"schedule": "1 1 1 1 *"}})

    result = shop.restore(request())

    assert result.phase == "Succeeded"
    assert last_run(shop) != LONG_AGO
    assert last_run(shop, "paused") == LONG_AGO
    assert "added" not in shop.town.get(API, "CronJob", "report")["metadata"].get("labels", {})


def test_a_server_that_forbids_it_is_said(shop):
    """The CronJob comes back all the same, with a word of what may happen."""
    change(shop, "report", {"spec": {"suspend": True}})
    shop.town.sandbox.faults.add("answer", "/report/status", method="PATCH", value=403, times=9)

    result = shop.restore(request())

    ended = next(one for one in result.outcomes if one.item.endswith("/report"))
    assert (ended.result, ended.reason) == ("Succeeded", "Updated")
    assert "may be caught up" in ended.message
    assert last_run(shop) == LONG_AGO
