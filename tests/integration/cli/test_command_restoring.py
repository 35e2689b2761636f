"""Commands that act: capture, hold, restore by request, by hand and without Git."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest
import yaml

from reconciler.ledger.layout import RestoreKey
from tests.support.passes import slots, view_of
from tests.support.world import POLICY

HOUR = timedelta(hours=1)


def value(world, name="c1", *, namespace="shop"):
    """What a ConfigMap says."""
    return world.data(namespace)[f"ConfigMap/{name}"]["value"]


class TestCapture:
    """`reconciler capture`."""

    def test_a_point_by_hand(self, hall):
        """It is made now, marked as manual, pushed, and does not count as the slot's point."""
        answer = hall("capture", "shop")
        items = hall.json("get", "points", "shop")["items"]
        hall.world.clock.advance(HOUR)
        report = hall.world.run_pass()

        assert answer.code == 0, answer.err
        assert "Succeeded" in answer.out
        assert [item["manual"] for item in items] == [True, False]
        assert [line.phase for line in report.captured] == ["Succeeded"]
        assert report.captured[0].missed == 0

    def test_partial_is_three(self, hall):
        """A kind that cannot be read makes it 3, and names it."""
        hall.world.sandbox.deny("list", "secrets")
        answer = hall("capture", "shop")

        assert answer.code == 3
        assert "kind/secrets" in answer.err

    def test_a_namespace_that_is_not_there(self, hall):
        """No such namespace: 6 and the reason; a failure record is left."""
        answer = hall("capture", "nowhere")

        assert answer.code == 6
        assert "NamespaceMissing" in answer.out

    def test_without_policy(self, hall):
        """What no policy covers is captured into every location, and that is said."""
        hall.world.objects({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "attic"}})
        answer = hall("capture", "attic")

        assert answer.code == 0, answer.err
        assert "no policy covers" in answer.err
        assert len(slots(hall.world, "attic/_")) == 1


class TestHold:
    """`reconciler hold`."""

    def test_what_it_prints_lints_and_holds(self, hall):
        """The printed manifest lints clean; merged, it keeps its point beyond retention."""
        printed = hall(
            *("hold", "shop/_/latest", "--reason", "INC-4711", "--owner", "legal"),
            *("--until", "2100-01-31T00:00:00Z"),
        )
        hall.world.write("holds/inc.yaml", printed.out)
        linted = hall("lint", str(hall.world.root / "policies"))
        hall.world.write("policies/gold.yaml", POLICY % 1)
        hall.world.merge("hold, and keep one")
        first = hall.slot()
        for _ in range(2):
            hall.world.clock.advance(HOUR)
            hall.world.run_pass()

        assert printed.code == 0, printed.err
        assert "next:" in printed.err
        assert (linted.code, linted.out) == (0, "")
        assert len(slots(hall.world)) == 2
        assert slots(hall.world)[0] == first
        assert hall.json("get", "holds")["items"][0]["slot"] == first
        assert first in hall("describe", f"hold/shop-{first.lower()}").out

    def test_an_end_that_is_none(self, hall):
        """An `--until` that cannot be read is wrong usage."""
        answer = hall(
            "hold", "shop/_/latest", "--reason", "r", "--owner", "o", "--until", "tomorrow"
        )

        assert answer.code == 2


