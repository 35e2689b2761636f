"""What a real garbage collector takes along is what the plan said, and what was captured of it comes back."""

from __future__ import annotations

import pytest

from reconciler.objects import field, uid_of
from tests.support.clusters import IMAGE
from tests.support.realtown import eventual, needs_cluster, real
from tests.support.rescue import verdicts
from tests.support.seen import policy

__all__ = ["real"]
pytestmark = [needs_cluster, pytest.mark.real]

NO_VOLUMES = policy("p", capture={"volumes": [{"where": "true", "action": "skip"}]})
CRD = "apiextensions.k8s.io/v1"


def config(name, owner=None, **data):
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    if owner is not None:
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        made["metadata"]["ownerReferences"] = [reference]
    return made


def workload(kind="Deployment", name="web", *, replicas=1, **spec):
    container = {"name": "a", "image": IMAGE, "command": ["sleep", "3600"]}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
            **spec,
        },
    }


def entry_of(plan, kind, name):
    return next(e for e in plan.entries if (e.target.kind, e.target.name) == (kind, name))


def live_uids(real):
    """Key path → uid of everything in the namespace that a deletion could take."""
    found = {}
    for kind in real.town.discovery.preferred():
        if kind.namespaced and {"list", "delete"} <= kind.verbs and kind.kind != "Event":
            for page in real.town.cluster.pages(kind, namespace=real.namespace):
                for item in page.items:
                    place = f"{kind.group}/{kind.kind}/{real.namespace}/{item['metadata']['name']}"
                    found[place] = uid_of(item)
    return found


def mark(real, api, kind, name):
    """A label that the point has not, so that the object differs."""
    where = "" if kind in ("Namespace", "CustomResourceDefinition") else real.namespace
    real.town.patch(api, kind, name, {"metadata": {"labels": {"x": "y"}}}, namespace=where)


def test_exactly_what_the_plan_says_is_deleted(real):
    """A Deployment with ReplicaSet, pod, an owned ConfigMap and what that owns; others keep their uids."""
    parent = real.make(workload())
    child = real.make(config("child", parent, a="1"))
    real.make(config("grandchild", child, a="1"))
    real.make(config("beside", a="1"))
    eventual(lambda: field(real.read("apps/v1", "Deployment", "web"), "status", "readyReplicas"))
    real.point()
    mark(real, "apps/v1", "Deployment", "web")
    before = live_uids(real)
    asked = real.ask(recreate=["Deployment.apps/web"])
    plan = real.plan(asked)
    told = {key.path for key in plan.deletions}

    assert entry_of(plan, "ConfigMap", "child").reason == "OwnerRecreated"
    assert sorted(path.split("/")[1] for path in told) == [
        "ConfigMap",
        "ConfigMap",
        "Deployment",
        "Pod",
        "ReplicaSet",
    ]
    result = real.execution(asked, plan).run()
    assert (result.phase, result.message) == ("Succeeded", "")
    gone = eventual(
        lambda: (
            lost
            if (lost := set(before.values()) - set(live_uids(real).values()))
            >= {before[path] for path in told}
            else None
        )
    )
    assert gone == {before[path] for path in told}
    now = real.read("v1", "ConfigMap", "child")
    web = real.read("apps/v1", "Deployment", "web")
    assert now["metadata"]["ownerReferences"][0]["uid"] == uid_of(web)
    last = real.read("v1", "ConfigMap", "grandchild")
    assert last["metadata"]["ownerReferences"][0]["uid"] == uid_of(now)
    # A collector that acts on what it saw late would take them now.
    assert {e.verdict for e in real.plan(real.ask()).entries} <= {"unchanged", "skip"}


def test_a_namespace_that_is_named_goes_and_comes_back(real):
    """Everything in it is told; what was captured is there again, what came later is not."""
    real.make(workload())
    real.make(config("conf", a="1"))
    real.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci"}})
    real.point()
    real.make(config("later", a="1"))
    eventual(lambda: field(real.read("apps/v1", "Deployment", "web"), "status", "readyReplicas"))
    mark(real, "v1", "Namespace", real.namespace)
    asked = real.ask(recreate=[f"Namespace/{real.namespace}"])
    plan = real.plan(asked)
    space = entry_of(plan, "Namespace", real.namespace)

    assert {key.path for key in space.deletes} == set(live_uids(real))
    assert plan.extras == ()
    result = real.execution(asked, plan).run()
    assert (result.phase, result.message) == ("Succeeded", "")
    assert real.read("v1", "ConfigMap", "conf")["data"] == {"a": "1"}
    assert real.read("v1", "ServiceAccount", "ci") is not None
    assert real.read("v1", "ConfigMap", "later") is None


