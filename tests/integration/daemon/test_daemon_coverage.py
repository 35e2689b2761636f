"""What a pass says of what it does not protect: objects of no application, odd labels, conditions without an answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from reconciler.objects import duplicate
from tests.support.passes import metric, parts_with, problems, told
from tests.support.world import POLICY, config_map

HOUR = timedelta(hours=1)
GROUPED = POLICY.replace(
    "{namespaces: {matchLabels: {backup: gold}}}",
    "{namespaces: {matchLabels: {backup: gold}}, applications: {groupBy: app}}",
)


def group(world, policy=GROUPED):
    """Make the policy of the world another one."""
    world.write("policies/gold.yaml", policy % 24)
    world.merge("group")


def labelled(name, **labels):
    """A ConfigMap with labels."""
    manifest = config_map("shop", name, value="x")
    manifest["metadata"]["labels"] = labels
    return manifest


class Relabelling:
    """A cluster whose server lets a label through that no real one would."""

    def __init__(self, inner, name, labels):
        self._inner, self._name, self._labels = inner, name, labels

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def pages(self, kind, **rest):
        for page in self._inner.pages(kind, **rest):
            items = [duplicate(item) for item in page.items]
            for item in items:
                if item["metadata"]["name"] == self._name:
                    item["metadata"]["labels"] = self._labels
            yield replace(page, items=items)


def where(world, expression):
    """Give the policy of the world a condition."""
    chosen = f'select: {{namespaces: {{matchLabels: {{backup: gold}}}}, where: "{expression}"}}'
    text = POLICY.replace("select: {namespaces: {matchLabels: {backup: gold}}}", chosen)
    world.write("policies/gold.yaml", text % 24)
    world.merge("narrow")


def test_objects_of_no_application_are_reported(world):
    """In a namespace that falls into applications, what carries no label, or an empty one, is named as not captured."""
    group(world)
    world.objects(labelled("web", app="web"), labelled("nameless", app=""))
    parts = world.parts()
    report = world.run_pass(parts)

    assert told(report) == [("shop/web", "Succeeded")]
    (note,) = [n for n in report.notes if "belong to none" in n]
    assert note.startswith("5 objects of namespace shop belong to none")
    assert "ConfigMap shop/c0" in note
    assert "ConfigMap shop/nameless" in note
    assert "ServiceAccount" not in note
    row = {"namespace": "shop", "application": "_", "policy": "", "cluster": "town"}
    assert metric(parts, "application_protection_info", **row, state="unmanaged") == 1
    assert report.exit_code == 0


def test_a_namespace_whose_objects_all_belong_says_nothing(world):
    """The account that every namespace is given and objects that are left out on purpose are not called uncovered."""
    group(world)
    world.settle("tidy", count=0)
    kind = world.cluster.discover().find("", "Secret")
    world.cluster.patch(
        kind, "s", {"metadata": {"labels": {"app": "a"}}}, namespace="tidy", manager="test"
    )
    report = world.run_pass()

    assert [n for n in report.notes if "tidy" in n] == []
    assert ("tidy/a", "Succeeded") in told(report)


def test_a_hostile_label_stops_no_application(world):
    """A value that no server would take is one problem; every other application is captured."""
    group(world)
    world.objects(labelled("web", app="web"), labelled("odd", app="odd"))
    world.settle("wiki")
    hostile = Relabelling(world.cluster, "odd", {"app": "two/x"})
    report = world.run_pass(parts_with(world, cluster=hostile))

    assert told(report) == [("shop/web", "Succeeded")]
    assert problems(report).count("'two/x'") == 1
    assert report.exit_code == 6
    assert any("ConfigMap shop/odd" in note for note in report.notes)


def test_a_condition_without_an_answer_keeps_what_was_protected(world):
    """The namespace stays with the policy that had it; that the condition failed is a problem, at every pass."""
    world.run_pass()
    where(world, "namespace.metadata.labels['tier'] == 'one'")
    world.clock.advance(HOUR)
    report = world.run_pass()

    assert told(report) == [("shop", "Succeeded")]
    assert "policy gold keeps what it covered before of namespace shop" in problems(report)
    assert report.exit_code == 6


def test_a_condition_without_an_answer_is_never_passed_over(world):
    """Where the policy had nothing before, nothing is captured, and the pass does not end with 0."""
    where(world, "namespace.metadata.labels['tier'] == 'one'")
    report = world.run_pass()

    assert report.captured == []
    assert "policy gold covers nothing of namespace shop" in problems(report)
    assert report.exit_code == 6


def test_a_condition_that_is_no_boolean_is_refused(world):
    """`1 + 1` never comes into force: the last good form goes on, and the file is a finding."""
    world.run_pass()
    where(world, "1 + 1")
    world.clock.advance(HOUR)
    report = world.run_pass()

    assert told(report) == [("shop", "Succeeded")]
    assert "expected a boolean, the expression gives int" in str(report.desired.findings)
    assert report.exit_code == 1
