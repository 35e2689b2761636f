"""What recreating takes along: told object by object, counted, refused where nobody named it, and brought back."""

import pytest

from reconciler.objects import field
from reconciler.restore.plan.entry import Entry
from tests.support.rescue import request, verdicts
from tests.support.seen import manifest, policy
from tests.support.town import key

NO_VOLUMES = policy("p", capture={"volumes": [{"where": "true", "action": "skip"}]})


def deployment(name="web", *, image="a:1", replicas=1):
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "a", "image": image}]},
        },
    }
    return manifest("Deployment", name, api="apps/v1", spec=spec)


def stateful_set(*, when_deleted="Retain"):
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec = {
        "replicas": 1,
        "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}},
        "template": {
            "metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "a", "image": "a:1"}]},
        },
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted},
    }
    return manifest("StatefulSet", "db", api="apps/v1", spec=spec)


def config(name, owner=None, **data):
    made = manifest("ConfigMap", name, data=data)
    if owner is not None:
        made["metadata"]["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ]
    return made


CRD = {
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
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }
        ],
    },
}


def entry_of(plan, kind, name) -> Entry:
    return next(e for e in plan.entries if (e.target.kind, e.target.name) == (kind, name))


def deleted(plan, kind, name):
    """`Kind/name` of what goes with an object."""
    return [f"{k.kind}/{k.name}" for k in entry_of(plan, kind, name).deletes]


@pytest.fixture
def shop(rescue):
    """A namespace to be filled and captured."""
    rescue.town.create(manifest("Namespace", "shop", namespace=""))
    return rescue


def running(shop, name="web"):
    """Wait until the pod of a workload is there."""

    def pods():
        kind = shop.town.kind("v1", "Pod")
        found = [
            item
            for page in shop.town.cluster.pages(kind, namespace="shop")
            for item in page.items
            if item["metadata"]["name"].startswith(name)
        ]
        return [item["metadata"]["name"] for item in found if item["status"]["phase"] == "Running"]

    shop.town.wait(lambda: bool(pods()), f"a pod of {name}")
    return pods()


def test_everything_that_goes_along_is_told_and_counted(shop):
    """ReplicaSet and pod of a Deployment are in the plan; `limits.delete` counts them."""
    shop.town.create(deployment())
    pods = running(shop)
    shop.capture()
    shop.town.patch("apps/v1", "Deployment", "web", {"metadata": {"labels": {"x": "y"}}})
    plan = shop.plan(request(onConflict="recreate"))
    told = deleted(plan, "Deployment", "web")

    assert told == [f"Pod/{pods[0]}", f"ReplicaSet/{pods[0].rpartition('-')[0]}"]
    assert len(plan.deletions) == 3
    assert plan.to_json()["deletions"] == 3
    assert shop.plan(request(onConflict="recreate", limits={"delete": 3})).refusals == ()
    refused = shop.plan(request(onConflict="recreate", limits={"delete": 2, "recreate": 1}))
    assert refused.refusals == (
        "limits.delete is 2, the plan deletes 3 (2 of them go with what is recreated)",
    )


def test_a_child_that_was_captured_comes_back(shop):
    """What a recreated owner takes along is recreated too, with its new owner, whatever comes first."""
    parent = shop.town.create(deployment(replicas=0))
    shop.town.create(config("child", parent, a="1"))
    child = shop.town.get("v1", "ConfigMap", "child")
    shop.town.create(config("grandchild", child, b="2"))
    shop.capture()
    shop.town.patch("apps/v1", "Deployment", "web", {"metadata": {"labels": {"x": "y"}}})
    asked = request(onConflict="recreate")
    plan = shop.plan(asked)

    assert verdicts(plan)["ConfigMap/child"] == ("recreate", "OwnerRecreated")
    assert verdicts(plan)["ConfigMap/grandchild"] == ("recreate", "OwnerRecreated")
    assert {"ConfigMap/child", "ConfigMap/grandchild"} <= set(deleted(plan, "Deployment", "web"))
    result = shop.execution(asked, plan).run()
    assert (result.phase, result.message) == ("Succeeded", "")

    town = shop.town
    uid = town.get("apps/v1", "Deployment", "web")["metadata"]["uid"]
    now = town.get("v1", "ConfigMap", "child")
    assert uid != parent["metadata"]["uid"]
    assert now["metadata"]["ownerReferences"][0]["uid"] == uid
    assert now["metadata"]["uid"] != child["metadata"]["uid"]
    last = town.get("v1", "ConfigMap", "grandchild")
    assert last["metadata"]["ownerReferences"][0]["uid"] == now["metadata"]["uid"]
    again = shop.plan(request(onConflict="fail"))
    assert {e.verdict for e in again.entries} <= {"unchanged", "skip"}, verdicts(again)


