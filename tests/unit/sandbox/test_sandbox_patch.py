"""Patches of four kinds, and who owns which field afterwards."""

from __future__ import annotations

import pytest

from reconciler.cluster.sandbox.patch import json_patch, merge
from reconciler.cluster.sandbox.status import StatusError

SETS = "/apis/apps/v1/namespaces/default/daemonsets"
MAPS = "/api/v1/namespaces/default/configmaps"
KINDS = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


def patch(http, path, style, body, manager="me", query=""):
    return http.call("PATCH", f"{path}?fieldManager={manager}{query}", body, kind=KINDS[style])


def daemon_set(*containers, **labels):
    pod = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": list(containers)}}
    spec = {"selector": {"matchLabels": {"app": "x"}}, "template": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "d", "labels": labels},
        "spec": spec,
    }


def containers(manifest):
    return {c["name"]: c for c in manifest["spec"]["template"]["spec"]["containers"]}


def owners(manifest):
    return {
        (e["manager"], e["operation"]): e["fieldsV1"] for e in manifest["metadata"]["managedFields"]
    }


def test_merge_patch_follows_rfc_7386():
    """null removes, maps merge, lists and scalars are replaced."""
    before = {"a": 1, "b": {"c": 2, "d": 3}, "env": [{"name": "x"}]}

    assert merge(before, {"a": None, "b": {"c": 4}, "env": [{"name": "y"}]}, lists=False) == {
        "b": {"c": 4, "d": 3},
        "env": [{"name": "y"}],
    }
    assert merge("text", {"a": {"b": None}}, lists=False) == {"a": {}}


