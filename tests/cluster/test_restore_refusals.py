"""What a real server would refuse is in the plan before anything is written; what it would take is not blocked."""

from __future__ import annotations

import time

import pytest

from reconciler.objects import field
from tests.support.clusters import IMAGE
from tests.support.realtown import eventual, needs_cluster, real
from tests.support.rescue import verdicts

__all__ = ["real"]
pytestmark = [needs_cluster, pytest.mark.real]

ADMISSION = "admissionregistration.k8s.io/v1"


def config(name="conf", **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": data or {"a": "1"},
    }


def deployment(name="web", *, replicas=1, **extra):
    container = {
        "name": "a",
        "image": IMAGE,
        "command": ["sleep", "3600"],
        "resources": {
            "requests": {"cpu": "10m", "memory": "8Mi"},
            "limits": {"cpu": "100m", "memory": "64Mi"},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **extra},
            },
        },
    }


def webhooks(real, *, service="nowhere", kind="ValidatingWebhookConfiguration", **hook):
    """A configuration for ConfigMaps of the test's namespace alone."""
    name = f"{real.namespace}-{kind[0].lower()}"
    made = {
        "name": "guard.plan.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 2,
        "failurePolicy": "Fail",
        "clientConfig": {"service": {"name": service, "namespace": real.namespace}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": real.namespace}},
        "rules": [
            {
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["configmaps"],
            }
        ],
        **hook,
    }
    real.make(
        {"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": name}, "webhooks": [made]}
    )
    return name


def refuses(real, name="conf"):
    """Wait until the server asks the webhook (its configuration reaches the server after a moment)."""

    def is_refused():
        plan = real.plan(real.ask())
        return plan if verdicts(plan)[f"ConfigMap/{name}"][1] == "WebhookUnavailable" else None

    return eventual(is_refused)


def entry_of(plan, name):
    return next(e for e in plan.entries if e.target.name == name)