def test_a_child_with_another_owner_stays(shop):
    """It is not deleted, and its reference moves to the new owner."""
    first = shop.town.create(config("first", a="1"))
    second = shop.town.create(config("second", a="1"))
    child = config("child", first, a="1")
    child["metadata"]["ownerReferences"] += config("x", second)["metadata"]["ownerReferences"]
    before = shop.town.create(child)
    shop.capture()
    shop.town.patch("v1", "ConfigMap", "first", {"data": {"a": "2"}})
    asked = request(recreate=["ConfigMap/first"])
    plan = shop.plan(asked)

    assert verdicts(plan)["ConfigMap/first"] == ("recreate", "Differs")
    assert verdicts(plan)["ConfigMap/child"] == ("update", "OwnerRecreated")
    assert deleted(plan, "ConfigMap", "first") == []
    assert shop.execution(asked, plan).run().phase == "Succeeded"
    now = shop.town.get("v1", "ConfigMap", "child")["metadata"]
    assert now["uid"] == before["metadata"]["uid"]
    assert {o["uid"] for o in now["ownerReferences"]} == {
        shop.town.get("v1", "ConfigMap", name)["metadata"]["uid"] for name in ("first", "second")
    }


@pytest.mark.parametrize("when_deleted", ["Delete", "Retain"])
def test_claims_that_a_set_would_take_along_block_it(shop, when_deleted):
    """A StatefulSet whose claims go with it is recreated only when each claim is named; else claims stay."""
    shop.town.create(stateful_set(when_deleted=when_deleted))
    running(shop, "db")
    shop.capture(policy=NO_VOLUMES)
    shop.town.patch("apps/v1", "StatefulSet", "db", {"metadata": {"labels": {"x": "y"}}})
    loose = {"onConflict": "recreate", "include": {"contents": []}}
    named = {**loose, "recreate": ["PersistentVolumeClaim/data-db-0"]}
    plan, exact = shop.plan(request(**loose)), shop.plan(request(**named))

    if when_deleted == "Retain":
        assert verdicts(plan)["StatefulSet/db"] == ("recreate", "Differs")
        assert verdicts(plan)["PersistentVolumeClaim/data-db-0"][0] == "unchanged"
        return
    entry = entry_of(plan, "StatefulSet", "db")
    assert (entry.verdict, entry.reason) == ("blocked", "ClaimBound")
    assert "PersistentVolumeClaim shop/data-db-0" in entry.message
    assert "PersistentVolumeClaim/data-db-0" in entry.hint
    assert verdicts(exact)["StatefulSet/db"] == ("recreate", "Differs")
    assert verdicts(exact)["PersistentVolumeClaim/data-db-0"] == ("recreate", "OwnerRecreated")
    volume = field(shop.town.get("v1", "PersistentVolumeClaim", "data-db-0"), "spec", "volumeName")
    assert f"PersistentVolume/{volume}" in deleted(exact, "StatefulSet", "db")


def test_a_claim_in_use_is_not_deleted_under_its_pods(shop):
    """Named or not: it would hang half deleted until they go."""
    shop.town.create(stateful_set())
    running(shop, "db")
    shop.capture(policy=NO_VOLUMES)
    shop.town.patch(
        "v1", "PersistentVolumeClaim", "data-db-0", {"metadata": {"labels": {"x": "y"}}}
    )
    plan = shop.plan(
        request(recreate=["PersistentVolumeClaim/data-db-0"], include={"contents": []})
    )

    entry = entry_of(plan, "PersistentVolumeClaim", "data-db-0")
    assert (entry.verdict, entry.reason) == ("blocked", "VolumeInUse")
    assert "db-0" in entry.message


