"""Deployments and StatefulSets get their pods."""

from __future__ import annotations

from tests.support.sandbox import eventually

APPS = "/apis/apps/v1/namespaces/default"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"


def workload(replicas=2, image="1", **more):
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "m", "image": image}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "x"}}, "template": template}
    return {"metadata": {"name": "w"}, "spec": spec | more}


def pods(http):
    return http.get(PODS)["items"]


def is_ready(http, plural, count):
    def check():
        status = http.get(f"{APPS}/{plural}/w").get("status") or {}
        return status.get("readyReplicas", 0) == count == len(pods(http)) and status

    return check


def change(http, plural, spec):
    assert http.call("PATCH", f"{APPS}/{plural}/w", {"spec": spec}, kind=MERGE)[0] == 200


def test_a_deployment_owns_a_set_that_owns_pods(http):
    """Deployment → ReplicaSet → Pods, each with a controlling owner; the status becomes Available."""
    http.post(f"{APPS}/deployments", workload())
    status = eventually(is_ready(http, "deployments", 2))
    (owned,) = http.get(f"{APPS}/replicasets")["items"]

    assert owned["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
    for pod in pods(http):
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == (
            "ReplicaSet",
            owned["metadata"]["uid"],
            True,
        )
        assert pod["metadata"]["labels"]["pod-template-hash"] in owned["metadata"]["name"]
    assert status["observedGeneration"] == 1
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "True"


def test_a_deployment_scales_and_changes(http):
    """Replicas follow; a new template replaces all pods; a deleted pod comes back."""
    http.post(f"{APPS}/deployments", workload())
    eventually(is_ready(http, "deployments", 2))
    change(http, "deployments", {"replicas": 3})
    eventually(is_ready(http, "deployments", 3))
    before = {p["metadata"]["name"] for p in pods(http)}
    http.call("DELETE", f"{PODS}/{min(before)}")
    eventually(
        lambda: len(pods(http)) == 3 and {p["metadata"]["name"] for p in pods(http)} != before
    )
    change(
        http, "deployments", {"template": {"spec": {"containers": [{"name": "m", "image": "2"}]}}}
    )

    eventually(lambda: [p["spec"]["containers"][0]["image"] for p in pods(http)] == ["2"] * 3)
    assert sorted(s["spec"]["replicas"] for s in http.get(f"{APPS}/replicasets")["items"]) == [0, 3]


def test_a_deployment_takes_its_pods_along(http):
    """Deleting it deletes the set and the pods."""
    http.post(f"{APPS}/deployments", workload())
    eventually(is_ready(http, "deployments", 2))
    http.call("DELETE", f"{APPS}/deployments/w")

    eventually(lambda: pods(http) == [] and http.get(f"{APPS}/replicasets")["items"] == [])


def test_a_stateful_set_numbers_its_pods_and_their_claims(http):
    """Ordinals in order, a claim each from the template; scaling down takes the highest and leaves its claim."""
    template = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    http.post(f"{APPS}/statefulsets", workload(3, serviceName="w", volumeClaimTemplates=[template]))
    status = eventually(is_ready(http, "statefulsets", 3))
    claims = "/api/v1/namespaces/default/persistentvolumeclaims"
    assert [p["metadata"]["name"] for p in pods(http)] == ["w-0", "w-1", "w-2"]
    assert [c["metadata"]["name"] for c in http.get(claims)["items"]] == [
        "data-w-0",
        "data-w-1",
        "data-w-2",
    ]
    assert pods(http)[1]["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-w-1"}}
    ]
    assert pods(http)[0]["metadata"]["ownerReferences"][0]["controller"] is True
    assert (status["replicas"], status["updatedReplicas"]) == (3, 3)
    change(http, "statefulsets", {"replicas": 1})
    eventually(is_ready(http, "statefulsets", 1))

    assert [p["metadata"]["name"] for p in pods(http)] == ["w-0"]
    assert len(http.get(claims)["items"]) == 3


def test_a_stateful_set_replaces_pods_of_an_old_template(http):
    """A new template reaches every ordinal under its name."""
    http.post(f"{APPS}/statefulsets", workload(2))
    eventually(is_ready(http, "statefulsets", 2))
    uids = {p["metadata"]["uid"] for p in pods(http)}
    change(
        http, "statefulsets", {"template": {"spec": {"containers": [{"name": "m", "image": "2"}]}}}
    )
    eventually(lambda: [p["spec"]["containers"][0]["image"] for p in pods(http)] == ["2", "2"])

    eventually(is_ready(http, "statefulsets", 2))
    assert not uids & {p["metadata"]["uid"] for p in pods(http)}


def test_other_workloads_are_stored_only(http):
    """A Job gets no pods."""
    body = {"metadata": {"name": "j"}, "spec": {"template": workload()["spec"]["template"]}}
    http.post("/apis/batch/v1/namespaces/default/jobs", body)
    http.post(f"{APPS}/deployments", workload(1))
    eventually(is_ready(http, "deployments", 1))

    assert len(pods(http)) == 1


def test_a_pod_without_processes_is_running_at_once(http):
    """It is Ready, and exec says which switch is missing."""
    http.post(
        PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "m", "image": "i"}]}}
    )
    status = eventually(lambda: (s := http.get(f"{PODS}/p")["status"])["phase"] == "Running" and s)

    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    code, answer = http.call("GET", f"{PODS}/p/exec?command=true", **headers)
    assert code == 501 and "--processes" in answer["message"]
