"""What a plan says of dead webhooks, of pods that would be refused, and of quotas that would be exceeded."""

import pytest

from tests.support.rescue import request, verdicts
from tests.support.seen import manifest

ADMISSION = "admissionregistration.k8s.io/v1"
OWNED_BY_KUBERNETES = {"kubernetes.io/metadata.name": "shop"}


def deployment(name="hook", *, replicas=1, **spec):
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "a", "image": "a:1"}], **spec},
    }
    body = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": template,
    }
    return manifest("Deployment", name, api="apps/v1", spec=body)


def service(name="hook"):
    return manifest("Service", name, spec={"selector": {"app": name}, "ports": [{"port": 443}]})


def webhooks(name="guard", *, kind="ValidatingWebhookConfiguration", namespace="shop", **hook):
    rules = hook.pop("rules", None) or [
        {
            "operations": ["*"],
            "apiGroups": [""],
            "apiVersions": ["*"],
            "resources": ["configmaps"],
        }
    ]
    made = {
        "name": f"{name}.example.org",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"service": {"name": "hook", "namespace": namespace}},
        "rules": rules,
        **hook,
    }
    body = manifest(kind, name, namespace="", api=ADMISSION)
    return {**body, "webhooks": [made]}


def config(name="conf"):
    return manifest("ConfigMap", name, data={"a": "1"})


@pytest.fixture
def shop(rescue):
    """A namespace that was captured with an operator in it, and is gone."""
    rescue.town.create(manifest("Namespace", "shop", namespace=""))
    return rescue


def lost(shop, *objects):
    """Make objects, capture them, delete the namespace."""
    shop.town.create(*objects)
    shop.capture()
    shop.delete_namespace()


def entry_of(plan, name):
    return next(e for e in plan.entries if e.target.name == name)


def test_a_dead_webhook_blocks_what_it_would_refuse(shop):
    """Webhook and object are named; what its rules leave out is written."""
    lost(shop, config(), manifest("Secret", "pass", data={}))
    shop.town.create(webhooks(namespace="elsewhere"))
    plan = shop.plan(request())

    entry = entry_of(plan, "conf")
    assert (entry.verdict, entry.reason) == ("blocked", "WebhookUnavailable")
    assert "webhook guard.example.org of ValidatingWebhookConfiguration guard" in entry.message
    assert verdicts(plan)["Secret/pass"] == ("create", "Absent")
    told = [line for line in plan.warnings if line.startswith("WebhookUnavailable")]
    assert len(told) == 1
    assert "would refuse ConfigMap shop/conf" in told[0]


@pytest.mark.parametrize(
    "hook",
    [
        {"failurePolicy": "Ignore"},
        {"clientConfig": {"url": "https://example.org/"}},
        {"namespaceSelector": {"matchLabels": {"team": "b"}}},
        {"objectSelector": {"matchLabels": {"guarded": "yes"}}},
        {
            "rules": [
                {
                    "operations": ["DELETE"],
                    "apiGroups": ["*"],
                    "apiVersions": ["*"],
                    "resources": ["*"],
                }
            ]
        },
    ],
    ids=["ignores", "by url", "other namespaces", "other objects", "deletions"],
)
def test_a_webhook_that_would_not_refuse_is_no_obstacle(shop, hook):
    """It fails open, is not a Service of the cluster, or is not asked about this write."""
    lost(shop, config())
    shop.town.create(webhooks(namespace="elsewhere", **hook))

    plan = shop.plan(request())
    assert verdicts(plan)["ConfigMap/conf"] == ("create", "Absent")
    assert not [line for line in plan.warnings if "webhook" in line.lower()]


def test_a_webhook_with_a_ready_endpoint_is_alive(shop):
    """Its Service has an endpoint that takes connections."""
    lost(shop, config())
    town = shop.town
    town.create(manifest("Namespace", "elsewhere", namespace=""))
    live = manifest(
        "EndpointSlice",
        "hook-1",
        namespace="elsewhere",
        api="discovery.k8s.io/v1",
        labels={"kubernetes.io/service-name": "hook"},
        addressType="IPv4",
        endpoints=[{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}],
    )
    town.create(live, webhooks(namespace="elsewhere"))
    assert verdicts(shop.plan(request()))["ConfigMap/conf"][1] == "WebhookUnavailable"

    town.patch(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "hook-1",
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]},
        namespace="elsewhere",
    )
    assert verdicts(shop.plan(request()))["ConfigMap/conf"] == ("create", "Absent")


