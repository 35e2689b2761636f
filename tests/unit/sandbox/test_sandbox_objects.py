"""Objects over HTTP: create, read, update, delete, and every way to be told no."""

from __future__ import annotations

import concurrent.futures

import pytest

MAPS = "/api/v1/namespaces/default/configmaps"


def config(name="a", **more):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"k": "v"},
    } | more


def test_a_created_object_can_be_read_back_with_what_the_server_adds(http):
    """The server adds uid, times, a version and who owns the fields; ConfigMaps have no generation."""
    made = http.post(MAPS + "?fieldManager=me", config())
    metadata = made["metadata"]

    assert http.get(f"{MAPS}/a") == made
    assert (
        metadata["namespace"] == "default"
        and metadata["uid"]
        and metadata["creationTimestamp"].endswith("Z")
    )
    assert "generation" not in metadata
    (owner,) = metadata["managedFields"]
    assert (owner["manager"], owner["operation"], owner["apiVersion"]) == ("me", "Update", "v1")
    assert owner["fieldsV1"] == {"f:data": {".": {}, "f:k": {}}}


def test_generated_names_differ(http):
    """generateName gets five more characters, other ones each time."""
    body = {"metadata": {"generateName": "x-"}}
    names = {http.post(MAPS, body)["metadata"]["name"] for _ in range(5)}

    assert len(names) == 5 and all(len(n) == 7 and n.startswith("x-") for n in names)


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason"),
    [
        ("POST", MAPS, config("kube-root-ca.crt"), 409, "AlreadyExists"),
        ("POST", "/api/v1/namespaces/nowhere/configmaps", config(), 404, "NotFound"),
        ("POST", MAPS, config("Not_A_Name"), 422, "Invalid"),
        ("POST", MAPS, config("", kind="ConfigMap"), 422, "Invalid"),
        ("POST", MAPS, config(kind="Secret"), 400, "BadRequest"),
        ("POST", MAPS, config(metadata={"name": "a", "namespace": "other"}), 400, "BadRequest"),
        ("POST", MAPS, config(metadata={"name": "a", "resourceVersion": "1"}), 400, "BadRequest"),
        ("POST", MAPS, b"{", 400, "BadRequest"),
        ("POST", f"{MAPS}/a", config(), 405, "MethodNotAllowed"),
        ("GET", f"{MAPS}/absent", None, 404, "NotFound"),
        ("PUT", f"{MAPS}/absent", config("absent"), 404, "NotFound"),
        ("DELETE", f"{MAPS}/absent", None, 404, "NotFound"),
        (
            "POST",
            MAPS,
            config(metadata={"name": "a", "ownerReferences": [{"name": "x"}]}),
            422,
            "Invalid",
        ),
        ("GET", MAPS + "?limit=many", None, 400, "BadRequest"),
        ("GET", MAPS + "?limit=1&continue=x.y", None, 400, "BadRequest"),
        ("GET", "/api/v1/nothings", None, 404, "NotFound"),
        ("GET", "/apis/no.such.group/v1/things", None, 404, "NotFound"),
        ("DELETE", MAPS, None, 501, "NotImplemented"),
        ("PUT", "/api/v1/namespaces/default/finalize", {}, 501, "NotImplemented"),
        (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            {},
            501,
            "NotImplemented",
        ),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {}, 501, "NotImplemented"),
        ("POST", "/api/v1/persistentvolumeclaims", {}, 405, "MethodNotAllowed"),
    ],
)
def test_what_cannot_be_is_refused_with_a_status(http, method, path, body, code, reason):
    """Every refusal is a Status object with the code and reason of a real server."""
    status, answer = http.call(method, path, body)

    assert (status, answer.get("kind"), answer.get("reason"), answer.get("code")) == (
        code,
        "Status",
        reason,
        code,
    )


def test_formats_that_are_not_spoken_are_refused(http):
    """415 for protobuf bodies and unknown patches, 501 for impersonation."""
    assert http.call("POST", MAPS, b"x", kind="application/vnd.kubernetes.protobuf")[0] == 415
    http.post(MAPS, config())
    assert http.call("PATCH", f"{MAPS}/a", {}, kind="application/json")[0] == 415
    assert http.call("GET", MAPS, Impersonate_User="eve")[0] == 501


