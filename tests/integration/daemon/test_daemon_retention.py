"""Retention in passes: what is retired, what a Hold keeps, and the breaker."""

from __future__ import annotations

from datetime import timedelta

from reconciler.daemon.prune import prune
from reconciler.kinds.record import RetirementRecord
from reconciler.ledger.chain import verify_chain
from reconciler.store.content import open_store
from tests.support.passes import metric, problems, slots, view_of
from tests.support.world import PASSPHRASE, POLICY

HOUR = timedelta(hours=1)
HOLD = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: Hold
metadata: {name: evidence}
spec:
  application: shop/_
  slot: "20261123T060000Z"
  reason: an audit
  owner: legal
%s"""
RELEASE = "  release: {reason: the audit is over, approvedBy: legal}\n"


def run_hours(world, hours, *, parts=None):
    """A pass each hour; the last report."""
    for _ in range(hours):
        report = world.run_pass(parts)
        world.clock.advance(HOUR)
    return report


def keep(world, last):
    """Change how many points stay."""
    world.write("policies/gold.yaml", POLICY % last)
    world.merge(f"keep {last}")


def test_points_beyond_retention_are_retired(world):
    """Each pass retires what is too much, in a record; the newest stay, content is untouched."""
    keep(world, 2)
    parts = world.parts()
    run_hours(world, 4, parts=parts)
    view = view_of(world)
    retired = [p.point for record in view.records("RetirementRecord") for p in record.spec.points]

    assert slots(world) == ["20261123T080000Z", "20261123T090000Z"]
    assert sorted(retired) == ["shop/_/20261123T060000Z", "shop/_/20261123T070000Z"]
    assert all(isinstance(r, RetirementRecord) for r in view.records("RetirementRecord"))
    assert verify_chain(view) == []
    assert len(list(open_store(world.storage, PASSPHRASE, clock=world.clock).points())) == 4
    assert metric(parts, "retired_points_total", cluster="town") == 2


def test_a_held_point_stays_until_it_is_released(world):
    """A Hold keeps its point, also after its file is deleted and on an empty disk; a release lets it go."""
    keep(world, 2)
    world.write("holds/evidence.yaml", HOLD % "")
    world.merge("hold")
    run_hours(world, 4)
    held = slots(world)
    world.remove("holds/evidence.yaml")
    world.merge("forget the hold")
    warned = world.run_pass(world.parts(work="empty"))
    world.clock.advance(HOUR)
    after = slots(world)
    world.write("holds/evidence.yaml", HOLD % RELEASE)
    world.merge("release")
    world.run_pass()

    assert held == ["20261123T060000Z", "20261123T080000Z", "20261123T090000Z"]
    assert after == ["20261123T060000Z", "20261123T090000Z", "20261123T100000Z"]
    assert any("removed without a release" in str(f) for f in warned.desired.findings)
    assert slots(world) == ["20261123T100000Z", "20261123T110000Z"]


def test_prune_spares_what_is_held(world):
    """Prune deletes retired points after their time, and never one that a Hold names, even a retired one."""
    keep(world, 1)
    run_hours(world, 3)
    world.write("holds/evidence.yaml", HOLD % "")
    world.merge("hold what is retired already")
    world.run_pass()
    world.clock.advance(timedelta(days=8))
    parts = world.parts()
    done = list(
        prune(
            parts.desired(),
            settings=parts.settings,
            domain=world.cluster.uid(),
            ledger=parts.ledger,
            locations=parts.locations,
            clock=world.clock,
            dry_run=False,
        )
    )
    left = {p.slot for p in open_store(world.storage, PASSPHRASE, clock=world.clock).points()}

    assert sum(entry.report.points_deleted for entry in done) == 2
    assert left == {"20261123T060000Z", "20261123T090000Z"}


def test_the_breaker_stops_a_mistyped_policy(world):
    """A change that would retire most points at once retires none, and says how to allow it."""
    run_hours(world, 9)
    before = slots(world)
    keep(world, 1)
    parts = world.parts()
    report = world.run_pass(parts)
    after = slots(world)
    config = world.config.read_text()
    world.config.write_text(config + "breaker: {maxShare: 1}\n")
    allowed = world.run_pass()

    assert report.retirement.points == ()
    assert set(before) < set(after)
    assert "would retire" in problems(report)
    assert "breaker.maxShare" in problems(report)
    assert report.exit_code == 6
    assert len(allowed.retirement.points) == 9
    assert len(slots(world)) == 1


def test_the_last_good_point_is_never_retired(world):
    """However old, the newest Succeeded point stays while nothing newer succeeds."""
    keep(world, 1)
    world.run_pass()
    world.sandbox.deny("list", "secrets")
    for _ in range(3):
        world.clock.advance(HOUR)
        report = world.run_pass()

    phases = {s: view_of(world).point("shop/_", s).spec.phase for s in slots(world)}
    assert report.captured[0].phase == "Partial"
    assert phases["20261123T060000Z"] == "Succeeded"