def test_a_namespace_is_recreated_only_when_named(shop):
    """Named, it goes with all that is in it, told one by one; what was captured comes back, extras do not."""
    town = shop.town
    town.create(config("conf", a="1"), deployment(replicas=1))
    running(shop)
    shop.capture()
    town.patch("v1", "Namespace", "shop", {"metadata": {"labels": {"x": "y"}}}, namespace="")
    town.create(config("later", b="1"))
    uid = town.get("v1", "Namespace", "shop", namespace="")["metadata"]["uid"]

    assert verdicts(shop.plan(request(onConflict="recreate")))["Namespace/shop"][0] == "skip"
    by_include = request(
        onConflict="recreate",
        include={"objects": [{"kinds": ["Namespace"], "names": ["shop"]}]},
    )
    assert verdicts(shop.plan(by_include))["Namespace/shop"] == ("blocked", "NeverRecreated")

    asked = request(recreate=["Namespace/shop"])
    plan = shop.plan(asked)
    told = deleted(plan, "Namespace", "shop")
    assert {"ConfigMap/conf", "ConfigMap/later", "ServiceAccount/default"} <= set(told)
    assert [name for name in told if name.startswith("Pod/web-")]
    assert plan.extras == (), "what is deleted is not left alone"
    result = shop.execution(asked, plan).run()

    assert (result.phase, result.message) == ("Succeeded", "")
    now = town.get("v1", "Namespace", "shop", namespace="")["metadata"]
    assert now["uid"] != uid
    assert "x" not in now["labels"]
    assert town.get("v1", "ConfigMap", "conf")["data"] == {"a": "1"}
    assert town.get("v1", "ConfigMap", "later") is None


