"""What a pass captures: what is due, once, and each application for itself."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import format_instant
from reconciler.store.port import StorageFullError
from tests.support.passes import FaultyStorage, failures, parts_with, slots, told, view_of
from tests.support.world import POLICY, START

HOUR = timedelta(hours=1)


def test_a_pass_captures_what_is_due_once(world):
    """The first pass captures every covered application for the latest slot; a second at the same time nothing."""
    first = world.run_pass()
    again = world.run_pass()

    assert told(first) == [("shop", "Succeeded")]
    assert first.problems == []
    assert first.exit_code == 0
    assert slots(world) == ["20261123T060000Z"]
    assert again.captured == []
    assert again.pushed == 0
    assert again.next_at == START.replace(minute=0) + HOUR


def test_missed_slots_are_caught_up_and_said(world):
    """After five hours without a daemon one capture of the newest slot is made, which says how many were missed."""
    world.run_pass()
    world.clock.advance(5 * HOUR)
    report = world.run_pass()

    record = view_of(world).point("shop/_", "20261123T110000Z")
    assert slots(world) == ["20261123T060000Z", "20261123T110000Z"]
    assert [line.missed for line in report.captured] == [4]
    assert record.spec.missed_slots == 4


def test_a_suspended_policy_captures_nothing_until_its_end(world):
    """`suspend` stops captures and ends by itself."""
    world.run_pass()
    until = START + 3 * HOUR
    suspend = f'  suspend: {{reason: "moving", until: "{format_instant(until)}"}}\n'
    world.write("policies/gold.yaml", POLICY % 24 + suspend)
    world.merge("pause")
    world.clock.advance(2 * HOUR)
    paused = world.run_pass()
    world.clock.advance(2 * HOUR)
    resumed = world.run_pass()

    assert paused.captured == []
    assert paused.next_at == until
    assert told(resumed) == [("shop", "Succeeded")]


def test_a_forbidden_kind_makes_points_partial(world):
    """A 403 on one kind: the point is Partial and names it, other kinds are kept, the next one is whole again."""
    world.sandbox.deny("list", "secrets")
    partial = world.run_pass()
    record = view_of(world).point("shop/_", "20261123T060000Z").spec
    world.sandbox.allow_all()
    world.clock.advance(HOUR)
    whole = world.run_pass()

    assert told(partial) == [("shop", "Partial")]
    assert partial.exit_code == 3
    assert ("kind/secrets", "Forbidden") in {(o.item, o.reason) for o in record.outcomes}
    assert record.objects >= 4
    assert told(whole) == [("shop", "Succeeded")]


def test_a_namespace_that_goes_fails_alone(world):
    """A terminating namespace fails with a record and a number; others are captured; pauses between attempts grow."""
    world.settle("wiki")
    namespace = world.cluster.discover().find("", "Namespace")
    kind = world.cluster.discover().find("", "ConfigMap")
    world.cluster.patch(
        kind,
        "c0",
        {"metadata": {"finalizers": ["example.org/never"]}},
        namespace="wiki",
        manager="t",
    )
    world.cluster.delete(namespace, "wiki")
    first = world.run_pass()
    soon = world.run_pass()

    assert told(first) == [("shop", "Succeeded"), ("wiki", "Failed")]
    assert first.exit_code == 6
    assert soon.captured == []
    report, tried = first, 1
    while report.next_at < START.replace(minute=0) + HOUR:
        world.clock.move_to(report.next_at)
        report = world.run_pass()
        tried += len(report.captured)
    found = failures(world, "20261123T060000Z", application="wiki/_")
    at = sorted(spec.failed_at for spec in found)
    gaps = [later - earlier for earlier, later in zip(at, at[1:], strict=False)]
    assert sorted(spec.attempt for spec in found) == list(range(1, tried + 1))
    assert 4 <= tried <= 8
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0]
    assert all(isinstance(spec.message, str) and "wiki" in spec.message for spec in found)


@pytest.mark.slow
def test_attempts_end_after_eight(world):
    """A slot that fails eight times is given up; the next slot is tried afresh."""
    world.write("policies/gold.yaml", (POLICY % 24).replace("0 * * * *", "0 6 * * *"))
    world.merge("daily")
    storage = FaultyStorage(world.storage, StorageFullError("write pack: no space left"))
    parts = parts_with(world, storage=lambda _url: storage)
    attempts = 0
    for _ in range(20):
        attempts += len(world.run_pass(parts).captured)
        world.clock.advance(HOUR)
    world.clock.move_to(START + timedelta(days=1))
    next_day = world.run_pass(parts)
    storage.error = None
    at_once = world.run_pass(parts)
    world.clock.advance(timedelta(minutes=2))
    later = world.run_pass(parts)

    assert attempts == 8
    assert len(failures(world, "20261123T060000Z")) == 8
    assert told(next_day) == [("shop", "Failed")]
    assert told(at_once) == []
    assert told(later) == [("shop", "Succeeded")]


def test_a_bug_in_one_capture_stops_no_other(world):
    """An application that brings a bug of ours to light fails with a record that holds no trace; others go on."""
    world.settle("wiki")

    class Storage:
        def __getattr__(self, name):
            return getattr(world.storage, name)

        def read(self, name, *, offset=0, length=None):
            if "/points/shop/" in name:
                raise RuntimeError("hunter2 in a message that nobody checked")
            return world.storage.read(name, offset=offset, length=length)

    report = world.run_pass(parts_with(world, storage=lambda _url: Storage()))
    (failure,) = failures(world, "20261123T060000Z")

    assert told(report) == [("shop", "Failed"), ("wiki", "Succeeded")]
    assert failure.reason == "Bug"
    assert "RuntimeError" in failure.message
    assert "hunter2" not in failure.message