def test_a_webhook_of_a_paused_operator_will_not_answer(shop):
    """It answers the plan's dry run, and would refuse the write: the plan says so before the operator is stopped."""
    lost(shop, config(), manifest("Secret", "pass", data={}))
    town = shop.town
    town.create(manifest("Namespace", "elsewhere", namespace=""))
    operator = deployment("operator")
    operator["metadata"]["namespace"] = "elsewhere"
    operator["spec"]["template"]["metadata"]["labels"] = {"app": "hook"}
    operator["spec"]["selector"] = {"matchLabels": {"app": "hook"}}
    door = service()
    door["metadata"]["namespace"] = "elsewhere"
    live = manifest(
        "EndpointSlice",
        "hook-1",
        namespace="elsewhere",
        api="discovery.k8s.io/v1",
        labels={"kubernetes.io/service-name": "hook"},
        addressType="IPv4",
        endpoints=[{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
    )
    town.create(operator, door, live, webhooks(namespace="elsewhere"))
    named = {"kind": "Deployment", "namespace": "elsewhere", "name": "operator"}

    assert verdicts(shop.plan(request()))["ConfigMap/conf"] == ("create", "Absent")
    plan = shop.plan(request(pause=[named]))
    entry = entry_of(plan, "conf")
    assert (entry.verdict, entry.reason) == ("blocked", "WebhookUnavailable")
    assert "while spec.pause holds its pods back" in entry.message
    assert verdicts(plan)["Secret/pass"] == ("create", "Absent")


def test_match_conditions_are_not_known(shop):
    """The plan does not claim a refusal that it cannot work out: it says so, and the object is tried."""
    lost(shop, config())
    conditions = [{"name": "c", "expression": "object.metadata.name != 'conf'"}]
    shop.town.create(webhooks(namespace="elsewhere", matchConditions=conditions))
    plan = shop.plan(request())

    assert verdicts(plan)["ConfigMap/conf"] == ("create", "Absent")
    assert "unless its match conditions leave it out" in entry_of(plan, "conf").notes[0]
    assert "unless its match conditions" in "".join(plan.warnings)


def test_a_webhook_that_the_restore_brings_up_is_waited_for(shop):
    """What it guards needs its workload, and is not blocked; a failure of the workload takes it along."""
    lost(shop, config(), deployment(), service())
    shop.town.create(webhooks())
    plan = shop.plan(request())

    entry = entry_of(plan, "conf")
    assert (entry.verdict, entry.reason) == ("create", "Absent")
    assert "waits for Deployment.apps shop/hook" in entry.notes[0]
    assert "apps/Deployment/shop/hook" in [need.path for need in entry.needs]
    assert [one.path for one in entry.awaits] == ["apps/Deployment/shop/hook"]
    assert not [line for line in plan.warnings if "WebhookUnavailable" in line]


@pytest.mark.parametrize(
    ("made", "rules"),
    [
        ([deployment(replicas=0)], None),
        ([deployment("other")], None),
        (
            [deployment()],
            [
                {
                    "operations": ["*"],
                    "apiGroups": ["*"],
                    "apiVersions": ["*"],
                    "resources": ["configmaps", "pods"],
                }
            ],
        ),
        (
            [deployment(volumes=[{"name": "c", "configMap": {"name": "conf"}}])],
            None,
        ),
    ],
    ids=["scaled to nothing", "not selected", "refuses its own pods", "needs what it guards"],
)
def test_a_workload_that_cannot_bring_it_up_is_no_help(shop, made, rules):
    """Then what the webhook guards is blocked."""
    lost(shop, config(), service(), *made)
    shop.town.create(webhooks(rules=rules))

    entry = entry_of(shop.plan(request()), "conf")
    assert (entry.verdict, entry.reason) == ("blocked", "WebhookUnavailable")


def test_a_webhook_that_stands_between_a_workload_and_its_pods_is_told(shop):
    """The Deployment can be written and would not become Ready."""
    lost(shop, deployment("web"))
    rules = [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    ]
    shop.town.create(
        webhooks(kind="MutatingWebhookConfiguration", namespace="elsewhere", rules=rules)
    )
    plan = shop.plan(request())

    assert verdicts(plan)["Deployment/web"] == ("create", "Absent")
    assert "would refuse its pods" in entry_of(plan, "web").notes[0]
    assert "the pods of Deployment.apps shop/web" in "".join(plan.warnings)


def test_a_recreation_that_a_webhook_would_not_let_back_is_blocked(shop):
    """Nothing is deleted that could not be created again."""
    town = shop.town
    parent = town.create(config("parent"))
    child = manifest("Secret", "child", data={})
    child["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "parent",
            "uid": parent["metadata"]["uid"],
        }
    ]
    town.create(child)
    shop.capture()
    town.patch("v1", "ConfigMap", "parent", {"data": {"a": "2"}})
    rules = [
        {
            "operations": ["CREATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["secrets"],
        }
    ]
    town.create(webhooks(namespace="elsewhere", rules=rules))
    plan = shop.plan(request(onConflict="recreate"))

    entry = entry_of(plan, "parent")
    assert (entry.verdict, entry.reason) == ("blocked", "DependentBlocked")
    assert "Secret shop/child" in entry.message
    assert "guard.example.org" in entry.message


def test_a_deletion_that_a_webhook_would_refuse_blocks_a_recreation(shop):
    """A webhook that is asked about deletions alone leaves updates be, and stops what must be deleted first."""
    shop.town.create(config())
    shop.capture()
    shop.town.patch("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    rules = [
        {
            "operations": ["DELETE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }
    ]
    shop.town.create(webhooks(namespace="elsewhere", rules=rules))

    assert verdicts(shop.plan(request()))["ConfigMap/conf"] == ("update", "Differs")
    recreated = verdicts(shop.plan(request(onConflict="recreate")))["ConfigMap/conf"]
    assert recreated == ("blocked", "WebhookUnavailable")


def test_conversion_webhooks_count_for_other_versions(shop):
    """An object that is written in a version that is not stored needs the CRD's dead webhook."""
    town = shop.town
    version = {"served": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    names = {"plural": "gears", "singular": "gear", "kind": "Gear", "listKind": "GearList"}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gears.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": names,
            "versions": [
                {**version, "name": "v1", "storage": True},
                {**version, "name": "v1beta1", "storage": False},
            ],
        },
    }
    town.create(crd)
    lost(shop, manifest("Gear", "g", api="example.org/v1", spec={"a": 1}))
    client = {"service": {"name": "hook", "namespace": "elsewhere"}}
    conversion = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
    }
    api = "apiextensions.k8s.io/v1"
    town.patch(
        api,
        "CustomResourceDefinition",
        "gears.example.org",
        {"spec": {"conversion": conversion}},
        namespace="",
    )
    assert verdicts(shop.plan(request()))["Gear/g"] == ("create", "Absent")

    versions = [
        {**version, "name": "v1", "storage": False},
        {**version, "name": "v1beta1", "storage": True},
    ]
    town.patch(
        api,
        "CustomResourceDefinition",
        "gears.example.org",
        {"spec": {"versions": versions}},
        namespace="",
    )
    entry = entry_of(shop.plan(request()), "g")
    assert (entry.verdict, entry.reason) == ("blocked", "WebhookUnavailable")
    assert "conversion webhook of CustomResourceDefinition gears.example.org" in entry.message


def test_admission_policies_are_told(shop):
    """One that is bound may refuse what could not be tried; one without binding is not in force."""
    lost(shop, config())
    policy = manifest(
        "ValidatingAdmissionPolicy", "no-latest", namespace="", api=ADMISSION, spec={}
    )
    shop.town.create(policy)
    assert not [line for line in shop.plan(request()).warnings if "no-latest" in line]

    binding = manifest(
        "ValidatingAdmissionPolicyBinding",
        "b",
        namespace="",
        api=ADMISSION,
        spec={"policyName": "no-latest", "validationActions": ["Deny"]},
    )
    shop.town.create(binding)
    told = [line for line in shop.plan(request()).warnings if "in force" in line]
    assert "ValidatingAdmissionPolicy no-latest" in told[0]


def test_webhooks_that_cannot_be_read_are_told(shop):
    """Nothing is blocked on a guess."""
    lost(shop, config())
    group = "admissionregistration.k8s.io"
    shop.town.sandbox.deny("list", "validatingwebhookconfigurations", group=group)
    plan = shop.plan(request())

    assert verdicts(plan)["ConfigMap/conf"] == ("create", "Absent")
    assert "whether webhooks stand in the way is not known" in "".join(plan.warnings)


def test_pods_that_a_namespace_to_be_made_would_refuse_are_told(shop):
    """A Deployment whose pods violate the namespace's level is written, with a warning."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    shop.town.patch("v1", "Namespace", "shop", {"metadata": {"labels": label}}, namespace="")
    lost(shop, deployment("web"))
    plan = shop.plan(request())

    assert verdicts(plan)["Deployment/web"] == ("create", "Absent")
    assert 'PodSecurity "restricted": allowPrivilegeEscalation' in entry_of(plan, "web").notes[0]
    assert "Deployment.apps shop/web: its pods would be refused" in "".join(plan.warnings)


def test_a_quota_that_is_too_small_is_told_with_what_is_free(shop):
    """The quota of the namespace that is made again is held against what comes into it."""
    quota = manifest("ResourceQuota", "small", spec={"hard": {"pods": "2"}})
    lost(shop, quota, deployment("web", replicas=3))

    assert (
        "QuotaExceeded: ResourceQuota shop/small: pods needs 3, 2 of 2 is free"
        in shop.plan(request()).warnings
    )