def test_claims_in_a_named_namespace_are_named_too(shop):
    """A bound claim never goes unnamed, not even with its namespace."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    shop.town.create(manifest("PersistentVolumeClaim", "data", spec=claim))
    shop.town.wait(
        lambda: (
            field(shop.town.get("v1", "PersistentVolumeClaim", "data"), "status", "phase")
            == "Bound"
        ),
        "the claim is bound",
    )
    shop.capture(policy=NO_VOLUMES)
    shop.town.patch("v1", "Namespace", "shop", {"metadata": {"labels": {"x": "y"}}}, namespace="")
    alone = shop.plan(request(recreate=["Namespace/shop"], include={"contents": []}))
    both = shop.plan(
        request(recreate=["Namespace/shop", "PersistentVolumeClaim/data"], include={"contents": []})
    )

    assert verdicts(alone)["Namespace/shop"] == ("blocked", "ClaimBound")
    assert verdicts(alone)["PersistentVolumeClaim/data"][0] == "unchanged"
    assert verdicts(both)["Namespace/shop"] == ("recreate", "Differs")


def test_a_definition_goes_with_its_objects_everywhere(shop):
    """Named, it takes along its objects of all namespaces; those of the point come back."""
    town = shop.town
    town.create(manifest("Namespace", "other", namespace=""), CRD)
    town.create(
        manifest("Widget", "mine", api="example.org/v1", spec={"size": 1}),
        manifest("Widget", "theirs", namespace="other", api="example.org/v1", spec={"size": 2}),
    )
    shop.capture()
    change = {"metadata": {"annotations": {"upgraded": "yes"}}}
    api, name = "apiextensions.k8s.io/v1", "widgets.example.org"
    town.patch(api, "CustomResourceDefinition", name, change, namespace="")
    named = f"CustomResourceDefinition.apiextensions.k8s.io/{name}"
    asked = request(recreate=[named])
    plan = shop.plan(asked)

    assert deleted(plan, "CustomResourceDefinition", name) == ["Widget/theirs", "Widget/mine"]
    assert verdicts(plan)["Widget/mine"] == ("recreate", "OwnerRecreated")
    assert shop.plan(request(recreate=[named], limits={"delete": 2})).refusals
    assert shop.execution(asked, plan).run().phase == "Succeeded"
    assert town.get("example.org/v1", "Widget", "mine")["spec"] == {"size": 1}
    assert town.get("example.org/v1", "Widget", "theirs", namespace="other") is None


def test_a_reach_that_cannot_be_read_blocks(shop):
    """What would go along is not known, so nothing goes."""
    shop.town.create(config("conf", a="1"))
    shop.capture()
    shop.town.patch("v1", "ConfigMap", "conf", {"data": {"a": "2"}})
    shop.town.sandbox.deny("list", "cronjobs", group="batch")
    plan = shop.plan(request(onConflict="recreate"))

    assert verdicts(plan)["ConfigMap/conf"] == ("blocked", "CascadeUnknown")
    assert "cronjobs" in entry_of(plan, "ConfigMap", "conf").message


def test_tokens_go_with_their_account(shop):
    """A manual token Secret is deleted with its ServiceAccount, and asked for again."""
    town = shop.town
    town.create(manifest("ServiceAccount", "ci"))
    token = manifest(
        "Secret", "ci-manual", type="kubernetes.io/service-account-token", data={"token": "eA=="}
    )
    token["metadata"]["annotations"] = {
        "kubernetes.io/service-account.name": "ci",
        "kubernetes.io/service-account.uid": "old",
    }
    town.create(token)
    shop.capture()
    town.patch("v1", "ServiceAccount", "ci", {"metadata": {"labels": {"x": "y"}}})
    asked = request(recreate=["ServiceAccount/ci"])
    plan = shop.plan(asked)

    assert deleted(plan, "ServiceAccount", "ci") == ["Secret/ci-manual"]
    assert verdicts(plan)["Secret/ci-manual"] == ("recreate", "OwnerRecreated")
    assert shop.execution(asked, plan).run().phase == "Succeeded"
    now = town.get("v1", "Secret", "ci-manual")
    assert "data" not in now
    assert now["metadata"]["annotations"] == {"kubernetes.io/service-account.name": "ci"}


def test_named_objects_are_recreated_under_any_policy(shop):
    """`recreate` names what must go, others follow `onConflict`; an unknown name is told."""
    sealed = manifest("ConfigMap", "sealed", immutable=True, data={"a": "1"})
    shop.town.create(sealed, config("open", a="1"))
    shop.capture()
    shop.town.delete("v1", "ConfigMap", "sealed")
    shop.town.create({**sealed, "data": {"a": "2"}})
    shop.town.patch("v1", "ConfigMap", "open", {"data": {"a": "2"}})

    plan = shop.plan(request())
    assert verdicts(plan)["ConfigMap/sealed"] == ("blocked", "Immutable")
    assert "ConfigMap/sealed under spec.recreate" in entry_of(plan, "ConfigMap", "sealed").hint
    asked = request(recreate=["ConfigMap/sealed", "ConfigMap/nowhere"])
    plan = shop.plan(asked)
    assert verdicts(plan)["ConfigMap/sealed"] == ("recreate", "Differs")
    assert verdicts(plan)["ConfigMap/open"] == ("update", "Differs")
    assert "spec.recreate names ConfigMap/nowhere, which is not in the plan" in plan.warnings
    assert shop.execution(asked, plan).run().phase == "Succeeded"
    assert shop.town.get("v1", "ConfigMap", "sealed")["data"] == {"a": "1"}


def test_a_tenant_recreates_no_namespace(shop):
    """A request of a namespace cannot have the namespace deleted under what others put there."""
    shop.town.create(config("conf", a="1"))
    shop.capture()
    shop.town.patch("v1", "Namespace", "shop", {"metadata": {"labels": {"x": "y"}}}, namespace="")
    plan = shop.plan(request(namespace="shop", recreate=["Namespace/shop"]))

    assert verdicts(plan)["Namespace/shop"] == ("skip", "ExistsInCluster")
    assert plan.deletions == frozenset()


def test_the_digest_covers_what_goes_along_and_not_what_comes_and_goes(shop):
    """Another claim that would go is another plan; another pod is not."""
    parent = shop.town.create(deployment())
    running(shop)
    shop.capture()
    shop.town.patch("apps/v1", "Deployment", "web", {"metadata": {"labels": {"x": "y"}}})
    asked = request(onConflict="recreate")
    first = shop.plan(asked)
    shop.town.delete("v1", "Pod", running(shop)[0])
    shop.town.wait(lambda: len(running(shop)) == 1, "another pod")

    assert shop.plan(asked).digest == first.digest
    shop.town.create(config("child", parent, a="1"))
    again = shop.plan(asked)
    assert again.digest != first.digest
    assert key("ConfigMap", "child") in again.deletions
