"""Namespace mapping: where a namespace is named, and where a word only looks like one."""

import base64
import copy

import pytest

from reconciler.objects import field
from reconciler.transform import map_namespaces

MAPPING = {"shop": "shop-dr", "wiki": "books"}


def mapped(manifest, mapping=MAPPING):
    before = copy.deepcopy(manifest)
    result, changes = map_namespaces(manifest, mapping)
    assert manifest == before, "what comes in is never changed"
    return result, changes


def obj(api_version, kind, **fields):
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, **fields}


RBAC = "rbac.authorization.k8s.io/v1"
GATEWAY = "gateway.networking.k8s.io/v1"
TERM = {
    "topologyKey": "zone",
    "namespaces": ["other", "shop"],
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
}
TEMPLATE = {
    "template": {
        "spec": {
            "containers": [],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}},
        }
    }
}
AFFINITY = (
    "spec",
    "template",
    "spec",
    "affinity",
    "podAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution",
    0,
)
EXPRESSION = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["prod", "shop"]}

NAMED = [
    (
        obj(
            RBAC,
            "RoleBinding",
            subjects=[{"kind": "ServiceAccount", "name": "a", "namespace": "shop"}],
        ),
        ("subjects", 0, "namespace"),
    ),
    (
        obj(
            RBAC,
            "ClusterRoleBinding",
            subjects=[{"kind": "ServiceAccount", "name": "a", "namespace": "shop"}],
        ),
        ("subjects", 0, "namespace"),
    ),
    (
        obj(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            webhooks=[{"clientConfig": {"service": {"namespace": "shop"}}}],
        ),
        ("webhooks", 0, "clientConfig", "service", "namespace"),
    ),
    (
        obj(
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            webhooks=[{"namespaceSelector": {"matchExpressions": [EXPRESSION]}}],
        ),
        ("webhooks", 0, "namespaceSelector", "matchExpressions", 0, "values", 1),
    ),
    (
        obj(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            spec={"conversion": {"webhook": {"clientConfig": {"service": {"namespace": "shop"}}}}},
        ),
        ("spec", "conversion", "webhook", "clientConfig", "service", "namespace"),
    ),
    (
        obj("apiregistration.k8s.io/v1", "APIService", spec={"service": {"namespace": "shop"}}),
        ("spec", "service", "namespace"),
    ),
    (
        obj("v1", "PersistentVolume", spec={"claimRef": {"namespace": "shop", "name": "c"}}),
        ("spec", "claimRef", "namespace"),
    ),
    (
        obj("v1", "PersistentVolume", spec={"csi": {"nodeStageSecretRef": {"namespace": "shop"}}}),
        ("spec", "csi", "nodeStageSecretRef", "namespace"),
    ),
    (
        obj("v1", "PersistentVolume", spec={"azureFile": {"secretNamespace": "shop"}}),
        ("spec", "azureFile", "secretNamespace"),
    ),
    (
        obj(
            "v1",
            "PersistentVolumeClaim",
            spec={"dataSourceRef": {"kind": "X", "namespace": "shop"}},
        ),
        ("spec", "dataSourceRef", "namespace"),
    ),
    (
        obj(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            spec={
                "ingress": [
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchLabels": {"kubernetes.io/metadata.name": "shop"}
                                }
                            }
                        ]
                    }
                ]
            },
        ),
        (
            "spec",
            "ingress",
            0,
            "from",
            0,
            "namespaceSelector",
            "matchLabels",
            "kubernetes.io/metadata.name",
        ),
    ),
    (
        obj(
            "networking.k8s.io/v1",
            "IngressClass",
            spec={"parameters": {"kind": "P", "name": "p", "namespace": "shop"}},
        ),
        ("spec", "parameters", "namespace"),
    ),
    (
        obj(
            "storage.k8s.io/v1",
            "StorageClass",
            parameters={"csi.storage.k8s.io/provisioner-secret-namespace": "shop"},
        ),
        ("parameters", "csi.storage.k8s.io/provisioner-secret-namespace"),
    ),
    (
        obj(GATEWAY, "HTTPRoute", spec={"parentRefs": [{"name": "g", "namespace": "shop"}]}),
        ("spec", "parentRefs", 0, "namespace"),
    ),
    (
        obj(GATEWAY, "HTTPRoute", spec={"rules": [{"backendRefs": [{"namespace": "shop"}]}]}),
        ("spec", "rules", 0, "backendRefs", 0, "namespace"),
    ),
    (
        obj(
            "gateway.networking.k8s.io/v1beta1",
            "ReferenceGrant",
            spec={"from": [{"kind": "HTTPRoute", "namespace": "shop"}]},
        ),
        ("spec", "from", 0, "namespace"),
    ),
    (obj("apps/v1", "Deployment", spec=TEMPLATE), (*AFFINITY, "namespaces", 1)),
    (
        obj("apps/v1", "Deployment", spec=TEMPLATE),
        (*AFFINITY, "namespaceSelector", "matchLabels", "kubernetes.io/metadata.name"),
    ),
    (
        obj(
            "monitoring.coreos.com/v1",
            "ServiceMonitor",
            spec={"namespaceSelector": {"matchNames": ["shop"]}},
        ),
        ("spec", "namespaceSelector", "matchNames", 0),
    ),
    (
        obj(
            "monitoring.coreos.com/v1",
            "Prometheus",
            spec={"alerting": {"alertmanagers": [{"namespace": "shop"}]}},
        ),
        ("spec", "alerting", "alertmanagers", 0, "namespace"),
    ),
    (
        obj("example.com/v1", "Robot", spec={"secretRef": {"name": "s", "namespace": "shop"}}),
        ("spec", "secretRef", "namespace"),
    ),
    (
        obj("example.com/v1", "Robot", spec={"peers": [{"clusterRef": {"namespace": "shop"}}]}),
        ("spec", "peers", 0, "clusterRef", "namespace"),
    ),
    (
        obj("helm.toolkit.fluxcd.io/v2", "HelmRelease", spec={"targetNamespace": "shop"}),
        ("spec", "targetNamespace"),
    ),
]