class TestRestore:
    """`reconciler restore new` and `run`."""

    def test_new_lints_and_runs_once_merged(self, hall):
        """The printed manifest lints clean; merged, the daemon runs it once and `get restores` shows it."""
        hall.world.edit("shop", "c1", "spoiled")
        printed = hall(
            *("restore", "new", "shop/_/latest", "--reason", "INC-1", "--name", "inc-1"),
            *("--on-conflict", "update"),
        )
        hall.world.write("restores/inc-1.yaml", printed.out)
        linted = hall("lint", str(hall.world.root / "policies"))
        hall.world.merge("restore")
        report = hall.world.run_pass()
        shown = hall.json("get", "restores")["items"]

        assert printed.code == 0, printed.err
        assert "next:" in printed.err
        assert hall.slot() in printed.out, "the point is resolved when it is printed"
        assert (linted.code, linted.out) == (0, "")
        assert [line.phase for line in report.restored] == ["Succeeded"]
        assert value(hall.world) == "1"
        assert [(item["name"], item["phase"]) for item in shown] == [
            ("policies//inc-1", "Succeeded")
        ]

    def test_a_file_by_hand_and_the_daemon_run_it_once(self, hall):
        """`restore run FILE` uses up the same attempt that the merged file would."""
        hall.world.edit("shop", "c1", "spoiled")
        printed = hall(
            *("restore", "new", "shop/_/latest", "--reason", "INC-1", "--name", "inc-1"),
            *("--on-conflict", "update"),
        )
        file = hall.world.root / "policies/restores/inc-1.yaml"
        hall.world.write("restores/inc-1.yaml", printed.out)
        planned = hall("restore", "plan", str(file))
        run = hall("restore", "run", str(file))
        hall.world.edit("shop", "c1", "changed after")
        again = hall("restore", "run", str(file))
        hall.world.merge("restore")
        report = hall.world.run_pass()

        assert "1 to update" in planned.out
        assert run.code == 0, run.err
        assert "Succeeded" in run.out
        assert again.code == 0
        assert "raise the attempt" in again.err
        assert report.restored == []
        assert value(hall.world) == "changed after"

    def test_objects_are_named_to_be_recreated(self, hall):
        """`--recreate` stands in the printed manifest and in the plan; a name that is none is wrong usage."""
        hall.world.edit("shop", "c1", "spoiled")
        named = ("--recreate", "ConfigMap/c1")
        printed = hall("restore", "new", "shop/_/latest", "--reason", "r", *named)
        planned = hall("restore", "plan", "shop/_/latest", *named)
        wrong = hall("restore", "plan", "shop/_/latest", "--recreate", "c1")

        assert "recreate: [ConfigMap/c1]" in printed.out or "- ConfigMap/c1" in printed.out
        assert "! recreate  ConfigMap shop/c1" in planned.out
        assert "1 to recreate" in planned.out
        assert "1 live objects are deleted" in planned.out
        assert wrong.code == 2
        assert "Kind/name" in wrong.err

    def test_a_point_needs_yes_and_a_reason(self, hall):
        """Without `--yes --reason` a POINT is not restored; with them it is, and recorded."""
        hall.world.edit("shop", "c1", "spoiled")
        refused = hall("restore", "run", "shop/_/latest", "--on-conflict", "update")
        before = value(hall.world)
        run = hall(
            *("restore", "run", "shop/_/latest", "--on-conflict", "update"),
            *("--yes", "--reason", "INC-2"),
        )
        states = view_of(hall.world).restores()

        assert refused.code == 2
        assert "restore new" in refused.err
        assert before == "spoiled"
        assert run.code == 0, run.err
        assert value(hall.world) == "1"
        assert [key.source for key in states] == ["cli"]
        assert [s.finished.spec.reason for s in states.values()] == ["INC-2"]

    def test_a_conflict_is_four(self, hall):
        """A plan that its own conflict policy forbids: 4, with what to do; nothing is changed or recorded."""
        hall.world.edit("shop", "c1", "spoiled")
        answer = hall("restore", "run", "shop/_/latest", "--yes", "--reason", "INC-3")

        assert answer.code == 4
        assert "next:" in answer.err
        assert value(hall.world) == "spoiled"
        assert view_of(hall.world).restores() == {}

    def test_what_others_changed_right_after_is_told(self, hall):
        """Run again with `--watch-after`, the attempt is looked at once: 1, with field and manager; get and describe show it."""
        hall.world.edit("shop", "c1", "spoiled")
        printed = hall(
            *("restore", "new", "shop/_/latest", "--reason", "INC-1", "--name", "inc-1"),
            *("--on-conflict", "update"),
        )
        file = hall.world.root / "inc-1.yaml"
        file.write_text(printed.out)
        assert hall("restore", "run", str(file)).code == 0
        hall.world.edit("shop", "c1", "changed by somebody")
        looked = hall("restore", "run", str(file), "--watch-after", "0s")
        again = hall("restore", "run", str(file), "--watch-after", "0s")

        assert looked.code == 1, looked.out + looked.err
        assert "changed: /ConfigMap/shop/c1: data.value by test" in looked.err
        assert again.code == 0
        assert "nothing to do" in again.err
        (item,) = hall.json("get", "restores")["items"]
        assert "/ConfigMap/shop/c1 was changed (data.value by test)" in item["message"]
        described = yaml.safe_load(hall("describe", "restore/inc-1").out)["spec"]
        assert described["aftermath"][0]["managers"] == ["test"]

    def test_it_waits_to_look_again(self, hall):
        """A restore that stays as it was left: 0, and a record that says so."""
        hall.world.edit("shop", "c1", "spoiled")
        run = hall(
            *("restore", "run", "shop/_/latest", "--on-conflict", "update", "--yes"),
            *("--reason", "INC-2", "--watch-after", "1s"),
        )
        (state,) = view_of(hall.world).restores().values()
        wrong = hall("restore", "run", "shop/_/latest", "--watch-after", "soon")

        assert run.code == 0, run.err
        assert "looks again in 1s" in run.err
        assert "nothing was changed or removed within" in run.out
        assert state.watched.spec.aftermath == []
        assert wrong.code == 2

    def test_a_workload_is_named_to_be_paused(self, hall):
        """`--pause` stands in the printed manifest; one that is not there refuses the plan; a wrong form is wrong usage."""
        hall.world.edit("shop", "c1", "spoiled")
        named = ("--on-conflict", "update", "--pause", "deployment/ops/operator")
        printed = hall("restore", "new", "shop/_/latest", "--reason", "r", *named)
        planned = hall("restore", "plan", "shop/_/latest", *named)
        wrong = hall("restore", "plan", "shop/_/latest", "--pause", "operator")

        assert "kind: Deployment" in printed.out
        assert "namespace: ops" in printed.out
        assert planned.code == 4
        assert "pause: Deployment.apps ops/operator is not there" in planned.out
        assert wrong.code == 2

    def test_into_another_namespace(self, hall):
        """`--to` makes a copy beside the original."""
        answer = hall(
            "restore", "run", "shop/_/latest", "--to", "copy", "--yes", "--reason", "a look"
        )

        assert answer.code == 0, answer.err
        assert value(hall.world, namespace="copy") == "1"
        assert hall.world.data("copy")["Secret/s"] == hall.world.data("shop")["Secret/s"]


