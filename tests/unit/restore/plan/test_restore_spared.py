"""What an update leaves to others, and how a plan names it."""

import json

from reconciler.objects import duplicate
from reconciler.restore.plan.compare import differences, replacement_for, spared_in
from reconciler.restore.plan.strip import strip


def entry(manager, owned, **rest):
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
        **rest,
    }


def made(kind, api="v1", *, metadata=None, **body):
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "x", "namespace": "shop", **(metadata or {})},
        **body,
    }


def update(captured, live, **how):
    """What an update sends, and (path, owner) of what it spares."""
    desired = strip(captured)
    before = json.dumps([desired, live])
    wanted = replacement_for(desired, live, **how)
    assert json.dumps([desired, live]) == before
    return wanted, [(s.path, s.owner) for s in spared_in(desired, live, wanted, **how)]


def test_replicas_are_named_with_their_owner():
    """The autoscaler's replicas stay, and the plan says whose they are."""
    was = made("Deployment", "apps/v1", spec={"replicas": 1})
    wanted, spared = update(
        was, made("Deployment", "apps/v1", spec={"replicas": 4}), is_scaled=True
    )

    assert wanted["spec"]["replicas"] == 4
    assert spared == [("spec.replicas", "its autoscaler")]


def test_bundles_of_who_injects_nothing_else_are_injected():
    """A manager that owns only caBundles injects them; one that wrote the webhook did not."""

    def config(bundle, *entries):
        hook = {"name": "a.example.org", "clientConfig": {"caBundle": bundle}}
        return made(
            "ValidatingWebhookConfiguration",
            "admissionregistration.k8s.io/v1",
            metadata={"managedFields": list(entries)},
            webhooks=[hook],
        )

    step = 'k:{"name":"a.example.org"}'
    bundle = {"f:webhooks": {step: {"f:clientConfig": {"f:caBundle": {}}}}}
    marked = {**bundle, "f:metadata": {"f:annotations": {"f:injected": {}}}}
    author = {
        "f:webhooks": {".": {}, step: {".": {}, "f:name": {}, "f:clientConfig": {"f:caBundle": {}}}}
    }

    wanted, spared = update(config("old"), config("new", entry("rotator", marked)))
    assert wanted["webhooks"][0]["clientConfig"]["caBundle"] == "new"
    assert spared == [("webhooks[a.example.org].clientConfig.caBundle", "who injects it")]

    wanted, spared = update(config("old"), config("new", entry("helm", author)))
    assert wanted["webhooks"][0]["clientConfig"]["caBundle"] == "old"
    assert spared == []


def test_bundles_of_services_and_conversions_are_injected_too():
    """The same holds for an APIService and for a CRD's conversion webhook."""
    service = made("APIService", "apiregistration.k8s.io/v1", spec={"caBundle": "old"})
    live = duplicate(service)
    live["spec"]["caBundle"] = "new"
    live["metadata"]["managedFields"] = [entry("cainjector", {"f:spec": {"f:caBundle": {}}})]
    assert update(service, live)[0]["spec"]["caBundle"] == "new"

    webhook = {"conversion": {"webhook": {"clientConfig": {"caBundle": "old"}}}}
    crd = made("CustomResourceDefinition", "apiextensions.k8s.io/v1", spec=webhook)
    live = duplicate(crd)
    live["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = "new"
    path = {"f:conversion": {"f:webhook": {"f:clientConfig": {"f:caBundle": {}}}}}
    live["metadata"]["managedFields"] = [entry("cainjector", {"f:spec": path})]
    kept = update(crd, live)[0]["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"]
    assert kept == "new"


def test_a_claim_that_was_enlarged_stays_large():
    """A claim cannot shrink; one that is smaller than captured grows."""

    def claim(size):
        return made("PersistentVolumeClaim", spec={"resources": {"requests": {"storage": size}}})

    wanted, spared = update(claim("1Gi"), claim("1500Mi"))
    assert differences(claim("1500Mi"), wanted) == []
    assert spared == [("spec.resources.requests.storage", "its volume, which cannot shrink")]

    wanted, spared = update(claim("2Gi"), claim("1500Mi"))
    assert wanted["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert spared == []


def test_finalizers_are_not_taken_off():
    """A finalizer that was added since stays; a captured one that was taken off comes back."""
    was = made("ConfigMap", metadata={"finalizers": ["a.example.org/x"]})
    wanted, spared = update(was, made("ConfigMap", metadata={"finalizers": ["b.example.org/y"]}))

    assert wanted["metadata"]["finalizers"] == ["a.example.org/x", "b.example.org/y"]
    assert [owner for _, owner in spared] == ["the controller that waits for it"]


def test_marks_of_known_controllers_stay_and_those_of_people_go():
    """An annotation that only a known controller owns is spared; one that a person owns too is not."""
    live = made(
        "ConfigMap",
        metadata={
            "annotations": {"by/kcm": "1", "by/both": "1", "by/hand": "1"},
            "managedFields": [
                entry(
                    "kube-controller-manager",
                    {
                        "f:metadata": {"f:annotations": {"f:by/kcm": {}, "f:by/both": {}}},
                        "f:data": {"f:k": {}},
                    },
                ),
                entry(
                    "hand",
                    {"f:metadata": {"f:annotations": {"f:by/hand": {}, "f:by/both": {}}}},
                ),
            ],
        },
        data={"k": "live"},
    )
    wanted, spared = update(made("ConfigMap", data={"k": "captured"}), live)

    assert wanted["metadata"]["annotations"] == {"by/kcm": "1"}
    assert wanted["data"] == {"k": "captured"}, "its contents are not the controller's to keep"
    assert spared == [("metadata.annotations", "its controller")]


def test_what_a_keeper_renews_stays_renewed():
    """A certificate that its issuer renewed is not turned back; one that a person wrote is."""

    def secret(value, manager):
        owned = {"f:data": {".": {}, "f:tls.crt": {}}}
        return made(
            "Secret",
            metadata={"managedFields": [entry(manager, owned)]},
            data={"tls.crt": value},
        )

    was = made("Secret", data={"tls.crt": "b2xk"})
    assert update(was, secret("bmV3", "cert-manager-certificates-issuing"))[0]["data"] == {
        "tls.crt": "bmV3"
    }
    assert update(was, secret("bmV3", "hand"))[0]["data"] == {"tls.crt": "b2xk"}


def test_rules_of_an_aggregated_role_are_its_controllers():
    """A role that aggregates is not given the rules that were collected for it once."""
    rule = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    api = "rbac.authorization.k8s.io/v1"
    was = made("ClusterRole", api, aggregationRule=rule, rules=[{"verbs": ["get"]}])
    live = made("ClusterRole", api, aggregationRule=rule, rules=[{"verbs": ["list"]}])
    wanted, spared = update(was, live)

    assert differences(live, wanted) == []
    assert spared == [("rules", "its aggregation rule")]


def test_families_are_the_clusters():
    """Address families that nobody chose are not written, and those of the live Service stay."""
    was = made(
        "Service", spec={"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "ports": []}
    )
    live = made(
        "Service", spec={"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack", "ports": []}
    )
    wanted, _ = update(was, live)

    assert "ipFamilies" not in strip(was)["spec"]
    assert differences(live, wanted) == []