@pytest.mark.parametrize(
    ("manifest", "path"),
    NAMED,
    ids=lambda value: value["kind"] if isinstance(value, dict) else ".".join(map(str, value))[:60],
)
def test_every_place_that_names_a_namespace(manifest, path):
    """The field names the target's namespace, one change says so, and nothing else is touched."""
    assert field(manifest, *path) == "shop"
    result, changes = mapped(manifest)
    assert field(result, *path) == "shop-dr"
    assert any(change.what.endswith("shop → shop-dr") and not change.warning for change in changes)
    assert str(result).count("shop-dr") == str(manifest).count("'shop'")


def test_a_namespace_itself():
    """Its name and the label that the server gives it; its other labels stay."""
    labels = {"kubernetes.io/metadata.name": "shop", "team": "shop"}
    result, _ = mapped(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}
    )
    assert result["metadata"] == {
        "name": "shop-dr",
        "labels": {"kubernetes.io/metadata.name": "shop-dr", "team": "shop"},
    }


def test_objects_move_with_their_namespace_and_others_stay():
    """Only metadata.namespace of mapped namespaces changes; an object in another keeps its own."""
    assert mapped(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop", "namespace": "shop"}}
    )[0]["metadata"] == {
        "name": "shop",
        "namespace": "shop-dr",
    }
    other = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "shop", "namespace": "other"},
    }
    assert mapped(other) == (other, [])


def test_accounts_in_subjects():
    """Groups and users of service accounts carry the namespace in their name."""
    subjects = [
        {"kind": "Group", "name": "system:serviceaccounts:shop"},
        {"kind": "User", "name": "system:serviceaccount:shop:web"},
        {"kind": "Group", "name": "system:serviceaccounts"},
        {"kind": "User", "name": "shop"},
    ]
    result, _ = mapped(obj(RBAC, "RoleBinding", subjects=subjects))
    assert [subject["name"] for subject in result["subjects"]] == [
        "system:serviceaccounts:shop-dr",
        "system:serviceaccount:shop-dr:web",
        "system:serviceaccounts",
        "shop",
    ]


def test_annotations_that_hold_a_namespace():
    """Helm's release namespace and cert-manager's injection."""
    annotations = {
        "meta.helm.sh/release-namespace": "shop",
        "cert-manager.io/inject-ca-from": "wiki/web",
        "note": "shop",
    }
    manifest = obj("v1", "Service")
    manifest["metadata"]["annotations"] = annotations
    assert mapped(manifest)[0]["metadata"]["annotations"] == {
        "meta.helm.sh/release-namespace": "shop-dr",
        "cert-manager.io/inject-ca-from": "books/web",
        "note": "shop",
    }