@pytest.mark.parametrize("kind", ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"])
def test_a_dead_webhook_is_named_with_what_it_refuses(real, kind):
    """In place: an update and a creation that the server itself refuses in a dry run, and after it is gone none."""
    real.make(config())
    real.make(config("gone"))
    real.point()
    real.edit("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    real.town.delete("v1", "ConfigMap", "gone", namespace=real.namespace)
    name = webhooks(real, kind=kind)
    plan = refuses(real)

    told = verdicts(plan)
    assert told["ConfigMap/conf"] == told["ConfigMap/gone"] == ("blocked", "WebhookUnavailable")
    warning = next(line for line in plan.warnings if line.startswith("WebhookUnavailable"))
    assert f"webhook guard.plan.example.com of {kind} {name}" in warning
    assert f"ConfigMap {real.namespace}/conf" in warning
    assert f"ConfigMap {real.namespace}/gone" in warning

    real.town.delete(ADMISSION, kind, name, namespace="")
    eventual(lambda: real.restore(real.ask()).phase == "Succeeded")
    assert real.read("v1", "ConfigMap", "conf")["data"] == {"a": "1"}


def test_what_the_servers_rules_leave_out_is_not_blocked(real):
    """Match conditions that the plan does not evaluate: the dry run shows that the object is taken."""
    real.make(config())
    real.make(config("guarded"))
    real.point()
    for name in ("conf", "guarded"):
        real.edit("v1", "ConfigMap", name, {"data": {"a": "2"}})
    conditions = [{"name": "c", "expression": "object.metadata.name == 'guarded'"}]
    webhooks(real, matchConditions=conditions)
    plan = refuses(real, "guarded")

    assert verdicts(plan)["ConfigMap/conf"] == ("update", "Differs")
    assert verdicts(plan)["ConfigMap/guarded"] == ("blocked", "WebhookUnavailable")


def test_a_namespace_made_again_is_judged_by_the_rules(real):
    """Nothing can be tried in it: what the rules take in is blocked, as the server then confirms."""
    real.make(config())
    real.point()
    real.wipe()
    webhooks(real)
    plan = real.plan(real.ask())

    assert verdicts(plan)["ConfigMap/conf"] == ("blocked", "WebhookUnavailable")
    assert verdicts(plan)["ServiceAccount/default"][0] == "create"


def test_a_webhook_that_the_restore_brings_up_is_waited_for(real):
    """Its Service has no endpoint, and its Deployment is in the plan: what it guards is written after that."""
    real.make(config())
    real.make(deployment("hook", replicas=1))
    spec = {"selector": {"app": "hook"}, "ports": [{"port": 443}]}
    real.make({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": spec})
    real.point()
    real.edit("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    real.edit("apps/v1", "Deployment", "hook", {"spec": {"replicas": 0}})
    name = webhooks(real, service="hook")

    def waits():
        plan = real.plan(real.ask())
        entry = entry_of(plan, "conf")
        return entry if entry.notes and "waits for" in entry.notes[0] else None

    entry = eventual(waits)
    assert entry.verdict == "update"
    assert "apps/Deployment" in " ".join(need.path for need in entry.needs)
    assert name in entry.notes[0]


def test_a_dead_conversion_webhook_does_not_stop_the_plan(real):
    """Kinds whose stored objects cannot be read are blocked with the reason; everything else is planned."""
    group = f"{real.namespace}.example.com"
    version = {
        "served": True,
        "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        },
    }
    names = {"plural": "gears", "singular": "gear", "kind": "Gear", "listKind": "GearList"}
    client = {"service": {"name": "nowhere", "namespace": real.namespace}}
    stored = {"v1": True, "v1beta1": False}
    versions = [{**version, "name": name, "storage": on} for name, on in stored.items()]
    swapped = [{**one, "storage": not one["storage"]} for one in versions]
    name = f"gears.{group}"
    real.make(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
        }
    )
    eventual(lambda: real.town.discovery.find(group, "Gear"))
    api = f"{group}/v1"
    made = {"apiVersion": api, "kind": "Gear", "metadata": {"name": "g"}, "spec": {"a": 0}}
    eventual(lambda: real.make(made) if real.read(api, "Gear", "g") is None else True)
    real.make(config())
    real.point()
    real.edit("v1", "ConfigMap", "conf", {"data": {"a": "2"}})

    def define(body):
        kind = real.town.kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        real.town.cluster.patch(kind, name, {"spec": body}, manager="person")

    # Stored anew in the other version, it can only be read as captured through the webhook.
    define({"versions": swapped})
    for count in range(1, 6):
        real.edit(api, "Gear", "g", {"spec": {"a": count}})
        eventual(lambda n=count: real.read(api, "Gear", "g")["spec"]["a"] == n)
        time.sleep(1)
    conversion = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
    }
    define({"conversion": conversion})

    def blocked():
        plan = real.plan(real.ask())
        return plan if verdicts(plan)["Gear/g"][0] == "blocked" else None

    plan = eventual(blocked)
    assert verdicts(plan)["Gear/g"] == ("blocked", "WebhookUnavailable")
    assert verdicts(plan)["ConfigMap/conf"] == ("update", "Differs")
    assert real.execution(real.ask(), plan).run().phase == "Partial"
    assert real.read("v1", "ConfigMap", "conf")["data"] == {"a": "1"}


def test_immutable_fields_are_refused_by_the_plan(real):
    """Each is blocked with `Immutable` and the hint to recreate; recreated, each is as captured."""
    sealed = {**config("sealed"), "immutable": True}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "bind"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [],
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    template = [{"metadata": {"name": "data"}, "spec": {**claim, "storageClassName": "none"}}]
    stateful = {
        **deployment("db", replicas=0),
        "kind": "StatefulSet",
    }
    stateful["spec"] = {**stateful["spec"], "serviceName": "db", "volumeClaimTemplates": template}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job"},
        "spec": {
            "suspend": True,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "a", "image": IMAGE, "command": ["true"]}],
                }
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "headless"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "typed"}, "type": "a.b/c"}
    made = [sealed, role, stateful, job, service, secret]
    for manifest in made:
        real.make(manifest)
    real.point()
    others = {
        "sealed": {"data": {"a": "2"}},
        "bind": {"roleRef": {**role["roleRef"], "name": "edit"}},
        "db": {"spec": {**stateful["spec"], "serviceName": "other"}},
        "job": {
            "spec": {
                "suspend": True,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "a", "image": IMAGE, "command": ["false"]}],
                    }
                },
            }
        },
        "headless": {"spec": {"ports": [{"port": 80}]}},
        "typed": {"type": "d.e/f"},
    }
    for manifest in made:
        name = manifest["metadata"]["name"]
        real.town.delete(manifest["apiVersion"], manifest["kind"], name, namespace=real.namespace)
        eventual(lambda m=manifest, n=name: real.read(m["apiVersion"], m["kind"], n) is None)
        real.make({**manifest, **others[name]})
    plan = real.plan(real.ask())

    for manifest in made:
        entry = entry_of(plan, manifest["metadata"]["name"])
        assert (entry.verdict, entry.reason) == ("blocked", "Immutable"), entry
        assert "spec.recreate" in entry.hint
    again = real.ask(onConflict="recreate")
    result = real.restore(again)
    assert (result.phase, result.message) == ("Succeeded", "")
    assert real.read("v1", "Service", "headless")["spec"]["clusterIP"] == "None"
    assert real.read("v1", "ConfigMap", "sealed")["data"] == {"a": "1"}
    assert {e.verdict for e in real.plan(real.ask()).entries} <= {"unchanged", "skip"}


def test_pods_that_the_namespace_refuses_are_warned_of(real):
    """Into a namespace that enforces `restricted`: the Deployment would be taken, its pods not."""
    real.make(deployment())
    real.make(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "small"},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]},
        }
    )
    real.point()
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    real.town.patch(
        "v1", "Namespace", real.namespace, {"metadata": {"labels": label}}, namespace=""
    )
    real.town.delete("apps/v1", "Deployment", "web", namespace=real.namespace)
    eventual(lambda: real.read("apps/v1", "Deployment", "web") is None)

    plan = real.plan(real.ask())
    assert verdicts(plan)["Deployment/web"] == ("create", "Absent")
    assert "PodSecurity" in entry_of(plan, "web").notes[0]
    assert "its pods would be refused" in "".join(plan.warnings)


