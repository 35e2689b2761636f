"""What a plan says of live objects, and what is there after it was carried out."""

import pytest

from reconciler.errors import UsageError
from reconciler.objects import field
from tests.support.rescue import as_captured, request, verdicts
from tests.support.seen import manifest, policy


def config(name="conf", **data):
    return manifest("ConfigMap", name, data=data or {"a": "1"})


def crd(*, version="v1"):
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {
                "plural": "widgets",
                "singular": "widget",
                "kind": "Widget",
                "listKind": "WidgetList",
            },
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    }


SERVICE = manifest(
    "Service", "web", spec={"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}
)
SECRET = manifest("Secret", "pass", data={"p": "czNjcjN0"})


@pytest.fixture
def shop(rescue):
    """A namespace with a few objects, captured."""
    rescue.town.create(
        manifest("Namespace", "shop", namespace="", labels={"team": "a"}), config(), SERVICE, SECRET
    )
    rescue.capture()
    return rescue


def test_a_deleted_namespace_comes_back_as_it_was(shop):
    """Objects equal what was captured; a second plan finds nothing to do."""
    town = shop.town
    before = [
        as_captured(town.get("v1", kind, name))
        for kind, name in (("ConfigMap", "conf"), ("Service", "web"), ("Secret", "pass"))
    ]
    shop.delete_namespace()

    plan = shop.plan(request())
    assert verdicts(plan)["Namespace/shop"] == ("create", "Absent")
    result = shop.execution(request(), plan).run()

    assert (result.phase, result.message) == ("Succeeded", "")
    assert [
        as_captured(town.get("v1", kind, name))
        for kind, name in (("ConfigMap", "conf"), ("Service", "web"), ("Secret", "pass"))
    ] == before
    assert (
        field(town.get("v1", "Namespace", "shop", namespace=""), "metadata", "labels", "team")
        == "a"
    )
    again = shop.plan(request(onConflict="fail"))
    assert {e.verdict for e in again.entries} <= {"unchanged", "skip"}, verdicts(again)
    assert again.refusals == ()


def test_progress_counts_everything_once(shop):
    """Whoever looks on sees it grow to the whole, and nothing is waited for at the end."""
    shop.delete_namespace()
    seen = []

    plan = shop.plan(request())
    shop.execution(request(), plan, watch=seen.append).run()

    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert {one.total for one in seen} == {len(plan.entries)}
    assert (seen[-1].done, seen[-1].waits) == (len(plan.entries), ())


def test_update_makes_an_object_as_it_was_captured(shop):
    """Changed values change back, added keys and labels go, uid and allocated addresses stay."""
    town = shop.town
    live = town.patch(
        "v1",
        "ConfigMap",
        "conf",
        {"data": {"a": "2", "b": "x"}, "metadata": {"labels": {"new": "y"}}},
    )
    service = town.patch("v1", "Service", "web", {"spec": {"selector": {"extra": "z"}}})

    plan = shop.plan(request())
    assert [
        (c.path, c.before, c.after) for e in plan.entries if e.target.name == "conf" for c in e.diff
    ] == [
        ("data.a", "2", "1"),
        ("data.b", "x", None),
        ("metadata.labels", {"new": "y"}, None),
    ]
    assert shop.execution(request(), plan).run().phase == "Succeeded"

    after = town.get("v1", "ConfigMap", "conf")
    assert after["data"] == {"a": "1"}
    assert not after["metadata"].get("labels")
    assert after["metadata"]["uid"] == live["metadata"]["uid"]
    web = town.get("v1", "Service", "web")
    assert web["spec"]["selector"] == {"app": "web"}
    assert web["spec"]["clusterIP"] == service["spec"]["clusterIP"]


@pytest.mark.parametrize(
    ("policy", "verdict", "data", "same"),
    [
        ("skip", ("skip", "Exists"), {"a": "2"}, True),
        ("update", ("update", "Differs"), {"a": "1"}, True),
        ("recreate", ("recreate", "Differs"), {"a": "1"}, False),
    ],
)
def test_conflict_policies(shop, policy, verdict, data, same):
    """Each policy does what it says to an object that differs, and nothing to one that does not."""
    live = shop.town.patch("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    asked = request(onConflict=policy)
    plan = shop.plan(asked)

    assert verdicts(plan)["ConfigMap/conf"] == verdict
    assert verdicts(plan)["Secret/pass"] == ("unchanged", "AsCaptured")
    assert shop.execution(asked, plan).run().phase == "Succeeded"
    after = shop.town.get("v1", "ConfigMap", "conf")
    assert after["data"] == data
    assert (after["metadata"]["uid"] == live["metadata"]["uid"]) == same


def test_fail_refuses_the_whole_plan(shop):
    """Under `fail` a conflict is a reason not to begin."""
    shop.town.patch("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    plan = shop.plan(request(onConflict="fail"))

    assert verdicts(plan)["ConfigMap/conf"] == ("blocked", "Conflict")
    assert len(plan.refusals) == 1
    assert "ConfigMap shop/conf" in plan.refusals[0]


def test_limits_refuse_and_digests_name_the_plan(shop):
    """A plan beyond its limits is refused; the digest is the same for the same plan and another after a change."""
    shop.town.patch("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    first, again = shop.plan(request()), shop.plan(request())
    assert first.digest == again.digest
    assert shop.plan(request(limits={"update": 0})).refusals == (
        "limits.update is 0, the plan needs 1",
    )
    assert shop.plan(request(planDigest=first.digest)).refusals == ()

    shop.town.patch("v1", "ConfigMap", "conf", {"data": {"a": "3"}})
    assert "drifted" in shop.plan(request(planDigest=first.digest)).refusals[0]


def test_the_digest_rests_on_what_would_change_alone(shop):
    """Status, resourceVersion and managedFields move by themselves; the digest stays."""
    first = shop.plan(request()).digest
    shop.town.patch("v1", "ConfigMap", "conf", {"data": {"z": "1"}})
    shop.town.patch("v1", "ConfigMap", "conf", {"data": {"z": None}})

    assert shop.plan(request()).digest == first


def test_drift_between_plan_and_run_blocks_that_object_only(shop):
    """An object that changed after the plan was made is left alone; the others are written."""
    town = shop.town
    town.patch("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    town.patch("v1", "Service", "web", {"spec": {"selector": {"extra": "z"}}})
    plan = shop.plan(request())
    town.patch("v1", "ConfigMap", "conf", {"data": {"a": "3"}})

    result = shop.execution(request(), plan).run()

    assert result.phase == "Partial"
    assert [(o.item, o.reason) for o in result.outcomes if o.result == "Failed"] == [
        ("/ConfigMap/shop/conf", "Drifted")
    ]
    assert town.get("v1", "ConfigMap", "conf")["data"] == {"a": "3"}
    assert town.get("v1", "Service", "web")["spec"]["selector"] == {"app": "web"}


def test_no_secret_is_in_a_plan(shop):
    """A Secret's change is told without its values, in the plan and its JSON."""
    shop.town.patch("v1", "Secret", "pass", {"data": {"p": "b3RoZXI="}})
    plan = shop.plan(request())

    assert verdicts(plan)["Secret/pass"] == ("update", "Differs")
    text = repr(plan.to_json()) + repr(plan) + repr(plan.rows())
    assert "czNjcjN0" not in text
    assert "b3RoZXI" not in text


def test_extras_are_told_and_left_alone(shop):
    """What came after the capture is named, and still there afterwards."""
    shop.town.create(config("later"))
    plan = shop.plan(request())

    assert [extra.key.name for extra in plan.extras] == ["later"]
    shop.execution(request(), plan).run()
    assert shop.town.get("v1", "ConfigMap", "later") is not None


def test_a_part_of_a_point(shop):
    """Only what is included is planned; a content that the point has not is a mistake."""
    shop.delete_namespace()
    asked = request(
        include={"objects": [{"kinds": ["ConfigMap"], "where": "object.data.a == '1'"}]}
    )

    assert shop.restore(asked).phase == "Succeeded"
    assert shop.town.get("v1", "ConfigMap", "conf") is not None
    assert shop.town.get("v1", "Service", "web") is None
    with pytest.raises(UsageError, match="no such content"):
        shop.plan(request(include={"contents": ["orders-db"]}))


def test_into_another_namespace(shop):
    """Everything lands in the other namespace, the first one stays as it is."""
    asked = request(to={"namespace": "shop2"})
    assert shop.restore(asked).phase == "Succeeded"

    town = shop.town
    assert town.get("v1", "ConfigMap", "conf", namespace="shop2")["data"] == {"a": "1"}
    assert town.get("v1", "ConfigMap", "conf") is not None
    assert town.get("v1", "Namespace", "shop2", namespace="")["metadata"]["labels"]["team"] == "a"


def test_a_terminating_namespace_blocks(shop):
    """The plan says what the namespace waits for; nothing is written."""
    town = shop.town
    held = {
        **config("held"),
        "metadata": {"name": "held", "namespace": "shop", "finalizers": ["example.org/hold"]},
    }
    town.create(held)
    town.delete("v1", "Namespace", "shop", namespace="")
    plan = shop.plan(request())

    assert {e.reason for e in plan.entries if e.target.namespace == "shop"} == {
        "NamespaceTerminating"
    }
    assert (
        "example.org/hold" in "".join(e.message for e in plan.entries)
        or "kubernetes" in plan.entries[0].message
    )
    assert shop.execution(request(), plan).run().phase == "Failed"
    town.patch("v1", "ConfigMap", "held", {"metadata": {"finalizers": None}})


def test_owners_come_back_with_their_new_uid_and_lost_ones_are_dropped(rescue):
    """References point at the owner as it is now, also to one written later; a missing owner is told."""
    town = rescue.town
    town.create(manifest("Namespace", "shop", namespace=""))
    deployment = manifest(
        "Deployment",
        "web",
        api="apps/v1",
        spec={
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "a", "image": "a:1"}]},
            },
        },
    )
    owner = town.create(deployment)
    reference = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "web",
        "uid": owner["metadata"]["uid"],
    }
    left_out = town.create(
        manifest("ConfigMap", "gone", labels={"backup.reconciler.dev/exclude": "true"}, data={})
    )
    uid = left_out["metadata"]["uid"]
    lost = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": uid}
    owned = config("owned")
    owned["metadata"]["ownerReferences"] = [reference]
    orphan = config("orphan")
    orphan["metadata"]["ownerReferences"] = [lost]
    town.create(owned, orphan)
    rescue.capture()
    rescue.delete_namespace()

    plan = rescue.plan(request())
    notes = {e.target.name: e.notes for e in plan.entries if e.notes}
    assert rescue.execution(request(), plan).run().phase == "Succeeded"

    uid = town.get("apps/v1", "Deployment", "web")["metadata"]["uid"]
    assert uid != owner["metadata"]["uid"]
    assert town.get("v1", "ConfigMap", "owned")["metadata"]["ownerReferences"][0]["uid"] == uid
    assert "ownerReferences" not in town.get("v1", "ConfigMap", "orphan")["metadata"]
    assert "reference dropped" in notes["orphan"][0]
    assert {e.verdict for e in rescue.plan(request()).entries} <= {"unchanged", "skip"}