@pytest.mark.parametrize(
    "manifest",
    [
        obj("v1", "Service", spec={"selector": {"namespace": "shop"}}),
        obj(
            "apps/v1",
            "Deployment",
            spec={"template": {"metadata": {"labels": {"namespace": "shop"}}}},
        ),
        obj("apps/v1", "Deployment", spec={"selector": {"matchLabels": {"namespace": "shop"}}}),
        obj(
            "v1",
            "Pod",
            spec={
                "nodeSelector": {"namespace": "shop"},
                "containers": [{"name": "shop", "image": "shop"}],
            },
        ),
        obj(
            "v1",
            "ConfigMap",
            data={"namespace": "shop", "namespaces": "shop", "targetNamespace": "shop"},
        ),
        obj("v1", "Secret", stringData={"namespace": "shop"}),
        obj("storage.k8s.io/v1", "StorageClass", parameters={"namespace": "shop"}),
    ],
)
def test_words_that_only_look_like_a_namespace_stay(manifest):
    """Labels, selectors and data are somebody's own words."""
    assert mapped(manifest) == (manifest, [])


def test_a_namespace_of_a_custom_resource_outside_a_reference_is_reported():
    """Nobody but its owner knows what it means."""
    manifest = obj("vault.example.com/v1", "Policy", spec={"namespace": "shop", "path": "shop"})
    result, (change,) = mapped(manifest)
    assert result == manifest
    assert change.warning
    assert change.what == "spec.namespace: is a mapped namespace; not rewritten"


ADDRESS = "http://web.shop.svc.cluster.local:80"


@pytest.mark.parametrize(
    ("manifest", "where"),
    [
        (
            obj(
                "apps/v1",
                "Deployment",
                spec={
                    "template": {
                        "spec": {"containers": [{"env": [{"name": "U", "value": ADDRESS}]}]}
                    }
                },
            ),
            "spec.template.spec.containers[0].env[0].value",
        ),
        (
            obj("v1", "Pod", spec={"containers": [{"args": ["--url", ADDRESS]}]}),
            "spec.containers[0].args[1]",
        ),
        (obj("v1", "ConfigMap", data={"app.ini": f"url = {ADDRESS}\n"}), "data.app.ini"),
        (
            obj("v1", "Secret", data={"dsn": base64.b64encode(ADDRESS.encode()).decode()}),
            "data[dsn]",
        ),
    ],
)
def test_addresses_are_reported_and_left_alone(manifest, where):
    """The path is said, the value is not."""
    result, (change,) = mapped(manifest)
    assert result == manifest
    assert (change.warning, change.what) == (
        True,
        f"{where}: names a service of a mapped namespace; not rewritten",
    )


@pytest.mark.parametrize(
    "text", ["web.shop.svcs", "web.shopping.svc", "shop", "web.bookshop.svc", "shop.svc"]
)
def test_other_addresses_are_not_reported(text):
    """Only `.<namespace>.svc` as a whole."""
    assert mapped(obj("v1", "ConfigMap", data={"a": text}))[1] == []


def test_reports_are_bounded():
    """A hundred addresses give twenty lines and one that says so."""
    _, changes = mapped(obj("v1", "ConfigMap", data={f"k{n:03}": ADDRESS for n in range(100)}))
    assert len(changes) == 21
    assert changes[-1].what == "… and more of the same"


def test_namespaces_can_swap():
    """Each name is mapped once."""
    subjects = [
        {"kind": "ServiceAccount", "namespace": "a"},
        {"kind": "ServiceAccount", "namespace": "b"},
    ]
    result, _ = mapped(obj(RBAC, "RoleBinding", subjects=subjects), {"a": "b", "b": "a"})
    assert [subject["namespace"] for subject in result["subjects"]] == ["b", "a"]


def test_no_mapping_changes_nothing():
    """Without a mapping, or with one that maps to itself, the copy is equal and nothing is said."""
    manifest = obj("v1", "ConfigMap", data={"a": ADDRESS})
    manifest["metadata"]["namespace"] = "shop"
    assert mapped(manifest, {}) == (manifest, [])
    assert mapped(manifest, {"shop": "shop"}) == (manifest, [])
