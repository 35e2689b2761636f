"""Whose a field is: paths as plans write them, looked up among managedFields."""

import pytest

from reconciler.clock import parse_instant
from reconciler.restore.plan.compare import differences
from reconciler.restore.plan.whose import writers_of, writers_since
from tests.support.seen import manifest

LATER = "2026-11-23T12:00:00Z"


def owned(manager, fields, *, time=LATER, **more):
    entry = {"manager": manager, "operation": "Update", "apiVersion": "v1", **more}
    return {**entry, "fieldsType": "FieldsV1", "fieldsV1": fields, "time": time}


CONTAINER = 'k:{"name":"m"}'
PORT = 'k:{"port":80,"protocol":"TCP"}'
LIVE = manifest(
    "Service",
    "web",
    spec={
        "containers": [{"name": "m", "image": "i", "args": ["a", "b"]}],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}],
        "set": ["x", "y"],
    },
    data={"a.b/c": "1"},
)
LIVE["metadata"]["labels"] = {"example.org/x": "1"}
LIVE["metadata"]["managedFields"] = [
    owned("images", {"f:spec": {"f:containers": {CONTAINER: {".": {}, "f:image": {}}}}}),
    owned("args", {"f:spec": {"f:containers": {CONTAINER: {"f:args": {}}}}}),
    owned("ports", {"f:spec": {"f:ports": {PORT: {"f:nodePort": {}}}}}),
    owned("sets", {"f:spec": {"f:set": {'v:"x"': {}}}}),
    owned("data", {"f:data": {"f:a.b/c": {}}}),
    owned("labels", {"f:metadata": {"f:labels": {"f:example.org/x": {}}}}, time=None),
    owned("dangling", {"f:spec": {"f:containers": {'k:{"name":"gone"}': {"f:image": {}}}}}),
    owned("status", {"f:status": {"f:x": {}}}, subresource="status"),
]


def changed(path, value):
    """The path that a plan gives a change of the live object at a place."""
    import copy

    other = copy.deepcopy(LIVE)
    inside = other
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    (change,) = differences(LIVE, other)
    return change.path


@pytest.mark.parametrize(
    ("path", "manager"),
    [
        (("spec", "containers", 0, "image"), "images"),
        (("spec", "containers", 0, "args", 1), "args"),
        (("spec", "ports", 0, "nodePort"), "ports"),
        (("spec", "set"), "sets"),
        (("data", "a.b/c"), "data"),
        (("metadata", "labels", "example.org/x"), "labels"),
    ],
)
def test_the_owner_of_a_changed_field_is_found(path, manager):
    """In maps, in lists by their keys, in sets, and under names with dots and slashes."""
    value = ["z", "w", "v"] if path[-1] == "set" else "other"

    assert [one.manager for one in writers_of(changed(path, value), LIVE)] == [manager]


def test_names_that_begin_alike_are_not_the_same():
    """`spec.set` is not `spec.settings`."""
    assert writers_of("spec.settings", LIVE) == []
    assert writers_of("spec.se", LIVE) == []
    assert {one.manager for one in writers_of("spec.containers[m]", LIVE)} == {"images", "args"}


def test_who_wrote_since():
    """Those with a time that is not before, their status aside."""
    found = writers_since(LIVE, parse_instant(LATER))

    assert {one.manager for one in found} == {"images", "args", "ports", "sets", "data", "dangling"}
    assert writers_since(LIVE, parse_instant("2026-11-23T12:00:01Z")) == []