def test_json_patch_follows_rfc_6902():
    """Escapes in pointers, a document that does not fit; move and copy are refused."""
    document = {"a": [1, 2], "b/c": {"~": 0}}
    steps = [
        {"op": "test", "path": "/b~1c/~0", "value": 0},
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "add", "path": "/a/0", "value": 0},
        {"op": "replace", "path": "/b~1c/~0", "value": 9},
        {"op": "remove", "path": "/a/0"},
    ]

    assert json_patch(document, steps) == {"a": [1, 2, 3], "b/c": {"~": 9}}
    for step in (
        {"op": "test", "path": "/a", "value": 1},
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "add", "path": "/a/9", "value": 1},
    ):
        with pytest.raises(StatusError, match="test|rejected"):
            json_patch({"a": [1]}, [step])
    with pytest.raises(StatusError, match="does not do this"):
        json_patch({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/a"}])


def test_strategic_merge_knows_the_lists_of_pods():
    """Containers and env merge by name, ports by number, finalizers as a set; directives count."""
    live = {
        "containers": [
            {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
            {"name": "b"},
        ],
        "finalizers": ["one", "two"],
        "ports": [{"port": 80, "name": "http"}, {"port": 443}],
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {}},
    }
    change = {
        "containers": [
            {"name": "a", "env": [{"name": "Y", "value": "2"}]},
            {"name": "b", "$patch": "delete"},
            {"name": "c"},
        ],
        "finalizers": ["three"],
        "$setElementOrder/containers": [{"name": "a"}],
        "ports": [{"port": 80, "name": "web"}],
        "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
    }

    assert merge(live, change, lists=True) == {
        "containers": [
            {
                "name": "a",
                "image": "1",
                "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
            },
            {"name": "c"},
        ],
        "finalizers": ["one", "two", "three"],
        "ports": [{"port": 80, "name": "web"}, {"port": 443}],
        "strategy": {"type": "Recreate"},
    }
    with pytest.raises(StatusError, match="does not do this"):
        merge(live, {"strategy": {"$patch": "replace"}}, lists=True)


def test_apply_creates_then_merges_then_removes_what_it_no_longer_sends(http):
    """A second apply keeps what others wrote, and takes away what its own manager applied before."""
    first = daemon_set(
        {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
        {"name": "b", "image": "1"},
        l="1",
    )
    status, made = patch(http, f"{SETS}/d", "apply", first)
    assert status == 201 and set(owners(made)) == {("me", "Apply")}
    other = {"metadata": {"labels": {"theirs": "yes"}}, "spec": {"minReadySeconds": 7}}
    patch(http, f"{SETS}/d", "merge", other, "other")

    status, after = patch(http, f"{SETS}/d", "apply", daemon_set({"name": "a", "image": "2"}))

    assert status == 200
    assert containers(after) == {"a": {"name": "a", "image": "2"}}
    assert after["metadata"]["labels"] == {"theirs": "yes"}
    assert after["spec"]["minReadySeconds"] == 7
    assert owners(after)["other", "Update"] == {
        "f:metadata": {"f:labels": {"f:theirs": {}}},
        "f:spec": {"f:minReadySeconds": {}},
    }


def test_apply_leaves_what_two_managers_sent(http):
    """A field stays as long as one manager still applies it."""
    for manager in ("one", "two"):
        patch(
            http, f"{SETS}/d", "apply", daemon_set({"name": "a", "image": "1"}, shared="x"), manager
        )
    _, after = patch(http, f"{SETS}/d", "apply", daemon_set({"name": "a", "image": "1"}), "one")
    assert after["metadata"]["labels"] == {"shared": "x"}

    _, after = patch(http, f"{SETS}/d", "apply", daemon_set({"name": "a", "image": "1"}), "two")
    assert "labels" not in after["metadata"]


def test_ownership_moves_with_a_change(http):
    """Who changes a value owns it from then on; what nobody owns any more is listed nowhere."""
    http.post(
        MAPS + "?fieldManager=maker", {"metadata": {"name": "m"}, "data": {"a": "1", "b": "1"}}
    )
    _, after = patch(http, f"{MAPS}/m", "merge", {"data": {"a": "2"}}, "changer")
    assert owners(after)["changer", "Update"] == {"f:data": {"f:a": {}}}
    assert owners(after)["maker", "Update"] == {"f:data": {".": {}, "f:b": {}}}

    _, after = patch(http, f"{MAPS}/m", "merge", {"data": {"b": None}}, "changer")
    assert owners(after)["maker", "Update"] == {"f:data": {".": {}}}


def test_status_has_owners_of_its_own(http):
    """The manager of a status write owns status, under its subresource, and nothing else."""
    http.post(SETS + "?fieldManager=maker", daemon_set({"name": "a", "image": "1"}))
    _, after = patch(http, f"{SETS}/d/status", "merge", {"status": {"numberReady": 1}}, "ctl")
    entry = next(e for e in after["metadata"]["managedFields"] if e["manager"] == "ctl")

    assert entry["subresource"] == "status" and entry["fieldsV1"] == {
        "f:status": {"f:numberReady": {}}
    }


def test_managed_fields_are_ignored_in_a_post_and_taken_whole_in_a_patch(http):
    """As real servers do: creators own everything; a patch may hand ownership over or remove it."""
    theirs = [
        {
            "manager": "helm",
            "operation": "Apply",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:a": {}}},
        }
    ]
    made = http.post(
        MAPS + "?fieldManager=me",
        {"metadata": {"name": "m", "managedFields": theirs}, "data": {"a": "1"}},
    )
    assert set(owners(made)) == {("me", "Update")}

    _, after = patch(http, f"{MAPS}/m", "merge", {"metadata": {"managedFields": theirs}})
    assert after["metadata"]["managedFields"] == theirs
    _, dropped = patch(
        http, f"{MAPS}/m", "apply", {"apiVersion": "v1", "kind": "ConfigMap"}, "helm"
    )
    assert "data" not in dropped, "the restored manager can drop its own field"
    _, bare = patch(http, f"{MAPS}/m", "merge", {"metadata": {"managedFields": []}})
    assert not bare["metadata"].get("managedFields")


def test_apply_needs_a_manager_and_a_body_without_managed_fields(http):
    """400 for both."""
    assert http.call("PATCH", f"{MAPS}/m", {}, kind=KINDS["apply"])[0] == 400
    body = {"metadata": {"managedFields": [{"manager": "x"}]}}
    assert patch(http, f"{MAPS}/m", "apply", body)[0] == 400


def test_patches_are_guarded_like_updates(http):
    """A resourceVersion in a patch must be the present one; a patch of something absent is a 404."""
    http.post(MAPS, {"metadata": {"name": "m"}})

    assert patch(http, f"{MAPS}/m", "merge", {"metadata": {"resourceVersion": "1"}})[0] == 409
    assert patch(http, f"{MAPS}/m", "merge", {"metadata": {"uid": "other"}})[0] == 409
    assert patch(http, f"{MAPS}/absent", "merge", {})[0] == 404
    assert patch(http, f"{MAPS}/m", "merge", {"data": {"a": "1"}}, query="&dryRun=All")[1][
        "data"
    ] == {"a": "1"}
    assert "data" not in http.get(f"{MAPS}/m")