def test_pods_beyond_a_limit_range_are_warned_of(real):
    """The server's dry run of one pod says what the LimitRange forbids."""
    real.make(deployment())
    real.point()
    real.town.delete("apps/v1", "Deployment", "web", namespace=real.namespace)
    real.make(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "small"},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "1m"}}]},
        }
    )
    eventual(lambda: real.read("apps/v1", "Deployment", "web") is None)
    told = eventual(lambda: entry_of(real.plan(real.ask()), "web").notes)

    assert "LimitRange" in told[0]


def test_a_full_quota_blocks_and_says_what_is_free(real):
    """An object that the quota refuses in the dry run is blocked; pods that would not fit are warned of."""
    real.make(config())
    real.make(deployment(replicas=3))
    real.point()
    real.town.delete("v1", "ConfigMap", "conf", namespace=real.namespace)
    real.town.delete("apps/v1", "Deployment", "web", namespace=real.namespace)
    pods = real.town.kind("v1", "Pod")
    eventual(
        lambda: (
            not next(real.town.cluster.pages(pods, namespace=real.namespace)).items
            and real.read("apps/v1", "Deployment", "web") is None
        )
    )
    real.make(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "full"},
            "spec": {"hard": {"count/configmaps": "1", "requests.memory": "16Mi"}},
        }
    )
    eventual(
        lambda: (
            field(real.read("v1", "ResourceQuota", "full"), "status", "used", "count/configmaps")
            == "1"
        )
    )
    plan = real.plan(real.ask())

    assert verdicts(plan)["ConfigMap/conf"] == ("blocked", "QuotaExceeded")
    told = [line for line in plan.warnings if "requests.memory" in line]
    assert told[0].endswith("requests.memory needs 24Mi, 16Mi of 16Mi is free")


def test_node_ports_and_addresses_of_a_real_server(real):
    """Allocated ports come back while free, with new addresses; taken ones block or are allocated anew."""
    spec = {"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80}]}
    balancer = {"type": "LoadBalancer", "selector": {"a": "b"}, "ports": [{"port": 81}]}
    for name, body in (("given", spec), ("balanced", balancer)):
        real.make({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body})
    given = real.read("v1", "Service", "given")["spec"]["ports"][0]["nodePort"]
    real.point()
    real.wipe()
    result = real.restore(real.ask())
    assert (result.phase, result.message) == ("Succeeded", "")
    assert real.read("v1", "Service", "given")["spec"]["ports"][0]["nodePort"] == given

    copy = f"{real.namespace}-copy"
    real.aside.append(("v1", "Namespace", copy))
    copied = real.ask(to={"namespace": copy})
    plan = real.plan(copied)
    assert "node port" in entry_of(plan, "given").notes[0]
    assert real.execution(copied, plan).run().phase == "Succeeded"
    made = real.town.get("v1", "Service", "given", namespace=copy)
    assert made["spec"]["ports"][0]["nodePort"] not in (None, given)


def test_a_terminating_namespace_is_told_with_what_holds_it(real):
    """The plan names the finalizer that the namespace waits for."""
    held = config("held")
    held["metadata"]["finalizers"] = ["plan.example.com/hold"]
    real.make(held)
    real.point()
    real.town.delete("v1", "Namespace", real.namespace, namespace="")

    def told():
        plan = real.plan(real.ask())
        messages = " ".join(entry.message for entry in plan.entries)
        return plan if "plan.example.com/hold" in messages else None

    try:
        plan = eventual(told)
        assert verdicts(plan)["ConfigMap/held"] == ("blocked", "NamespaceTerminating")
    finally:
        real.edit("v1", "ConfigMap", "held", {"metadata": {"finalizers": None}})


def test_an_admission_policy_that_refuses_is_named(real):
    """The dry run asks it: the object is blocked with the policy's own words."""
    real.make(config())
    real.point()
    real.edit("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    name = f"{real.namespace}-p"
    real.make(
        {
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": real.namespace}
                    },
                    "resourceRules": [
                        {
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "operations": ["UPDATE"],
                            "resources": ["configmaps"],
                        }
                    ],
                },
                "validations": [{"expression": "object.data.a != '1'", "message": "a is not 1"}],
            },
        }
    )
    real.make(
        {
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }
    )

    def refused():
        plan = real.plan(real.ask())
        return plan if verdicts(plan)["ConfigMap/conf"][0] == "blocked" else None

    plan = eventual(refused)
    assert verdicts(plan)["ConfigMap/conf"] == ("blocked", "PolicyDenied")
    assert "a is not 1" in entry_of(plan, "conf").message
    assert f"ValidatingAdmissionPolicy {name}" in "".join(plan.warnings)
