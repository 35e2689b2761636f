"""Volumes on a real cluster: snapshots are cut, movers read them in our namespace, and nothing of ours stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import yaml

from reconciler.volumes.alive import who_lives
from tests.cluster.node.images import PRODUCT
from tests.cluster.outpost import Outpost, until
from tests.support.buckets import missing, serving
from tests.support.clusters import IMAGE, REAL_KUBECONFIG

HOST = os.environ.get("RECONCILER_TEST_HOST", "10.77.1.254")
"""The machine's end of the cluster's network, where pods reach what a test serves."""
MAKE = r"""
cd /data && mkdir -p sub/deep && echo one > sub/one && echo two > sub/deep/two && echo three > three
chmod 600 sub/one sub/deep/two three && chown 1001:2001 sub/one && chown 1002:2002 sub/deep/two
chown 1003:2003 three && ln three sub/hard && ln -s sub/one link && mkfifo pipe
touch -d @1700000000 sub/one && chmod 2750 sub/deep && chown 1004:2004 sub/deep
dd if=/dev/urandom of=large bs=1M count=6 2>/dev/null && chown 1005:2005 . && chmod 711 .
"""
WRITE = "n=0; while :; do n=$((n+1)); echo $(date +%s) $n >> /data/log; sleep 0.01; done"
LOOK = r"""
cd /data && find . ! -name log | sort | while read -r f; do
  printf '%s ' "$f"; stat -c '%a %u %g %Y %F' "$f"; [ -f "$f" ] && sha256sum < "$f"
done
"""


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    if how := missing("minio"):
        pytest.skip(how)
    with serving("minio", tmp_path_factory.mktemp("minio"), host=HOST) as made:
        yield made


def settings(minio, namespace, **movers):
    """The lines of the configuration for movers, and for the bucket's key."""
    key = minio.credentials
    os.environ["BRC_KEY"], os.environ["BRC_SECRET"] = key.access_key_id, key.secret_access_key
    return yaml.safe_dump(
        {
            "credentials": {
                "primary": {
                    "accessKeyId": {"env": "BRC_KEY"},
                    "secretAccessKey": {"env": "BRC_SECRET"},
                }
            },
            "volumes": {"namespace": namespace, "movers": {"image": PRODUCT, **movers}},
        }
    )


@pytest.fixture
def movers(tmp_path, minio):
    """An outpost whose location is a bucket that movers reach, with a namespace for them."""
    bucket = f"b-{uuid.uuid4().hex[:12]}"
    minio.make(bucket)
    namespace = f"brc-movers-{uuid.uuid4().hex[:8]}"
    made = Outpost(
        tmp_path,
        Path(REAL_KUBECONFIG),
        location=minio.url(bucket, "a"),
        credentials=minio.credentials,
        settings=settings(minio, namespace),
    )
    made.mover_namespace = namespace
    made.kubectl("create", "namespace", namespace)
    yield made
    made.kubectl("delete", "namespace", namespace, "--wait=false")
    made.kubectl("delete", "namespace", "-l", f"brc.example/outpost={made.mark}", "--wait=false")


def deploy(outpost, namespace, *, command=WRITE, size="64Mi"):
    """A workload that keeps writing to a claim; the claim's files belong to several owners."""
    outpost.settle(namespace)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            "storageClassName": "directories",
        },
    }
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-c", f"[ -e /data/three ] || {{ {MAKE} }}; {command}"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {
            "exec": {"command": ["test", "-s", "/data/log"]},
            "periodSeconds": 1,
        },
    }
    labels = {"app": "writer"}
    workload = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "writer", "namespace": namespace},
        "spec": {
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [container],
                    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
                },
            },
        },
    }
    outpost.kubectl.apply([claim, workload])
    outpost.ready(namespace)


def quota(namespace, hard):
    metadata = {"name": "full", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": metadata,
        "spec": {"hard": hard},
    }


