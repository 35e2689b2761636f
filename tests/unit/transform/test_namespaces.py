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
            GATEWAY,
            "Gateway",
            spec={"listeners": [{"tls": {"certificateRefs": [{"namespace": "shop"}]}}]},
        ),
        ("spec", "listeners", 0, "tls", "certificateRefs", 0, "namespace"),
    ),
    (
        obj(
            GATEWAY,
            "Gateway",
            spec={
                "listeners": [
                    {
                        "allowedRoutes": {
                            "namespaces": {"selector": {"matchExpressions": [EXPRESSION]}}
                        }
                    }
                ]
            },
        ),
        (
            "spec",
            "listeners",
            0,
            "allowedRoutes",
            "namespaces",
            "selector",
            "matchExpressions",
            0,
            "values",
            1,
        ),
    ),
    (
        obj(
            GATEWAY,
            "TLSRoute",
            spec={
                "rules": [{"filters": [{"requestMirror": {"backendRef": {"namespace": "shop"}}}]}]
            },
        ),
        ("spec", "rules", 0, "filters", 0, "requestMirror", "backendRef", "namespace"),
    ),
    (
        obj(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            spec={"egress": [{"to": [{"namespaceSelector": {"matchExpressions": [EXPRESSION]}}]}]},
        ),
        ("spec", "egress", 0, "to", 0, "namespaceSelector", "matchExpressions", 0, "values", 1),
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


TEMPLATE_OF = "template.spec.containers.0.livenessProbe.httpGet"
HOOK = "admissionregistration.k8s.io/v1"
HOSTS = [
    (obj("v1", "Service", spec={"externalName": "hook.shop.svc.cluster.local"}), "spec.externalName"),
    (obj("v1", "Service", spec={"externalName": "hook.shop.svc"}), "spec.externalName"),
    (obj("v1", "Service", spec={"externalName": "hook.shop"}), "spec.externalName"),
    (obj("v1", "Service", spec={"externalName": "db-0.db.shop.svc.k8s.example."}), "spec.externalName"),
    (
        obj(HOOK, "MutatingWebhookConfiguration", webhooks=[{"clientConfig": {"url": "https://hook.shop.svc:8443/x?y=1"}}]),
        "webhooks.0.clientConfig.url",
    ),
    (
        obj(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            spec={"conversion": {"webhook": {"clientConfig": {"url": "https://hook.shop.svc/convert"}}}},
        ),
        "spec.conversion.webhook.clientConfig.url",
    ),
    (
        obj("v1", "Pod", spec={"dnsConfig": {"searches": ["example.org", "shop.svc.cluster.local"]}}),
        "spec.dnsConfig.searches.1",
    ),
    (
        obj(
            "apps/v1",
            "Deployment",
            spec={"template": {"spec": {"containers": [{"livenessProbe": {"httpGet": {"host": "web.shop.svc"}}}]}}},
        ),
        f"spec.{TEMPLATE_OF}.host",
    ),
    (obj("networking.k8s.io/v1", "Ingress", spec={"rules": [{"host": "web.shop.svc.cluster.local"}]}), "spec.rules.0.host"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("manifest", "where"),
    HOSTS,
    ids=lambda value: value["kind"] if isinstance(value, dict) else value[:60],
)
def test_every_field_that_holds_a_host(manifest, where):
    """The namespace in a service's name is the target's; nothing is warned of any more."""
    path = [int(step) if step.isdigit() else step for step in where.split(".")]
    before = field(manifest, *path)
    result, (change,) = mapped(manifest)

    assert field(result, *path) == before.replace("shop", "shop-dr")
    assert change.what.endswith(f"{before} → {field(result, *path)}")
    assert not change.warning


@pytest.mark.parametrize(
    "name", ["shop", "www.shop.example.org", "hook.shopping", "shop.svc", "hook.bookshop.svc", "svc.hook"]
)  # fmt: skip
def test_other_hosts_stay(name):
    """A host that is no service of the namespace is the world's."""
    manifest = obj("v1", "Service", spec={"externalName": name})
    assert mapped(manifest) == (manifest, [])


def test_hosts_can_swap():
    """A name that was rewritten is not taken for one that was overlooked."""
    manifest = obj("v1", "Service", spec={"externalName": "hook.a.svc"})
    result, (change,) = mapped(manifest, {"a": "b", "b": "a"})
    assert result["spec"] == {"externalName": "hook.b.svc"}
    assert not change.warning


def test_rules_about_namespaces_by_name():
    """A ClusterRole that is for some Namespaces is for those of the target; among other kinds it is only reported."""
    rules = [
        {"apiGroups": [""], "resources": ["namespaces", "namespaces/status"], "resourceNames": ["shop", "x"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["shop"]},
        {"apiGroups": [""], "resources": ["namespaces", "secrets"], "resourceNames": ["shop"]},
    ]  # fmt: skip
    result, changes = mapped(obj(RBAC, "ClusterRole", rules=rules))
    assert [rule["resourceNames"] for rule in result["rules"]] == [
        ["shop-dr", "x"],
        ["shop"],
        ["shop"],
    ]
    assert [change.warning for change in changes] == [False, True]


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
        "nginx.ingress.kubernetes.io/auth-tls-secret": "shop/ca",
        "note": "shop",
    }
    manifest = obj("v1", "Service")
    manifest["metadata"]["annotations"] = annotations
    assert mapped(manifest)[0]["metadata"]["annotations"] == {
        "meta.helm.sh/release-namespace": "shop-dr",
        "cert-manager.io/inject-ca-from": "books/web",
        "nginx.ingress.kubernetes.io/auth-tls-secret": "shop-dr/ca",
        "note": "shop",
    }


def test_addresses_in_annotations_are_reported():
    """They mean whatever their controller says; what kubectl remembers of an object is nobody's configuration."""
    manifest = obj("networking.k8s.io/v1", "Ingress")
    manifest["metadata"]["annotations"] = {
        "auth-url": f"{ADDRESS}/auth",
        "kubectl.kubernetes.io/last-applied-configuration": ADDRESS,
    }
    result, (change,) = mapped(manifest)
    assert result == manifest
    assert change.warning
    assert change.what.startswith("metadata.annotations[auth-url]: names a service")


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
SHORT = "postgres://user:word@db.shop:5432/x"


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
        (obj("v1", "ConfigMap", data={"app.ini": f"url = {SHORT}\n"}), "data.app.ini"),
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
    "text",
    [
        "http://shop/x",
        "http://web.shop.example",
        "https://x.bookshop/",
        "web.shop.svcs",
        "web.shopping.svc",
        "shop",
        "web.bookshop.svc",
        "shop.svc",
    ],
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
