"""`reconciler cel`: values and steps of an expression, and how it refuses."""

from __future__ import annotations

import json

import pytest

from tests.support.command import reconciler

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  containers: [{image: "a/x"}, {image: "b/y"}]
"""


@pytest.fixture
def manifest(tmp_path):
    """A file with one Deployment."""
    path = tmp_path / "deployment.yaml"
    path.write_text(DEPLOYMENT)
    return str(path)


class TestEval:
    """The value of an expression goes to stdout, and nothing else."""

    def test_value_for_an_object(self, manifest):
        """JSON on one line, or YAML."""
        expression = "object.spec.containers.map(c, c.image)"
        as_json = reconciler("cel", "eval", expression, "-f", manifest)
        as_yaml = reconciler("cel", "eval", expression, "-f", manifest, "-o", "yaml")

        assert (as_json.code, json.loads(as_json.out)) == (0, ["a/x", "b/y"])
        assert (as_yaml.code, as_yaml.out) == (0, "- a/x\n- b/y\n")

    def test_every_document_of_a_file(self, tmp_path):
        """A file with several documents gives a value for each."""
        path = tmp_path / "two.yaml"
        path.write_text("a: 1\n---\na: 2\n")

        assert reconciler("cel", "eval", "object.a", "-f", str(path)).out == "1\n2\n"

    def test_further_variables(self):
        """`--var` gives YAML a name; without a file there is no `object`."""
        answer = reconciler("cel", "eval", "params.a + n", "--var", "params={a: 1}", "--var", "n=2")
        refused = reconciler("cel", "eval", "object.a")

        assert (answer.code, answer.out) == (0, "3\n")
        assert refused.code == 2
        assert "undeclared name 'object'" in refused.err

    def test_object_from_standard_input(self):
        """`-f -` reads the object that another program prints."""
        answer = reconciler("cel", "eval", "object.a", "-f", "-", stdin='{"a": [1]}')

        assert (answer.code, answer.out) == (0, "[1]\n")

    @pytest.mark.parametrize(
        ("argv", "code", "words"),
        [
            (("objct.a",), 2, "compile expression: 1:1: undeclared name 'objct'"),
            (("object.b",), 6, "1:8: no such key: 'b'"),
            (("object.a +",), 2, "1:11: syntax error"),
            (("object.a", "--var", "x"), 2, "no NAME=YAML"),
            (("object.a", "--var", "x={"), 2, "read --var x"),
        ],
    )
    def test_refusals(self, tmp_path, argv, code, words):
        """What is wrong is said with its place in the expression; stdout stays empty."""
        path = tmp_path / "object.json"
        path.write_text('{"a": 1}')
        answer = reconciler("cel", "eval", *argv, "-f", str(path))

        assert (answer.code, answer.out) == (code, "")
        assert words in answer.err


class TestExplain:
    """Every part with its value, how often it ran, its cost and its failure."""

    def test_steps_and_cost(self, manifest):
        """The steps are those that ran; a part that was not reached says so."""
        expression = "object.spec.replicas > 2 || object.nothing"
        answer = reconciler("cel", "explain", expression, "-f", manifest)

        assert answer.code == 0
        lines = answer.out.splitlines()
        assert lines[0].split() == ["EXPRESSION", "AT", "VALUE", "TIMES", "COST"]
        assert any(line.startswith("    object.spec.replicas ") and " 3 " in line for line in lines)
        assert any("object.nothing" in line and "(not reached)" in line for line in lines)
        assert "gave true" in answer.err
        assert "it cost 4 units" in answer.err

    def test_the_place_of_a_failure(self, manifest):
        """An expression without a value ends with 6; the innermost part that failed is the cause."""
        expression = "object.spec.containers.all(c, c.image != '' && c.tag == '')"
        answer = reconciler("cel", "explain", expression, "-f", manifest, "-o", "json")
        found = json.loads(answer.out)
        steps = {step["text"]: step for step in found["items"]}

        assert answer.code == 6
        assert found["error"] == "1:50: no such key: 'tag'"
        assert steps["c.image"]["times"] == 2
        assert steps["c.image"]["values"] == ['"a/x"', '"b/y"']
        assert steps["c.tag"]["errors"] == ["no such key: 'tag'"]
        assert steps["c.tag"]["depth"] == 3