def look(outpost, namespace):
    """Every file of the claim: owner, mode, time, type, digest; but for the log that is written all the time."""
    return outpost.kubectl(
        "exec", "-n", namespace, "deployment/writer", "--", "sh", "-c", LOOK
    ).splitlines()


def ours(outpost):
    """What of ours is in the cluster, in whatever namespace."""
    selector = "backup.reconciler.dev/purpose"
    kinds = "volumesnapshots,volumesnapshotcontents,persistentvolumeclaims,jobs,pods,secrets"
    found = outpost.kubectl("get", kinds, "-A", "-l", selector, "-o", "name").split()
    volumes = outpost.kubectl.get("persistentvolumes")["items"]
    named = [one["spec"]["claimRef"]["name"] for one in volumes if "claimRef" in one["spec"]]
    return found + [name for name in named if name.startswith("reconciler-")]


def folder_of_snapshots():
    return Path(REAL_KUBECONFIG).parent / "volumes" / ".snapshots"


def point_of(outpost):
    """The newest point of the store, and what it is read with."""
    parts = outpost.parts()
    desired = parts.desired()
    store = parts.locations.open(desired.locations[0])
    name = list(store.points())[-1]
    return store, name, store.point(name)[0]


def test_a_volume_in_use_is_captured_as_of_one_instant(movers):
    """A namespace where nothing more may run is captured by a mover in ours: bytes, owners, modes and times are those
    of the snapshot, a log that is written all the time ends in a whole line before it, and nothing of ours stays.
    """
    outpost, namespace = movers, f"locked-{movers.mark}"
    deploy(outpost, namespace)
    outpost.kubectl.apply(
        [
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "none", "namespace": namespace},
                "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
            },
            quota(namespace, {"pods": "1", "secrets": "0", "persistentvolumeclaims": "1"}),
        ]
    )
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    outpost.kubectl("label", "namespace", namespace, enforce, "--overwrite")
    before = look(outpost, namespace)

    line = outpost.capture().captured[0]

    assert line.phase == "Succeeded"
    store, name, point = point_of(outpost)
    (content,) = point.contents
    assert content.name == "volume/data"
    assert content.consistent_at
    entries = {entry.path: entry for entry in store.tree(name.domain, content.root)}
    assert described(entries) == before
    log = b"".join(entries["log"].content())
    assert log.endswith(b"\n")
    cut = int(log.splitlines()[-1].split()[0])
    record = outpost.kubectl("exec", "-n", namespace, "deployment/writer", "--", "cat", "/data/log")
    assert record.encode().startswith(log)
    assert abs(cut - instant(content.consistent_at)) < 2
    assert ours(outpost) == []
    assert not list(folder_of_snapshots().glob("*"))


def instant(text):
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def described(entries):
    """A tree as `look` shows it."""
    import hashlib

    lines = []
    types = {
        "file": "regular file",
        "directory": "directory",
        "symlink": "symbolic link",
        "fifo": "fifo",
        "hardlink": "regular file",
    }
    for path in sorted(entries, key=lambda p: "." if p == "." else f"./{p}"):
        entry = entries[path]
        if path == "log":
            continue
        shown = "." if path == "." else f"./{path}"
        lines.append(
            f"{shown} {entry.mode:o} {entry.uid} {entry.gid} {entry.mtime_ns // 10**9} {types[entry.type]}"
        )
        if entry.type in ("file", "hardlink"):
            of = entries[entry.link] if entry.type == "hardlink" else entry
            data = b"".join(of.content())
            lines.append(f"{hashlib.sha256(data).hexdigest()}  -")
        elif entry.type == "symlink":
            data = b"".join(entries[entry.link].content())
            lines.append(f"{hashlib.sha256(data).hexdigest()}  -")
    return lines


def test_an_unchanged_volume_costs_next_to_nothing(movers):
    """A second capture stores only what changed: the log, not the large file."""
    outpost, namespace = movers, f"still-{movers.mark}"
    deploy(outpost, namespace)
    first = outpost.capture().captured[0]
    second = outpost.capture().captured[0]
    assert first.added_bytes > 6_000_000
    assert second.added_bytes < 200_000


