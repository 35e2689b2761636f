"""Namespaces that refuse: a quota that is full to the last object, and the `restricted` pod security standard."""

from __future__ import annotations

from tests.cluster.applications.kinds import Application
from tests.cluster.applications.workloads import claim, config_map, deployment
from tests.cluster.outpost import KubectlError, Outpost, until

LIMITS = """\
apiVersion: v1
kind: LimitRange
metadata: {name: usual}
spec:
  limits:
    - type: Container
      default: {cpu: 100m, memory: 64Mi}
      defaultRequest: {cpu: 10m, memory: 16Mi}
      max: {memory: 64Mi}
    - {type: PersistentVolumeClaim, max: {storage: 64Mi}}
"""
QUOTA = """\
apiVersion: v1
kind: ResourceQuota
metadata: {name: full}
spec:
  hard:
    pods: "1"
    requests.cpu: 10m
    limits.memory: 64Mi
    persistentvolumeclaims: "1"
    requests.storage: 64Mi
    count/configmaps: "2"
    count/deployments.apps: "1"
"""
KEEP = ("exec", "deploy/keeper", "--")


def deploy_limited(outpost: Outpost, namespace: str) -> None:
    """One pod, one claim, one ConfigMap of our own: the quota leaves nothing."""
    outpost.kubectl.apply(LIMITS, "-n", namespace)
    things = [config_map("settings", a="1"), claim("data"), deployment("keeper", claim="data")]
    outpost.kubectl.apply(things, "-n", namespace)
    outpost.kubectl.apply(QUOTA, "-n", namespace)
    outpost.ready(namespace)
    write(outpost, namespace, "first")


def write(outpost: Outpost, namespace: str, text: str) -> None:
    """Put a word into the volume, with the mode that the kubelet gives all files of a pod's fsGroup."""
    script = f"echo {text} > /data/word; chmod 664 /data/word; sync"
    outpost.kubectl("-n", namespace, *KEEP, "sh", "-c", script)


def read(outpost: Outpost, namespace: str) -> str:
    """The word in the volume."""
    return outpost.kubectl("-n", namespace, *KEEP, "cat", "/data/word")


def is_full(outpost: Outpost, namespace: str) -> None:
    """The quota counts what is there, and lets nothing more in."""

    def used() -> dict[str, str]:
        quota = outpost.kubectl.get("resourcequota", "full", "-n", namespace)
        return quota.get("status", {}).get("used", {})

    until(lambda: used().get("pods") == "1" and used().get("count/configmaps") == "2", what=used)
    try:
        outpost.kubectl("create", "configmap", "one-more", "-n", namespace)
    except KubectlError as error:
        assert "exceeded quota" in str(error)
    else:
        raise AssertionError("the quota let a ConfigMap in")


def deploy_restricted(outpost: Outpost, namespace: str) -> None:
    """A pod that complies, with a claim."""
    keeper = deployment(
        "keeper",
        claim="data",
        securityContext={
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    )
    keeper["spec"]["template"]["spec"]["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": 1234,
        "runAsGroup": 1234,
        "fsGroup": 1234,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    outpost.kubectl.apply([claim("data"), keeper], "-n", namespace)
    outpost.ready(namespace)
    write(outpost, namespace, "first")


def state_restricted(outpost: Outpost, namespace: str) -> str:
    """The word, and whose it is."""
    argv = ("stat", "-c", "%u:%g %a %n", "/data/word")
    return read(outpost, namespace) + outpost.kubectl("-n", namespace, *KEEP, *argv)


def is_restricted(outpost: Outpost, namespace: str) -> None:
    """The namespace refuses a pod that does not comply."""
    pod = deployment("loose")["spec"]["template"]["spec"]
    loose = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loose"}, "spec": pod}
    try:
        outpost.kubectl.create([loose], "-n", namespace)
    except KubectlError as error:
        assert 'violates PodSecurity "restricted' in str(error)
    else:
        raise AssertionError("the namespace let a pod in that does not comply")


LIMITED = Application(
    "limited",
    deploy=deploy_limited,
    change=lambda outpost, namespace: write(outpost, namespace, "second"),
    state=read,
    works=is_full,
)
RESTRICTED = Application(
    "restricted",
    deploy=deploy_restricted,
    change=lambda outpost, namespace: write(outpost, namespace, "second"),
    state=state_restricted,
    works=is_restricted,
    labels=(
        ("pod-security.kubernetes.io/enforce", "restricted"),
        ("pod-security.kubernetes.io/enforce-version", "latest"),
        ("pod-security.kubernetes.io/warn", "restricted"),
    ),
)
