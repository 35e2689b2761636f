"""The short-lived pod that mounts a claim: it runs, is removed whatever happens, and leftovers are found."""

from __future__ import annotations

import copy
import os
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.blueprint.streams import run
from reconciler.clock import SteppedClock
from reconciler.cluster import claimpod
from reconciler.cluster.permissions import RULES, check_permissions, policy_rules
from reconciler.cluster.port import ForbiddenError, NotFoundError, NotServedError, UnavailableError
from tests.support.clusters import claim, is_ready, pod, sandbox_cluster
from tests.support.sandbox import eventually

CLOCK = SteppedClock(datetime(2026, 6, 1, tzinfo=UTC))


class Lab:
    """A sandbox with one claim."""

    def __init__(self, sandbox, cluster):
        self.sandbox, self.cluster, self.discovery = sandbox, cluster, cluster.discover()
        self.pods = self.discovery.find("", "Pod")
        self.claims = self.discovery.find("", "PersistentVolumeClaim")
        self.make(claim("data"))

    def make(self, manifest):
        manifest["metadata"]["namespace"] = "default"
        return self.cluster.create(self.discovery.find("", manifest["kind"]), manifest, manager="t")

    def mounted(self, name="data", **how):
        how = {"timeout_s": 10, "image": "busybox"} | how
        return claimpod.claim_pod(
            self.cluster, self.discovery, namespace="default", claim=name, clock=CLOCK, **how
        )

    def names(self):
        [page] = self.cluster.pages(self.pods, namespace="default")
        return [item["metadata"]["name"] for item in page.items]


@pytest.fixture(scope="module")
def shared():
    """One sandbox for the module."""
    with sandbox_cluster() as (sandbox, cluster):
        yield Lab(sandbox, cluster)


@pytest.fixture
def lab(shared):
    """A sandbox without pods and faults."""
    yield shared
    shared.sandbox.faults.clear()
    for name in shared.names():
        shared.cluster.delete(shared.pods, name, namespace="default", grace_s=0)
    eventually(lambda: shared.names() == [])


def test_the_pod_mounts_only_the_claim_and_goes(lab):
    """It has no token, no privileges, an end of its own, our labels; afterwards it is gone."""
    with lab.mounted() as target:
        live = lab.cluster.get(lab.pods, target.pod, namespace="default")
        got = run(
            lab.cluster,
            target,
            ["sh", "-c", f"cd {claimpod.MOUNT_PATH} && echo in"],
            timeout=timedelta(seconds=9),
        )
    spec = live["spec"]

    assert got == b"in\n"
    assert [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"]] == ["data"]
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"]) == ("Never", False)
    assert spec["activeDeadlineSeconds"] == claimpod.ACTIVE_DEADLINE_S
    assert spec["containers"][0]["securityContext"]["privileged"] is False
    assert live["metadata"]["labels"]["backup.reconciler.dev/managed-by"] == "backup-reconciler"
    assert (
        live["metadata"]["annotations"]["backup.reconciler.dev/started-at"]
        == "2026-06-01T00:00:00Z"
    )
    assert lab.names() == []


def test_read_only_is_said_to_the_kubelet(lab):
    """A claim that is only read is mounted read-only."""
    with lab.mounted(read_only=True) as target:
        spec = lab.cluster.get(lab.pods, target.pod, namespace="default")["spec"]

    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True
    assert spec["volumes"][0]["persistentVolumeClaim"]["readOnly"] is True


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_pod_goes_after_an_error(lab, error):
    """Whatever is raised inside comes through, and the pod is gone."""
    with pytest.raises(error), lab.mounted():
        raise error

    assert lab.names() == []


def test_a_pod_that_does_not_start_is_told_and_removed(lab):
    """A claim that never binds ends the wait with the reason, without a pod left."""
    manifest = claim("unbound")
    manifest["spec"]["storageClassName"] = "no-such-class"
    lab.make(manifest)

    with (
        pytest.raises(claimpod.ClaimPodError, match="not ready after 0.5 s: .+"),
        lab.mounted("unbound", timeout_s=0.5),
    ):
        raise AssertionError("it never starts")

    assert lab.names() == []


def test_what_cannot_be_mounted_is_refused_before_a_pod_is_made(lab):
    """No such claim, or a raw block device."""
    manifest = claim("block")
    manifest["spec"]["volumeMode"] = "Block"
    lab.make(manifest)

    with pytest.raises(NotFoundError), lab.mounted("nobody"):
        pass
    with pytest.raises(NotServedError, match="not supported by this version"), lab.mounted("block"):
        pass
    assert lab.names() == []


def test_it_goes_where_the_claim_is_mounted(lab):
    """A claim that a running pod mounts can be mounted on that pod's node only."""
    lab.make(pod("user", claim="data"))
    eventually(lambda: is_ready(lab.cluster.get(lab.pods, "user", namespace="default")))
    node = lab.cluster.get(lab.pods, "user", namespace="default")["spec"]["nodeName"]

    with lab.mounted() as target:
        spec = lab.cluster.get(lab.pods, target.pod, namespace="default")["spec"]

    [term] = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchFields"][0]["values"] == [node]


class RestrictedNamespaces:
    """Pod security admission, which the sandbox has not: it lets in only pods of the `restricted` standard."""

    def __init__(self, cluster):
        self._cluster = cluster

    def __getattr__(self, name):
        return getattr(self._cluster, name)

    def create(self, kind, manifest, **how):
        """Create it, or refuse in the words of a real server."""
        [container] = manifest["spec"]["containers"]
        is_root = not manifest["spec"].get("securityContext", {}).get("runAsNonRoot")
        if is_root or container["securityContext"]["capabilities"] != {"drop": ["ALL"]}:
            raise ForbiddenError(
                f'create Pod: the API server answered 403 Forbidden: pods "{manifest["metadata"]["name"]}" is '
                'forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities'
            )
        return self._cluster.create(kind, manifest, **how)


@pytest.fixture
def strict(lab):
    """The lab with an API server that enforces the `restricted` standard."""
    made = copy.copy(lab)
    made.cluster = RestrictedNamespaces(lab.cluster)
    return made


def test_a_restricted_namespace_gets_a_pod_of_the_files_owner(strict):
    """Where pods must comply, it runs as the one user who owns the files, without any capability."""
    with strict.mounted(owner=lambda: (os.getuid() or 1000, 2000)) as target:
        spec = strict.cluster.get(strict.pods, target.pod, namespace="default")["spec"]

    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": os.getuid() or 1000,
        "runAsGroup": 2000,
        "fsGroup": 2000,
    }
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert strict.names() == []


