"""Objects with forms of their own, destroyed and back on real Kubernetes, equal to what they were."""

from __future__ import annotations

import base64
import json

import pytest

from reconciler.objects import duplicate, field, project
from reconciler.restore.plan.strip import strip
from tests.support.clusters import IMAGE
from tests.support.realtown import eventual, needs_cluster, real
from tests.support.rescue import verdicts

__all__ = ["real"]
pytestmark = [needs_cluster, pytest.mark.real]


def bare(manifest):
    """What must come back: all but what a server sets or allocates."""
    return strip(project(manifest))


def config(name="conf", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def entry_of(plan, name):
    return next(e for e in plan.entries if e.target.name == name)


def brought_back(real, *places):
    """Capture, destroy and restore; gives the objects at `places` before and after."""
    before = [real.read(*place) for place in places]
    real.point()
    real.wipe()
    result = real.restore(real.ask())
    assert (result.phase, result.message) == ("Succeeded", "")
    again = real.plan(real.ask())
    assert {e.verdict for e in again.entries} <= {"unchanged", "skip"}, verdicts(again)
    return before, [real.read(*place) for place in places]


def test_names_and_labels_at_their_limits(real):
    """253 characters of a name, 63 of a label's value, 317 of a key, generated names."""
    longest = "a" * 253
    key = f"{'b' * 253}/{'c' * 63}"
    made = config(longest, a="1")
    made["metadata"] |= {"labels": {key: "d" * 63}, "annotations": {key: "e"}}
    real.make(made)
    generated = config("", a="1")
    generated["metadata"] = {"generateName": "f" * 200, "namespace": real.namespace}
    name = real.make(generated)["metadata"]["name"]
    places = [("v1", "ConfigMap", longest), ("v1", "ConfigMap", name)]
    before, after = brought_back(real, *places)

    assert [bare(m) for m in after] == [bare(m) for m in before]
    assert after[1]["metadata"]["generateName"] == "f" * 200


def test_an_object_near_the_size_limit(real):
    """A ConfigMap with a mebibyte of data whose every byte JSON writes as two, and a last-applied copy's size."""
    text = "\n" * (1024 * 1024 - 1)
    made = config("large", a=text)
    made["metadata"]["annotations"] = {"big": "x" * 200_000}
    real.make(made)
    before, after = brought_back(real, ("v1", "ConfigMap", "large"))

    assert after[0]["data"]["a"] == text
    assert bare(after[0]) == bare(before[0])


def test_a_manual_token_is_issued_anew(real):
    """The Secret comes back without the old token, and gets one of the new account."""
    real.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci"}})
    real.make(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "ci-manual",
                "annotations": {"kubernetes.io/service-account.name": "ci"},
            },
            "type": "kubernetes.io/service-account-token",
        }
    )

    def token():
        return field(real.read("v1", "Secret", "ci-manual") or {}, "data", "token")

    old = eventual(token)
    brought_back(real)
    new = eventual(token)
    account = real.read("v1", "ServiceAccount", "ci")["metadata"]["uid"]
    claims = json.loads(base64.b64decode(base64.b64decode(new).split(b".")[1] + b"=="))
    assert new != old
    assert claims["kubernetes.io/serviceaccount/service-account.uid"] == account