def test_captures_that_are_killed_leave_nothing_for_long(movers):
    """A daemon that is killed anywhere in a capture leaves objects behind; the next pass takes them away, and captures."""
    outpost, namespace = movers, f"killed-{movers.mark}"
    deploy(outpost, namespace)
    for number in range(5):
        outpost.clock.advance(outpost.hour)
        process = subprocess.Popen(
            [sys.executable, "-c", PASS, str(outpost.config), outpost.clock.now().isoformat()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1.5 + number * 0.9)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert ours(outpost), "five captures were killed and left nothing?"
    cluster = outpost.parts().connect()
    where = outpost.mover_namespace
    until(lambda: len(who_lives(cluster, cluster.discover())) == 1)
    outpost.capture()
    assert ours(outpost) == []
    assert outpost.kubectl("get", "leases", "-n", where, "-o", "name") == ""
    assert not list(folder_of_snapshots().glob("*"))


PASS = """
import sys, threading
from datetime import datetime
from pathlib import Path
from reconciler.cli.compose import Parts
from reconciler.clock import SteppedClock
from reconciler.daemon.settings import load_configuration
clock = SteppedClock(datetime.fromisoformat(sys.argv[2]))
Parts(load_configuration(Path(sys.argv[1])), clock=clock).reconciler.run_pass(stop=threading.Event())
"""


def test_a_capture_that_is_stopped_ends_within_seconds(movers):
    """A daemon that is told to end while a mover works takes the mover and the snapshot away, and records nothing."""
    outpost, namespace = movers, f"stopped-{movers.mark}"
    deploy(outpost, namespace, size="2Gi")
    outpost.clock.advance(outpost.hour)
    stop = threading.Event()
    parts = outpost.parts()
    thread = threading.Thread(target=lambda: parts.reconciler.run_pass(stop=stop))
    thread.start()
    until(lambda: any(name.startswith("job") for name in ours(outpost)))
    began = time.monotonic()
    stop.set()
    thread.join(60)
    assert time.monotonic() - began < 20
    assert ours(outpost) == []


def test_what_a_mover_read_comes_back(movers):
    """A destroyed namespace comes back with its volume as the snapshot held it, the top folder's owner included, although
    nothing but its own pod may run there: a mover fills a volume in our namespace, and the claim takes it over.
    """
    outpost, namespace = movers, f"back-{movers.mark}"
    deploy(outpost, namespace)
    full = {"pods": "1", "persistentvolumeclaims": "1"}
    outpost.kubectl.apply([quota(namespace, full)])
    outpost.capture()
    before = look(outpost, namespace)
    outpost.destroy(namespace)
    outpost.restore(namespace)
    outpost.ready(namespace)
    assert look(outpost, namespace) == before
    assert ours(outpost) == []
    (volume,) = [
        one
        for one in outpost.kubectl.get("persistentvolumes")["items"]
        if one["spec"].get("claimRef", {}).get("namespace") == namespace
    ]
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert "labels" not in volume["metadata"]
    directory = Path(REAL_KUBECONFIG).parent / "volumes" / volume["spec"]["csi"]["volumeHandle"]
    assert directory.is_dir()
    outpost.destroy(namespace)
    until(lambda: not directory.exists())


def test_a_policy_may_want_a_volume_read_live(movers):
    """`action: files` reads a volume while it is in use: no snapshot is taken, and no instant is claimed."""
    outpost, namespace = movers, f"live-{movers.mark}"
    deploy(outpost, namespace)
    outpost.write(
        "policies/marked.yaml",
        (outpost.root / "policies/policies/marked.yaml").read_text()
        + '  capture: {volumes: [{where: "true", action: files}]}\n',
    )
    outpost.merge("read volumes live")
    outpost.capture()
    _, _, point = point_of(outpost)
    assert [content.consistent_at for content in point.contents] == [""]
