"""After a restore on real Kubernetes, the tools that owned fields own them: no conflict, and they can remove them."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
import yaml

from reconciler.kinds.transformset import TransformSet
from tests.cluster.node import build
from tests.support.clusters import IMAGE, REAL_KUBECONFIG
from tests.support.realtown import BOUNDS, eventual, needs_cluster, real

__all__ = ["real"]
pytestmark = [needs_cluster, pytest.mark.real]

OURS = "backup-reconciler"
TEAM = ("--server-side", "--field-manager=team")


def tool(name):
    """The path of kubectl or Helm: the machine's, or the test node's."""
    found = {"helm": build.program("helm"), "kubectl": build.component("kubectl")}[name]
    path = str(found) if found.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(real, name, *words, stdin=None):
    """Run a tool in the test's namespace; it must succeed."""
    done = subprocess.run(
        [tool(name), "--kubeconfig", REAL_KUBECONFIG, "-n", real.namespace, *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def deployment(**extra):
    """A Deployment that runs nothing, with an annotation and an env that a later form drops."""
    container = {
        "name": "web",
        "image": IMAGE,
        "env": [{"name": "KEPT", "value": "1"}, *extra.get("env", [])],
        "ports": [{"containerPort": 80}],
    }
    metadata = {"name": "web", "annotations": {"kept": "yes", **extra.get("annotations", {})}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container]},
            },
        },
    }


