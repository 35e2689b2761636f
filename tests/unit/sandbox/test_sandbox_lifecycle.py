"""Namespaces, owners and claims: what the controllers of a cluster do unasked."""

from __future__ import annotations

import pytest

from tests.support.sandbox import eventually

CORE = "/api/v1/namespaces"
MERGE = "application/merge-patch+json"


def claim(name="data", **spec):
    base = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": base | spec}


def is_absent(http, path):
    return lambda: http.call("GET", path)[0] == 404


def bound(http, path):
    return eventually(lambda: (c := http.get(path))["status"]["phase"] == "Bound" and c)


def test_a_cluster_begins_with_its_namespaces(sandbox, http):
    """kube-system's uid stands for the cluster; each sandbox has its own."""
    names = [n["metadata"]["name"] for n in http.get(CORE)["items"]]

    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    assert http.get(f"{CORE}/kube-system")["metadata"]["uid"]


def test_a_namespace_gets_its_account_and_root_certificate(http):
    """Both come by themselves, and come back when deleted."""
    made = http.post(CORE, {"metadata": {"name": "shop"}})
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    first = eventually(
        lambda: http.call("GET", f"{CORE}/shop/serviceaccounts/default")[1].get("metadata")
    )
    http.call("DELETE", f"{CORE}/shop/serviceaccounts/default")

    again = eventually(
        lambda: http.call("GET", f"{CORE}/shop/serviceaccounts/default")[1].get("metadata")
    )
    assert again["uid"] != first["uid"]
    assert http.get(f"{CORE}/shop/configmaps/kube-root-ca.crt")["data"]["ca.crt"].startswith(
        "-----BEGIN"
    )


def test_a_deleted_namespace_takes_its_contents_along(http):
    """Terminating, then gone; the objects too."""
    http.post(CORE, {"metadata": {"name": "shop"}})
    http.post(f"{CORE}/shop/configmaps", {"metadata": {"name": "a"}})
    http.post(f"{CORE}/shop/persistentvolumeclaims", claim())
    assert http.call("DELETE", f"{CORE}/shop")[1]["status"]["phase"] == "Terminating"

    eventually(is_absent(http, f"{CORE}/shop"))
    for kind in ("configmaps", "serviceaccounts", "persistentvolumeclaims"):
        assert http.get(f"{CORE}/shop/{kind}")["items"] == []


def test_a_finalizer_keeps_the_namespace_terminating(http):
    """Nothing new may be created; it ends with the last finalizer."""
    http.post(CORE, {"metadata": {"name": "shop"}})
    http.post(f"{CORE}/shop/configmaps", {"metadata": {"name": "held", "finalizers": ["x.y/z"]}})
    http.call("DELETE", f"{CORE}/shop")
    status, answer = http.call("POST", f"{CORE}/shop/configmaps", {"metadata": {"name": "new"}})
    assert (status, answer["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")

    http.call("PATCH", f"{CORE}/shop/configmaps/held", {"metadata": {"finalizers": []}}, kind=MERGE)
    eventually(is_absent(http, f"{CORE}/shop"))


def family(http):
    """An owner and a child; returns the child's path."""
    parent = http.post(f"{CORE}/default/configmaps", {"metadata": {"name": "parent"}})
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "parent",
        "uid": parent["metadata"]["uid"],
    }
    reference["blockOwnerDeletion"] = True
    http.post(
        f"{CORE}/default/secrets", {"metadata": {"name": "child", "ownerReferences": [reference]}}
    )
    return f"{CORE}/default/secrets/child"


def test_children_go_with_their_owner(http):
    """Background: the owner at once, then what it owned."""
    child = family(http)
    http.call("DELETE", f"{CORE}/default/configmaps/parent")

    assert http.call("GET", f"{CORE}/default/configmaps/parent")[0] == 404
    eventually(is_absent(http, child))


def test_orphans_stay(http):
    """Orphan: the owner goes, the child stays and names it no more."""
    child = family(http)
    http.call("DELETE", f"{CORE}/default/configmaps/parent", {"propagationPolicy": "Orphan"})

    assert http.get(child)["metadata"].get("ownerReferences") in ([], None)
    assert http.call("GET", f"{CORE}/default/configmaps/parent")[0] == 404


