"""What profiles serve, CRDs at run time, one object under two groups and at several versions."""

from __future__ import annotations

import pytest

from reconciler.cluster.sandbox import Sandbox
from tests.support.sandbox import Http, eventually

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def crd(
    group="shop.example", plural="books", kind="Book", scope="Namespaced", versions=None, **more
):
    names = {"plural": plural, "kind": kind, "singular": kind.lower(), "shortNames": [plural[:2]]}
    versions = versions or [
        {"name": "v1beta1", "served": True, "storage": False},
        {"name": "v1", "served": True, "storage": True},
    ]
    spec = {"group": group, "names": names, "scope": scope, "versions": versions}
    return {"metadata": {"name": f"{plural}.{group}"}, "spec": spec}


def served(http):
    """Every (group/version, kind) by the classic endpoints."""
    groups = [g["groupVersion"] for group in http.get("/apis")["groups"] for g in group["versions"]]
    paths = ["/api/v1", *(f"/apis/{g}" for g in groups)]
    lists = [http.get(path) for path in paths]
    return {
        (answer["groupVersion"], r["kind"])
        for answer in lists
        for r in answer["resources"]
        if "/" not in r["name"]
    }


def group_of(http, name):
    return next(group for group in http.get("/apis")["groups"] if group["name"] == name)


def preferred(http, name):
    return group_of(http, name)["preferredVersion"]["version"]


def is_established(http, name):
    status = http.get(f"{CRDS}/{name}").get("status") or {}
    return {c["type"]: c["status"] for c in status.get("conditions", [])} == {
        "NamesAccepted": "True",
        "Established": "True",
    }


@pytest.fixture
def old(tmp_path):
    """A client of a sandbox that serves what 1.21 did."""
    with Sandbox(tmp_path / "old", name="old", profile="1.21") as sandbox:
        client = Http(sandbox)
        yield client
        client.close()


def test_aggregated_discovery_says_what_the_classic_one_says(http):
    """Both name the same kinds; the aggregated answer carries its content type, scopes and short names."""
    aggregated = set()
    for path in ("/api", "/apis"):
        status, body = http.call("GET", path, Accept=AGGREGATED)
        assert status == 200 and body["kind"] == "APIGroupDiscoveryList"
        for group in body["items"]:
            for version in group["versions"]:
                name = group["metadata"].get("name")
                prefix = f"{name}/{version['version']}" if name else version["version"]
                aggregated |= {(prefix, r["responseKind"]["kind"]) for r in version["resources"]}
    maps = next(r for r in http.get("/api/v1")["resources"] if r["name"] == "configmaps")

    assert aggregated == served(http)
    assert maps["shortNames"] == ["cm"] and maps["namespaced"] and "list" in maps["verbs"]
    assert http.get("/version")["gitVersion"].startswith("v1.36")


def test_the_profiles_differ_as_the_releases_did(http, old):
    """1.21 serves the betas that were removed since, and none of what came later."""
    new_kinds, old_kinds = served(http), served(old)

    for gone in (
        ("extensions/v1beta1", "Ingress"),
        ("networking.k8s.io/v1beta1", "Ingress"),
        ("batch/v1beta1", "CronJob"),
        ("policy/v1beta1", "PodDisruptionBudget"),
        ("policy/v1beta1", "PodSecurityPolicy"),
        ("autoscaling/v2beta2", "HorizontalPodAutoscaler"),
        ("rbac.authorization.k8s.io/v1beta1", "Role"),
        ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"),
    ):
        assert gone in old_kinds - new_kinds, gone
    for later in (
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
        ("resource.k8s.io/v1", "ResourceClaim"),
    ):
        assert later in new_kinds - old_kinds, later
    assert old.call("GET", "/apis", Accept=AGGREGATED)[1]["kind"] == "APIGroupList", (
        "1.21 knew no aggregated discovery"
    )


def test_preferred_versions_are_those_of_the_releases(http, old):
    """autoscaling prefers v2 today and preferred v1 then."""
    assert preferred(http, "autoscaling") == "v2"
    assert preferred(old, "autoscaling") == "v1"


def test_an_ingress_is_one_object_under_two_groups(old):
    """Written through extensions it has the same uid under networking.k8s.io, and is deleted through either."""
    home = "namespaces/default/ingresses"
    body = {
        "metadata": {"name": "web"},
        "spec": {"backend": {"serviceName": "web", "servicePort": 80}},
    }
    made = old.post(f"/apis/extensions/v1beta1/{home}", body)
    seen = old.get(f"/apis/networking.k8s.io/v1beta1/{home}/web")

    assert seen["metadata"]["uid"] == made["metadata"]["uid"]
    assert (made["apiVersion"], seen["apiVersion"]) == (
        "extensions/v1beta1",
        "networking.k8s.io/v1beta1",
    )
    (item,) = old.get(f"/apis/extensions/v1beta1/{home}")["items"]
    assert item["apiVersion"] == "extensions/v1beta1" and item["spec"] == body["spec"]
    assert old.call("DELETE", f"/apis/networking.k8s.io/v1beta1/{home}/web")[0] == 200
    assert old.call("GET", f"/apis/extensions/v1beta1/{home}/web")[0] == 404