def config(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": data}


FIRST = [
    deployment(annotations={"dropped": "yes"}, env=[{"name": "DROPPED", "value": "1"}]),
    config(kept="1", dropped="1"),
]
SECOND = [deployment(), config(kept="2")]


def managers(manifest):
    """(manager, operation) of the main resource, sorted."""
    return sorted(
        (entry["manager"], entry["operation"])
        for entry in manifest["metadata"].get("managedFields", [])
        if not entry.get("subresource")
    )


def owned(manifest):
    """The same with what each owns."""
    return {
        (entry["manager"], entry["operation"], entry["apiVersion"]): entry["fieldsV1"]
        for entry in manifest["metadata"].get("managedFields", [])
        if not entry.get("subresource")
    }


def pair(real):
    return real.read("apps/v1", "Deployment", "web"), real.read("v1", "ConfigMap", "conf")


def has_upgraded(real):
    """Nothing of the first form is left, and the second is there."""
    web, conf = pair(real)
    container = web["spec"]["template"]["spec"]["containers"][0]
    assert "dropped" not in web["metadata"]["annotations"]
    assert [entry["name"] for entry in container["env"]] == ["KEPT"]
    assert conf["data"] == {"kept": "2"}
    for manifest in (web, conf):
        assert OURS not in [manager for manager, _ in managers(manifest)]


def spoil(real):
    """Somebody changes and adds fields under another name."""
    real.edit(
        "apps/v1",
        "Deployment",
        "web",
        {"metadata": {"annotations": {"hand": "made"}}, "spec": {"paused": True}},
        manager="hand",
    )
    real.edit("v1", "ConfigMap", "conf", {"data": {"kept": "9", "hand": "made"}}, manager="hand")


def bring_back(real, *, how):
    """Destroy and restore the namespace, or spoil and restore it in place; it must be as captured."""
    before = [owned(manifest) for manifest in pair(real)]
    real.point()
    if how == "destroyed":
        real.wipe()
    else:
        spoil(real)
    result = real.restore(real.ask(onConflict="update"))
    assert (result.phase, result.message) == ("Succeeded", "")
    assert [owned(manifest) for manifest in pair(real)] == before


@pytest.mark.parametrize("how", ["destroyed", "in place"])
@pytest.mark.parametrize("first", ["true", "false"])
@pytest.mark.parametrize("then", ["true", "false"])
def test_helm_upgrades_what_was_restored(real, tmp_path, how, first, then):
    """`helm upgrade` on either side meets no conflict, and what the new chart drops is gone."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: web\nversion: 1.0.0\n")
    (chart / "templates/all.yaml").write_text(yaml.safe_dump_all(FIRST))
    run(real, "helm", "install", "web", str(chart), f"--server-side={first}")

    bring_back(real, how=how)

    (chart / "templates/all.yaml").write_text(yaml.safe_dump_all(SECOND))
    run(real, "helm", "upgrade", "web", str(chart), f"--server-side={then}")
    has_upgraded(real)
    assert json.loads(run(real, "helm", "list", "-o", "json"))[0]["revision"] == "2"


@pytest.mark.parametrize("how", ["destroyed", "in place"])
@pytest.mark.parametrize(("first", "then"), [((), ()), ((), TEAM), (TEAM, TEAM)])
def test_kubectl_applies_what_was_restored(real, how, first, then):
    """`kubectl apply` on either side meets no conflict, and what the new file drops is gone.

    kubectl itself cannot go back from server-side to client-side apply.
    """
    run(real, "kubectl", "apply", *first, "-f", "-", stdin=yaml.safe_dump_all(FIRST))

    bring_back(real, how=how)

    words = then
    if then and not first:
        # kubectl moves the fields of a client-side apply over only under its own name.
        words = ("--server-side",)
    run(real, "kubectl", "apply", *words, "-f", "-", stdin=yaml.safe_dump_all(SECOND))
    has_upgraded(real)


def test_several_appliers_own_what_they_owned(real):
    """Two appliers and a hand: each applies again without force, and one drops its field."""
    real.apply(config(a="1", shared="1"), manager="one")
    real.apply(config(b="1", shared="1"), manager="two")
    real.edit("v1", "ConfigMap", "conf", {"data": {"c": "1"}}, manager="hand")
    before = owned(real.read("v1", "ConfigMap", "conf"))
    real.point()
    real.wipe()
    assert real.restore(real.ask()).phase == "Succeeded"

    assert owned(real.read("v1", "ConfigMap", "conf")) == before
    real.apply(config(b="2"), manager="two")
    assert real.read("v1", "ConfigMap", "conf")["data"] == {
        "a": "1",
        "b": "2",
        "c": "1",
        "shared": "1",
    }
    real.apply(config(a="1"), manager="one")
    assert "shared" not in real.read("v1", "ConfigMap", "conf")["data"]


def test_owner_references_stay_with_who_set_them(real):
    """An applied ownerReference comes back with the new uid, still the applier's, who can drop it."""
    owner = real.make(config(kept="1"))
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "child"}, "data": {}}
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "conf",
        "uid": owner["metadata"]["uid"],
    }
    owned_child = {**child, "metadata": {"name": "child", "ownerReferences": [reference]}}
    real.apply(owned_child, manager="operator")
    real.edit("v1", "ConfigMap", "child", {"data": {"x": "1"}}, manager="hand")
    real.point()
    real.wipe()
    assert real.restore(real.ask()).phase == "Succeeded"

    now = real.read("v1", "ConfigMap", "child")
    uid = real.read("v1", "ConfigMap", "conf")["metadata"]["uid"]
    assert now["metadata"]["ownerReferences"][0]["uid"] == uid != reference["uid"]
    assert OURS not in [manager for manager, _ in managers(now)]
    real.apply(child, manager="operator")
    after = real.read("v1", "ConfigMap", "child")["metadata"]
    assert "ownerReferences" not in after


def test_an_entry_of_another_served_version_stays_in_its_version(real):
    """An autoscaler applied at v1 and captured at v2 can be applied at v1 again without a conflict."""
    scaler = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2,
            "maxReplicas": 3,
            "targetCPUUtilizationPercentage": 50,
        },
    }
    real.apply(scaler, manager="team")
    real.edit(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "web",
        {"metadata": {"labels": {"by": "hand"}}},
        manager="hand",
    )
    before = owned(real.read("autoscaling/v2", "HorizontalPodAutoscaler", "web"))
    real.point()
    real.wipe()
    assert real.restore(real.ask()).phase == "Succeeded"

    assert owned(real.read("autoscaling/v2", "HorizontalPodAutoscaler", "web")) == before
    del scaler["spec"]["minReplicas"]
    scaler["spec"]["maxReplicas"] = 5
    real.apply(scaler, manager="team")
    spec = real.read("autoscaling/v2", "HorizontalPodAutoscaler", "web")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 5)