def test_services_of_every_kind(real):
    """Headless, load balancer, by name; hand-made slices and Endpoints with what they point at."""
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    named = [{**port, "name": port["protocol"].lower()} for port in ports]
    specs = {
        "headless": {"clusterIP": "None", "selector": {"a": "b"}, "ports": named},
        "balanced": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "selector": {"a": "b"},
            "ports": [{"port": 80}],
        },
        "named": {"type": "ExternalName", "externalName": "db.example.org"},
        "outside": {"ports": [{"port": 5432}]},
    }
    for name, spec in specs.items():
        real.make({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    real.make(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "outside-1", "labels": {"kubernetes.io/service-name": "outside"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"]}],
            "ports": [{"port": 5432}],
        }
    )
    places = [("v1", "Service", name) for name in specs]
    before, after = brought_back(
        real, *places, ("discovery.k8s.io/v1", "EndpointSlice", "outside-1")
    )

    assert [bare(m) for m in after] == [bare(m) for m in before]
    assert after[0]["spec"]["clusterIP"] == "None"
    assert after[1]["spec"]["healthCheckNodePort"]


def test_an_aggregated_role_is_filled_by_its_controller(real):
    """Rules that were collected are not written back: the controller collects them again."""
    api = "rbac.authorization.k8s.io/v1"
    label = {f"{real.namespace}.example.com/part": "yes"}
    whole = f"{real.namespace}-whole"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    part = {
        "apiVersion": api,
        "kind": "ClusterRole",
        "metadata": {"name": f"{real.namespace}-part", "labels": label},
        "rules": [rule],
    }
    real.make(part)
    real.make(
        {
            "apiVersion": api,
            "kind": "ClusterRole",
            "metadata": {"name": whole},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": label}]},
            "rules": [],
        }
    )
    real.make(
        {
            "apiVersion": api,
            "kind": "RoleBinding",
            "metadata": {"name": "bind"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": whole,
            },
            "subjects": [
                {"kind": "ServiceAccount", "name": "default", "namespace": real.namespace}
            ],
        }
    )
    eventual(lambda: real.read(api, "ClusterRole", whole)["rules"] == [rule])
    real.point()
    real.wipe()
    real.town.delete(api, "ClusterRole", whole, namespace="")
    result = real.restore(real.ask())

    assert (result.phase, result.message) == ("Succeeded", "")
    eventual(lambda: real.read(api, "ClusterRole", whole)["rules"] == [rule])


def test_finalizers_and_owner_chains(real):
    """A finalizer that nothing serves comes back with a note; a chain of owners is whole, with new uids."""
    first = real.make(config("first", a="1"))

    def owned(name, owner):
        made = config(name, a="1")
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        made["metadata"]["ownerReferences"] = [{**reference, "blockOwnerDeletion": True}]
        return real.make(made)

    second = owned("second", first)
    owned("third", second)
    held = config("held", a="1")
    held["metadata"]["finalizers"] = ["plan.example.com/hold"]
    real.make(held)
    real.point()
    real.edit("v1", "ConfigMap", "held", {"metadata": {"finalizers": None}})
    real.wipe()
    plan = real.plan(real.ask())
    try:
        assert "finalizer plan.example.com/hold is kept" in entry_of(plan, "held").notes[0]
        assert real.execution(real.ask(), plan).run().phase == "Succeeded"
        uids = {
            name: real.read("v1", "ConfigMap", name)["metadata"]
            for name in ("first", "second", "third")
        }
        assert uids["third"]["ownerReferences"][0]["uid"] == uids["second"]["uid"]
        assert uids["second"]["ownerReferences"][0]["uid"] == uids["first"]["uid"]
        assert uids["first"]["uid"] != first["metadata"]["uid"]
        assert real.read("v1", "ConfigMap", "held")["metadata"]["finalizers"]
    finally:
        real.edit("v1", "ConfigMap", "held", {"metadata": {"finalizers": None}})


def test_a_bare_pod_is_scheduled_afresh(real):
    """It loses its node, its token volume and its ephemeral containers, and runs again."""
    container = {"name": "a", "image": IMAGE, "command": ["sleep", "3600"]}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    real.make({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    eventual(lambda: field(real.read("v1", "Pod", "p"), "status", "phase") == "Running")
    real.point()
    real.wipe()
    result = real.restore(real.ask())

    assert (result.phase, result.message) == ("Succeeded", "")
    assert field(real.read("v1", "Pod", "p"), "status", "phase") == "Running"
    assert verdicts(real.plan(real.ask()))["Pod/p"][0] == "unchanged"


def test_after_an_update_everything_is_as_captured(real):
    """Added keys, env, containers, volumes, ports, labels and items of every kind of list are gone."""
    container = {
        "name": "a",
        "image": IMAGE,
        "env": [{"name": "A", "value": "1"}],
        "args": ["x"],
        "ports": [{"containerPort": 80}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "tolerations": [{"key": "a", "operator": "Exists"}],
    }
    web = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec},
        },
    }
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web"},
        "spec": {"rules": [{"host": "a.example.org"}]},
    }
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "web"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    }
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    made = [web, ingress, role, policy, config("web", a="1")]
    for manifest in made:
        real.make(manifest)
    before = [real.read(m["apiVersion"], m["kind"], "web") for m in made]
    real.point()
    spoiled = duplicate(before)
    pod = spoiled[0]["spec"]["template"]["spec"]
    pod["containers"][0]["env"] += [{"name": "B", "value": "2"}]
    pod["containers"][0]["args"] += ["y"]
    pod["containers"][0]["ports"] += [{"containerPort": 81}]
    pod["containers"][0]["volumeMounts"] += [{"name": "w", "mountPath": "/w"}]
    pod["containers"] += [{"name": "b", "image": IMAGE}]
    pod["volumes"] += [{"name": "w", "emptyDir": {}}]
    pod["tolerations"] += [{"key": "b", "operator": "Exists"}]
    pod["nodeSelector"] = {"no": "where"}
    spoiled[0]["metadata"]["labels"] = {"a": "c", "d": "e"}
    spoiled[1]["spec"]["rules"] += [{"host": "b.example.org"}]
    spoiled[2]["rules"] += [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    spoiled[3]["spec"]["egress"] = [{}]
    spoiled[3]["spec"]["policyTypes"] += ["Egress"]
    spoiled[4]["data"] = {"a": "2", "b": "3"}
    for manifest in spoiled:
        del manifest["metadata"]["resourceVersion"]
        kind = real.town.kind(manifest["apiVersion"], manifest["kind"])
        eventual(lambda k=kind, m=manifest: real.town.cluster.replace(k, m, manager="person"))
    result = real.restore(real.ask())

    assert (result.phase, result.message) == ("Succeeded", "")
    after = [real.read(m["apiVersion"], m["kind"], "web") for m in made]
    assert [bare(m) for m in after] == [bare(m) for m in before]
    assert [m["metadata"]["uid"] for m in after] == [m["metadata"]["uid"] for m in before]
