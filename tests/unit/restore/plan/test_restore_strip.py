"""What captured objects lose before they are written back."""

import json

import pytest

from reconciler.restore.plan.strip import LAST_APPLIED, refusal_of, strip


def manifest(kind, api_version="v1", *, metadata=None, **rest):
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop", **(metadata or {})},
        **rest,
    }


def test_every_object_loses_what_the_server_set():
    """uid, versions, times, owners and status go; labels, annotations and foreign finalizers stay."""
    captured = manifest(
        "ConfigMap",
        metadata={
            "uid": "1",
            "resourceVersion": "2",
            "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{}],
            "ownerReferences": [{"uid": "x"}],
            "labels": {"a": "b"},
            "finalizers": ["example.org/keep", "kubernetes.io/pvc-protection"],
        },
        status={"x": 1},
        data={"k": "v"},
    )
    before = json.dumps(captured)

    assert strip(captured) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "labels": {"a": "b"},
            "finalizers": ["example.org/keep"],
        },
        "data": {"k": "v"},
    }
    assert json.dumps(captured) == before


def test_a_pod_loses_its_node_and_injected_tokens():
    """A bare Pod can be scheduled afresh and gets a token of its own."""
    mounts = [
        {"name": "kube-api-access-x1y2z", "mountPath": "/var/run/secrets"},
        {"name": "data", "mountPath": "/data"},
    ]
    spec = {
        "nodeName": "n1",
        "priority": 0,
        "containers": [{"name": "a", "volumeMounts": mounts}],
        "volumes": [
            {"name": "kube-api-access-x1y2z", "projected": {"sources": []}},
            {"name": "default-token-abcde", "secret": {"secretName": "default-token-abcde"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ],
    }

    assert strip(manifest("Pod", spec=spec))["spec"] == {
        "containers": [{"name": "a", "volumeMounts": [mounts[1]]}],
        "volumes": [spec["volumes"][2]],
    }


@pytest.mark.parametrize("manual", [True, False])
def test_a_job_loses_its_generated_selector_only(manual):
    """A selector that was written by hand stays with its labels."""
    labels = {"batch.kubernetes.io/controller-uid": "u", "controller-uid": "u", "job": "x"}
    spec = {
        "selector": {"matchLabels": {"controller-uid": "u"}},
        "template": {"metadata": {"labels": labels}},
    }
    if manual:
        spec["manualSelector"] = True

    done = strip(manifest("Job", "batch/v1", spec=spec))["spec"]

    assert ("selector" in done) == manual
    assert done["template"]["metadata"]["labels"] == (labels if manual else {"job": "x"})


def service(spec, *, fields=None, applied=None):
    metadata = {}
    if fields is not None:
        metadata["managedFields"] = [
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": fields}}
        ]
    if applied is not None:
        metadata["annotations"] = {LAST_APPLIED: json.dumps({"spec": applied})}
    return strip(manifest("Service", metadata=metadata, spec=spec))["spec"]


PORT = {"port": 80, "protocol": "TCP", "nodePort": 30080}
SERVICE = {
    "type": "NodePort",
    "clusterIP": "10.0.0.1",
    "clusterIPs": ["10.0.0.1"],
    "healthCheckNodePort": 31000,
    "ports": [PORT],
}


def test_a_service_loses_what_was_allocated():
    """Addresses and node ports that nobody asked for are allocated anew."""
    assert service(SERVICE) == {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}


def test_a_service_keeps_what_was_asked_for():
    """Fields that a manager owns or that were applied stay."""
    owned = service(
        SERVICE,
        fields={
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:nodePort": {}}},
            "f:healthCheckNodePort": {},
        },
    )
    applied = service(
        SERVICE, applied={"clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}]}
    )

    assert owned == {"type": "NodePort", "healthCheckNodePort": 31000, "ports": [PORT]}
    assert applied == {
        "type": "NodePort",
        "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"],
        "ports": [PORT],
    }


def test_headless_and_external_services_stay_as_they_are():
    """`None` is a choice, not an allocation."""
    headless = {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}
    external = {"type": "ExternalName", "externalName": "db.example.org"}

    assert service(headless) == headless
    assert service(external) == external


def test_a_claim_is_unbound():
    """The claim asks for a new volume and keeps what a person wrote."""
    metadata = {
        "annotations": {
            "pv.kubernetes.io/bind-completed": "yes",
            "volume.kubernetes.io/selected-node": "n",
            "mine": "1",
        }
    }
    spec = {"volumeName": "pv-1", "dataSource": {"name": "x"}, "accessModes": ["ReadWriteOnce"]}
    done = strip(manifest("PersistentVolumeClaim", metadata=metadata, spec=spec))

    assert done["spec"] == {"accessModes": ["ReadWriteOnce"]}
    assert done["metadata"]["annotations"] == {"mine": "1"}


def test_tokens_are_made_by_the_new_cluster():
    """Generated token Secrets are not restored, manual ones are emptied, accounts forget the generated ones."""
    account = {
        "kubernetes.io/service-account.name": "web",
        "kubernetes.io/service-account.uid": "u",
    }
    token = {
        "type": "kubernetes.io/service-account-token",
        "data": {"token": "eA==", "ca.crt": "eA==", "extra": "eA=="},
    }
    manual = manifest("Secret", metadata={"annotations": account}, **token)
    generated = manifest(
        "Secret", metadata={"name": "web-token-a1b2c", "annotations": account}, **token
    )
    sa = manifest("ServiceAccount", secrets=[{"name": "web-token-a1b2c"}, {"name": "mine"}])

    assert strip(manual)["data"] == {"extra": "eA=="}
    assert refusal_of(manual) is None
    assert refusal_of(generated)[0] == "GeneratedToken"
    assert strip(sa)["secrets"] == [{"name": "mine"}]


def test_what_the_cluster_makes_by_itself_is_never_written():
    """Auto-registered APIServices and published authorities belong to the new cluster."""
    labels = {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
    assert (
        refusal_of(
            manifest("APIService", "apiregistration.k8s.io/v1", metadata={"labels": labels})
        )[0]
        == "AutoRegistered"
    )
    assert (
        refusal_of(manifest("ConfigMap", metadata={"name": "kube-root-ca.crt"}))[0]
        == "ClusterOwned"
    )
    assert refusal_of(manifest("ConfigMap")) is None


def test_definitions_and_namespaces_are_made_acceptable():
    """v1 refuses `preserveUnknownFields: true`; a Namespace is renamed without its old name's label."""
    crd = {
        "preserveUnknownFields": True,
        "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}}],
    }
    done = strip(manifest("CustomResourceDefinition", "apiextensions.k8s.io/v1", spec=crd))["spec"]
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": "shop",
            "labels": {"kubernetes.io/metadata.name": "shop", "team": "a"},
        },
        "spec": {"finalizers": ["kubernetes"]},
    }

    assert "preserveUnknownFields" not in done
    assert (
        done["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"]
        is True
    )
    assert strip(space) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"team": "a"}},
    }


def test_rules_go_by_group():
    """A custom resource that is called Service is none of Kubernetes'."""
    knative = manifest("Service", "serving.knative.dev/v1", spec={"clusterIP": "mine"})

    assert strip(knative)["spec"] == {"clusterIP": "mine"}
