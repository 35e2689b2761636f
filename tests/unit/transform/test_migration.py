"""API migration: what is rewritten, and what is said when nothing can be done."""

import copy

import pytest

from reconciler.kinds.transformset import Migrate
from reconciler.transform.change import Dismissed
from reconciler.transform.conversions import CONVERSIONS, NO_SUCCESSOR
from reconciler.transform.migrate import extend_discovery, migrate
from tests.support.targets import serving

FAIL, SKIP = Migrate(), Migrate(on_unknown="Skip")


def convert(manifest, *types, settings=FAIL):
    changed = copy.deepcopy(manifest)
    changes = migrate(changed, discovery=serving(*types), settings=settings)
    return changed, [change.what for change in changes]


def test_ingress_from_v1beta1():
    """Backends nest, the default backend moves, every path has a type; what was right stays."""
    old = {
        "apiVersion": "extensions/v1beta1",
        "kind": "Ingress",
        "metadata": {"name": "web"},
        "spec": {
            "backend": {"serviceName": "fallback", "servicePort": "http"},
            "tls": [{"secretName": "web-tls"}],
            "rules": [
                {
                    "host": "a.example",
                    "http": {
                        "paths": [
                            {"path": "/", "backend": {"serviceName": "web", "servicePort": 80}}
                        ]
                    },
                },
                {
                    "host": "b.example",
                    "http": {
                        "paths": [
                            {
                                "pathType": "Exact",
                                "backend": {"resource": {"kind": "Bucket", "name": "b"}},
                            }
                        ]
                    },
                },
                {"host": "c.example"},
            ],
        },
    }
    new, said = convert(old, "networking.k8s.io/v1 Ingress")
    assert new["apiVersion"] == "networking.k8s.io/v1"
    assert new["spec"] == {
        "defaultBackend": {"service": {"name": "fallback", "port": {"name": "http"}}},
        "tls": [{"secretName": "web-tls"}],
        "rules": [
            {
                "host": "a.example",
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "ImplementationSpecific",
                            "backend": {"service": {"name": "web", "port": {"number": 80}}},
                        }
                    ]
                },
            },
            {
                "host": "b.example",
                "http": {
                    "paths": [
                        {
                            "pathType": "Exact",
                            "backend": {"resource": {"kind": "Bucket", "name": "b"}},
                        }
                    ]
                },
            },
            {"host": "c.example"},
        ],
    }
    assert said[0] == "extensions/v1beta1 → networking.k8s.io/v1"
    assert "spec.rules[0].http.paths[0].pathType: added ImplementationSpecific" in said


def test_the_target_decides():
    """What is served stays; an old target gets the old version of the new group."""
    old = {
        "apiVersion": "extensions/v1beta1",
        "kind": "Ingress",
        "metadata": {"name": "web"},
        "spec": {},
    }
    assert convert(old, "extensions/v1beta1 Ingress", "networking.k8s.io/v1 Ingress") == (old, [])
    assert (
        convert(old, "networking.k8s.io/v1beta1 Ingress")[0]["apiVersion"]
        == "networking.k8s.io/v1beta1"
    )


def workload(api_version, kind, spec):
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "web"},
        "spec": {"template": template, **spec},
    }


@pytest.mark.parametrize(
    ("api_version", "kind", "spec", "expected"),
    [
        (
            "extensions/v1beta1",
            "Deployment",
            {"rollbackTo": {"revision": 1}},
            {
                "selector": {"matchLabels": {"app": "web"}},
                "progressDeadlineSeconds": 2147483647,
                "revisionHistoryLimit": 2147483647,
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1},
                },
            },
        ),
        (
            "extensions/v1beta1",
            "Deployment",
            {
                "selector": {"matchLabels": {"app": "x"}},
                "strategy": {"type": "Recreate"},
                "progressDeadlineSeconds": 5,
                "revisionHistoryLimit": 0,
            },
            {
                "selector": {"matchLabels": {"app": "x"}},
                "strategy": {"type": "Recreate"},
                "progressDeadlineSeconds": 5,
                "revisionHistoryLimit": 0,
            },
        ),
        (
            "apps/v1beta1",
            "Deployment",
            {"rollbackTo": {}},
            {"selector": {"matchLabels": {"app": "web"}}, "revisionHistoryLimit": 2},
        ),
        (
            "apps/v1beta2",
            "Deployment",
            {"selector": {"matchLabels": {"a": "b"}}},
            {"selector": {"matchLabels": {"a": "b"}}},
        ),
        (
            "extensions/v1beta1",
            "DaemonSet",
            {"templateGeneration": 3},
            {"selector": {"matchLabels": {"app": "web"}}, "updateStrategy": {"type": "OnDelete"}},
        ),
        (
            "apps/v1beta2",
            "DaemonSet",
            {"templateGeneration": 3},
            {"selector": {"matchLabels": {"app": "web"}}},
        ),
        (
            "apps/v1beta1",
            "StatefulSet",
            {},
            {"selector": {"matchLabels": {"app": "web"}}, "updateStrategy": {"type": "OnDelete"}},
        ),
        ("apps/v1beta2", "StatefulSet", {}, {"selector": {"matchLabels": {"app": "web"}}}),
        ("extensions/v1beta1", "ReplicaSet", {}, {"selector": {"matchLabels": {"app": "web"}}}),
    ],
)
def test_workloads_keep_their_meaning(api_version, kind, spec, expected):
    """Selectors are written out, dead fields dropped, and changed defaults kept as they were."""
    old = workload(api_version, kind, spec)
    new, said = convert(old, f"apps/v1 {kind}")
    assert new == {
        **old,
        "apiVersion": "apps/v1",
        "spec": {"template": old["spec"]["template"], **expected},
    }
    assert said[0] == f"{api_version} → apps/v1"


