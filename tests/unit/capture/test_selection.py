"""What belongs to an application, and what it needs of the cluster."""

from __future__ import annotations

import pytest

from reconciler.capture.closure import close
from reconciler.capture.select import labels_seen, leftovers, select
from reconciler.errors import UsageError
from reconciler.kinds.effective import Application
from tests.support.seen import manifest, observation, pod_template, policy

RBAC = "rbac.authorization.k8s.io/v1"
BY_APP = {"groupBy": "app"}


def names(objects):
    return sorted(f"{seen.key.kind}/{seen.key.name}" for seen in objects)


def chosen(view, application, parts=None, capture=None):
    chooser = policy("p", select={"applications": parts} if parts else {}, capture=capture or {})
    return select(Application.parse(application), observation=view, policy=chooser)


def shop():
    """A namespace with a web application, a database, and things that belong to neither."""
    web = pod_template(
        config_maps=["web-config"], secrets=["web-tls"], claims=["uploads"], account="web"
    )
    database = pod_template(secrets=["db-password"])
    return observation(
        manifest("Namespace", "shop", namespace=""),
        manifest("Deployment", "web", api="apps/v1", labels={"app": "web"}, spec={"template": web}),
        manifest("ConfigMap", "web-config"),
        manifest("Secret", "web-tls"),
        manifest("PersistentVolumeClaim", "uploads", spec={"storageClassName": "fast"}),
        manifest("ServiceAccount", "web", imagePullSecrets=[{"name": "registry"}]),
        manifest("Secret", "registry"),
        manifest(
            "RoleBinding",
            "web",
            api=RBAC,
            roleRef={"kind": "Role", "name": "web"},
            subjects=[{"kind": "ServiceAccount", "name": "web"}],
        ),
        manifest("Role", "web", api=RBAC, rules=[]),
        manifest(
            "StatefulSet",
            "db",
            api="apps/v1",
            labels={"app": "db"},
            spec={
                "template": database,
                "volumeClaimTemplates": [
                    {"metadata": {"name": "data"}},
                    {"metadata": {"name": "wal"}},
                ],
            },
        ),
        manifest("PersistentVolumeClaim", "data-db-0"),
        manifest("PersistentVolumeClaim", "wal-db-11"),
        manifest("PersistentVolumeClaim", "data-db-x"),
        manifest("Secret", "db-password"),
        manifest("ConfigMap", "lost"),
        manifest("Pod", "web-1", labels={"app": "web"}, owner=("apps/v1", "ReplicaSet", "web-1")),
    )


def test_a_whole_namespace_takes_everything():
    """All that is kept is taken; what is left out without being asked is counted."""
    selection = chosen(shop(), "shop")

    assert len(selection.objects) == 14
    assert selection.unnamed == {"Skipped/OwnedByController": 1}


def test_a_part_takes_what_its_objects_name():
    """Names are followed from object to object: template → account → pull secret; bindings of its accounts come along."""
    assert names(chosen(shop(), "shop/web", BY_APP).objects) == [
        "ConfigMap/web-config",
        "Deployment/web",
        "PersistentVolumeClaim/uploads",
        "Role/web",
        "RoleBinding/web",
        "Secret/registry",
        "Secret/web-tls",
        "ServiceAccount/web",
    ]


def test_a_stateful_set_takes_its_claims():
    """Claims made from its templates belong to it, by their names."""
    assert names(chosen(shop(), "shop/db", BY_APP).objects) == [
        "PersistentVolumeClaim/data-db-0",
        "PersistentVolumeClaim/wal-db-11",
        "Secret/db-password",
        "StatefulSet/db",
    ]


def test_a_named_part_goes_by_its_labels():
    """`name` with `matchLabels` makes one application; without a selector a part is refused."""
    parts = {"name": "front", "matchLabels": {"app": "web"}}

    assert "Deployment/web" in names(chosen(shop(), "shop/front", parts).objects)
    with pytest.raises(UsageError) as caught:
        chosen(shop(), "shop/front")
    assert "no policy says" in caught.value.message