def test_nobody_gets_in_without_the_token(http):
    """401 with a wrong token and with none."""
    assert http.call("GET", MAPS, token="wrong")[0] == 401
    assert http.call("GET", "/api", token="")[0] == 401


def test_updates_are_guarded_by_version_and_uid(http):
    """A stale resourceVersion or a foreign uid is a 409; without either the update goes through."""
    old = http.post(MAPS, config())
    assert http.call("PUT", f"{MAPS}/a", old | {"data": {"k": "2"}})[0] == 200

    status, answer = http.call("PUT", f"{MAPS}/a", old | {"data": {"k": "3"}})
    assert (status, answer["reason"]) == (409, "Conflict")
    assert http.call("PUT", f"{MAPS}/a", config(metadata={"name": "a", "uid": "other"}))[0] == 409
    assert http.call("PUT", f"{MAPS}/a", config(data={"k": "4"}))[0] == 200


def test_an_update_that_changes_nothing_makes_no_version(http):
    """The resourceVersion stays when nothing changed."""
    made = http.post(MAPS, config())

    assert (
        http.call("PUT", f"{MAPS}/a", made)[1]["metadata"]["resourceVersion"]
        == made["metadata"]["resourceVersion"]
    )


def test_leases_change_hands_once(http):
    """Of eight that take a lease at the same version, one wins; a Lease needs a resourceVersion."""
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    lease = http.post(path, {"metadata": {"name": "l"}, "spec": {"holderIdentity": ""}})

    def take(n):
        return http.call("PUT", f"{path}/l", lease | {"spec": {"holderIdentity": f"h{n}"}})[0]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(take, range(8)))
    assert codes == [200] + [409] * 7
    assert http.call("PUT", f"{path}/l", {"metadata": {"name": "l"}, "spec": {}})[0] == 422


def test_generation_counts_changes_of_spec_only(http):
    """A change of spec bumps generation; labels and status do not."""
    path = "/apis/batch/v1/namespaces/default/jobs"
    spec = {"template": {"spec": {"containers": [{"name": "m", "image": "i"}]}}, "parallelism": 1}
    http.post(path, {"metadata": {"name": "j"}, "spec": spec, "status": {"active": 5}})

    def change(body, sub=""):
        return http.call("PATCH", f"{path}/j{sub}", body, kind="application/merge-patch+json")[1]

    assert change({"metadata": {"labels": {"a": "b"}}})["metadata"]["generation"] == 1
    assert change({"status": {"active": 1}}, "/status")["metadata"]["generation"] == 1
    after = change({"spec": {"parallelism": 2}, "status": {"active": 9}})
    assert after["metadata"]["generation"] == 2
    assert after["status"] == {"active": 1}, "status changes through its subresource only"


@pytest.mark.parametrize(
    ("plural", "body", "patch"),
    [
        ("services", {"spec": {"ports": [{"port": 80}]}}, {"spec": {"clusterIP": "10.96.9.9"}}),
        ("secrets", {"type": "Opaque"}, {"type": "other"}),
        ("secrets", {"immutable": True, "data": {}}, {"data": {"a": "eA=="}}),
        ("configmaps", {"immutable": True}, {"data": {"a": "b"}}),
        (
            "persistentvolumeclaims",
            {
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                }
            },
            {"spec": {"storageClassName": "other"}},
        ),
    ],
)
def test_fields_that_cannot_change_stay(http, plural, body, patch):
    """An immutable field answers 422 and stays as it was."""
    path = f"/api/v1/namespaces/default/{plural}"
    made = http.post(path, {"metadata": {"name": "x"}} | body)

    status, answer = http.call("PATCH", f"{path}/x", patch, kind="application/merge-patch+json")

    assert (status, answer["reason"]) == (422, "Invalid")
    assert http.get(f"{path}/x").get("spec", {}).get("clusterIP") == made.get("spec", {}).get(
        "clusterIP"
    )