@pytest.mark.parametrize("owner", [None, (0, 0)])
def test_a_restricted_namespace_refuses_what_needs_root(strict, owner):
    """Files of several users, or of root, cannot be written there: that is said, with the way out."""
    with (
        pytest.raises(claimpod.ClaimPodRefusedError, match="only pods of the restricted") as caught,
        strict.mounted(owner=lambda: owner),
    ):
        pass

    assert caught.value.reason == "RestrictedNamespace"
    assert "enforce=baseline" in caught.value.hint
    assert strict.names() == []


def leave_behind(lab):
    """What a process that died has left: the same pod with another process's word."""
    with lab.mounted() as target:
        left = lab.cluster.get(lab.pods, target.pod, namespace="default")
    metadata = left["metadata"]
    metadata["annotations"]["backup.reconciler.dev/process"] = "another"
    for key in ("uid", "resourceVersion", "managedFields", "creationTimestamp"):
        metadata.pop(key, None)
    left.pop("status", None)
    return lab.make(left)["metadata"]


def test_leftovers_are_found_and_removed(lab):
    """Pods of a process that died are listed and removed; ours are not."""
    lab.make(claim("other"))
    left = leave_behind(lab)
    with lab.mounted("other"):
        assert claimpod.list_leftover_pods(lab.cluster, lab.discovery) == [
            f"default/{left['name']}"
        ]
        assert claimpod.remove_leftover_pods(lab.cluster, lab.discovery, "default") == [
            f"default/{left['name']}"
        ]
        assert claimpod.list_leftover_pods(lab.cluster, lab.discovery) == []
        assert len(lab.names()) == 1


def test_a_leftover_gives_way(lab):
    """A pod of the same name that a dead process left is replaced."""
    left = leave_behind(lab)

    with lab.mounted() as target:
        live = lab.cluster.get(lab.pods, target.pod, namespace="default")

    assert live["metadata"]["name"] == left["name"]
    assert live["metadata"]["uid"] != left["uid"]
    assert lab.names() == []


def test_one_process_mounts_a_claim_once(lab):
    """A second mount by the same process is refused, and the first one goes on."""
    with lab.mounted() as target:
        with (
            pytest.raises(claimpod.ClaimPodRefusedError, match="uses the claim already"),
            lab.mounted(),
        ):
            pass
        assert lab.cluster.get(lab.pods, target.pod, namespace="default")


def test_somebody_elses_pod_is_left_alone(lab):
    """A pod that merely has the name is not removed."""
    with lab.mounted() as target:
        name = target.pod
    lab.make(pod(name))

    with pytest.raises(claimpod.ClaimPodRefusedError, match="somebody else"), lab.mounted():
        pass
    assert lab.names() == [name]


def test_a_lost_answer_leaves_no_pod(lab):
    """When the create is answered by 500 nothing is left, and the error comes through."""
    lab.sandbox.faults.add("answer", "/pods", method="POST", value=500)

    with pytest.raises(UnavailableError), lab.mounted():
        pass
    assert lab.names() == []


def test_a_delete_that_fails_once_is_repeated(lab):
    """Removal goes on until the pod is gone."""
    fault = lab.sandbox.faults.add("answer", "/pods/", method="DELETE", value=503, times=2)
    with lab.mounted():
        pass

    assert fault.hits == 2
    assert lab.names() == []


def test_permissions_are_asked_one_by_one(lab):
    """What is missing is named with what it is for; a server that reviews no access is said not to."""
    lab.sandbox.deny("create", "leases", group="coordination.k8s.io", namespace="default")
    missing = check_permissions(lab.cluster, RULES, "default")
    lab.sandbox.allow_all()
    lab.sandbox.faults.add("answer", "selfsubjectaccessreviews", value=501)

    assert missing == ["create leases.coordination.k8s.io in default (act once, by one process)"]
    assert check_permissions(lab.cluster, RULES, "default") is None
    assert check_permissions(lab.cluster, RULES, "default") == []
    assert {
        "apiGroups": [""],
        "resources": ["pods/exec"],
        "verbs": ["get", "create"],
    } in policy_rules()