def test_what_belongs_to_no_part_is_named():
    """Leftovers are the objects that a whole capture would keep and no part takes."""
    grouped = policy("p", select={"applications": BY_APP})
    parts = [(Application("shop", "web"), grouped), (Application("shop", "db"), grouped)]

    assert sorted(key.name for key in leftovers("shop", parts, observation=shop())) == [
        "data-db-x",
        "lost",
    ]
    assert sorted(d["app"] for d in labels_seen(shop(), "shop")) == ["db", "web"]


def test_named_reasons_are_told_one_by_one():
    """Excluded and vanishing objects each have an outcome; the path is the key of tables."""
    view = observation(
        manifest("ConfigMap", "a", labels={"backup.reconciler.dev/exclude": "true"}),
        manifest("ConfigMap", "b", deleting=True),
        manifest("ConfigMap", "c"),
        manifest("ConfigMap", "d"),
    )
    selection = chosen(view, "shop", capture={"exclude": [{"names": ["c"]}]})

    assert names(selection.objects) == ["ConfigMap/d"]
    assert [(o.item, o.reason) for o in selection.outcomes] == [
        ("/ConfigMap/shop/a", "ExcludedByLabel"),
        ("/ConfigMap/shop/b", "BeingDeleted"),
        ("/ConfigMap/shop/c", "ExcludedByPolicy"),
    ]


def closed(view, *, is_whole=True):
    found = close(
        "shop",
        [s for s in view.objects.values() if s.key.namespace == "shop"],
        observation=view,
        is_whole=is_whole,
    )
    return names(found.objects), [(o.item, o.reason) for o in found.outcomes]


def clustered(kind, name, api, **fields):
    return manifest(kind, name, namespace="", api=api, **fields)


def test_custom_resources_bring_their_definition():
    """The CRD of each custom kind comes along, others do not."""

    def definition(plural, kind):
        return clustered(
            "CustomResourceDefinition",
            f"{plural}.example.com",
            "apiextensions.k8s.io/v1",
            spec={"group": "example.com", "names": {"kind": kind}},
        )

    view = observation(
        manifest("Namespace", "shop", namespace=""),
        definition("widgets", "Widget"),
        definition("gears", "Gear"),
        manifest("Widget", "w", api="example.com/v1"),
    )

    assert closed(view)[0] == ["CustomResourceDefinition/widgets.example.com", "Namespace/shop"]


def test_accounts_bring_their_cluster_roles():
    """ClusterRoleBindings of the application's accounts, their roles and what those collect; never what every server has."""

    def binding(title, role, **subject):
        return clustered(
            "ClusterRoleBinding",
            title,
            RBAC,
            roleRef={"kind": "ClusterRole", "name": role},
            subjects=[subject],
        )

    view = observation(
        manifest("ServiceAccount", "web"),
        binding("mine", "reader", kind="ServiceAccount", namespace="shop", name="web"),
        binding("theirs", "other", kind="ServiceAccount", namespace="wiki", name="web"),
        binding("everyone", "edit", kind="Group", name="system:serviceaccounts:shop"),
        clustered(
            "ClusterRole",
            "reader",
            RBAC,
            aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"to": "reader"}}]},
        ),
        clustered("ClusterRole", "piece", RBAC, labels={"to": "reader"}),
        clustered("ClusterRole", "other", RBAC),
        clustered(
            "ClusterRole", "edit", RBAC, labels={"kubernetes.io/bootstrapping": "rbac-defaults"}
        ),
        clustered("ClusterRole", "viewer", RBAC),
        manifest(
            "RoleBinding", "local", api=RBAC, roleRef={"kind": "ClusterRole", "name": "viewer"}
        ),
    )

    assert closed(view)[0] == [
        "ClusterRole/piece",
        "ClusterRole/reader",
        "ClusterRole/viewer",
        "ClusterRoleBinding/everyone",
        "ClusterRoleBinding/mine",
    ]
    assert "ClusterRoleBinding/everyone" not in closed(view, is_whole=False)[0]