class TestWithoutGit:
    """Both Git remotes and the work directory are gone."""

    @pytest.fixture
    def bare(self, hall):
        """Location, key and cluster are all that is left."""
        shutil.rmtree(hall.world.root / "ledger.git")
        shutil.rmtree(hall.world.root / "policies.git")
        shutil.rmtree(hall.world.root / "work", ignore_errors=True)
        shutil.rmtree(hall.world.root / "look", ignore_errors=True)
        return hall

    def location(self, hall):
        """Options that name the location and its key."""
        root = hall.world.root
        return (
            *("--location", (root / "location").as_uri()),
            *("--passphrase-file", str(root / "passphrase")),
        )

    def test_points_are_listed(self, bare):
        """`get points --location` needs no configuration, no Git and no cluster."""
        bare.world.config.rename(bare.world.root / "gone.yaml")
        answer = bare("get", "points", *self.location(bare), "-o", "json")

        assert answer.code == 0, answer.err
        assert [item["phase"] for item in json.loads(answer.out)["items"]] == ["Succeeded"]

    def test_a_restore_breaks_the_glass_and_is_journalled(self, bare):
        """It brings everything back, writes a journal, does not run twice, and the record follows to a new ledger."""
        world = bare.world
        before = world.data("shop")
        world.destroy("shop")
        command = ("restore", "run", "shop/_/latest", "--break-glass", "--reason", "Git is down")
        run = bare(*command, *self.location(bare))
        again = bare(*command, *self.location(bare))
        journal = (world.root / "work/break-glass.jsonl").read_text().splitlines()

        after = world.data("shop")
        before.pop("ConfigMap/kube-root-ca.crt", None)
        assert run.code == 0, run.err
        assert {key: after[key] for key in before} == before
        assert "break-glass.jsonl" in run.err
        assert [json.loads(line)["spec"]["stage"] for line in journal] == ["accepted", "finished"]
        assert all("Git is down" in line for line in journal)
        assert "hunter2" not in "".join(journal)
        assert again.code == 4

    def test_the_journal_follows_into_the_ledger(self, hall):
        """When Git is back the daemon records what was done without it, once."""
        world = hall.world
        (world.root / "ledger.git").rename(world.root / "ledger.away")
        world.edit("shop", "c1", "spoiled")
        run = hall(
            *("restore", "run", "shop/_/latest", "--break-glass", "--reason", "Git is down"),
            *("--on-conflict", "update", *self.location(hall)),
        )
        (world.root / "ledger.away").rename(world.root / "ledger.git")
        world.run_pass()
        world.run_pass()
        states = view_of(world).restores()

        assert run.code == 0, run.err
        assert value(world) == "1"
        assert [key.source for key in states] == ["break-glass"]
        state = next(iter(states.values()))
        assert (state.accepted.spec.reason, state.finished.spec.phase) == (
            "Git is down",
            "Succeeded",
        )
        assert isinstance(next(iter(states)), RestoreKey)

    @pytest.mark.parametrize("missing", ["--location", "--reason"])
    def test_it_needs_location_and_reason(self, bare, missing):
        """Without a location or a reason nothing is done."""
        given = {"--location": "file:///somewhere", "--reason": "why"}
        given.pop(missing)
        options = [word for pair in given.items() for word in pair]
        answer = bare("restore", "run", "shop/_/latest", "--break-glass", *options)

        assert answer.code == 2
        assert missing in answer.err

    def test_everything_else_says_that_git_is_away(self, bare):
        """Verbs that need the ledger end with 7 and point to the location."""
        answer = bare("get", "points")

        assert answer.code == 7
        assert "next:" in answer.err