def test_a_definition_that_is_named_goes_and_comes_back(real):
    """Its objects and what they own are told, and those of the point come back."""
    group = f"{real.namespace}.example.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"plural": "gears", "singular": "gear", "kind": "Gear", "listKind": "GearList"}
    name = f"gears.{group}"
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    real.make(
        {
            "apiVersion": CRD,
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": spec,
        }
    )
    eventual(lambda: real.town.discovery.find(group, "Gear"))
    gear = {
        "apiVersion": f"{group}/v1",
        "kind": "Gear",
        "metadata": {"name": "g"},
        "spec": {"a": 1},
    }
    eventual(lambda: real.read(f"{group}/v1", "Gear", "g") or real.make(gear))
    made = real.read(f"{group}/v1", "Gear", "g")
    real.make(config("owned", made, a="1"))
    real.point()
    assert verdicts(real.plan(real.ask(onConflict="recreate")))[f"CustomResourceDefinition/{name}"][
        0
    ] in ("unchanged", "skip")
    mark(real, CRD, "CustomResourceDefinition", name)
    asked = real.ask(recreate=[f"CustomResourceDefinition.apiextensions.k8s.io/{name}"])
    plan = real.plan(asked)
    definition = entry_of(plan, "CustomResourceDefinition", name)

    assert definition.verdict == "recreate"
    assert sorted(key.kind for key in definition.deletes) == ["ConfigMap", "Gear"]
    result = real.execution(asked, plan).run()
    assert (result.phase, result.message) == ("Succeeded", "")
    back = real.read(f"{group}/v1", "Gear", "g")
    assert back["spec"] == {"a": 1}
    assert uid_of(back) != uid_of(made)
    owned = real.read("v1", "ConfigMap", "owned")
    assert owned["metadata"]["ownerReferences"][0]["uid"] == uid_of(back)


def test_claims_that_a_set_would_take_along(real):
    """With `whenDeleted: Delete` the set is blocked until its claim is named; then both come back."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    made = workload(
        "StatefulSet",
        "db",
        replicas=0,
        serviceName="db",
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"},
        volumeClaimTemplates=[
            {"metadata": {"name": "data"}, "spec": {**claim, "storageClassName": "by-hand"}}
        ],
    )
    real.make(made)
    volume = f"{real.namespace}-v"
    real.make(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "storageClassName": "by-hand",
                "capacity": {"storage": "1Mi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": f"/nowhere/{volume}"},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": real.namespace, "name": "data-db-0"},
            },
        }
    )
    named = {**claim, "storageClassName": "by-hand", "volumeName": volume}
    real.make(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data-db-0", "labels": {"app": "db"}},
            "spec": named,
        }
    )
    eventual(
        lambda: (
            field(real.read("v1", "PersistentVolumeClaim", "data-db-0"), "status", "phase")
            == "Bound"
        )
    )
    real.capture(real.namespace, policy=NO_VOLUMES)
    mark(real, "apps/v1", "StatefulSet", "db")
    part = {"include": {"contents": []}}
    loose = real.plan(real.ask(onConflict="recreate", **part))
    asked = real.ask(onConflict="recreate", recreate=["PersistentVolumeClaim/data-db-0"], **part)
    exact = real.plan(asked)

    assert verdicts(loose)["StatefulSet/db"] == ("blocked", "ClaimBound")
    assert "data-db-0" in entry_of(loose, "StatefulSet", "db").message
    assert verdicts(exact)["StatefulSet/db"] == ("recreate", "Differs")
    assert verdicts(exact)["PersistentVolumeClaim/data-db-0"] == ("recreate", "OwnerRecreated")


def test_nothing_that_comes_by_itself_is_extra(real):
    """Right after a capture of many kinds nothing is extra; what a person adds then is, one by one."""
    real.make(workload())
    real.make(workload("StatefulSet", "db", serviceName="db"))
    real.make(workload("DaemonSet", "each", replicas=1) | {"spec": daemon()})
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    real.make({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
    real.make(cron("tick"))
    real.make(job("once"))
    eventual(lambda: field(real.read("apps/v1", "Deployment", "web"), "status", "readyReplicas"))
    eventual(lambda: field(real.read("batch/v1", "Job", "once"), "status", "succeeded"))
    real.point()
    assert [str(extra.key) for extra in real.plan(real.ask()).extras] == []

    real.make(config("later", a="1"))
    real.make(workload(name="new", replicas=1))
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "hand", "labels": {"kubernetes.io/service-name": "outside"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"port": 80}],
    }
    real.make(slice_)
    eventual(lambda: field(real.read("apps/v1", "Deployment", "new"), "status", "readyReplicas"))
    told = [f"{e.key.kind}/{e.key.name}" for e in real.plan(real.ask()).extras]
    assert told == ["ConfigMap/later", "Deployment/new", "EndpointSlice/hand"]


def daemon():
    spec = workload(name="each")["spec"]
    return {key: value for key, value in spec.items() if key != "replicas"}


def job(name):
    container = {"name": "a", "image": IMAGE, "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template},
    }


def cron(name):
    made = job(name)
    spec = {"schedule": "* * * * *", "suspend": True, "jobTemplate": {"spec": made["spec"]}}
    return {**made, "kind": "CronJob", "spec": spec}
