"""kubectl's habits: `--context` before or after the verb, `-l` on what has labels."""

from __future__ import annotations

import json

import pytest
import yaml

from reconciler.cli.options import read_selector
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.sandbox import Sandbox
from reconciler.errors import UsageError
from tests.support.world import POLICY


@pytest.fixture
def two_contexts(hall, tmp_path):
    """A kubeconfig with `home`, the world's cluster, and `away`, another one; the configuration names neither."""
    with Sandbox(tmp_path / "away", name="away") as other:
        away = other.write_kubeconfig(hall.world.root / "away.kubeconfig")
        merged = {"apiVersion": "v1", "kind": "Config", "current-context": "nowhere"}
        for name, path in (("home", hall.world.kubeconfig), ("away", away)):
            one = yaml.safe_load(path.read_text())
            for part, entry in (("clusters", "cluster"), ("users", "user")):
                merged.setdefault(part, []).append({"name": name, entry: one[part][0][entry]})
            context = {"name": name, "context": {"cluster": name, "user": name}}
            merged.setdefault("contexts", []).append(context)
        hall.world.kubeconfig.write_text(yaml.safe_dump(merged))
        hall.away = connect(name="away", kubeconfig=away)
        yield hall


class TestContext:
    """It chooses the cluster, whatever the configuration says, and never the wrong ledger."""

    def test_before_and_after_the_verb(self, two_contexts):
        """Both places work; without it the kubeconfig's current context, which is none, is an error."""
        without = two_contexts("get", "apps")
        after = two_contexts("get", "apps", "--context", "home", "-o", "name")
        before = two_contexts("--context", "home", "get", "apps", "-o", "name")

        assert without.code == 2
        assert (after.code, before.code) == (0, 0), after.err + before.err
        assert before.out == after.out
        assert "shop/_" in after.out

    @pytest.mark.parametrize(
        "argv",
        [
            ("capture", "shop"),
            ("doctor",),
            ("diff", "shop", "--live"),
            ("restore", "plan", "shop"),
            ("restore", "run", "shop", "--yes", "--reason", "r"),
            ("describe", "app/shop"),
            ("run", "--once"),
            ("prune", "--dry-run"),
        ],
        ids=" ".join,
    )
    def test_every_verb_that_meets_a_cluster_takes_it(self, two_contexts, argv):
        """Each works on the cluster of that context."""
        answer = two_contexts(*argv, "--context", "home")

        assert answer.code == 0, answer.out + answer.err

    @pytest.mark.parametrize("argv", [("capture", "shop"), ("run", "--once"), ("get", "apps")])
    def test_the_ledger_of_another_cluster_is_left_alone(self, two_contexts, argv):
        """A context that leads to another cluster than the ledger is of is refused, and nothing is recorded."""
        before = two_contexts("get", "points", "-o", "name").out
        answer = two_contexts(*argv, "--context", "away")

        assert answer.code in (4, 7)
        assert f"leads to cluster {two_contexts.away.uid()}" in answer.err
        assert two_contexts("get", "points", "-o", "name").out == before

    def test_break_glass_may_go_anywhere(self, two_contexts):
        """Without Git a restore goes where it is told, and its record goes into no other cluster's ledger."""
        root = two_contexts.world.root
        answer = two_contexts(
            *("restore", "run", "shop", "--break-glass", "--reason", "moving", "--context", "away"),
            *("--location", (root / "location").as_uri()),
            *("--passphrase-file", str(root / "passphrase")),
        )
        kind = two_contexts.away.discover().find("", "ConfigMap")
        two_contexts("run", "--once", "--context", "home")

        assert answer.code == 0, answer.err
        assert two_contexts.away.get(kind, "c1", namespace="shop")["data"]["value"] == "1"
        assert "keep it" in answer.err
        assert two_contexts.json("get", "restores")["items"] == []


class TestSelector:
    """`-l` on applications (by their namespace), policies, holds and locations."""

    def test_it_narrows_down(self, hall):
        """Only what has the labels is listed, in every form."""
        hall.world.objects(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": "attic", "labels": {"team": "x"}},
            }
        )
        policy = (POLICY % 24).replace("{name: gold}", "{name: gold, labels: {team: x}}")
        hall.world.write("policies/gold.yaml", policy)
        hall.world.merge("label")

        def names(kind, selector):
            return hall("get", kind, "-l", selector, "-o", "name").out.split()

        assert names("apps", "team=x") == ["attic/_"]
        assert names("apps", "backup=gold,team!=x") == ["shop/_"]
        assert "attic/_" not in names("apps", "!team")
        assert names("policies", "team=x") == ["gold"]
        assert names("policies", "!team") == []
        assert names("locations", "team") == []
        items = json.loads(hall("get", "policies", "-o", "json").out)["items"]
        assert items[0]["labels"] == {"team": "x"}

    @pytest.mark.parametrize(
        ("text", "labels", "is_match"),
        [
            ("a=b", {"a": "b"}, True),
            ("a==b", {"a": "b"}, True),
            ("a=b", {"a": "c"}, False),
            ("a=b", {}, False),
            ("a=", {"a": ""}, True),
            ("a!=b", {"a": "c"}, True),
            ("a!=b", {}, True),
            ("a!=b", {"a": "b"}, False),
            ("a", {"a": "x"}, True),
            ("a", {}, False),
            ("!a", {}, True),
            ("!a", {"a": "x"}, False),
            ("a=b, c", {"a": "b", "c": "d"}, True),
            ("a=b,c", {"a": "b"}, False),
            ("", {}, True),
        ],
    )
    def test_it_means_what_kubectl_means(self, text, labels, is_match):
        """Equality-based selectors, as Kubernetes documents them."""
        assert read_selector(None, None, text).matches(labels) == is_match

    @pytest.mark.parametrize("text", ["=b", "a in (b)", "a=b=c", "a=b,,c", "!", "a=!b"])
    def test_what_is_none(self, text):
        """Anything else is wrong usage, said in words."""
        with pytest.raises(UsageError, match="read selector"):
            read_selector(None, None, text)
