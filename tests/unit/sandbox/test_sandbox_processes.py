"""Pods that really run: their environment, mounts, user, probes and end; commands inside them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from tests.support.sandbox import Shell, eventually

PODS = "/api/v1/namespaces/default/pods"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers run as another user")


def pod(script, name="p", **spec):
    """A pod of one container with a shell script; keys of containers go into it, the others into the spec."""
    own = {k: spec.pop(k) for k in ("env", "volumeMounts", "readinessProbe") if k in spec}
    container = {"name": "m", "image": "ignored", "command": ["sh", "-c", script]} | own
    return {
        "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"containers": [container]} | spec,
    }


def is_ready(http, name="p"):
    conditions = http.get(f"{PODS}/{name}")["status"].get("conditions", [])
    return {c["type"]: c["status"] for c in conditions}.get("Ready") == "True"


def log(http, name="p"):
    _, text = http.call("GET", f"{PODS}/{name}/log")
    return text.decode() if isinstance(text, bytes) else str(text)


def claim(http, name="data"):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    http.post(CLAIMS, {"metadata": {"name": name}, "spec": spec})
    bound = eventually(
        lambda: (c := http.get(f"{CLAIMS}/{name}"))["status"]["phase"] == "Bound" and c
    )
    return {"name": name, "persistentVolumeClaim": {"claimName": name}}, bound["spec"]["volumeName"]


def test_a_container_runs_with_its_environment(live_http):
    """Values and references; $(NAME) expands; nothing of this process leaks in."""
    core = "/api/v1/namespaces/default"
    live_http.post(f"{core}/configmaps", {"metadata": {"name": "c"}, "data": {"FROM_MAP": "map"}})
    live_http.post(f"{core}/secrets", {"metadata": {"name": "s"}, "stringData": {"key": "hidden"}})
    env = [
        {"name": "PLAIN", "value": "one"},
        {"name": "BOTH", "value": "$(PLAIN)-two-$(ABSENT)"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "FROM_MAP"}}},
    ]
    os.environ["LEAK"] = "x"
    live_http.post(PODS, pod("env; sleep 60", env=env))
    eventually(lambda: "MAP=" in log(live_http))
    lines = set(log(live_http).splitlines())

    assert {"PLAIN=one", "BOTH=one-two-$(ABSENT)", "SECRET=hidden", "MAP=map"} <= lines
    assert "LEAK=x" not in lines


def test_mount_paths_become_directories(live_sandbox, live_http):
    """Whole path components in argv, scripts, env and exec; the longest first; look-alikes stay."""
    volume, name = claim(live_http)
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/data/tmp"}]
    script = "echo x > /data/file; echo y >/data/tmp/file; echo $WHERE /database /x/data; sleep 60"
    body = pod(
        script,
        env=[{"name": "WHERE", "value": "file:///data/sub:/data/tmp"}],
        volumes=[volume, {"name": "tmp", "emptyDir": {}}],
        volumeMounts=mounts,
    )
    live_http.post(PODS, body)
    uid = eventually(lambda: is_ready(live_http) and live_http.get(f"{PODS}/p")["metadata"]["uid"])
    root = live_sandbox.directory
    real, scratch = root / "volumes" / name, root / "pods" / uid / "volumes" / "tmp"
    eventually(lambda: log(live_http))

    assert log(live_http).strip() == f"file://{real}/sub:{scratch} /database /x/data"
    assert ((real / "file").read_text(), (scratch / "file").read_text()) == ("x\n", "y\n")
    with Shell(live_sandbox, "p", ["cat", "/data/file"]) as shell:
        assert shell.finish() == (b"x\n", b"", 0)


def test_maps_and_secrets_are_files(live_http):
    """A file per key."""
    core = "/api/v1/namespaces/default"
    live_http.post(f"{core}/configmaps", {"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}})
    live_http.post(f"{core}/secrets", {"metadata": {"name": "s"}, "stringData": {"k": "3"}})
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s"}},
    ]
    mounts = [{"name": "c", "mountPath": "/c"}, {"name": "s", "mountPath": "/s"}]
    live_http.post(
        PODS, pod("cat /c/b /s/k; ls /c; sleep 60", volumes=volumes, volumeMounts=mounts)
    )

    eventually(lambda: log(live_http) == "23a\nb\n")


def test_a_pod_waits_for_what_it_needs(live_http):
    """Pending with a message while a claim or Secret is missing; it starts when both are there."""
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    live_http.post(PODS, pod("echo up $K; sleep 60", env=env, volumes=[volume]))
    eventually(lambda: "'data'" in live_http.get(f"{PODS}/p")["status"].get("message", ""))
    claim(live_http)
    eventually(lambda: 'secret "s"' in live_http.get(f"{PODS}/p")["status"].get("message", ""))
    live_http.post(
        "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "stringData": {"k": "!"}}
    )

    eventually(lambda: log(live_http) == "up !\n")


def test_a_pod_that_asks_for_more_stays_pending(live_http):
    """What the sandbox does not do is named in the status, and nothing runs."""
    body = pod("echo up; sleep 60", initContainers=[{"name": "a", "command": ["true"]}])
    live_http.post(PODS, body)

    eventually(lambda: "initContainers" in live_http.get(f"{PODS}/p")["status"].get("message", ""))
    assert live_http.get(f"{PODS}/p")["status"]["phase"] == "Pending"


def test_ready_is_what_the_probe_says(live_sandbox, live_http):
    """Not Ready until the probe passes, and no longer when it fails."""
    scratch = {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    probe = {
        "exec": {"command": ["test", "-f", "/v/ok"]},
        "periodSeconds": 0.1,
    }
    live_http.post(PODS, pod("sleep 60", readinessProbe=probe, **scratch))
    eventually(lambda: live_http.get(f"{PODS}/p")["status"]["phase"] == "Running")
    assert not is_ready(live_http)
    for command, wanted in (("touch", True), ("rm", False)):
        with Shell(live_sandbox, "p", [command, "/v/ok"]) as shell:
            assert shell.finish()[2] == 0
        eventually(lambda wanted=wanted: is_ready(live_http) is wanted)


def test_containers_are_restarted_and_pods_end(live_http):
    """Always starts again and counts; Never ends as Failed or Succeeded."""
    live_http.post(PODS, pod("exit 3", "again"))
    live_http.post(PODS, pod("exit 3", "bad", restartPolicy="Never"))
    live_http.post(PODS, pod("exit 0", "good", restartPolicy="OnFailure"))
    eventually(lambda: live_http.get(f"{PODS}/bad")["status"]["phase"] == "Failed")
    eventually(lambda: live_http.get(f"{PODS}/good")["status"]["phase"] == "Succeeded")

    def restarts():
        statuses = live_http.get(f"{PODS}/again")["status"].get("containerStatuses", [{}])
        return statuses[0].get("restartCount", 0)

    eventually(restarts)


def alive(path: Path):
    """The process whose id a container wrote down; it may end while it is looked at."""
    stat = Path(f"/proc/{int(path.read_text())}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_deleted_pod_gets_its_grace(live_sandbox, live_http):
    """TERM first, so that it may write; its children end too; the pod is gone only then."""
    volume, name = claim(live_http)
    script = "trap 'echo bye > /data/bye; exit 0' TERM; sleep 600 & echo $! > /data/child; while :; do sleep 0.05; done"
    live_http.post(
        PODS, pod(script, volumes=[volume], volumeMounts=[{"name": "data", "mountPath": "/data"}])
    )
    folder = live_sandbox.directory / "volumes" / name
    eventually(lambda: (folder / "child").exists() and (folder / "child").read_text())
    assert live_http.call("DELETE", f"{PODS}/p")[1]["metadata"]["deletionGracePeriodSeconds"] == 30
    eventually(lambda: live_http.call("GET", f"{PODS}/p")[0] == 404)

    assert (folder / "bye").read_text() == "bye\n"
    assert not alive(folder / "child")


def test_a_pod_that_will_not_end_is_killed(live_sandbox, live_http):
    """KILL after the grace period."""
    volume, name = claim(live_http)
    script = "trap '' TERM; echo $$ > /data/pid; while :; do sleep 0.05; done"
    live_http.post(
        PODS, pod(script, volumes=[volume], volumeMounts=[{"name": "data", "mountPath": "/data"}])
    )
    path = live_sandbox.directory / "volumes" / name / "pid"
    eventually(lambda: path.exists() and path.read_text())
    live_http.call("DELETE", f"{PODS}/p?gracePeriodSeconds=1")
    eventually(lambda: live_http.call("GET", f"{PODS}/p")[0] == 404)

    assert not alive(path)


@ROOT
def test_containers_run_as_the_user_asked_for(live_sandbox, live_http):
    """runAsUser of the container or the pod; the claim is theirs."""
    nobody = pwd.getpwnam("nobody").pw_uid
    volume, name = claim(live_http)
    security = {"runAsUser": nobody, "runAsGroup": nobody}
    body = pod(
        "id -u > /data/who; sleep 60",
        volumes=[volume],
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
        securityContext=security,
    )
    live_http.post(PODS, body)
    folder = live_sandbox.directory / "volumes" / name
    eventually(lambda: (folder / "who").exists() and (folder / "who").read_text() == f"{nobody}\n")

    assert (folder / "who").stat().st_uid == folder.stat().st_uid == nobody
    with Shell(live_sandbox, "p", ["id", "-u"]) as shell:
        assert shell.finish()[0] == b"%d\n" % nobody


@pytest.fixture
def running(live_sandbox, live_http):
    """A sandbox with one pod, its container up."""
    live_http.post(PODS, pod("echo started; sleep 600"))
    eventually(lambda: is_ready(live_http))
    return live_sandbox


def test_commands_answer_on_their_channels(running):
    """stdout, stderr and the exit code, and a first message without content."""
    with Shell(running, "p", ["sh", "-c", "echo out; echo err >&2; exit 7"]) as shell:
        assert shell.finish() == (b"out\n", b"err\n", 7)
        assert shell.first == b"\x01"
        assert shell.close_code == 1000
        assert (shell.status["status"], shell.status["reason"]) == ("Failure", "NonZeroExitCode")
    with Shell(running, "p", ["true"]) as shell:
        assert shell.finish() == (b"", b"", 0)
        assert shell.status == {"metadata": {}, "status": "Success"}


def test_stdin_is_half_closed(running):
    """FF 00 ends the input; what was counted is what was sent, binary and all."""
    block = os.urandom(1 << 20)
    with Shell(running, "p", ["sh", "-c", "wc -c"], stdin=True) as shell:
        for _ in range(8):
            shell.send(block)
        shell.close_stdin()
        assert shell.finish()[0].strip() == b"%d" % (8 << 20)
    with Shell(running, "p", ["cat"], stdin=True) as shell:
        shell.send(block[:5000])
        shell.close_stdin()
        assert shell.finish()[0] == block[:5000]


def test_a_slow_reader_slows_the_command(running, live_http):
    """Nothing piles up in the server: a command that would write a gigabyte waits for its reader."""
    with Shell(running, "p", ["sh", "-c", "head -c 1000000000 /dev/zero; echo done >&2"]) as shell:
        read = shell.read_some(1 << 20)
        kept = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    assert read >= 1 << 20
    assert kept < 700 << 20


def test_a_client_that_leaves_takes_its_command_along(running, live_http):
    """The command is killed when the socket goes."""
    uid = live_http.get(f"{PODS}/p")["metadata"]["uid"]
    path = running.directory / "pods" / uid / "pid"
    with Shell(running, "p", ["sh", "-c", f"echo $$ > {path}; sleep 600"]):
        eventually(lambda: path.exists() and path.read_text())
        assert alive(path)

    eventually(lambda: not alive(path))


def test_what_cannot_be_executed_is_refused_before_the_socket_opens(running):
    """Status answers: no pod, no container, no protocol, no terminal; a missing program ends with a Status."""
    for command, code in (
        ({"pod": "absent"}, 404),
        ({"container": "absent"}, 400),
        ({"protocol": "v9.channel.k8s.io"}, 403),
        ({"tty": True}, 501),
    ):
        assert Shell.refused(running, **({"pod": "p"} | command)) == code
    with Shell(running, "p", ["/no/such/program"]) as shell:
        shell.finish()
        assert shell.status["status"] == "Failure" and shell.status["reason"] == "InternalError"


def test_the_bug_that_cuts_stdin(running):
    """The command reads a clean end of file after so many bytes, and exit code 0 is reported."""
    running.faults.add("exec-cut-stdin", "/exec", value=32768)
    with Shell(running, "p", ["wc", "-c"], stdin=True) as shell:
        shell.send(b"x" * 100_000)
        shell.close_stdin()
        assert shell.finish() == (b"32768\n", b"", 0)


def test_v4_has_no_half_close(running):
    """Under v4 the command has to be told how much comes; FF 00 means nothing."""
    with Shell(
        running, "p", ["head", "-c", "4"], stdin=True, protocol="v4.channel.k8s.io"
    ) as shell:
        shell.close_stdin()
        shell.send(b"four")
        assert shell.finish() == (b"four", b"", 0)


def test_stdin_ends_with_stdout_as_containerd_has_it(running, tmp_path):
    """A command that closes its stdout reads an early end of its input, and exit code 0 is reported."""
    running.faults.add("exec-early-eof", "/exec")
    with Shell(
        running, "p", ["sh", "-c", f"exec cat > {tmp_path}/f 2>/dev/null"], stdin=True
    ) as shell:
        for _ in range(64):
            shell.send(bytes(1 << 20))
        shell.close_stdin()
        assert shell.finish() == (b"", b"", 0)
    assert (tmp_path / "f").stat().st_size < 64 << 20


def test_stdout_cut_short_with_exit_code_0(running):
    """Less arrives than was written, and nothing says so."""
    running.faults.add("exec-cut-stdout", "/exec", value=10)
    with Shell(running, "p", ["sh", "-c", "head -c 100000 /dev/zero; exit 5"]) as shell:
        assert shell.finish() == (b"\0" * 10, b"", 0)


def test_an_exec_without_a_status_and_a_pod_killed_meanwhile(running, live_http):
    """No Status frame when a test wants none; a killed pod ends the command by signal."""
    running.faults.add("exec-no-status", "/exec")
    with Shell(running, "p", ["true"]) as shell:
        shell.finish()
        assert shell.status is None and shell.close_code == 1000
    running.faults.add("exec-kill-pod", "/exec", value=1000)
    with Shell(running, "p", ["sh", "-c", "while :; do echo 0123456789; done"]) as shell:
        assert shell.finish()[2] == 137
    assert live_http.call("GET", f"{PODS}/p")[0] == 404
