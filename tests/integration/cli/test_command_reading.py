"""Commands that only read: get, describe, diff, hold and restore plan; in every form, without any Secret's value."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.support.passes import view_of

KINDS = ("apps", "policies", "points", "restores", "holds", "locations")
TITLES = {
    "apps": "NAMESPACE   APP",
    "policies": "NAME   PRIORITY",
    "points": "POINT",
    "restores": "NAME",
    "holds": "NAME",
    "locations": "NAME",
}


@pytest.mark.parametrize("kind", KINDS)
def test_get_in_every_form(shown, kind):
    """Each kind as a table, a wider one, JSON, YAML and names; all forms tell of the same things."""
    table, wide = shown("get", kind), shown("get", kind, "-o", "wide")
    as_json = json.loads(shown("get", kind, "-o", "json").out)
    as_yaml = yaml.safe_load(shown("get", kind, "-o", "yaml").out)
    names = shown("get", kind, "-o", "name").out.splitlines()

    assert table.code == wide.code == 0, table.err
    assert table.out.startswith(TITLES[kind].split()[0])
    assert len(wide.out.splitlines()[0].split()) > len(table.out.splitlines()[0].split())
    assert as_json["apiVersion"] == "cli.reconciler.dev/v1"
    assert as_json["kind"].endswith("List")
    assert [item["name"] for item in as_json["items"]] == names
    assert len(names) == len(table.out.splitlines()) - 1 > 0
    assert [item["name"] for item in as_yaml["items"]] == names


def test_apps_tell_what_is_protected(shown):
    """`get apps` names the policy and freshness of what is protected, and what is not."""
    items = {item["namespace"]: item for item in shown.json("get", "apps")["items"]}

    assert items["shop"]["status"] == "Compliant"
    assert items["shop"]["policy"] == "gold"
    assert items["shop"]["points"] == 2
    assert items["attic"]["status"] == "Unmanaged"
    assert "kube-system" not in items or items["kube-system"]["status"] == "Unmanaged"
    assert "1 compliant" in shown("get", "apps").err
    assert shown("get", "apps", "-n", "attic", "-o", "name").out.split() == ["attic/_"]


def test_points_by_application_and_namespace(shown):
    """Points are listed newest first, and can be narrowed down."""
    names = shown("get", "points", "shop", "-o", "name").out.splitlines()
    none = shown("get", "points", "-n", "attic")

    assert names == sorted(names, reverse=True)
    assert len(names) == 2
    assert none.out == ""
    assert "No restore points" in none.err


def test_points_from_the_location_alone(shown):
    """`--location` lists the same points from the store, without configuration."""
    url = (shown.world.root / "location").as_uri()
    names = shown("get", "points", "-o", "name").out
    answer = shown(
        *("get", "points", "--location", url, "-o", "name"),
        *("--passphrase-file", str(shown.world.root / "passphrase")),
    )

    assert answer.code == 0, answer.err
    assert answer.out == names


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        ("point/shop/_/latest", "phase: Succeeded"),
        ("app/shop", "status: Compliant"),
        ("policy/gold", "cron: 0 * * * *"),
        ("location/primary", "state: Ready"),
        ("restore/back", "phase: Succeeded"),
        ("hold/evidence", "reason: an audit"),
    ],
)
def test_describe_each_kind(shown, thing, expected):
    """`describe KIND/NAME` shows one thing in full, as YAML."""
    answer = shown("describe", thing)

    assert answer.code == 0, answer.err
    assert expected.replace('"', "") in answer.out.replace('"', "").replace("'", "")
    assert isinstance(yaml.safe_load(answer.out), dict)


@pytest.mark.parametrize("kind", ["point", "app", "policy", "location", "restore", "hold"])
def test_describe_what_is_not_there(shown, kind):
    """What is not there is wrong usage, with where to look."""
    answer = shown("describe", f"{kind}/nowhere")

    assert answer.code == 2
    assert "next:" in answer.err


class TestDiff:
    """What changed."""

    def test_between_two_points(self, shown):
        """Differences between two points, object by object; a Secret differs without its value."""
        answer = shown("diff", f"shop/_/{shown.slot(0)}", f"shop/_/{shown.slot(1)}")
        items = shown.json("diff", f"shop/_/{shown.slot(0)}", f"shop/_/{shown.slot(1)}")["items"]
        changed = {item["object"].rsplit("/", 1)[-1]: item for item in items}

        assert answer.code == 1
        assert changed["c1"]["fields"] == [
            {"path": "data.value", "before": "1", "after": "changed"}
        ]
        assert changed["s"]["change"] == "changed"
        assert changed["s"]["fields"]
        assert "~ changed" in answer.out

    def test_with_itself(self, shown):
        """A point does not differ from itself: 0, and nothing printed."""
        answer = shown("diff", "shop/_/latest", "shop/_/latest")

        assert (answer.code, answer.out) == (0, "")

    def test_with_the_cluster(self, shown):
        """`--live` compares with the cluster now: only what was changed since."""
        items = shown.json("diff", "shop/_/latest", "--live")["items"]

        assert [item["object"].rsplit("/", 1)[-1] for item in items] == ["c0"]

    def test_text_names_objects_as_a_plan_does(self, shown):
        """Text says `ConfigMap shop/c0`, as `restore plan` does, and ends with what to type next."""
        answer = shown("diff", "shop/_/latest", "--live")

        assert "~ changed  ConfigMap shop/c0" in answer.out
        assert f"reconciler restore plan shop/_/{shown.slot()}" in answer.err

    def test_needs_something_to_compare_with(self, shown):
        """A point alone is wrong usage."""
        answer = shown("diff", "shop/_/latest")

        assert answer.code == 2
        assert "--live" in answer.err


class TestPlan:
    """What a restore would do."""

    def test_text_and_exit_code(self, shown):
        """The plan names what would change with its difference; `--exit-code` makes that 1."""
        plain = shown("restore", "plan", "shop/_/latest", "--on-conflict", "update")
        strict = shown("restore", "plan", "shop/_/latest", "--on-conflict", "update", "--exit-code")

        assert plain.code == 0, plain.err
        assert "~ update" in plain.out
        assert "shop/c0" in plain.out
        assert '"live" → "0"' in plain.out
        assert "1 to update" in plain.out
        assert strict.code == 1

    def test_json(self, shown):
        """As JSON it carries verdicts, the differences and the digest."""
        plan = shown.json("restore", "plan", f"shop/_/{shown.slot(0)}", "--on-conflict", "update")
        verdicts = {e["object"]: e["verdict"] for e in plan["entries"]}

        assert plan["kind"] == "Plan"
        assert len(plan["digest"]) == 64
        assert [v for k, v in verdicts.items() if k.endswith("/s")] == ["update"]

    def test_into_another_namespace(self, shown):
        """Into a namespace that is not there everything would be created, and nothing is."""
        answer = shown("restore", "plan", "shop/_/latest", "--to", "copy", "--exit-code")

        assert answer.code == 1
        assert "0 to update" in answer.out
        kind = shown.world.cluster.discover().find("", "Namespace")
        assert shown.world.cluster.get(kind, "copy") is None

    def test_refusals_are_said(self, shown):
        """A plan that conflicts says so: with `fail` a difference is refused, and that is 4."""
        answer = shown("restore", "plan", "shop/_/latest")

        assert answer.code == 4
        assert "refused: onConflict is fail" in answer.out


def test_reading_writes_nothing(shown):
    """None of this left a record."""
    before = view_of(shown.world).tip
    shown("get", "apps")
    shown("restore", "plan", "shop/_/latest")
    shown("diff", "shop/_/latest", "--live")

    assert view_of(shown.world).tip == before