@pytest.mark.parametrize(
    ("selector", "stays"),
    [({}, False), ({"matchLabels": {}}, False), ({"matchLabels": {"a": "b"}}, True)],
)
def test_an_empty_selector_of_a_disruption_budget_is_dropped(selector, stays):
    """It selected nothing in v1beta1 and would select every pod in v1."""
    old = {
        "apiVersion": "policy/v1beta1",
        "kind": "PodDisruptionBudget",
        "spec": {"selector": selector, "minAvailable": 1},
    }
    new, _ = convert(old, "policy/v1 PodDisruptionBudget")
    assert ("selector" in new["spec"]) is stays
    assert new["spec"]["minAvailable"] == 1


def test_horizontal_pod_autoscaler_from_v2beta1():
    """Every kind of metric names its target in the new form."""
    scale = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    metrics = [
        {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 80}},
        {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}},
        {"type": "Pods", "pods": {"metricName": "rps", "targetAverageValue": "100"}},
        {"type": "Object", "object": {"metricName": "hits", "target": scale, "targetValue": "5"}},
        {
            "type": "External",
            "external": {
                "metricName": "q",
                "metricSelector": {"matchLabels": {"q": "a"}},
                "targetAverageValue": "3",
            },
        },
    ]
    old = {
        "apiVersion": "autoscaling/v2beta1",
        "kind": "HorizontalPodAutoscaler",
        "spec": {"scaleTargetRef": scale, "metrics": metrics},
    }
    new, _ = convert(old, "autoscaling/v2 HorizontalPodAutoscaler")
    assert new["spec"]["scaleTargetRef"] == scale
    assert new["spec"]["metrics"] == [
        {
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80},
            },
        },
        {
            "type": "Resource",
            "resource": {
                "name": "memory",
                "target": {"type": "AverageValue", "averageValue": "1Gi"},
            },
        },
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "rps"},
                "target": {"type": "AverageValue", "averageValue": "100"},
            },
        },
        {
            "type": "Object",
            "object": {
                "describedObject": scale,
                "metric": {"name": "hits"},
                "target": {"type": "Value", "value": "5"},
            },
        },
        {
            "type": "External",
            "external": {
                "metric": {"name": "q", "selector": {"matchLabels": {"q": "a"}}},
                "target": {"type": "AverageValue", "averageValue": "3"},
            },
        },
    ]


def test_custom_resource_definition_from_v1beta1():
    """What was said once is said for each version; a schema is always there."""
    schema = {"openAPIV3Schema": {"properties": {"spec": {"type": "object"}}}}
    old = {
        "apiVersion": "apiextensions.k8s.io/v1beta1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "robots.example.com"},
        "spec": {
            "group": "example.com",
            "version": "v1",
            "scope": "Namespaced",
            "names": {"kind": "Robot", "plural": "robots"},
            "validation": schema,
            "subresources": {"status": {}},
            "additionalPrinterColumns": [
                {"name": "Age", "type": "date", "JSONPath": ".metadata.creationTimestamp"}
            ],
            "conversion": {
                "strategy": "Webhook",
                "webhookClientConfig": {"service": {"name": "hook", "namespace": "robots"}},
                "conversionReviewVersions": ["v1beta1"],
            },
        },
    }
    new, _ = convert(old, "apiextensions.k8s.io/v1 CustomResourceDefinition")
    assert new["spec"] == {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Robot", "plural": "robots"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                        "properties": {"spec": {"type": "object"}},
                    }
                },
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
                ],
            }
        ],
        "conversion": {
            "strategy": "Webhook",
            "webhook": {
                "clientConfig": {"service": {"name": "hook", "namespace": "robots"}},
                "conversionReviewVersions": ["v1beta1"],
            },
        },
    }
    (served,) = extend_discovery(serving(), [new]).types
    assert (served.api_version, served.kind, served.plural, served.namespaced) == (
        "example.com/v1",
        "Robot",
        "robots",
        True,
    )


