"""The mark of what a restore holds back: how it was, who owned it, and whose mark it is."""

import json

import pytest

from reconciler.objects import FIELD_MANAGER
from reconciler.restore.plan.mark import (
    ANNOTATION,
    Mark,
    command_of,
    is_held,
    mark_of,
    marked,
    unmarked,
    with_owners_back,
)
from tests.support.seen import manifest


def owned(manager, *names, operation="Update", **more):
    fields = {"f:spec": {f"f:{name}": {} for name in names}}
    entry = {"manager": manager, "operation": operation, "apiVersion": "apps/v1"}
    return {**entry, "fieldsType": "FieldsV1", "fieldsV1": fields, **more}


def workload(*entries, replicas=3, **annotations):
    made = manifest("Deployment", "web", api="apps/v1", spec={"replicas": replicas, "paused": True})
    made["metadata"]["managedFields"] = list(entries)
    if annotations:
        made["metadata"]["annotations"] = annotations
    return made


@pytest.mark.parametrize("replicas", [1, 3, 7])
@pytest.mark.parametrize("annotations", [{}, {"a": "b"}])
def test_what_is_marked_is_still_and_comes_back(replicas, annotations):
    """Unmarking gives exactly what was marked, and what was marked is not changed in place."""
    live = workload(replicas=replicas, **annotations)
    before = json.dumps(live)
    held = marked(live, restore="main/a#1")

    assert is_held(held)
    assert not is_held(live)
    assert unmarked(held) == live
    assert json.dumps(live) == before


@pytest.mark.parametrize("was", [False, None])
def test_a_cronjob_is_suspended_and_comes_back(was):
    """Whether it said that it is not suspended, or nothing."""
    spec = {"schedule": "* * * * *", **({"suspend": was} if was is not None else {})}
    live = manifest("CronJob", "report", api="batch/v1", spec=spec)
    held = marked(live, restore="main/a#1")

    assert held["spec"]["suspend"] is True
    assert unmarked(held) == live


def test_what_somebody_changed_since_stays():
    """Only the mark goes."""
    held = marked(workload(), restore="main/a#1")
    held["spec"]["replicas"] = 5

    assert unmarked(held)["spec"]["replicas"] == 5
    assert mark_of(unmarked(held)) is None
    assert '"spec"' not in command_of(held)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"restore": "a", "was": "three"}',
        '{"restore": "a", "was": true}',
    ],
)
def test_a_mark_that_cannot_be_read_is_taken_off_and_nothing_else(text):
    """It says nothing that could be put back."""
    live = workload(replicas=0, **{ANNOTATION: text})

    assert mark_of(live) is None
    assert unmarked(live)["spec"]["replicas"] == 0
    assert ANNOTATION not in unmarked(live)["metadata"].get("annotations", {})


@pytest.mark.parametrize(
    ("mine", "theirs", "is_of"),
    [
        ("main/a#1", "main/a#1", True),
        ("main/a#2", "main/a#1", True),
        ("main/a#1", "main/a#2", False),
        ("main/b#1", "main/a#1", False),
        ("main/shop/a#1", "main/a#1", False),
    ],
)
def test_a_later_attempt_takes_over(mine, theirs, is_of):
    """Of the same restore and no other."""
    assert Mark(theirs, 1).is_of(mine) is is_of


def test_the_field_goes_back_to_its_owners():
    """To one that is still there, and to one that owned nothing else; ours is gone."""
    helm = owned("helm", "replicas", "paused")
    scaler = owned("kubectl", "replicas", subresource="scale")
    mark = mark_of(marked(workload(helm, scaler), restore="main/a#1"))
    ours = owned(FIELD_MANAGER, "replicas")
    written = workload(owned("helm", "paused"), ours)

    back = with_owners_back(written, mark)

    assert {(one["manager"], one.get("subresource")) for one in back} == {
        ("helm", None),
        ("kubectl", "scale"),
    }
    assert all("f:replicas" in one["fieldsV1"]["f:spec"] for one in back)
    assert with_owners_back(workload(helm), mark) is None


def test_a_field_that_nobody_owned_is_left_to_nobody():
    """A default of the server."""
    mark = mark_of(marked(workload(owned("helm", "paused")), restore="main/a#1"))
    written = workload(owned("helm", "paused"), owned(FIELD_MANAGER, "replicas"))

    assert with_owners_back(written, mark) == [owned("helm", "paused")]
