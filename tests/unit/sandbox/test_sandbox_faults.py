"""What tests can make go wrong on the wire, and that nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import urllib3

from reconciler.cluster.sandbox import Sandbox
from tests.support.sandbox import Http, eventually, open_directory

MAPS = "/api/v1/namespaces/default/configmaps"
KUBECTL = shutil.which("kubectl")


def test_answers_on_demand(sandbox, http):
    """The nth matching request and those after it, with Retry-After; then all is well again."""
    fault = sandbox.faults.add(
        "answer", "/configmaps", value=429, method="GET", nth=2, times=2, retry_after_s=3
    )
    codes = [http.call("GET", MAPS)[0] for _ in range(4)]
    assert codes == [200, 429, 429, 200] and fault.hits == 2
    assert http.call("POST", MAPS, {"metadata": {"name": "a"}})[0] == 201

    sandbox.faults.add("answer", "/configmaps", value=503, retry_after_s=3)
    answer = http.pool.request(
        "GET", sandbox.url + MAPS, headers={"Authorization": f"Bearer {sandbox.token}"}
    )
    assert (answer.status, answer.headers["Retry-After"]) == (503, "3")


def test_connections_break_and_bodies_end_early(sandbox, http):
    """A dropped connection gives no answer; a cut body is shorter than announced."""
    sandbox.faults.add("drop", "/configmaps")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.call("GET", MAPS)
    sandbox.faults.add("cut", "/configmaps", value=20)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.call("GET", MAPS)
    assert http.call("GET", MAPS)[0] == 200


def test_delays(sandbox, http):
    """A delayed request is served later, others meanwhile."""
    sandbox.faults.add("delay", "/configmaps", value=0.3)
    began = time.monotonic()
    assert http.call("GET", MAPS)[0] == 200
    assert time.monotonic() - began >= 0.3


def test_watches_expire_when_a_test_wants(sandbox, http):
    """After so many events a 410 comes inside the stream."""
    for name in ("a", "b"):
        http.post(MAPS, {"metadata": {"name": name}})
    sandbox.faults.add("expire-watch", "watch=1", value=1)

    events = http.watch(f"{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=5")

    assert [e["type"] for e in events] == ["ADDED", "ERROR"]


def test_faults_can_be_taken_back(sandbox, http):
    """clear() leaves none."""
    sandbox.faults.add("answer", value=500, times=100)
    assert http.call("GET", MAPS)[0] == 500
    sandbox.faults.clear()
    assert http.call("GET", MAPS)[0] == 200


def test_stop_leaves_nothing_behind():
    """No thread, no process, no port; open watches end; a second stop does nothing."""
    directory = open_directory()
    before = set(threading.enumerate())
    sandbox = Sandbox(directory, name="x", processes=True)
    sandbox.start()
    client = Http(sandbox)
    spec = {"containers": [{"name": "m", "command": ["sh", "-c", "echo $$; sleep 600"]}]}
    client.post("/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}, "spec": spec})
    log = lambda: client.call("GET", "/api/v1/namespaces/default/pods/p/log")[1]  # noqa: E731
    pid = eventually(lambda: int(log() or 0))
    watched = threading.Thread(target=lambda: list(client.watch(MAPS + "?watch=1")))
    watched.start()
    sandbox.stop()
    sandbox.stop()
    watched.join(10)
    client.close()

    assert not watched.is_alive()
    eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.is_alive()])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with Sandbox(directory, name="x", port=int(sandbox.url.rpartition(":")[2])) as again:
        assert again.url == sandbox.url
    shutil.rmtree(directory)


def test_a_taken_port_is_an_error(sandbox, tmp_path):
    """start() raises and leaves nothing running."""
    with pytest.raises(OSError, match="in use"):
        Sandbox(tmp_path / "other", name="y", port=int(sandbox.url.rpartition(":")[2])).start()


@pytest.fixture
def process():
    """A sandbox as a process of its own: its directory and kubeconfig."""
    directory = open_directory()
    kubeconfig = directory / "kubeconfig"
    command = [
        sys.executable,
        "-m",
        "reconciler.cluster.sandbox",
        "--processes",
        "--directory",
        str(directory / "state"),
    ]
    with subprocess.Popen(
        [*command, "--kubeconfig", str(kubeconfig)], stdout=subprocess.PIPE, text=True
    ) as running:
        assert "serves http://127.0.0.1:" in running.stdout.readline()
        yield running, kubeconfig
        running.terminate()
    shutil.rmtree(directory)


def test_the_process_ends_cleanly(process):
    """SIGTERM: exit code 0; the kubeconfig was for its owner's eyes only."""
    running, kubeconfig = process
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    running.send_signal(signal.SIGTERM)

    assert running.wait(20) == 0


@pytest.mark.slow
@pytest.mark.skipif(KUBECTL is None, reason="needs kubectl in PATH")
def test_kubectl_is_at_home(process, tmp_path):
    """get, api-resources, apply of both kinds, exec, logs, rollout and the deletion of a namespace."""
    _, kubeconfig = process
    manifest = tmp_path / "app.yaml"
    manifest.write_text(Path(__file__).with_name("application.yaml").read_text())
    environment = {"KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    def kubectl(*words, code=0, **more):
        command = [KUBECTL, *words]
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **more,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    assert "namespace/default" in kubectl("get", "ns,all", "-A")
    assert "deployments" in kubectl("api-resources")
    assert "statefulset.apps/db created" in kubectl(
        "apply", "--validate=false", "-f", str(manifest)
    )
    kubectl("rollout", "status", "-n", "shop", "statefulset/db", "deployment/web", "--timeout=30s")
    assert "unchanged" in kubectl("apply", "--validate=false", "-f", str(manifest))
    assert "serverside-applied" in kubectl(
        "apply", "--validate=false", "--server-side", "--force-conflicts", "-f", str(manifest)
    )
    assert kubectl("exec", "-n", "shop", "db-0", "--", "cat", "/data/x") == "hello\n"
    assert kubectl("exec", "-i", "-n", "shop", "db-0", "--", "cat", input="in\n") == "in\n"
    kubectl("exec", "-n", "shop", "db-0", "--", "sh", "-c", "exit 3", code=3)
    assert "up" in kubectl("logs", "-n", "shop", "db-1")
    kubectl("delete", "ns", "shop", "--timeout=30s")
    assert "shop" not in kubectl("get", "ns,all,pv", "-A")
