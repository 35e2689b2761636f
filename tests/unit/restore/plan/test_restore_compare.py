"""What differs, what is spared, what stays hidden."""

from reconciler.objects import duplicate
from reconciler.restore.plan.compare import HIDDEN, differences, replacement_for
from reconciler.restore.plan.strip import LAST_APPLIED, strip


def deployment(**spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "replicas": 2,
            "template": {
                "spec": {
                    "containers": [
                        {"name": "web", "image": "web:1", "env": [{"name": "A", "value": "1"}]}
                    ]
                }
            },
            **spec,
        },
    }


def live_of(manifest):
    live = duplicate(manifest)
    live["metadata"] |= {
        "uid": "u1",
        "resourceVersion": "7",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "x"}],
        "annotations": {"deployment.kubernetes.io/revision": "4"},
    }
    live["status"] = {"readyReplicas": 2}
    return live


def test_an_object_that_only_lives_differs_in_nothing():
    """Server metadata, status and a controller's annotation are no difference."""
    live = live_of(deployment())
    wanted = replacement_for(strip(deployment()), live)

    assert differences(live, wanted) == []
    assert wanted["metadata"]["uid"] == "u1"
    assert wanted["metadata"]["resourceVersion"] == "7"
    assert wanted["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "4"}
    assert wanted["status"] == {"readyReplicas": 2}


def test_what_was_added_since_is_gone_after_an_update():
    """Keys, env entries, containers and labels that the point has not are removed by the replacement."""
    live = live_of(deployment())
    live["metadata"]["labels"]["added"] = "x"
    containers = live["spec"]["template"]["spec"]["containers"]
    containers[0]["env"].append({"name": "B", "value": "2"})
    containers.append({"name": "sidecar", "image": "s:1"})
    live["spec"]["paused"] = True

    wanted = replacement_for(strip(deployment()), live)

    assert wanted["spec"] == deployment()["spec"]
    assert {change.path for change in differences(live, wanted)} == {
        "metadata.labels.added",
        "spec.paused",
        "spec.template.spec.containers[sidecar]",
        "spec.template.spec.containers[web].env[B]",
    }


def test_replicas_belong_to_the_autoscaler():
    """Replicas are spared when an autoscaler owns them, and only then."""
    live = live_of(deployment(replicas=9))

    assert replacement_for(strip(deployment()), live, is_scaled=True)["spec"]["replicas"] == 9
    assert [
        (c.path, c.before, c.after)
        for c in differences(live, replacement_for(strip(deployment()), live))
    ] == [("spec.replicas", 9, 2)]


def test_allocated_addresses_are_spared_and_asked_for_ones_are_not():
    """A live Service keeps what it was given; a node port that somebody pinned since goes."""
    captured = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.0.0.1",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}],
        },
    }
    live = duplicate(captured)
    live["spec"] = {
        "type": "NodePort",
        "clusterIP": "10.9.9.9",
        "clusterIPs": ["10.9.9.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 31111}],
    }
    spared = replacement_for(strip(captured), live)

    assert differences(live, spared) == []
    assert spared["spec"] == live["spec"]

    owned = {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:nodePort": {}}}}
    live["metadata"]["managedFields"] = [
        {"manager": "hand", "operation": "Update", "fieldsV1": {"f:spec": owned}}
    ]
    assert [c.path for c in differences(live, replacement_for(strip(captured), live))] == [
        "spec.ports[80/TCP].nodePort"
    ]


def test_a_bound_claim_stays_bound():
    """Volume name and marks of binding of the live claim are spared."""
    captured = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "d"},
        "spec": {"volumeName": "old"},
    }
    live = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "d",
            "annotations": {"pv.kubernetes.io/bind-completed": "yes"},
            "finalizers": ["kubernetes.io/pvc-protection"],
        },
        "spec": {"volumeName": "new"},
    }

    assert differences(live, replacement_for(strip(captured), live)) == []


def test_injected_bundles_are_spared_where_somebody_injects():
    """A webhook's caBundle is left to its injector, and otherwise is as captured."""

    def hook(bundle, annotations):
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "h", "annotations": annotations},
            "webhooks": [{"name": "a", "clientConfig": {"caBundle": bundle}}],
        }

    injected = {"cert-manager.io/inject-ca-from": "a/b"}
    assert (
        differences(
            hook("new", injected), replacement_for(hook("old", injected), hook("new", injected))
        )
        == []
    )
    plain = replacement_for(hook("old", {"x": "y"}), hook("new", {"x": "y"}))
    assert plain["webhooks"][0]["clientConfig"]["caBundle"] == "old"


def test_values_of_secrets_are_never_shown():
    """A change of a Secret names the key; neither value nor the applied copy appears."""
    captured = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "annotations": {LAST_APPLIED: "topsecret"}},
        "data": {"a": "b2xk", "gone": "eA=="},
    }
    live = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "bmV3"}}
    changes = differences(live, replacement_for(captured, live))

    assert {c.path for c in changes} == {"data.a", "data.gone", "metadata.annotations"}
    assert HIDDEN in [c.after for c in changes]
    assert not any(word in repr(changes) for word in ("b2xk", "bmV3", "eA==", "topsecret"))
