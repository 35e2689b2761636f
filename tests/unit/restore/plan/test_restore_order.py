"""Levels, needs, owners of fields."""

import pytest

from reconciler.objects import FIELD_MANAGER, ObjectKey
from reconciler.restore.plan.order import Level, claims_of, level_of, needs_of
from reconciler.restore.plan.ownership import ownership_of


@pytest.mark.parametrize(
    ("path", "level"),
    [
        ("/Namespace//shop", Level.NAMESPACES),
        ("apiextensions.k8s.io/CustomResourceDefinition//x", Level.DEFINITIONS),
        ("storage.k8s.io/StorageClass//fast", Level.CLASSES),
        ("/ServiceAccount/shop/web", Level.IDENTITIES),
        ("rbac.authorization.k8s.io/RoleBinding/shop/web", Level.CONFIGURATION),
        ("/Secret/shop/web", Level.CONFIGURATION),
        ("/PersistentVolumeClaim/shop/data", Level.CLAIMS),
        ("/Service/shop/web", Level.SERVICES),
        ("apps/StatefulSet/shop/db", Level.WORKLOADS),
        ("policy/PodDisruptionBudget/shop/web", Level.POLICIES),
        ("batch/CronJob/shop/report", Level.SELF_ACTING),
        ("autoscaling/HorizontalPodAutoscaler/shop/web", Level.SELF_ACTING),
        ("networking.k8s.io/Ingress/shop/web", Level.POLICIES),
        ("example.org/Widget/shop/w", Level.CUSTOM),
        ("serving.knative.dev/Service/shop/w", Level.CUSTOM),
        ("admissionregistration.k8s.io/ValidatingWebhookConfiguration//w", Level.GATES),
        ("apiregistration.k8s.io/APIService//v1.x", Level.GATES),
    ],
)
def test_each_kind_has_its_level(path, level):
    """What others need comes before them; what can turn writes away, or acts by itself, comes last."""
    assert level_of(ObjectKey.parse(path)) == level


def test_data_services_come_before_other_workloads():
    """Their contents are loaded before anything else starts."""
    assert (
        level_of(ObjectKey.parse("apps/StatefulSet/shop/db"), is_data_service=True)
        < Level.WORKLOADS
    )


WORKLOAD = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {
        "name": "db",
        "namespace": "shop",
        "ownerReferences": [
            {"apiVersion": "example.org/v1", "kind": "Db", "name": "x", "uid": "1"}
        ],
    },
    "spec": {
        "replicas": 2,
        "ordinals": {"start": 1},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        "template": {
            "spec": {
                "serviceAccountName": "db",
                "containers": [
                    {
                        "name": "db",
                        "env": [
                            {
                                "name": "P",
                                "valueFrom": {"secretKeyRef": {"name": "pass", "key": "p"}},
                            }
                        ],
                        "envFrom": [{"configMapRef": {"name": "maybe", "optional": True}}],
                    }
                ],
                "volumes": [
                    {"name": "c", "configMap": {"name": "conf"}},
                    {"name": "v", "persistentVolumeClaim": {"claimName": "extra"}},
                ],
            }
        },
    },
}


def test_a_workload_needs_what_it_mounts_and_reads():
    """Claims (also those of templates), account, Secrets, ConfigMaps, namespace, owner; nothing optional."""
    assert claims_of(WORKLOAD) == {"extra", "data-db-1", "data-db-2"}
    assert {key.path for key in needs_of(WORKLOAD)} == {
        "/Namespace//shop",
        "/PersistentVolumeClaim/shop/extra",
        "/PersistentVolumeClaim/shop/data-db-1",
        "/PersistentVolumeClaim/shop/data-db-2",
        "/ServiceAccount/shop/db",
        "/Secret/shop/pass",
        "/ConfigMap/shop/conf",
        "example.org/Db/shop/x",
        "example.org/Db//x",
    }


def entry(manager, operation, owned, **rest):
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
        **rest,
    }


def test_one_update_manager_creates_under_its_own_name():
    """One request gives ownership back; no patch follows."""
    captured = {
        "metadata": {
            "managedFields": [
                entry("helm", "Update", {"f:data": {}}),
                entry("c", "Update", {"f:status": {}}, subresource="status"),
            ]
        }
    }

    assert ownership_of(captured, {"apiVersion": "v1"}).creator == "helm"
    assert ownership_of(captured, {"apiVersion": "v1"}).entries == ()
    assert ownership_of({"metadata": {}}, {"apiVersion": "v1"}).creator == FIELD_MANAGER


def test_several_managers_get_back_what_is_still_there():
    """Entries carry the version that is written and lose the paths that transforms removed."""
    captured = {
        "metadata": {
            "managedFields": [
                entry(
                    "flux",
                    "Apply",
                    {
                        "f:spec": {
                            "f:gone": {},
                            "f:ports": {
                                'k:{"port":80}': {".": {}, "f:name": {}},
                                'k:{"port":81}': {".": {}},
                            },
                        }
                    },
                ),
                entry("hand", "Update", {"f:spec": {"f:old": {}}}),
                entry(
                    "scaler", "Update", {"f:metadata": {"f:finalizers": {'v:"a"': {}, 'v:"b"': {}}}}
                ),
            ]
        }
    }
    desired = {
        "apiVersion": "v2",
        "metadata": {"finalizers": ["a"]},
        "spec": {"ports": [{"port": 80, "name": "http"}]},
    }
    given = ownership_of(captured, desired)

    assert given.creator == "hand"
    assert [(e["manager"], e["apiVersion"], e["fieldsV1"]) for e in given.entries] == [
        ("flux", "v2", {"f:spec": {"f:ports": {'k:{"port":80}': {".": {}, "f:name": {}}}}}),
        ("scaler", "v2", {"f:metadata": {"f:finalizers": {'v:"a"': {}}}}),
    ]
