"""What is not as usual is visible where people look: `get apps`, `describe`, `run --once`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import SystemClock, format_instant
from tests.support.world import POLICY, RESTORE

HOLD = (
    "apiVersion: backup.reconciler.dev/v1alpha1\nkind: Hold\nmetadata: {name: evidence}\n"
    'spec: {application: shop/_, slot: "%s", reason: an audit, owner: legal}\n'
)


def app(hall, name="shop/_"):
    """An application as `get apps` has it."""
    return next(item for item in hall.json("get", "apps")["items"] if item["name"] == name)


def test_what_is_overdue_is_next_now(hall):
    """An application whose slots have passed is due now."""
    answer = hall("get", "apps")

    assert app(hall)["nextIn"] == "now"
    row = next(line for line in answer.out.splitlines() if line.startswith("shop"))
    assert row[answer.out.index("NEXT") :].startswith("now ")


def test_an_application_without_a_point_is_next_now(hall):
    """So is one that has none yet."""
    hall.world.settle("wiki")

    assert app(hall, "wiki/_")["nextIn"] == "now"


def test_a_suspended_policy_is_visible(hall):
    """Status, reason and end of a suspension: in `get apps`, in `describe app`, and in a pass, which captures nothing."""
    hall.world.write(
        "policies/gold.yaml",
        POLICY % 24 + '  suspend: {reason: a migration, until: "2100-01-01T00:00:00Z"}\n',
    )
    hall.world.merge("pause")
    table, described, ran = hall("get", "apps"), hall("describe", "app/shop"), hall("run", "--once")

    row = next(line for line in table.out.splitlines() if line.startswith("shop"))
    for text in (row, described.out, ran.err):
        assert "uspended" in text
        assert "2100-01-01T00:00:00Z" in text
        assert "a migration" in text
    assert "status: Suspended" in described.out
    assert "1 suspended" in table.err
    assert ran.code == 0
    assert len(hall.json("get", "points")["items"]) == 1


def test_a_suspension_that_is_over_is_not_said(hall):
    """After its end the application is as any other."""
    hall.world.write(
        "policies/gold.yaml",
        POLICY % 24 + '  suspend: {reason: a migration, until: "2020-01-01T00:00:00Z"}\n',
    )
    hall.world.merge("pause")

    assert app(hall)["status"] != "Suspended"
    assert "suspended" not in hall("get", "apps").err


def test_a_broken_policy_says_that_its_last_good_form_is_in_force(hall):
    """The pass and `get apps` name the policy, its file and the commit that is in force instead."""
    good = hall.json("get", "policies")["items"][0]["revision"]
    hall.world.write("policies/gold.yaml", (POLICY % 24).replace("schedule", "shcedule"))
    hall.world.merge("a typo")
    ran, listed = hall("run", "--once"), hall("get", "apps")

    for said in (ran.err, listed.err):
        line = next(x for x in said.splitlines() if "stays in force" in x)
        assert "BackupPolicy/gold (policies/gold.yaml)" in line
        assert good in line
    assert "last good form" in app(hall)["note"]
    assert ran.code == 1


def test_a_hold_that_was_removed_is_not_sent_to_lint(hall):
    """A Hold whose file is gone stays, and what is said to do is to release it; lint cannot find it."""
    hall.world.write("holds/evidence.yaml", HOLD % hall.slot())
    hall.world.merge("hold")
    hall.world.run_pass()
    hall.world.remove("holds/evidence.yaml")
    hall.world.merge("drop it")
    ran = hall("run", "--once")

    assert "Hold/evidence was removed without a release" in ran.err
    assert "spec.release" in ran.err
    assert "lint" not in ran.err
    assert "newest form has faults" not in ran.err
    assert [one["name"] for one in hall.json("get", "holds")["items"]] == ["evidence"]


def ask(hall, *, hours=24, conflict="update", reason="a test"):
    """Merge a Restore of the shop."""
    until = format_instant(SystemClock().now() + timedelta(hours=hours))
    text = (RESTORE % ("back", 1, until, "shop")).replace("a test", reason)
    hall.world.write("restores/back.yaml", text.replace("update", conflict))
    hall.world.merge("ask")


def restores(hall):
    """(phase, message) of every restore that is shown."""
    return [(one["phase"], one["message"]) for one in hall.json("get", "restores")["items"]]


class TestRestoresThatWait:
    """A merged Restore is visible before it is accepted, and if it never is."""

    def test_pending(self, hall):
        """What the next pass carries out is shown as Pending, and nothing is written by looking."""
        hall.world.edit("shop", "c1", "spoiled")
        ask(hall)
        before = restores(hall)
        described = hall("describe", "restore/back")
        ran = hall("run", "--once")

        assert [phase for phase, _ in before] == ["Pending"]
        assert "phase: Pending" in described.out
        assert "✔ restore back" in ran.out
        assert [phase for phase, _ in restores(hall)] == ["Succeeded"]

    def test_refused(self, hall):
        """What a pass refuses is shown with the reason, and is a finding (1), whatever else the pass does."""
        hall.world.edit("shop", "c1", "spoiled")
        ask(hall, conflict="fail")
        first = hall("run", "--once")
        hall.world.edit("shop", "c1", "spoiled again, since that pass captured it")
        again = hall("run", "--once")
        ((phase, message),) = restores(hall)

        assert phase == "Refused"
        assert "onConflict is fail" in message
        assert "onConflict is fail" in hall("get", "restores").out
        assert "onConflict is fail" in hall("describe", "restore/back").out
        assert (first.code, again.code) == (1, 1)

    def test_expired(self, hall):
        """One that nobody accepted in time is shown as Expired, and no pass fails for it."""
        ask(hall, hours=-1)
        ran = hall("run", "--once")

        assert [phase for phase, _ in restores(hall)] == ["Expired"]
        assert ran.code == 0, ran.out + ran.err

    def test_edited_after_use(self, hall):
        """The record stays what it is, with the finding beside it, until the attempt is raised."""
        ask(hall)
        assert hall("run", "--once").code == 0
        ask(hall, reason="once more")
        ran = hall("run", "--once")
        ((phase, message),) = restores(hall)

        assert phase == "Succeeded"
        assert "raise spec.attempt" in message
        assert ran.code == 1

    def test_a_cluster_that_is_away(self, hall):
        """Without the cluster nobody can tell: Waiting, with the cause, and the records are shown all the same."""
        ask(hall)
        hall.world.sandbox.faults.add("answer", "", value=503, times=100_000)
        ((phase, message),) = restores(hall)

        assert phase == "Waiting"
        assert message


class TestWhatNoPolicyCovers:
    """Each application is named once, and never the program's own namespace."""

    def test_with_points_it_is_named_once(self, hall):
        """An application that has points and lost its policy is in one note of a pass, and in one row."""
        kind = hall.world.cluster.discover().find("", "Namespace")
        patch = {"metadata": {"labels": {"backup": None}}}
        hall.world.cluster.patch(kind, "shop", patch, manager="t")
        ran = hall("run", "--once")
        names = hall("get", "apps", "-o", "name").out.split()

        (note,) = [line for line in ran.err.splitlines() if "shop" in line and line[0] == "!"]
        assert note.count("shop") == 1
        assert "shop (has points)" in note
        assert names.count("shop/_") == 1

    def test_without_a_namespace_it_is_named_once(self, hall):
        """So is one whose namespace is gone."""
        hall.world.destroy("shop")
        ran = hall("run", "--once")

        notes = [line for line in ran.err.splitlines() if line[0] == "!" and "shop" in line]
        assert notes == ["! have points, and no policy or no namespace any more: shop"]

    def test_our_own_namespace(self, hall):
        """The namespace of leases is not called uncovered."""
        config = hall.world.config
        config.write_text(config.read_text().replace("leaseNamespace: default", ""))
        for name in ("backup-reconciler", "attic"):
            hall.world.objects(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        ran = hall("run", "--once")
        names = hall("get", "apps", "-o", "name").out.split()

        assert "attic" in ran.err
        assert "backup-reconciler" not in ran.err
        assert "attic/_" in names
        assert "backup-reconciler/_" not in names


@pytest.mark.parametrize("argv", [("run", "--once"), ("capture", "shop")])
def test_nothing_is_said_twice(hall, argv):
    """What goes wrong is told to people once, in words: no log line repeats it, unless `--verbose` asks for them."""
    (hall.world.root / "location").rename(hall.world.root / "elsewhere")
    hall.world.ask_restore("shop")
    quiet = hall(*argv)
    loud = hall("--verbose", *argv)

    assert quiet.code != 0
    assert "open location" in quiet.out + quiet.err
    assert not [line for line in quiet.err.splitlines() if line.startswith("{")]
    assert [line for line in loud.err.splitlines() if line.startswith("{")]
