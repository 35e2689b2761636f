"""A mover's Job: what it may do, and what it never carries."""

from __future__ import annotations

import json

import pytest

from reconciler.errors import TerminalError, TransientError
from reconciler.mover.order import Fault, Status, encode
from reconciler.volumes.movers import Mount, MoverSettings, _result_of, job_of, judged
from reconciler.volumes.ours import Claim

SETTINGS = MoverSettings(image="registry.example/mover:1", namespace="ours")


def job(**mount):
    return job_of(Mount(Claim("ours", "clone"), **mount), 0, SETTINGS)


def pod_of(made):
    return made["spec"]["template"]["spec"]


def test_a_mover_has_no_token_no_secret_and_no_environment():
    """Keys come another way; nothing of the pod's text can hold one."""
    pod = pod_of(job(read_only=True))
    text = json.dumps(pod)
    assert pod["automountServiceAccountToken"] is False
    assert "secret" not in text.lower()
    assert "env" not in pod["containers"][0]
    assert {next(k for k in volume if k != "name") for volume in pod["volumes"]} == {
        "persistentVolumeClaim",
        "emptyDir",
    }


def test_a_mover_that_reads_has_one_capability_and_no_place_to_write():
    """Files of other users are read; the volume and the image are read-only; groups are never changed."""
    pod = pod_of(job(read_only=True))
    container = pod["containers"][0]
    assert container["securityContext"]["capabilities"] == {
        "drop": ["ALL"],
        "add": ["DAC_OVERRIDE"],
    }
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [m["readOnly"] for m in container["volumeMounts"] if m["name"] == "volume"] == [True]
    assert "fsGroup" not in json.dumps(pod)


def test_the_capabilities_are_those_that_the_baseline_standard_allows():
    """So that our namespace can enforce it."""
    allowed = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"}
    container = pod_of(job())["containers"][0]
    assert set(container["securityContext"]["capabilities"]["add"]) == allowed


def test_two_movers_of_one_place_are_on_two_nodes():
    """That bounds how many run on a node."""
    made = job_of(Mount(Claim("ours", "clone")), 1, SETTINGS)
    (apart,) = pod_of(made)["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert apart["labelSelector"]["matchLabels"].items() <= labels.items()
    assert apart["labelSelector"]["matchLabels"]["backup.reconciler.dev/mover-place"] == "1"
    assert apart["topologyKey"] == "kubernetes.io/hostname"


def test_a_device_is_no_folder():
    """A raw block volume is shown as a device."""
    container = pod_of(job(is_device=True))["containers"][0]
    assert container["volumeDevices"] == [{"name": "volume", "devicePath": "/dev/volume"}]
    assert all(mount["name"] != "volume" for mount in container["volumeMounts"])


@pytest.mark.parametrize(("transient", "family"), [(True, TransientError), (False, TerminalError)])
def test_a_mover_that_failed_says_why(transient, family):
    """Its reason and message become ours; what may pass is told from what may not."""
    status = Status("failed", faults={"primary": Fault("StorageFull", "no space", transient)})
    with pytest.raises(family) as caught:
        judged(status)
    assert (caught.value.reason, caught.value.message) == ("StorageFull", "no space")
    judged(Status("done", faults={"one": Fault("X", "of two locations")}))


def test_a_result_is_read_from_the_pod_that_ended():
    """A container that was killed before it could say anything has none."""

    def pod(message):
        state = {"terminated": {"exitCode": 137, "message": message}}
        return {"status": {"containerStatuses": [{"name": "mover", "state": state}]}}

    assert _result_of(pod("")) is None
    assert _result_of(pod("Killed")) is None
    assert _result_of(pod(encode(Status("done")).decode())) == Status("done")
