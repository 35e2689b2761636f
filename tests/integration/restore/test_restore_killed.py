"""Real processes, killed with SIGKILL in the middle of a restore, and another process that ends it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.kinds.model import Metadata
from reconciler.kinds.record import RestorePoint
from reconciler.ledger.ledger import Entry, Ledger
from reconciler.restore.execute.pausing import held_back
from reconciler.store.content import open_store
from reconciler.store.directory import DirectoryStorage
from reconciler.store.keys import Cost, init_location
from tests.support.rescue import Rescue
from tests.support.seen import manifest
from tests.support.shop import BLUEPRINT, furnish, look

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def scene(living, tmp_path):
    """A captured shop that is gone, with location and ledger that other processes can reach."""
    storage = DirectoryStorage(tmp_path / "store", create=True)
    init_location(storage, "a pass phrase", cost=Cost(memory_kib=64, iterations=1, lanes=1))
    clock = SystemClock()
    rescue = Rescue(living.town, open_store(storage, "a pass phrase", clock=clock), clock)
    furnish(rescue)
    done = rescue.capture(blueprints=[BLUEPRINT])
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "remote.git")], check=True)
    ledger = ledger_of(tmp_path, "first")
    metadata = Metadata(name="shop")
    ledger.append(
        [
            Entry(
                RestorePoint(
                    api_version="backup.reconciler.dev/v1alpha1",
                    metadata=metadata,
                    spec=done.record,
                )
            )
        ]
    )
    ledger.push()
    before = look(rescue)
    rescue.delete_namespace()
    rescue.town.sandbox.write_kubeconfig(tmp_path / "kubeconfig")
    return rescue, before


def ledger_of(tmp_path, name):
    """A ledger on a disk of its own."""
    url = f"file://{tmp_path / 'remote.git'}"
    ledger = Ledger(directory=tmp_path / name, url=url, cluster="town", clock=SystemClock())
    ledger.refresh()
    return ledger


def start(tmp_path, holder, *, pause=()):
    """Start a process that runs the restore."""
    given = {
        "ledger": str(tmp_path / holder),
        "remote": f"file://{tmp_path / 'remote.git'}",
        "store": str(tmp_path / "store"),
        "kubeconfig": str(tmp_path / "kubeconfig"),
        "holder": holder,
        "pause": json.dumps(pause),
    }
    argv = [sys.executable, "-m", "tests.support.restoring", json.dumps(given)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def ended(tmp_path, **how):
    """Let another process end it, as soon as the Lease of the dead one is over; what it says."""
    deadline = time.monotonic() + 60
    while True:
        output, _ = start(tmp_path, "p2", **how).communicate(timeout=60)
        if "Waiting" not in output:
            return output
        assert time.monotonic() < deadline, output


@pytest.mark.parametrize(
    ("method", "path", "nth"),
    [
        # The first one is the namespace of Leases.
        ("POST", r"/api/v1/namespaces\?", 2),
        ("", r"/pods/reconciler-claim-[^/]*/exec", 1),
        ("", r"/pods/kv-0/exec", 1),
        ("POST", r"/namespaces/shop/deployments\?", 1),
    ],
    ids=["namespace", "filling", "loading", "workload"],
)
def test_a_killed_restore_is_ended_by_another_process(scene, tmp_path, method, path, nth):
    """Wherever it dies, contents and workloads come back whole, once, and nothing is left behind."""
    rescue, before = scene
    fault = rescue.town.sandbox.faults.add("delay", path, method=method, nth=nth, value=3)
    first = start(tmp_path, "p1")
    rescue.town.wait(lambda: fault.hits or first.poll() is not None, "the place to die")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    rescue.town.sandbox.faults.clear()

    output = ended(tmp_path)

    assert output.splitlines()[-1].startswith("Succeeded Succeeded"), output
    assert look(rescue) == before
    (state,) = ledger_of(tmp_path, "last").view().restores().values()
    assert state.finished.spec.phase == "Succeeded"
    kind = rescue.town.kind("v1", "Pod")
    names = [p["metadata"]["name"] for page in rescue.town.cluster.pages(kind) for p in page.items]
    assert not [name for name in names if name.startswith("reconciler-")]


def test_what_a_killed_restore_held_back_is_listed_and_then_released(scene, tmp_path):
    """SIGKILL with the operator stopped: it says what to put back by hand, and the process that goes on puts it back."""
    rescue, before = scene
    town = rescue.town
    labels = {"app": "operator"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "m", "image": "i"}]},
    }
    template["spec"]["containers"][0]["command"] = ["sleep", "3600"]
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    space = manifest("Namespace", "ops", namespace="")
    town.create(
        space, manifest("Deployment", "operator", api="apps/v1", namespace="ops", spec=spec)
    )
    pause = [{"kind": "Deployment", "namespace": "ops", "name": "operator"}]
    fault = town.sandbox.faults.add(
        "delay", r"/namespaces/shop/deployments\?", method="POST", value=3
    )

    first = start(tmp_path, "p1", pause=pause)
    town.wait(lambda: fault.hits or first.poll() is not None, "the place to die")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    town.sandbox.faults.clear()
    left = list(held_back(town.cluster, town.discovery))
    stopped = town.get("apps/v1", "Deployment", "operator", namespace="ops")["spec"]["replicas"]
    output = ended(tmp_path, pause=pause)

    assert (stopped, [one.key.name for one in left]) == (0, ["operator"])
    assert left[0].mark.restore == "main/again#1"
    assert output.splitlines()[-1].startswith("Succeeded Succeeded"), output
    assert look(rescue) == before
    live = town.get("apps/v1", "Deployment", "operator", namespace="ops")
    assert live["spec"]["replicas"] == 1
    assert list(held_back(town.cluster, town.discovery)) == []