def test_a_definition_with_versions_and_a_strict_schema():
    """Per-version schemas stay, and preserveUnknownFields: false adds nothing to them."""
    versions = [
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object"}},
        }
    ]
    spec = {
        "group": "example.com",
        "scope": "Cluster",
        "preserveUnknownFields": False,
        "versions": versions,
    }
    old = {
        "apiVersion": "apiextensions.k8s.io/v1beta1",
        "kind": "CustomResourceDefinition",
        "spec": spec,
    }
    new, _ = convert(old, "apiextensions.k8s.io/v1 CustomResourceDefinition")
    assert new["spec"] == {"group": "example.com", "scope": "Cluster", "versions": versions}


@pytest.mark.parametrize("kind", ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
def test_webhook_configurations_keep_their_old_defaults(kind):
    """What was a default is written out, because v1 has another one or none."""
    old = {
        "apiVersion": "admissionregistration.k8s.io/v1beta1",
        "kind": kind,
        "webhooks": [{"name": "a"}, {"name": "b", "timeoutSeconds": 5}],
    }
    new, said = convert(old, f"admissionregistration.k8s.io/v1 {kind}")
    defaults = {
        "failurePolicy": "Ignore",
        "matchPolicy": "Exact",
        "sideEffects": "NoneOnDryRun",
        "admissionReviewVersions": ["v1beta1"],
    }
    assert new["webhooks"] == [
        {"name": "a", "timeoutSeconds": 30, **defaults},
        {"name": "b", "timeoutSeconds": 5, **defaults},
    ]
    assert any("sideEffects" in line for line in said)


def test_endpoint_slices_lose_only_what_has_no_successor():
    """Host and zone move to fields of their own; other labels are dropped and said."""
    topology = {"kubernetes.io/hostname": "n1", "topology.kubernetes.io/zone": "z", "rack": "7"}
    old = {
        "apiVersion": "discovery.k8s.io/v1beta1",
        "kind": "EndpointSlice",
        "endpoints": [{"addresses": ["10.0.0.1"], "topology": topology}],
    }
    new, said = convert(old, "discovery.k8s.io/v1 EndpointSlice")
    assert new["endpoints"] == [{"addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "z"}]
    assert "endpoints[0].topology: dropped rack" in said


PLAIN = sorted(
    (*key, step.group, step.version)
    for key, steps in CONVERSIONS.items()
    for step in steps
    if step.rewrite is None
)


@pytest.mark.parametrize("row", PLAIN, ids="/".join)
def test_plain_bumps_change_nothing_else(row):
    """Only apiVersion changes."""
    group, version, kind, new_group, new_version = row
    old = {
        "apiVersion": f"{group}/{version}",
        "kind": kind,
        "metadata": {"name": "x"},
        "spec": {"a": [1]},
        "rules": [{"b": 2}],
    }
    new, said = convert(old, f"{new_group}/{new_version} {kind}")
    assert new == {**old, "apiVersion": f"{new_group}/{new_version}"}
    assert said == [f"{group}/{version} → {new_group}/{new_version}"]


@pytest.mark.parametrize(
    "gone",
    [
        "extensions/v1beta1 NetworkPolicy",
        "apiregistration.k8s.io/v1beta1 APIService",
        "coordination.k8s.io/v1beta1 Lease",
        "networking.k8s.io/v1beta1 IngressClass",
        "rbac.authorization.k8s.io/v1beta1 ClusterRoleBinding",
        "scheduling.k8s.io/v1beta1 PriorityClass",
        "storage.k8s.io/v1beta1 StorageClass",
        "batch/v1beta1 CronJob",
        "node.k8s.io/v1beta1 RuntimeClass",
        "autoscaling/v2beta2 HorizontalPodAutoscaler",
        "flowcontrol.apiserver.k8s.io/v1beta3 FlowSchema",
        "snapshot.storage.k8s.io/v1beta1 VolumeSnapshotClass",
        "certificates.k8s.io/v1beta1 CertificateSigningRequest",
    ],
)
def test_the_catalog_knows_what_kubernetes_removed(gone):
    """Each of these reaches a stable version."""
    api_version, kind = gone.split()
    group, version = api_version.rsplit("/", 1)
    assert any(step.version in ("v1", "v2") for step in CONVERSIONS[group, version, kind])


def test_priority_levels_have_a_new_field_name():
    """Shares are renamed on the way to v1."""
    spec = {"limited": {"assuredConcurrencyShares": 20}}
    old = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1beta2",
        "kind": "PriorityLevelConfiguration",
        "spec": spec,
    }
    new, _ = convert(old, "flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration")
    assert new["spec"] == {"limited": {"nominalConcurrencyShares": 20}}


@pytest.mark.parametrize(
    ("api_version", "kind", "served", "reason"),
    [
        ("extensions/v1beta1", "PodSecurityPolicy", [], "NoSuccessor"),
        ("policy/v1beta1", "PodSecurityPolicy", ["policy/v1 PodDisruptionBudget"], "NoSuccessor"),
        ("example.com/v1", "Robot", [], "NotServed"),
        ("example.com/v1alpha1", "Robot", ["example.com/v1 Robot"], "UnknownConversion"),
        ("apps/v1beta2", "Deployment", [], "NotServed"),
    ],
)
@pytest.mark.parametrize(("settings", "verdict"), [(FAIL, "fail"), (SKIP, "skip")])
def test_what_cannot_be_converted_says_why(api_version, kind, served, reason, settings, verdict):
    """onUnknown decides between refusing and leaving out; the reason says which case it is."""
    with pytest.raises(Dismissed) as caught:
        convert({"apiVersion": api_version, "kind": kind}, *served, settings=settings)
    assert (caught.value.verdict, caught.value.reason) == (verdict, reason)
    assert api_version in caught.value.message


def test_a_broken_discovery_is_not_taken_for_absence():
    """A group that the target cannot speak of right now refuses, even where unknown things are skipped."""
    discovery = serving(faults={"metrics.example/v1": "503"})
    with pytest.raises(Dismissed) as caught:
        migrate(
            {"apiVersion": "metrics.example/v1", "kind": "Probe"},
            discovery=discovery,
            settings=SKIP,
        )
    assert (caught.value.verdict, caught.value.reason) == ("fail", "DiscoveryFailed")


@pytest.mark.parametrize(
    "manifest",
    [
        {
            "apiVersion": "certificates.k8s.io/v1beta1",
            "kind": "CertificateSigningRequest",
            "spec": {"usages": ["any"]},
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1beta1",
            "kind": "MutatingWebhookConfiguration",
            "webhooks": [{"name": "a"}, {"name": "a"}],
        },
    ],
)
def test_what_the_new_version_cannot_say_is_refused(manifest):
    """A known conversion that does not fit this object is no silent loss."""
    group = manifest["apiVersion"].split("/")[0]
    with pytest.raises(Dismissed) as caught:
        convert(manifest, f"{group}/v1 {manifest['kind']}", settings=SKIP)
    assert (caught.value.verdict, caught.value.reason) == ("fail", "CannotConvert")


def test_managed_fields_of_versions_that_are_gone_are_dropped():
    """A server refuses field sets of versions that it does not know."""
    entries = [
        {"manager": "kubectl", "apiVersion": "extensions/v1beta1", "fieldsV1": {}},
        {"manager": "controller", "apiVersion": "networking.k8s.io/v1", "fieldsV1": {}},
    ]
    old = {
        "apiVersion": "extensions/v1beta1",
        "kind": "Ingress",
        "metadata": {"name": "a", "managedFields": entries},
    }
    new, said = convert(old, "networking.k8s.io/v1 Ingress")
    assert new["metadata"]["managedFields"] == entries[1:]
    assert said[-1] == "metadata.managedFields: dropped 1 entries of extensions/v1beta1"


@pytest.mark.parametrize("key", sorted(CONVERSIONS), ids="/".join)
def test_conversions_bear_objects_that_are_nearly_empty(key):
    """Null and missing parts of a manifest never crash a conversion."""
    group, version, kind = key
    for body in (
        {},
        {"spec": None, "webhooks": None, "endpoints": None},
        {"spec": {"rules": None, "metrics": None, "usages": ["any"], "signerName": "x.io/y"}},
    ):
        for step in CONVERSIONS[key]:
            try:
                convert(
                    {"apiVersion": f"{group}/{version}", "kind": kind, **copy.deepcopy(body)},
                    f"{step.group}/{step.version} {kind}",
                )
            except Dismissed as dismissed:
                assert dismissed.reason == "CannotConvert"
    assert (group, kind) not in NO_SUCCESSOR
