"""A location that several clusters keep their points in, met with its key alone: nothing is chosen unsaid."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from reconciler.cluster.kubernetes import connect
from reconciler.cluster.sandbox import Sandbox
from tests.support.command import reconciler
from tests.support.passes import here
from tests.support.world import git


class Neighbour:
    """Another cluster with a `shop` of its own, which keeps its points in the same location."""

    def __init__(self, world, sandbox, *, name):
        self.name = name
        self.world = world
        root = world.root
        git("init", "-q", "--bare", "-b", "main", str(root / "neighbour.git"))
        sandbox.write_kubeconfig(root / "neighbour.kubeconfig")
        self.cluster = connect(name=name, kubeconfig=root / "neighbour.kubeconfig")
        self.config = root / "neighbour.yaml"
        self.config.write_text(
            world.config.read_text()
            .replace("name: town, kubeconfig: town", f"name: {name}, kubeconfig: neighbour")
            .replace("ledger.git", "neighbour.git")
            .replace("workDirectory: work", "workDirectory: neighbour")
        )
        for manifest in (
            {"kind": "Namespace", "metadata": {"name": "shop", "labels": {"backup": "gold"}}},
            {
                "kind": "ConfigMap",
                "metadata": {"name": "c1", "namespace": "shop"},
                "data": {"value": name},
            },
        ):
            kind = self.cluster.discover().find("", manifest["kind"])
            self.cluster.create(kind, {"apiVersion": "v1", **manifest}, manager="test")
        made = here("--config", str(self.config), "capture", "shop")
        assert made.code == 0, made.err

    @property
    def uid(self):
        """Its uid."""
        return self.cluster.uid()


@pytest.fixture
def other_sandbox(tmp_path):
    """One more cluster."""
    with Sandbox(tmp_path / "neighbour-sandbox", name="neighbour") as running:
        yield running


@pytest.fixture
def shared(hall, other_sandbox):
    """The location of `town` holds the shop of `harbor` too, whose point is the newest."""
    hall.neighbour = Neighbour(hall.world, other_sandbox, name="harbor")
    return hall


@pytest.fixture
def namesake(hall, other_sandbox):
    """The other cluster is called `town` as well."""
    hall.neighbour = Neighbour(hall.world, other_sandbox, name="town")
    return hall


def location(hall):
    """Options that name the location and its key."""
    root = hall.world.root
    return (
        *("--location", (root / "location").as_uri()),
        *("--passphrase-file", str(root / "passphrase")),
    )


def break_glass(hall, *options):
    """Restore the shop beside itself, as whoever is on call would."""
    return hall(
        *("restore", "run", "shop", "--break-glass", "--reason", "Git is down"),
        *location(hall),
        *options,
    )


def value(hall, namespace):
    """What the restored ConfigMap says."""
    return hall.world.data(namespace)["ConfigMap/c1"]["value"]


class TestSeveralClusters:
    """`latest` never means somebody else's."""

    def test_both_are_named_and_none_is_chosen(self, shared):
        """Without `--from-cluster` the restore is refused, naming the clusters by name and uid."""
        answer = break_glass(shared, "--to", "copy")

        assert answer.code == 2
        assert "--from-cluster" in answer.err
        for cluster in (shared.world.cluster, shared.neighbour.cluster):
            assert f"{cluster.name} (uid {cluster.uid()})" in answer.err
        kind = shared.world.cluster.discover().find("", "Namespace")
        assert shared.world.cluster.get(kind, "copy") is None

    @pytest.mark.parametrize("by", ["name", "uid"])
    def test_a_cluster_by_name_or_uid(self, shared, by):
        """`--from-cluster` takes what the points call their cluster, and its uid; the cluster is printed."""
        ours = "town" if by == "name" else shared.world.cluster.uid()
        theirs = "harbor" if by == "name" else shared.neighbour.uid
        one = break_glass(shared, "--to", "ours", "--from-cluster", ours)
        other = break_glass(shared, "--to", "theirs", "--from-cluster", theirs)

        assert (one.code, other.code) == (0, 0), one.err + other.err
        assert (value(shared, "ours"), value(shared, "theirs")) == ("1", "harbor")
        assert "town/shop/_/" in one.err
        assert "harbor/shop/_/" in other.err

    def test_a_cluster_that_is_not_there(self, shared):
        """One that has no such application is wrong usage, and those that have are named."""
        answer = break_glass(shared, "--from-cluster", "nowhere")

        assert answer.code == 2
        assert "town (uid" in answer.err
        assert "harbor (uid" in answer.err

    def test_two_of_one_name_are_told_apart_by_uid(self, namesake):
        """Where two clusters share a name the name alone is refused, and the uid is enough."""
        by_name = break_glass(namesake, "--to", "copy", "--from-cluster", "town")
        by_uid = break_glass(namesake, "--to", "copy", "--from-cluster", namesake.neighbour.uid)
        listed = namesake("get", "points", *location(namesake))

        assert by_name.code == 2
        assert by_uid.code == 0, by_uid.err
        assert value(namesake, "copy") == "town"
        assert f"town ({namesake.neighbour.uid})" in listed.out

    def test_points_say_whose_they_are(self, shared):
        """The list has a column for the cluster as soon as there is more than one."""
        answer = shared("get", "points", *location(shared))
        rows = answer.out.splitlines()
        column = rows[0].index("CLUSTER")

        assert {row[column:].split()[0] for row in rows[1:]} == {"town", "harbor"}

    def test_one_cluster_needs_no_column(self, hall):
        """With one cluster the table stays narrow."""
        assert "CLUSTER" not in hall("get", "points", *location(hall)).out

    def test_verify_asks_too(self, shared):
        """`verify POINT --location` refuses likewise, and takes the cluster."""
        asked = ("verify", "shop", *location(shared))

        assert shared(*asked).code == 2
        assert shared(*asked, "--from-cluster", "harbor").code == 0


