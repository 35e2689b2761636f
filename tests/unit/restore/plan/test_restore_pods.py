"""What Pod Security forbids, what pods a workload makes, what a plan takes out of a quota."""

import pytest

from reconciler.objects import ObjectKey
from reconciler.restore.plan.entry import Entry
from reconciler.restore.plan.live import Live
from reconciler.restore.plan.pods import pod_of
from reconciler.restore.plan.podsecurity import violations
from reconciler.restore.plan.quota import quota_warnings
from tests.support.seen import manifest
from tests.support.targets import serving

GOOD = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(context=None, **spec):
    container = {"name": "a", "image": "a:1"}
    if context is not None:
        container["securityContext"] = context
    return {"containers": [container], **spec}


@pytest.mark.parametrize(
    ("spec", "level", "word"),
    [
        (pod(GOOD), "restricted", ""),
        (pod(), "baseline", ""),
        (pod(), "", ""),
        (pod(hostNetwork=True), "privileged", ""),
        (pod(), "restricted", "allowPrivilegeEscalation"),
        (pod({**GOOD, "runAsUser": 0}), "restricted", "runAsUser=0"),
        (pod({**GOOD, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}), "restricted", "add"),
        (pod(GOOD, hostNetwork=True), "restricted", "hostNetwork"),
        (pod(hostNetwork=True), "baseline", "hostNetwork"),
        (pod({"privileged": True}), "baseline", "privileged"),
        (pod({"capabilities": {"add": ["SYS_ADMIN"]}}), "baseline", "SYS_ADMIN"),
        (pod(volumes=[{"name": "h", "hostPath": {"path": "/"}}]), "baseline", "hostPath"),
        (pod(GOOD, volumes=[{"name": "n", "nfs": {}}]), "restricted", "volume n"),
        (pod(GOOD, volumes=[{"name": "n", "emptyDir": {}}]), "restricted", ""),
        (
            {"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
            "baseline",
            "hostPort",
        ),
        (
            pod(
                {k: v for k, v in GOOD.items() if k not in ("runAsNonRoot", "seccompProfile")},
                securityContext={
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            ),
            "restricted",
            "",
        ),
    ],
)
def test_standards(spec, level, word):
    """The controls of each level, and no more than those."""
    found = violations(spec, level)

    assert bool(found) == bool(word)
    assert word in " ".join(found)


def test_the_pod_of_a_set_has_its_claims():
    """A pod that is only tried has the volumes that the controller would add."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()}
    claims = [{"metadata": {"name": "data"}}]
    workload = manifest(
        "StatefulSet",
        "db",
        api="apps/v1",
        spec={"template": template, "volumeClaimTemplates": claims},
    )
    made = pod_of(workload)

    assert made["metadata"] == {"labels": {"a": "b"}, "generateName": "db-", "namespace": "shop"}
    assert made["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}
    ]
    assert "volumes" not in template["spec"]
    assert pod_of(manifest("ConfigMap", "c")) is None


TARGET = serving(
    "v1 Service services",
    "v1 PersistentVolumeClaim persistentvolumeclaims",
    "v1 ConfigMap configmaps",
    "v1 ResourceQuota resourcequotas",
    "apps/v1 Deployment deployments",
)


def entry(made, verdict="create"):
    key = ObjectKey.of(made)
    return Entry(key, key, verdict, "x", desired=made)


def quota(hard, used=None, **spec):
    status = {"hard": hard, "used": used or {}}
    return manifest("ResourceQuota", "q", spec={"hard": hard, **spec}, status=status)


def warned(entries, *live):
    objects = Live(objects={ObjectKey.of(m): m for m in live})
    return [
        line.rpartition(": ")[2]
        for line in quota_warnings(entries, live=objects, discovery=TARGET, namespace="shop")
    ]


def web(replicas, cpu="500m"):
    container = {"name": "a", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}
    spec = {"replicas": replicas, "template": {"spec": {"containers": [container]}}}
    return manifest("Deployment", "web", api="apps/v1", spec=spec)


def test_what_is_needed_is_held_against_what_is_free():
    """Pods by their requests, objects by their number; what fits is not told."""
    hard = {"requests.cpu": "3", "requests.memory": "10Gi", "pods": "3", "count/configmaps": "9"}
    live = quota(hard, {"requests.cpu": "1500m", "requests.memory": "8704Mi", "pods": "1"})

    assert warned([entry(web(3)), entry(manifest("ConfigMap", "c"))], live) == [
        "pods needs 3, 2 of 3 is free",
        "requests.memory needs 3Gi, 1.5Gi of 10Gi is free",
    ]
    assert warned([entry(web(1))], live) == []
    assert warned([entry(web(3), "unchanged")], live) == []


def test_an_update_counts_by_its_difference():
    """What the live form uses already is not needed again."""
    live = quota({"requests.cpu": "2"}, {"requests.cpu": "1500m"})

    assert warned([entry(web(4), "update")], live, web(3)) == []
    assert warned([entry(web(5), "update")], live, web(3)) == [
        "requests.cpu needs 1, 0.5 of 2 is free"
    ]


def test_a_quota_of_the_plan_counts_before_it_is_there():
    """A namespace that is made again gets its quota with it; scoped ones are not worked out."""
    scoped = quota({"pods": "1"}, scopes=["BestEffort"])

    assert warned([entry(quota({"pods": "2"})), entry(web(3))]) == ["pods needs 3, 2 of 2 is free"]
    assert warned([entry(scoped), entry(web(3))]) == []


def test_claims_and_services_count_by_kind():
    """Storage by class, node ports by their number, load balancers."""
    spec = {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}
    ports = [{"port": 1}, {"port": 2}]
    hard = {
        "requests.storage": "1Gi",
        "fast.storageclass.storage.k8s.io/requests.storage": "1Gi",
        "services.nodeports": "1",
        "services.loadbalancers": "0",
    }
    plan = [
        entry(manifest("PersistentVolumeClaim", "d", spec=spec)),
        entry(manifest("Service", "s", spec={"type": "LoadBalancer", "ports": ports})),
    ]

    assert [line.partition(" ")[0] for line in warned(plan, quota(hard))] == sorted(hard)