def test_a_crd_is_served_once_it_is_established(http):
    """Its versions appear in discovery, preferred first; objects are shown at the version asked for."""
    http.post(CRDS, crd())
    assert eventually(lambda: is_established(http, "books.shop.example"))
    assert http.get(f"{CRDS}/books.shop.example")["status"]["storedVersions"] == ["v1"]
    group = group_of(http, "shop.example")
    assert [v["version"] for v in group["versions"]] == ["v1", "v1beta1"]

    path = "/apis/shop.example/{}/namespaces/default/books"
    made = http.post(path.format("v1beta1"), {"metadata": {"name": "b"}, "spec": {"pages": 3}})
    seen = http.get(path.format("v1") + "/b")
    assert (made["apiVersion"], seen["apiVersion"]) == ("shop.example/v1beta1", "shop.example/v1")
    assert seen["metadata"]["generation"] == 1
    assert http.call("PUT", path.format("v1") + "/b", {"metadata": {"name": "b"}})[0] == 422, (
        "a version is required"
    )
    assert (
        http.call(
            "PATCH", path.format("v1") + "/b", {}, kind="application/strategic-merge-patch+json"
        )[0]
        == 415
    )


def test_status_of_custom_resources_follows_their_crd(http):
    """Without the subresource status is an ordinary field; with it only /status writes it."""
    plain = [{"name": "v1", "served": True, "storage": True}]
    split = [plain[0] | {"subresources": {"status": {}}}]
    http.post(CRDS, crd(versions=plain))
    http.post(CRDS, crd(plural="maps", kind="Map", scope="Cluster", versions=split))
    eventually(
        lambda: (
            is_established(http, "books.shop.example") and is_established(http, "maps.shop.example")
        )
    )
    body = {"metadata": {"name": "x"}, "status": {"a": 1}}

    assert http.post("/apis/shop.example/v1/namespaces/default/books", body)["status"] == {"a": 1}
    assert "status" not in http.post("/apis/shop.example/v1/maps", body)
    merge = "application/merge-patch+json"
    _, after = http.call(
        "PATCH", "/apis/shop.example/v1/maps/x/status", {"status": {"a": 2}}, kind=merge
    )
    assert after["status"] == {"a": 2} and after["metadata"]["generation"] == 1


def test_deleting_a_crd_deletes_its_objects(http):
    """The kind is served until its last object is gone."""
    http.post(CRDS, crd())
    eventually(lambda: is_established(http, "books.shop.example"))
    path = "/apis/shop.example/v1/namespaces/default/books"
    http.post(path, {"metadata": {"name": "free"}})
    http.post(path, {"metadata": {"name": "held", "finalizers": ["x.y/z"]}})
    assert http.call("DELETE", f"{CRDS}/books.shop.example")[0] == 200
    eventually(lambda: [i["metadata"]["name"] for i in http.get(path)["items"]] == ["held"])

    http.call(
        "PATCH",
        f"{path}/held",
        {"metadata": {"finalizers": None}},
        kind="application/merge-patch+json",
    )
    eventually(lambda: http.call("GET", path)[0] == 404)
    assert http.call("GET", f"{CRDS}/books.shop.example")[0] == 404
    assert "shop.example" not in {g["name"] for g in http.get("/apis")["groups"]}


def test_crds_without_versions_are_refused(old):
    """The form of apiextensions v1beta1 with one `version` is not read."""
    names = {"plural": "olds", "kind": "Old"}
    spec = {"group": "o.example", "version": "v1", "scope": "Namespaced", "names": names}
    path = "/apis/apiextensions.k8s.io/v1beta1/customresourcedefinitions"

    assert old.call("POST", path, {"metadata": {"name": "olds.o.example"}, "spec": spec})[0] == 422


def test_a_broken_aggregated_api_is_stale_and_answers_503(sandbox, http):
    """Discovery still answers and names the group as stale."""
    sandbox.break_group("metrics.k8s.io", "v1beta1")
    _, body = http.call("GET", "/apis", Accept=AGGREGATED)
    (group,) = [g for g in body["items"] if g["metadata"]["name"] == "metrics.k8s.io"]

    assert [(v["freshness"], v["resources"]) for v in group["versions"]] == [("Stale", [])]
    assert http.call("GET", "/apis/metrics.k8s.io/v1beta1")[0] == 503


def test_an_unknown_profile_is_refused(tmp_path):
    """The message lists those there are."""
    with pytest.raises(ValueError, match=r"1\.21, 1\.36"):
        Sandbox(tmp_path, name="x", profile="1.99")