class TestTheIdentity:
    """What a restore without Git is called says all that it does."""

    def test_another_target_is_another_restore(self, hall):
        """Once in place and once beside: both run; the same again does not, and says what to type."""
        in_place = break_glass(hall, "--on-conflict", "update")
        beside = break_glass(hall, "--to", "shop-copy")
        again = break_glass(hall, "--to", "shop-copy")
        raised = break_glass(hall, "--to", "shop-copy", "--attempt", "2", "--on-conflict", "update")

        assert (in_place.code, beside.code) == (0, 0), in_place.err + beside.err
        assert value(hall, "shop-copy") == "1"
        assert again.code == 4
        assert "--attempt 2" in again.err
        assert raised.code == 0, raised.err

    def test_other_contents_are_another_restore(self, hall):
        """The contents that were chosen are part of the name."""
        whole = break_glass(hall, "--on-conflict", "update")
        part = break_glass(hall, "--on-conflict", "update", "--content", "volume/data")

        assert whole.code == 0, whole.err
        assert "the journal says" not in part.err

    def test_the_last_words_are_true(self, hall, tmp_path):
        """With a configuration the record goes to the ledger; without one nothing promises that."""
        configured = break_glass(hall, "--to", "one")
        bare = reconciler(
            *("restore", "run", "shop", "--break-glass", "--reason", "r", "--to", "two"),
            *location(hall),
            cwd=tmp_path,
            KUBECONFIG=str(hall.world.kubeconfig),
            RECONCILER_CONFIG="",
        )
        assert bare.code == 0, bare.out + bare.err
        record = json.loads(
            (tmp_path / ".reconciler/break-glass-elsewhere.jsonl").read_text().splitlines()[0]
        )

        assert "takes it into the ledger" in configured.err
        assert "No configuration names a ledger" in bare.err
        assert "takes it into the ledger" not in bare.err
        assert record["spec"]["name"].startswith("shop-all-")
        assert "-into-two-" in record["spec"]["name"]


class TestLookingFirst:
    """A plan and a description before the glass is broken, with Git gone."""

    @pytest.fixture
    def bare(self, hall):
        """Both remotes and everything that was fetched are gone."""
        for name in ("ledger.git", "policies.git", "work"):
            shutil.rmtree(hall.world.root / name, ignore_errors=True)
        return hall

    def plan(self, hall, *options):
        """The plan of the shop from its location."""
        return hall("restore", "plan", "shop", *location(hall), *options)

    def test_the_plan_is_what_the_run_does(self, bare):
        """What would change is shown with its difference; nothing is changed, and the run then does that."""
        bare.world.edit("shop", "c1", "spoiled")
        plan = self.plan(bare, "--on-conflict", "update", "--exit-code")
        before = value(bare, "shop")
        run = break_glass(bare, "--on-conflict", "update")

        assert plan.code == 1, plan.err
        assert '"spoiled" → "1"' in plan.out
        assert "0 to create, 1 to update" in plan.out
        assert before == "spoiled"
        assert "0 to create, 1 to update" in run.out
        assert value(bare, "shop") == "1"

    def test_what_the_run_would_refuse(self, bare):
        """A conflict is refused in both, with 4, and the run says how to look at it."""
        bare.world.edit("shop", "c1", "spoiled")
        plan, run = self.plan(bare), break_glass(bare)

        assert (plan.code, run.code) == (4, 4)
        assert "refused: onConflict is fail" in plan.out
        assert "restore plan" in run.err

    def test_into_another_namespace_and_as_json(self, bare):
        """The options are those of `run`; `-o json` works."""
        plan = json.loads(self.plan(bare, "--to", "copy", "-o", "json").out)

        assert plan["verdicts"].keys() == {"create"}
        assert {one["object"].split("/")[2] for one in plan["entries"]} == {"copy", ""}

    def test_transform_sets_are_not_at_hand(self, bare):
        """They live in Git."""
        assert self.plan(bare, "--transform", "certificates").code == 2

    def test_a_point_is_described(self, bare):
        """`describe point/… --location` shows its record; other kinds are not in a location."""
        answer = bare("describe", "point/shop/_/latest", *location(bare))
        shown = yaml.safe_load(answer.out)

        assert answer.code == 0, answer.err
        assert shown["kind"] == "RestorePoint"
        assert (shown["spec"]["phase"], shown["spec"]["application"]) == ("Succeeded", "shop/_")
        assert shown["spec"]["locations"][0]["digest"]
        assert "addedSize" not in shown["summary"]
        assert bare("describe", "app/shop", *location(bare)).code == 2

    def test_of_several_clusters_one_is_named(self, shared):
        """Both ask for `--from-cluster` where several have the application."""
        for argv in (("restore", "plan", "shop"), ("describe", "point/shop")):
            assert shared(*argv, *location(shared)).code == 2
            found = shared(*argv, *location(shared), "--from-cluster", "harbor")
            assert found.code in (0, 4), found.err
            assert "harbor" in found.out