def test_a_definition_comes_before_its_objects_and_is_never_replaced(rescue):
    """A CRD that is absent is made and waited for; one that is there is left as it is."""
    town = rescue.town
    town.create(manifest("Namespace", "shop", namespace=""), crd())
    town.create(manifest("Widget", "w", api="example.org/v1", spec={"size": 1}))
    rescue.capture()
    rescue.delete_namespace()
    town.delete(
        "apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.org", namespace=""
    )

    plan = rescue.plan(request())
    assert verdicts(plan)["Widget/w"] == ("create", "Absent")
    assert rescue.execution(request(), plan).run().phase == "Succeeded"
    assert town.get("example.org/v1", "Widget", "w")["spec"] == {"size": 1}

    town.patch(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "widgets.example.org",
        {"metadata": {"annotations": {"upgraded": "yes"}}},
        namespace="",
    )
    assert verdicts(rescue.plan(request(onConflict="recreate")))[
        "CustomResourceDefinition/widgets.example.org"
    ] == (
        "skip",
        "ExistsInCluster",
    )


def test_a_kind_that_cannot_be_read_blocks_its_objects_only(shop):
    """403 on one kind is told on its entries; the rest of the plan stands."""
    shop.town.sandbox.deny("*", "configmaps")
    plan = shop.plan(request())

    assert verdicts(plan)["ConfigMap/conf"] == ("blocked", "Forbidden")
    assert verdicts(plan)["Secret/pass"][0] == "unchanged"


