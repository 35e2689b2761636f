"""A Restore through the daemon acts exactly once, whatever happens to its file."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import format_instant
from reconciler.ledger.layout import RestoreKey
from tests.support.faults import Effects
from tests.support.passes import view_of
from tests.support.world import RESTORE, git

HOUR = timedelta(hours=1)


@pytest.fixture
def spoiled(world):
    """A captured application that was changed since: what a restore would put right shows."""
    world.run_pass()
    world.edit("shop", "c1", "spoiled")
    return world


def lines(report):
    """(phase, message) of each restore of a pass."""
    return [(line.phase, line.message) for line in report.restored]


def phases(report):
    return [line.phase for line in report.restored]


def value(world):
    """What the changed object says."""
    return world.data("shop")["ConfigMap/c1"]["value"]


def manifest(world, *, name="back", attempt=1, hours=48, extra="", conflict="update"):
    """A Restore of the first point."""
    until = format_instant(world.clock.now() + timedelta(hours=hours))
    text = RESTORE % (name, attempt, until, "shop")
    return text.replace("onConflict: update", f"onConflict: {conflict}") + extra


def merge(world, text, *, path="restores/back.yaml", message="ask"):
    """Merge a Restore; the pass that follows."""
    world.write(path, text)
    world.merge(message)
    return world.run_pass()


def used(world):
    """A Restore that has run; then the object is changed again."""
    text = manifest(world)
    assert phases(merge(world, text)) == ["Succeeded"]
    assert value(world) == "1"
    world.edit("shop", "c1", "changed after")
    return text


def attempts(world):
    """Attempt → phase, as the ledger says."""
    return {
        (key.name, key.attempt): state.finished.spec.phase if state.finished else "Accepted"
        for key, state in view_of(world).restores().items()
    }


def test_a_merged_restore_runs_once(spoiled):
    """It runs at the next pass, is recorded as accepted and finished, and never again."""
    used(spoiled)
    again = spoiled.run_pass()
    elsewhere = spoiled.run_pass(spoiled.parts(work="empty"))
    state = view_of(spoiled).restores()[RestoreKey("policies", "", "back", 1)]

    assert again.restored == []
    assert elsewhere.restored == []
    assert value(spoiled) == "changed after"
    assert state.accepted is not None
    assert state.finished.spec.phase == "Succeeded"


def test_renaming_its_file_does_nothing(spoiled):
    """Another path is the same request."""
    used(spoiled)
    git("mv", "restores/back.yaml", "restores/renamed.yaml", cwd=spoiled.root / "policies")
    spoiled.merge("rename")

    assert spoiled.run_pass().restored == []
    assert value(spoiled) == "changed after"


def test_deleting_and_adding_it_again_does_nothing(spoiled):
    """What was consumed stays consumed."""
    text = used(spoiled)
    spoiled.remove("restores/back.yaml")
    spoiled.merge("tidy up")
    gone = spoiled.run_pass()
    back = merge(spoiled, text)

    assert gone.restored == []
    assert back.restored == []
    assert value(spoiled) == "changed after"


def test_cherry_picking_it_does_nothing(spoiled):
    """The same change as another commit, on another path, is the same request."""
    used(spoiled)
    where = spoiled.root / "policies"
    commit = git("rev-parse", "HEAD", cwd=where).strip()
    spoiled.remove("restores/back.yaml")
    spoiled.merge("drop")
    spoiled.run_pass()
    git("cherry-pick", commit, cwd=where)
    git("push", "-q", "origin", "main", cwd=where)

    assert (where / "restores/back.yaml").exists()
    assert spoiled.run_pass().restored == []
    assert value(spoiled) == "changed after"


def test_reverting_a_revert_does_nothing(spoiled):
    """Neither the revert nor the revert of the revert runs anything."""
    used(spoiled)
    where = spoiled.root / "policies"
    for _ in range(2):
        git("revert", "--no-edit", "HEAD", cwd=where)
        git("push", "-q", "origin", "main", cwd=where)
        assert spoiled.run_pass().restored == []
    assert (where / "restores/back.yaml").exists()
    assert value(spoiled) == "changed after"


def test_editing_it_after_use_is_a_finding(spoiled):
    """An edited attempt that was used runs nothing and is told at each pass, with what to do."""
    text = used(spoiled)
    report = merge(spoiled, text.replace("reason: a test", "reason: once more"))

    assert phases(report) == ["Refused"]
    assert "edited after it was accepted" in report.restored[0].message
    assert "attempt" in report.restored[0].hint
    assert report.exit_code == spoiled.run_pass().exit_code == 1
    assert value(spoiled) == "changed after"


def test_raising_the_attempt_runs_it_again(spoiled):
    """A higher attempt is a new request; its time runs anew."""
    used(spoiled)
    report = merge(spoiled, manifest(spoiled, attempt=2))

    assert phases(report) == ["Succeeded"]
    assert value(spoiled) == "1"
    assert attempts(spoiled) == {("back", 1): "Succeeded", ("back", 2): "Succeeded"}


def test_nothing_starts_after_not_after(spoiled):
    """A request that is merged too late is refused, and nothing is consumed."""
    text = manifest(spoiled, hours=1)
    spoiled.write("restores/back.yaml", text)
    spoiled.merge("ask")
    spoiled.clock.advance(2 * HOUR)
    late = spoiled.run_pass()
    in_time = merge(
        spoiled, manifest(spoiled, hours=1).replace("shop/_/latest", "shop/_/20261123T060000Z")
    )

    assert phases(late) == ["Refused"]
    assert "notAfter" in late.restored[0].message
    assert late.exit_code == 0, "what is over fails no pass"
    assert phases(in_time) == ["Succeeded"]
    assert value(spoiled) == "1"


def test_limits_refuse_and_later_allow(spoiled):
    """A plan beyond the limits is not accepted; with higher limits, in time, the same attempt runs."""
    text = manifest(spoiled, extra="  limits: {update: 0}\n")
    refused = merge(spoiled, text)
    before = value(spoiled)
    allowed = merge(spoiled, text.replace("update: 0", "update: 5"), message="allow five")

    assert phases(refused) == ["Refused"]
    assert "limits" in refused.restored[0].message
    assert refused.exit_code == 1
    assert before == "spoiled"
    assert phases(allowed) == ["Succeeded"]
    assert value(spoiled) == "1"


def test_mode_plan_writes_the_plan_and_changes_nothing(spoiled):
    """`mode: Plan` puts the live plan in the ledger, once, and leaves the cluster alone."""
    report = merge(spoiled, manifest(spoiled, extra="  mode: Plan\n"))
    again = spoiled.run_pass()
    state = view_of(spoiled).restores()[RestoreKey("policies", "", "back", 1)]

    assert phases(report) == ["Succeeded"]
    assert again.restored == []
    assert value(spoiled) == "spoiled"
    assert state.accepted.spec.verdicts["update"] == 1
    assert state.accepted.spec.plan_digest


def test_removal_before_acceptance_cancels(spoiled):
    """A request that is gone before any pass saw it leaves nothing behind."""
    spoiled.write("restores/back.yaml", manifest(spoiled))
    spoiled.merge("ask")
    spoiled.remove("restores/back.yaml")
    spoiled.merge("never mind")
    report = spoiled.run_pass()

    assert report.restored == []
    assert attempts(spoiled) == {}
    assert value(spoiled) == "spoiled"


def test_a_conflict_policy_of_fail_refuses(spoiled):
    """`onConflict: fail` with a live difference is refused before anything is written."""
    report = merge(spoiled, manifest(spoiled, conflict="fail"))

    assert phases(report) == ["Refused"]
    assert attempts(spoiled) == {}
    assert value(spoiled) == "spoiled"


def test_a_restore_brings_back_a_destroyed_namespace(world):
    """Everything is as captured, and the namespace is protected again in the same pass."""
    world.run_pass()
    before = world.data("shop")
    world.destroy("shop")
    world.clock.advance(HOUR)
    world.ask_restore("shop")
    report = world.run_pass()

    assert phases(report) == ["Succeeded"]
    after = world.data("shop")
    before.pop("ConfigMap/kube-root-ca.crt", None)
    assert {key: after[key] for key in before} == before
    assert [line.application.short for line in report.captured] == ["shop"]


def test_removed_while_it_runs(world, monkeypatch):
    """A Restore whose file is removed after it was accepted stops at the next object, and that is its end."""
    monkeypatch.setattr("reconciler.daemon.restores.LOOK_EVERY_S", 0)
    world.run_pass()
    world.destroy("shop")
    world.write("restores/back.yaml", manifest(world))
    world.merge("ask")

    def withdraw():
        world.remove("restores/back.yaml")
        world.merge("never mind")

    effects = Effects(at="cluster.create Namespace", meanwhile=withdraw)
    report = world.run_pass(world.parts(effects=effects))

    assert phases(report) == ["Cancelled"]
    state = view_of(world).restores()[RestoreKey("policies", "", "back", 1)]
    assert state.finished.spec.phase == "Cancelled"
    assert "ConfigMap/c1" not in world.data("shop")


def test_what_others_did_right_after_is_a_finding_of_a_later_pass(spoiled):
    """An object that is gone two minutes later: the pass says so once, ends with 1, and counts no second restore."""
    world = spoiled
    used(world)
    kind = world.cluster.discover().find("", "ConfigMap")
    world.cluster.delete(kind, "c1", namespace="shop")
    world.clock.advance(timedelta(minutes=1))
    early = world.run_pass()
    world.clock.advance(timedelta(minutes=1, seconds=1))
    due = world.run_pass()
    world.clock.advance(timedelta(minutes=1))
    again = world.run_pass()

    assert (early.restored, early.exit_code) == ([], 0)
    assert phases(due) == ["Changed"]
    assert "/ConfigMap/shop/c1 was removed" in due.restored[0].message
    assert due.exit_code == 1
    assert due.counts()["restored"] == 0
    assert (again.restored, again.exit_code) == ([], 0)
    (state,) = view_of(world).restores().values()
    assert [row.what for row in state.watched.spec.aftermath] == ["removed"]
    subjects = git("log", "--format=%s", "-5", "restore-points/town", cwd=world.root / "ledger.git")
    assert "looked again at back attempt 1" in subjects


def test_the_time_to_look_again_is_the_operators(spoiled):
    """`watchAfter` of the configuration."""
    world = spoiled
    world.config.write_text(world.config.read_text() + "watchAfter: 10m\n")
    used(world)
    world.clock.advance(timedelta(minutes=9))
    world.run_pass()
    (state,) = view_of(world).restores().values()
    assert state.watched is None
    world.clock.advance(timedelta(minutes=1, seconds=1))
    world.run_pass()
    (state,) = view_of(world).restores().values()

    assert state.watched.spec.message.startswith(("within 10m", "nothing was changed"))
