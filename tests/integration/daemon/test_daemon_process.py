"""`reconciler run` as a process: probes, metrics, and a clean end in the middle of work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import urllib3

from reconciler.clock import SystemClock
from reconciler.cluster.port import ExecTarget
from reconciler.store.content import open_store
from tests.support.command import ROOT
from tests.support.passes import here, slots
from tests.support.sandbox import eventually
from tests.support.service import stateful_set
from tests.support.world import PASSPHRASE, World

BLUEPRINT = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: Blueprint
metadata: {name: kv}
spec:
  service: kv
  match: "workload.metadata.name == 'kv'"
  covers: [data]
  actions:
    quiesce:
      phases:
        - name: freeze
          exec: {command: [sh, -c, "touch /data/frozen; %(quiesce)s"]}
    resume:
      phases:
        - name: thaw
          exec: {command: [sh, -c, "%(resume)s; rm -f /data/frozen; touch /data/thawed"]}
    backup:
      phases:
        - name: dump
          stream: {artifact: table, command: [sh, -c, "touch /data/dumping; %(dump)s; cat /data/table"]}
      finally:
        - name: tidy
          exec: {command: [sh, -c, "rm -f /data/dumping"]}
    restore:
      phases:
        - name: load
          stream: {artifact: table, command: [sh, -c, "cat > /data/table"]}
"""
QUICK = {"quiesce": "true", "resume": "true", "dump": "true"}


class Running:
    """A daemon's process."""

    def __init__(self, process, log):
        self.process = process
        self.log = log
        self.pool = urllib3.PoolManager(retries=False)

    def text(self):
        """What it wrote on stderr so far."""
        return self.log.read_text()

    def address(self):
        """Where its probes are."""
        found = eventually(lambda: re.search(r"health on (http://[^/]+)/healthz", self.text()))
        return found.group(1)

    def ask(self, path):
        """A probe's answer: status and text."""
        answer = self.pool.request("GET", self.address() + path, timeout=10)
        return answer.status, answer.data.decode()

    def terminate(self, *, within_s=15):
        """SIGTERM; the exit code and how long it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s), time.monotonic() - started


@contextmanager
def daemon(world):
    """Run the daemon until the end of the block."""
    log = world.root / "daemon.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "reconciler.cli.main", "--config", str(world.config), "run"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def disk_world(tmp_path, sandbox):
    """A world whose location is a directory, at the present time."""
    made = World(tmp_path, sandbox, on_disk=True)
    made.clock.move_to(SystemClock().now())
    made.config.write_text(made.config.read_text() + "poll: 1s\n")
    made.settle("shop")
    return made


@pytest.fixture
def service(tmp_path, live_sandbox):
    """A world with a data service that runs as a process."""
    made = World(tmp_path, live_sandbox, on_disk=True)
    made.settle("shop", count=1)
    workload = stateful_set(namespace="shop")
    workload["metadata"] = {"name": "kv", "namespace": "shop", "labels": {"app": "kv"}}
    made.objects(workload)
    eventually(lambda: look(made, "test -e /data/table && echo ready") == "ready")
    return made


def look(world, script):
    """What a script in the service's pod prints; nothing while there is no pod."""
    kind = world.cluster.discover().find("", "Pod")
    pod = world.cluster.get(kind, "kv-0", namespace="shop")
    if pod is None or pod.get("status", {}).get("phase") != "Running":
        return ""
    with world.cluster.execute(ExecTarget("shop", "kv-0"), ["sh", "-c", script]) as session:
        return b"".join(session.read()).decode().strip()


def sound(world):
    """Points of the store, which must be sound."""
    store = open_store(world.storage, PASSPHRASE, clock=world.clock)
    assert list(store.verify(read_data=1.0)) == []
    return list(store.points())


@pytest.mark.slow
def test_probes_and_metrics(disk_world):
    """Ready after a good pass, not ready with the reason while the cluster is away, ready again; then a clean end."""
    with daemon(disk_world) as running:
        eventually(lambda: running.ask("/readyz")[0] == 200)
        alive = running.ask("/healthz")
        metrics = running.ask("/metrics")[1]
        unknown = running.ask("/nothing")
        disk_world.sandbox.faults.add("answer", "", value=401, times=100_000)
        away = eventually(lambda: (found := running.ask("/readyz"))[0] == 503 and found)
        still_alive = running.ask("/healthz")
        disk_world.sandbox.faults.clear()
        eventually(lambda: running.ask("/readyz")[0] == 200)
        code, took_s = running.terminate()

    assert alive[0] == still_alive[0] == 200
    assert (
        'reconciler_captures_total{cluster="town",namespace="shop",result="Succeeded"} 1.0'
        in metrics
    )
    assert "hunter2" not in metrics
    assert unknown[0] == 404
    assert "cluster" in away[1]
    assert code == 0
    assert took_s < 5
    assert len(slots(disk_world)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["quiesce", "dump"])