def test_a_tenant_writes_nothing_of_the_cluster(rescue):
    """A request of a namespace leaves cluster-scoped objects out."""
    town = rescue.town
    town.create(manifest("Namespace", "shop", namespace=""), crd())
    town.create(manifest("Widget", "w", api="example.org/v1", spec={}))
    rescue.capture()
    town.delete(
        "apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.org", namespace=""
    )

    seen = verdicts(rescue.plan(request(namespace="shop")))
    assert seen["CustomResourceDefinition/widgets.example.org"] == ("skip", "ClusterScoped")


@pytest.mark.parametrize("action", ["drop", "answer"])
def test_writes_are_repeated_after_reading_again(shop, action):
    """An answer that is lost or says 503 is no reason to fail, nor to write twice."""
    shop.delete_namespace()
    shop.town.sandbox.faults.add(action, r"/configmaps\?", method="POST", value=503, times=2)
    result = shop.restore(request())

    assert (result.phase, result.message) == ("Succeeded", "")
    assert shop.town.get("v1", "ConfigMap", "conf")["data"] == {"a": "1"}


def test_field_owners_get_their_fields_back(rescue):
    """Two managers own after the restore what they owned before it, and we own nothing."""
    town = rescue.town
    town.create(manifest("Namespace", "shop", namespace=""), config())
    applied = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "conf"},
        "data": {"b": "2"},
    }
    kind = town.kind("v1", "ConfigMap")
    town.cluster.patch(kind, "conf", applied, namespace="shop", style="apply", manager="flux")
    before = town.get("v1", "ConfigMap", "conf")["metadata"]["managedFields"]
    rescue.capture()
    rescue.delete_namespace()

    assert rescue.restore(request()).phase == "Succeeded"
    after = town.get("v1", "ConfigMap", "conf")["metadata"]["managedFields"]

    def told(entries):
        return sorted((e["manager"], e["operation"], repr(e["fieldsV1"])) for e in entries)

    assert told(after) == told(before)