def test_services_bring_what_points_at_them():
    """Webhook configurations, APIServices and CRD conversions that name one of its Services."""
    target = {"service": {"namespace": "shop", "name": "hooks"}}
    elsewhere = {"service": {"namespace": "wiki", "name": "hooks"}}
    conversion = {
        "group": "example.com",
        "names": {"kind": "Widget"},
        "conversion": {"webhook": {"clientConfig": target}},
    }
    view = observation(
        manifest("Service", "hooks"),
        clustered(
            "ValidatingWebhookConfiguration",
            "v",
            "admissionregistration.k8s.io/v1",
            webhooks=[{"clientConfig": target}],
        ),
        clustered(
            "MutatingWebhookConfiguration",
            "m",
            "admissionregistration.k8s.io/v1",
            webhooks=[{"clientConfig": elsewhere}],
        ),
        clustered("APIService", "v1.metrics", "apiregistration.k8s.io/v1", spec=target),
        clustered("APIService", "v1.apps", "apiregistration.k8s.io/v1", spec={}),
        clustered(
            "CustomResourceDefinition",
            "widgets.example.com",
            "apiextensions.k8s.io/v1",
            spec=conversion,
        ),
    )

    assert closed(view)[0] == [
        "APIService/v1.metrics",
        "CustomResourceDefinition/widgets.example.com",
        "ValidatingWebhookConfiguration/v",
    ]


def test_classes_that_objects_name_come_along():
    """StorageClass, PriorityClass, IngressClass and RuntimeClass, wherever they are named."""
    template = pod_template(priorityClassName="high", runtimeClassName="gvisor")
    view = observation(
        manifest(
            "StatefulSet",
            "db",
            api="apps/v1",
            spec={
                "template": template,
                "volumeClaimTemplates": [
                    {"metadata": {"name": "d"}, "spec": {"storageClassName": "fast"}}
                ],
            },
        ),
        manifest("PersistentVolumeClaim", "c", spec={"storageClassName": "slow"}),
        manifest("Ingress", "i", api="networking.k8s.io/v1", spec={"ingressClassName": "nginx"}),
        clustered("StorageClass", "fast", "storage.k8s.io/v1"),
        clustered("StorageClass", "slow", "storage.k8s.io/v1"),
        clustered("StorageClass", "unused", "storage.k8s.io/v1"),
        clustered("PriorityClass", "high", "scheduling.k8s.io/v1"),
        clustered("RuntimeClass", "gvisor", "node.k8s.io/v1"),
        clustered("IngressClass", "nginx", "networking.k8s.io/v1"),
    )

    assert closed(view)[0] == [
        "IngressClass/nginx",
        "PriorityClass/high",
        "RuntimeClass/gvisor",
        "StorageClass/fast",
        "StorageClass/slow",
    ]


def test_names_that_lead_nowhere_are_told():
    """A required ConfigMap that is absent is dangling; an optional one, or one of a kind that was not read, is not."""
    template = pod_template(config_maps=["gone"], secrets=["unreadable"])
    template["spec"]["containers"][0]["envFrom"] = [
        {"configMapRef": {"name": "maybe", "optional": True}}
    ]
    view = observation(
        manifest("Deployment", "web", api="apps/v1", spec={"template": template}),
        manifest("ConfigMap", "here"),
    )

    assert closed(view)[1] == [("/ConfigMap/shop/gone", "DanglingReference")]


def test_a_definition_that_was_excluded_is_told():
    """The exclude mark and deletion count for cluster-scoped objects too."""
    excluded = clustered(
        "StorageClass",
        "fast",
        "storage.k8s.io/v1",
        labels={"backup.reconciler.dev/exclude": "true"},
    )
    going = clustered("StorageClass", "slow", "storage.k8s.io/v1", deleting=True)
    claims = [
        manifest("PersistentVolumeClaim", n, spec={"storageClassName": n}) for n in ("fast", "slow")
    ]

    assert closed(observation(excluded, going, *claims)) == (
        [],
        [
            ("storage.k8s.io/StorageClass//fast", "ExcludedByLabel"),
            ("storage.k8s.io/StorageClass//slow", "BeingDeleted"),
        ],
    )