def test_sigterm_in_the_middle_of_a_capture(service, phase):
    """It ends within seconds with 0; the service is resumed and tidied up, no point is half-made; then it is made."""
    service.write("blueprints/kv.yaml", BLUEPRINT % {**QUICK, phase: "exec sleep 300"})
    service.merge("a blueprint")
    mark = "frozen" if phase == "quiesce" else "dumping"
    with daemon(service) as running:
        eventually(lambda: look(service, f"ls /data/{mark} 2>/dev/null"))
        code, took_s = running.terminate()
        log = running.text()

    assert code == 0, log
    assert took_s < 10
    assert look(service, "ls /data") == "table\nthawed"
    assert sound(service) == []
    assert slots(service) == []
    service.write("blueprints/kv.yaml", BLUEPRINT % QUICK)
    service.merge("quick")
    made = here("--config", str(service.config), "run", "--once")
    assert made.code == 0, made.err
    assert len(sound(service)) == len(slots(service)) == 1


@pytest.mark.slow
def test_a_second_sigterm_ends_it_at_once(service):
    """When resuming takes too long a second signal ends the process there and then; nothing half-made stays."""
    slow = {
        "quiesce": "exec sleep 300",
        "resume": "touch /data/resuming; sleep 300",
        "dump": "true",
    }
    service.write("blueprints/kv.yaml", BLUEPRINT % slow)
    service.merge("a slow blueprint")
    with daemon(service) as running:
        eventually(lambda: look(service, "ls /data/frozen 2>/dev/null"))
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: look(service, "ls /data/resuming 2>/dev/null"))
        code, took_s = running.terminate()

    assert code == -signal.SIGTERM
    assert took_s < 5
    assert sound(service) == []


class TestOnce:
    """`run --once`."""

    def once(self, world):
        """One pass by the command line."""
        return here("--config", str(world.config), "run", "--once")

    def test_done_is_zero(self, disk_world):
        """A pass that did everything, or had nothing to do, ends with 0 and says what it did."""
        first, second = self.once(disk_world), self.once(disk_world)

        assert (first.code, second.code) == (0, 0), first.err
        assert "shop" in first.out
        assert "Succeeded" in first.out
        assert "Succeeded" not in second.out

    def test_partial_is_three(self, disk_world):
        """Something that could not be read: 3."""
        disk_world.sandbox.deny("list", "secrets")
        answer = self.once(disk_world)

        assert answer.code == 3
        assert "Partial" in answer.out

    def test_failed_is_six(self, disk_world):
        """A capture that failed: 6, with the reason."""
        (disk_world.root / "passphrase").write_text("another one")
        answer = self.once(disk_world)

        assert answer.code == 6
        assert "KeyRejected" in answer.out
        assert "another one" not in answer.out + answer.err

    def test_findings_are_one(self, disk_world):
        """Everything was done, but a policy file is broken: 1, with its place."""
        disk_world.write(
            "policies/more.yaml", "kind: BackupPolicy\napiVersion: backup.reconciler.dev/v1alpha1\n"
        )
        disk_world.merge("broken")
        answer = self.once(disk_world)

        assert answer.code == 1
        assert "policies/more.yaml:1" in answer.err

    def test_a_cluster_that_is_away_is_seven(self, disk_world):
        """A cluster that refuses the credential: 7, and what to do."""
        disk_world.sandbox.faults.add("answer", "", value=401, times=100_000)
        answer = self.once(disk_world)

        assert answer.code == 7
        assert "cluster" in answer.err
        assert "next:" in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("verb", [["run", "--once"], ["capture", "shop"]], ids=["once", "capture"])
def test_an_interrupted_verb_ends_with_130(service, verb):
    """Ctrl-C in the middle of a verb's capture: the service is resumed, no point is made, 130."""
    service.write("blueprints/kv.yaml", BLUEPRINT % {**QUICK, "quiesce": "exec sleep 300"})
    service.merge("a blueprint")
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli.main", "--config", str(service.config), *verb],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: look(service, "ls /data/frozen 2>/dev/null"))
        process.send_signal(signal.SIGINT)
        code = process.wait(15)
    finally:
        process.kill()
        process.wait()

    assert code == 130
    assert look(service, "ls /data") == "table\nthawed"
    assert sound(service) == []