def test_an_owner_that_never_was_owns_nothing(http):
    """An object whose owners do not exist is collected; with one that does, only the dead reference goes."""
    parent = http.post(f"{CORE}/default/configmaps", {"metadata": {"name": "parent"}})["metadata"][
        "uid"
    ]
    dead = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0000"}
    live = dead | {"name": "parent", "uid": parent}
    http.post(f"{CORE}/default/secrets", {"metadata": {"name": "a", "ownerReferences": [dead]}})
    http.post(
        f"{CORE}/default/secrets", {"metadata": {"name": "b", "ownerReferences": [dead, live]}}
    )

    eventually(is_absent(http, f"{CORE}/default/secrets/a"))
    eventually(
        lambda: http.get(f"{CORE}/default/secrets/b")["metadata"]["ownerReferences"] == [live]
    )


def test_a_claim_binds_at_once(sandbox, http):
    """It gets the default class, a volume of its own with a directory, and the marks of a real binding."""
    http.post(f"{CORE}/default/persistentvolumeclaims", claim())
    made = bound(http, f"{CORE}/default/persistentvolumeclaims/data")
    name = made["spec"]["volumeName"]
    volume = eventually(
        lambda: (
            (v := http.get(f"/api/v1/persistentvolumes/{name}"))["status"]["phase"] == "Bound" and v
        )
    )

    assert made["spec"]["storageClassName"] == "standard"
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert made["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] == "yes"
    assert made["status"]["capacity"] == {"storage": "1Gi"}
    assert volume["spec"]["claimRef"]["uid"] == made["metadata"]["uid"]
    assert (sandbox.directory / "volumes" / name).is_dir()

    http.call("DELETE", f"{CORE}/default/persistentvolumeclaims/data")
    eventually(is_absent(http, f"/api/v1/persistentvolumes/{name}"))
    assert not (sandbox.directory / "volumes" / name).exists()


@pytest.mark.parametrize(
    "spec",
    [
        {
            "dataSourceRef": {
                "apiGroup": "backup.reconciler.dev",
                "kind": "RestoreSource",
                "name": "x",
            }
        },
        {"storageClassName": ""},
        {"storageClassName": "absent"},
        {"volumeName": "absent"},
    ],
)
def test_claims_that_nothing_serves_stay_pending(http, spec):
    """An unknown source, class or volume leaves the claim Pending."""
    http.post(f"{CORE}/default/persistentvolumeclaims", claim(**spec))
    http.post(f"{CORE}/default/persistentvolumeclaims", claim("other"))
    bound(http, f"{CORE}/default/persistentvolumeclaims/other")

    waiting = http.get(f"{CORE}/default/persistentvolumeclaims/data")
    assert waiting["status"] == {"phase": "Pending"}


def test_a_claim_in_use_is_protected(http):
    """A deleted claim stays while a pod mounts it."""
    http.post(f"{CORE}/default/persistentvolumeclaims", claim())
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    spec = {"containers": [{"name": "m", "image": "i"}], "volumes": [volume]}
    http.post(f"{CORE}/default/pods", {"metadata": {"name": "p"}, "spec": spec})
    http.call("DELETE", f"{CORE}/default/persistentvolumeclaims/data")
    eventually(lambda: http.get(f"{CORE}/default/pods/p")["status"]["phase"] == "Running")
    assert (
        "deletionTimestamp" in http.get(f"{CORE}/default/persistentvolumeclaims/data")["metadata"]
    )

    http.call("DELETE", f"{CORE}/default/pods/p")
    eventually(is_absent(http, f"{CORE}/default/persistentvolumeclaims/data"))


def test_a_grown_claim_gets_its_size(http):
    """status.capacity follows the request."""
    http.post(f"{CORE}/default/persistentvolumeclaims", claim())
    path = f"{CORE}/default/persistentvolumeclaims/data"
    bound(http, path)
    http.call("PATCH", path, {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}, kind=MERGE)

    eventually(lambda: http.get(path)["status"]["capacity"] == {"storage": "2Gi"})