def test_a_field_that_a_transform_moved_is_its_managers(real):
    """Who owned the old key owns the new one: an apply that has neither removes it, without a conflict."""
    real.apply(config(old="1", kept="1"), manager="team")
    real.edit("v1", "ConfigMap", "conf", {"metadata": {"labels": {"by": "hand"}}}, manager="hand")
    real.point()
    real.wipe()
    edits = "[{'op': 'move', 'from': '/data/old', 'path': '/data/new'}]"
    moving = TransformSet.model_validate(
        {
            "apiVersion": "backup.reconciler.dev/v1alpha1",
            "kind": "TransformSet",
            "metadata": {"name": "moving"},
            "spec": {
                "rules": [
                    {
                        "name": "move",
                        "matchConstraints": {
                            "resourceRules": [
                                {
                                    "apiGroups": [""],
                                    "apiVersions": ["v1"],
                                    "resources": ["configmaps"],
                                }
                            ]
                        },
                        "matchConditions": [
                            {"name": "has-it", "expression": "has(object.data.old)"}
                        ],
                        "mutations": [
                            {"patchType": "JSONPatch", "jsonPatch": {"expression": edits}}
                        ],
                    }
                ]
            },
        }
    )
    assert real.restore(real.ask(transforms=[moving])).phase == "Succeeded"

    now = real.read("v1", "ConfigMap", "conf")
    assert now["data"] == {"new": "1", "kept": "1"}
    assert managers(now) == [("hand", "Update"), ("team", "Apply")]
    real.apply(config(kept="2"), manager="team")
    assert real.read("v1", "ConfigMap", "conf")["data"] == {"kept": "2"}


def test_replicas_stay_with_the_autoscaler(real):
    """An update leaves replicas and their owner to the autoscaler, and says so."""
    web = deployment()
    web["spec"]["replicas"] = 1
    real.apply(web, manager="team")
    real.make(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 2,
                "maxReplicas": 3,
            },
        }
    )
    real.point()
    eventual(lambda: real.read("apps/v1", "Deployment", "web")["spec"]["replicas"] == 2)
    real.edit(
        "apps/v1",
        "Deployment",
        "web",
        {"metadata": {"annotations": {"kept": "no"}}},
        manager="hand",
    )
    plan = real.plan(real.ask())
    entry = next(e for e in plan.entries if e.target.kind == "Deployment")
    assert ("spec.replicas", "its autoscaler") in [(s.path, s.owner) for s in entry.spared]
    # Its pods run nothing and are never Ready: that is not waited for here.
    real.execution(real.ask(), plan, bounds=replace(BOUNDS, ready_s=1)).run()

    after = real.read("apps/v1", "Deployment", "web")
    assert after["spec"]["replicas"] == 2
    assert after["metadata"]["annotations"]["kept"] == "yes"
    scales = [
        entry for entry in after["metadata"]["managedFields"] if entry.get("subresource") == "scale"
    ]
    assert [entry["manager"] for entry in scales] == ["kube-controller-manager"]


def test_what_apply_refuses_comes_back_exactly(real):
    """Duplicate env names and one containerPort under two hostPorts: created and updated as captured."""
    web = deployment(env=[{"name": "KEPT", "value": "2"}])
    container = web["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 80, "hostPort": 8081},
        {"containerPort": 53, "protocol": "UDP"},
        {"containerPort": 53, "protocol": "TCP"},
    ]
    real.make(web, manager="helm")
    real.edit("apps/v1", "Deployment", "web", {"metadata": {"labels": {"a": "b"}}}, manager="hand")
    before = real.read("apps/v1", "Deployment", "web")
    real.point()
    real.wipe()
    assert real.restore(real.ask()).phase == "Succeeded"
    created = real.read("apps/v1", "Deployment", "web")
    real.edit("apps/v1", "Deployment", "web", {"spec": {"paused": True}}, manager="later")
    assert real.restore(real.ask()).phase == "Succeeded"

    updated = real.read("apps/v1", "Deployment", "web")
    assert created["spec"] == updated["spec"] == before["spec"]
    assert owned(created) == owned(updated) == owned(before)