def test_autoscaled_replicas_are_left_alone(rescue):
    """What an autoscaler set is neither a difference nor drift."""
    town = rescue.town
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "a", "image": "a:1"}]},
        },
    }
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
        "minReplicas": 1,
        "maxReplicas": 5,
    }
    town.create(
        manifest("Namespace", "shop", namespace=""),
        manifest("Deployment", "a", api="apps/v1", spec=spec),
        manifest("HorizontalPodAutoscaler", "a", api="autoscaling/v2", spec=scaler),
    )
    rescue.capture()
    town.patch("apps/v1", "Deployment", "a", {"spec": {"replicas": 3}})

    assert verdicts(rescue.plan(request()))["Deployment/a"][0] == "unchanged"


def test_bound_claims_are_recreated_only_when_named(rescue):
    """To be included is not enough to have a volume deleted."""
    town = rescue.town
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    town.create(
        manifest("Namespace", "shop", namespace=""),
        manifest("PersistentVolumeClaim", "data", spec=spec),
    )
    town.wait(
        lambda: (
            field(town.get("v1", "PersistentVolumeClaim", "data"), "status", "phase") == "Bound"
        ),
        "the claim is bound",
    )
    rescue.capture(policy=policy("p", capture={"volumes": [{"where": "true", "action": "skip"}]}))
    town.patch("v1", "PersistentVolumeClaim", "data", {"metadata": {"labels": {"x": "y"}}})
    rule = {"kinds": ["PersistentVolumeClaim"], "names": ["data"]}
    part = {"objects": [rule], "contents": []}
    loose = request(onConflict="recreate", include=part)
    exact = request(recreate=["PersistentVolumeClaim/data"], include=part)

    assert verdicts(rescue.plan(loose))["PersistentVolumeClaim/data"] == ("blocked", "ClaimBound")
    assert verdicts(rescue.plan(exact))["PersistentVolumeClaim/data"] == ("recreate", "Differs")
