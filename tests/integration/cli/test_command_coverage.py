"""What is not protected is seen on the command line: in the pass, in `get apps`, by the doctor, by lint."""

from __future__ import annotations

from tests.support.world import POLICY, config_map


def select(hall, text):
    """Give the policy of the world another selector."""
    before = "{namespaces: {matchLabels: {backup: gold}}}"
    hall.world.write("policies/gold.yaml", POLICY.replace(before, text) % 24)
    hall.world.merge("select")


def test_objects_of_no_application_are_shown(hall):
    """Each command names the namespace whose objects belong to no application, and some of them."""
    select(hall, "{namespaces: {matchLabels: {backup: gold}}, applications: {groupBy: app}}")
    web = config_map("shop", "web", value="x")
    web["metadata"]["labels"] = {"app": "web"}
    hall.world.objects(web)

    passed, doctor = hall("run", "--once"), hall("doctor")
    items = {item["name"]: item for item in hall.json("get", "apps", "-n", "shop")["items"]}

    assert passed.code == 0
    for said in (passed.err, doctor.out):
        assert "objects of namespace shop belong to none of its applications" in said
        assert "ConfigMap shop/c0" in said
    assert (items["shop/web"]["status"], items["shop/_"]["status"]) == ("Compliant", "Unmanaged")
    assert "belong to none of its applications: ConfigMap shop/c0" in items["shop/_"]["note"]


def test_a_condition_without_an_answer_ends_with_an_error(hall):
    """`run --once` ends with 6 and the doctor with 1, although the namespace is still captured."""
    where = "namespace.metadata.labels['tier'] == 'one'"
    select(hall, f'{{namespaces: {{matchLabels: {{backup: gold}}}}, where: "{where}"}}')

    passed, doctor = hall("run", "--once"), hall("doctor")

    assert (passed.code, doctor.code) == (6, 1)
    for said in (passed.err, doctor.out):
        assert "policy gold keeps what it covered before of namespace shop" in said


def test_a_condition_that_is_no_boolean_fails_lint(hall):
    """What is known to be wrong without a cluster is an error there, with its place."""
    select(hall, '{where: "1 + 1"}')
    answer = hall("lint", str(hall.world.root / "policies"))

    assert answer.code == 1
    assert (
        "policies/gold.yaml:5:19: spec.select.where: expected a boolean, the expression gives int"
        in answer.out
    )
