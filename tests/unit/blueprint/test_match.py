"""Which blueprint is for which workload."""

from __future__ import annotations

import pytest

from reconciler.blueprint.match import allowed, find_service, match_service
from reconciler.blueprint.pods import selector_text
from tests.support.blueprints import blueprint
from tests.support.seen import manifest, pod_template

POSTGRES = "pod.containers.exists(c, c.image.startsWith('example/'))"


def workload(kind="StatefulSet", api="apps/v1", **labels):
    return manifest(kind, "db", api=api, labels=labels, spec={"template": pod_template()})


def test_the_expression_sees_workload_and_pod():
    """A blueprint matches by what the workload is and by its pod spec."""
    by_pod, by_kind = blueprint("pg", POSTGRES), blueprint("ds", "workload.kind == 'DaemonSet'")

    assert find_service([by_kind, by_pod], workload()) is by_pod
    assert find_service([by_kind], workload()) is None
    assert find_service([by_kind, by_pod], workload("DaemonSet")) is by_kind


def test_a_bare_pod_is_a_workload_and_a_job_is_none():
    """StatefulSets, Deployments, DaemonSets and bare Pods are asked about; nothing else is."""
    always = blueprint("any", "true")
    pod = manifest("Pod", "db", spec=pod_template()["spec"])

    assert find_service([always], pod) is always
    assert find_service([always], workload("Deployment")) is always
    assert find_service([always], workload("Job", "batch/v1")) is None
    assert find_service([always], workload("StatefulSet", "example.com/v1")) is None
    assert find_service([always], manifest("ConfigMap", "x")) is None


def test_an_ambiguous_match_takes_the_first_and_says_so():
    """The order of the list decides; the others are named."""
    one, two = blueprint("one", "true"), blueprint("two", "true")

    assert (
        match_service([one, two], workload()).blueprint,
        match_service([one, two], workload()).others,
    ) == (one, ("two",))
    assert find_service([two, one], workload()) is two


def test_an_expression_without_an_answer_matches_nothing_and_is_told():
    """A missing label is no match, and no reason to stop looking."""
    picky, always = (
        blueprint("picky", "workload.metadata.labels.tier == 'db'"),
        blueprint("any", "true"),
    )
    match = match_service(
        [picky, always],
        manifest("StatefulSet", "db", api="apps/v1", spec={"template": pod_template()}),
    )

    assert match.blueprint is always
    assert [fault.split(":")[0] for fault in match.faults] == ["picky"]


def test_policies_allow_all_or_a_list_in_its_order():
    """`auto` is every one by name; a list is its own order; a namespaced blueprint serves only there, and hides a shared one."""
    shared, own, other = (
        blueprint("pg", "true"),
        blueprint("pg", "true", namespace="shop"),
        blueprint("a", "true", namespace="wiki"),
    )
    mysql = blueprint("mysql", "true")
    known = [shared, own, other, mysql]

    assert allowed(known, "auto", namespace="shop") == [mysql, own]
    assert allowed(known, "auto", namespace="blog") == [mysql, shared]
    assert allowed(known, ["pg", "mysql", "gone"], namespace="blog") == [shared, mysql]
    assert allowed(known, [], namespace="shop") == []


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        (
            {
                "matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["x", "y"]},
                    {"key": "b", "operator": "Exists"},
                ]
            },
            "a in (x,y),b",
        ),
        (
            {
                "matchExpressions": [
                    {"key": "a", "operator": "NotIn", "values": ["x"]},
                    {"key": "b", "operator": "DoesNotExist"},
                ]
            },
            "a notin (x),!b",
        ),
        ({}, ""),
    ],
)
def test_selectors_are_written_as_the_api_reads_them(selector, text):
    """Label selectors become the query's text."""
    assert selector_text(selector) == text
