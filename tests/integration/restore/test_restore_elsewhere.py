"""Into another namespace: whatever named the first one, in the namespace or beside it, names the second."""

from __future__ import annotations

from tests.support.rescue import request
from tests.support.seen import manifest

RBAC = "rbac.authorization.k8s.io/v1"
HOOK = "admissionregistration.k8s.io/v1"
ACCOUNT = {"kind": "ServiceAccount", "name": "web", "namespace": "shop"}


def test_everything_that_names_the_namespace_follows(rescue):
    """Names in env values alone are left, and the plan says where."""
    town = rescue.town
    client = {"service": {"name": "hook", "namespace": "shop"}, "caBundle": "YQ=="}
    webhook = {"name": "a.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None"}
    town.create(
        manifest("Namespace", "shop", namespace=""),
        manifest("ServiceAccount", "web"),
        manifest("Service", "hook", spec={"ports": [{"port": 443}], "selector": {"a": "b"}}),
        manifest("Service", "far", spec={"type": "ExternalName", "externalName": "hook.shop.svc"}),
        manifest(
            "Role",
            "web",
            api=RBAC,
            rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        ),
        manifest(
            "RoleBinding",
            "web",
            api=RBAC,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "web"},
            subjects=[ACCOUNT],
        ),
        manifest(
            "ClusterRoleBinding",
            "web",
            namespace="",
            api=RBAC,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"},
            subjects=[ACCOUNT],
        ),
        manifest(
            "ValidatingWebhookConfiguration",
            "web",
            namespace="",
            api=HOOK,
            webhooks=[{**webhook, "clientConfig": client}],
        ),
        manifest("ConfigMap", "conf", data={"url": "http://hook.shop.svc/x"}),
    )
    rescue.capture()
    rescue.delete_namespace()
    town.delete(HOOK, "ValidatingWebhookConfiguration", "web", namespace="")
    town.delete(RBAC, "ClusterRoleBinding", "web", namespace="")
    asked = request(to={"namespace": "copy"})
    plan = rescue.plan(asked)

    assert rescue.execution(asked, plan).run().phase == "Succeeded"
    get = town.get
    assert get("v1", "Service", "far", namespace="copy")["spec"]["externalName"] == "hook.copy.svc"
    assert get(RBAC, "RoleBinding", "web", namespace="copy")["subjects"] == [
        {**ACCOUNT, "namespace": "copy"}
    ]
    bound = get(RBAC, "ClusterRoleBinding", "web", namespace="")
    assert bound["subjects"] == [{**ACCOUNT, "namespace": "copy"}]
    hook = get(HOOK, "ValidatingWebhookConfiguration", "web", namespace="")
    assert hook["webhooks"][0]["clientConfig"]["service"]["namespace"] == "copy"
    conf = get("v1", "ConfigMap", "conf", namespace="copy")
    assert conf["data"] == {"url": "http://hook.shop.svc/x"}
    (entry,) = [one for one in plan.entries if one.target.name == "conf"]
    assert "data.url: names a service of a mapped namespace" in str(entry.to_json())