def test_services_get_addresses_of_their_own(http):
    """Each ClusterIP service gets another address; headless stays headless; PUT keeps it."""
    path = "/api/v1/namespaces/default/services"
    made = [
        http.post(path, {"metadata": {"name": n}, "spec": {}})["spec"]["clusterIP"]
        for n in ("a", "b")
    ]

    assert len({*made, "10.96.0.1"}) == 3
    assert (
        http.post(path, {"metadata": {"name": "d"}, "spec": {"clusterIP": "None"}})["spec"][
            "clusterIP"
        ]
        == "None"
    )
    kept = http.call(
        "PUT", f"{path}/a", {"metadata": {"name": "a"}, "spec": {"type": "ClusterIP"}}
    )[1]
    assert kept["spec"]["clusterIP"] == made[0]


def test_dry_runs_store_nothing(http):
    """dryRun=All answers as if, and leaves everything as it was."""
    http.post(MAPS, config())
    before = http.get(MAPS)

    assert http.call("POST", MAPS + "?dryRun=All", config("b"))[0] == 201
    assert http.call("POST", MAPS + "?dryRun=All", config("a"))[0] == 409
    assert http.call("PUT", f"{MAPS}/a?dryRun=All", config(data={"k": "2"}))[1]["data"] == {
        "k": "2"
    }
    assert http.call("DELETE", f"{MAPS}/a?dryRun=All")[0] == 200
    assert http.get(MAPS) == before


def test_finalizers_hold_an_object(http):
    """A deleted object with a finalizer is terminating until the last finalizer goes."""
    http.post(MAPS, config(metadata={"name": "a", "finalizers": ["x.y/z"]}))
    assert http.call("DELETE", f"{MAPS}/a")[1]["metadata"]["deletionTimestamp"]
    assert http.get(f"{MAPS}/a")["metadata"]["finalizers"] == ["x.y/z"]

    drop = [{"op": "remove", "path": "/metadata/finalizers/0"}]
    assert http.call("PATCH", f"{MAPS}/a", drop, kind="application/json-patch+json")[0] == 200
    assert http.call("GET", f"{MAPS}/a")[0] == 404


def test_deletes_keep_to_their_preconditions(http):
    """Another uid or resourceVersion than asked for is a 409 and nothing is deleted."""
    made = http.post(MAPS, config())
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        assert http.call("DELETE", f"{MAPS}/a", {"preconditions": wrong})[0] == 409
    right = {"preconditions": {"uid": made["metadata"]["uid"]}}

    assert http.call("DELETE", f"{MAPS}/a", right)[1]["status"] == "Success"
    assert http.call("GET", f"{MAPS}/a")[0] == 404


def test_secrets_take_plain_text(http):
    """stringData becomes data."""
    made = http.post(
        "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}}
    )

    assert made["data"] == {"a": "Yg=="} and made["type"] == "Opaque" and "stringData" not in made


def test_denied_requests_say_who_may_not_do_what(sandbox, http):
    """A deny rule answers 403 to its verb on its resource, and SelfSubjectAccessReview knows."""
    sandbox.deny("list", "secrets")
    sandbox.deny("patch", "pods/status")
    path = "/api/v1/namespaces/default/pods/p"
    codes = [
        http.call("PATCH", path + sub, {}, kind="application/merge-patch+json")[0]
        for sub in ("/status", "")
    ]
    assert codes == [403, 404]
    sandbox.deny("*", "deployments", group="apps", namespace="default")
    status, answer = http.call("GET", "/api/v1/secrets")
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert 'cannot list resource "secrets"' in answer["message"]
    assert http.call("GET", "/apis/apps/v1/namespaces/default/deployments/x")[0] == 403
    assert http.call("GET", "/apis/apps/v1/namespaces/kube-system/deployments/x")[0] == 404
    assert (
        http.call("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})[0]
        == 201
    )

    def allowed(verb):
        spec = {"resourceAttributes": {"verb": verb, "resource": "secrets", "group": ""}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return http.post(path, {"spec": spec})["status"]["allowed"]

    assert (allowed("list"), allowed("get")) == (False, True)
    sandbox.allow_all()
    assert http.call("GET", "/api/v1/secrets")[0] == 200
