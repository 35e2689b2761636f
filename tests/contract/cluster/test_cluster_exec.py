"""Streams into and out of containers, as every cluster carries them: whole, or an error that says why not."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import msgspec
import pytest

from reconciler.blueprint.streams import (
    CommandFailedError,
    CommandStoppedError,
    NoShellError,
    StreamCutError,
    pull,
    push,
    run,
)
from reconciler.cluster.kubernetes import KubernetesCluster, connect
from reconciler.cluster.port import ExecBrokenError, ExecTarget, ForbiddenError, NotServedError
from tests.support.clusters import BARE_IMAGE, REAL_KUBECONFIG, WITHIN_S, is_ready, pod
from tests.support.sandbox import eventually

SOON = timedelta(seconds=WITHIN_S)
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
SPAN_S = 0.4
BLOCK = bytes(range(251)) * 1000


def ready(bench, manifest):
    """A running pod."""
    bench.make(manifest)
    name = manifest["metadata"]["name"]
    bench.seen("Pod", name, is_ready)
    return ExecTarget(bench.namespace, name, "main")


@pytest.fixture
def target(bench):
    """A container that sleeps."""
    return ready(bench, pod("runner"))


def speaking(bench, *protocols, ping_after_s=None):
    """The same cluster, asked for these protocols alone."""
    return KubernetesCluster(
        bench.cluster._connection, exec_protocols=protocols, exec_ping_after_s=ping_after_s
    )


@pytest.mark.parametrize("protocol", [V5, V4])
def test_eight_megabytes_pass_each_way(bench, target, protocol, tmp_path):
    """Every byte arrives, whatever the sizes of its pieces, with and without a half-close."""
    cluster = speaking(bench, protocol)
    pieces = [BLOCK * 8, b"", b"x", os.urandom(70_000), *[BLOCK] * 25]
    path = f"/tmp/contract-{bench.namespace}"

    sent = push(cluster, target, ["sh", "-c", f"cat > {path}"], pieces, timeout=SOON)
    got = b"".join(pull(cluster, target, ["cat", path], timeout=SOON))
    run(cluster, target, ["rm", path], timeout=SOON)

    assert sent == len(got)
    assert got == b"".join(pieces)


def test_a_protocol_that_nobody_knows_is_refused(bench, target):
    """403 without a word is told as what it means."""
    with pytest.raises(NotServedError, match="neither v5"):
        speaking(bench, "v9.channel.k8s.io").execute(target, ["true"])


@pytest.mark.parametrize("protocol", [V5, V4])
@pytest.mark.parametrize(
    "closing", ["exec cat > {0} 2>/dev/null", "exec cat > {0}", "exec dd of={0}"]
)
def test_a_command_that_closes_its_output_reads_all_of_its_input(bench, target, protocol, closing):
    """Container runtimes end the input of such a command early, and its exit code is 0: not behind our shell."""
    path = f"/tmp/closing-{bench.namespace}"
    content = [bytes(1 << 20)] * 20

    command = ["sh", "-c", closing.format(path)]
    sent = push(speaking(bench, protocol), target, command, content, timeout=SOON)
    stored = run(bench.cluster, target, ["sh", "-c", f"wc -c < {path}; rm {path}"], timeout=SOON)

    assert int(stored) == sent == 20 << 20


@pytest.mark.parametrize("protocol", [V5, V4])
def test_a_command_that_ends_before_its_input_is_told(bench, target, protocol):
    """Its exit code comes through, its success counts for nothing; neither waits for the rest of the input."""
    cluster = speaking(bench, protocol)
    content = (BLOCK for _ in range(200))
    for _ in range(3):
        with pytest.raises(CommandFailedError, match="exit code 3"):
            push(
                cluster, target, ["sh", "-c", "head -c 2 >/dev/null; exit 3"], content, timeout=SOON
            )
        with pytest.raises(StreamCutError, match="ended before its input did"):
            push(cluster, target, ["true"], [BLOCK] * 80, timeout=SOON)


def test_a_container_without_a_shell_is_told(bench):
    """Reading and writing both end with NoShell; the source is not touched."""
    bare = pod("bare")
    main = bare["spec"]["containers"][0]
    if bench.is_real:
        main["image"] = BARE_IMAGE
        del main["command"]
    else:
        main["env"] = [{"name": "PATH", "value": "/nowhere"}]
        main["command"] = ["/bin/sleep", "600"]
    where = ready(bench, bare)

    def untouched():
        pytest.fail("the source was read")
        yield

    with pytest.raises(NoShellError, match="its container has no sh"):
        run(bench.cluster, where, ["true"], timeout=SOON)
    with pytest.raises(NoShellError, match="its container has no sh"):
        push(bench.cluster, where, ["cat"], untouched(), timeout=SOON)


def test_any_user_with_nothing_to_write_on_will_do(bench):
    """An arbitrary uid without a name, a root file system that is read-only, no folder for temporary files."""
    strict = pod("strict")
    strict["spec"]["containers"][0]["securityContext"] = {
        "runAsUser": 1000650000,
        "runAsGroup": 1000650000,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    where = ready(bench, strict)

    got = b"".join(pull(bench.cluster, where, ["head", "-c", "3000000", "/dev/zero"], timeout=SOON))
    sent = push(bench.cluster, where, ["sh", "-c", "cat >/dev/null"], [BLOCK] * 12, timeout=SOON)
    old = push(
        speaking(bench, V4), where, ["sh", "-c", "cat >/dev/null"], [BLOCK] * 12, timeout=SOON
    )

    assert got == bytes(3_000_000)
    assert sent == old == len(BLOCK) * 12


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_pod_that_is_removed_ends_its_streams(bench, target, way):
    """Deleted in the middle: an error within a minute, never an end that looks whole."""
    moved = threading.Event()

    def endless():
        for n in range(1 << 30):
            if n > 10:
                moved.set()
            yield BLOCK

    def remove():
        moved.wait(60)
        bench.cluster.delete(bench.type("Pod"), target.pod, namespace=bench.namespace, grace_s=0)

    remover = threading.Thread(target=remove)
    remover.start()
    began = time.monotonic()
    with pytest.raises((ExecBrokenError, StreamCutError, CommandFailedError)):
        if way == "in":
            push(bench.cluster, target, ["sh", "-c", "cat >/dev/null"], endless(), timeout=SOON)
        else:
            for _ in pull(bench.cluster, target, ["cat", "/dev/zero"], timeout=SOON):
                moved.set()
    remover.join()
    assert time.monotonic() - began < 90


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_command_that_is_silent_for_long_is_waited_for(bench, target, way):
    """Ten seconds are 25 spans here, ten minutes 50 of the usual ones: the probe finds the command, and it goes on."""
    cluster = speaking(bench, ping_after_s=SPAN_S)

    if way == "out":
        command = ["sh", "-c", "sleep 10; echo late"]
        assert b"".join(pull(cluster, target, command, timeout=SOON)) == b"late\n"
    else:
        command = ["sh", "-c", "sleep 10; cat >/dev/null"]
        assert push(cluster, target, command, [BLOCK] * 80, timeout=SOON) == len(BLOCK) * 80


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_stop_is_heard_within_seconds(bench, target, way):
    """From another thread, in the middle of a stream that flows or stands still."""
    stop = threading.Event()
    stopped_at = []

    def set_stop():
        stopped_at.append(time.monotonic())
        stop.set()

    timer = threading.Timer(2, set_stop)
    timer.start()
    with pytest.raises(CommandStoppedError):
        if way == "in":
            content = (BLOCK for _ in range(1 << 30))
            push(bench.cluster, target, ["sleep", "60"], content, timeout=SOON, stop=stop)
        else:
            for _ in pull(bench.cluster, target, ["cat", "/dev/zero"], timeout=SOON, stop=stop):
                pass
    assert time.monotonic() - stopped_at[0] < 10


@contextmanager
def allowed(bench, tmp_path, verbs):
    """The cluster as somebody sees it who has these verbs alone on pods/exec."""
    if not bench.is_real:
        for verb in {"get", "create"} - set(verbs):
            bench.sandbox.deny(verb, "pods/exec")
        try:
            yield bench.cluster
        finally:
            bench.sandbox.allow_all()
        return
    group = "rbac.authorization.k8s.io"
    bench.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "limited"}})
    rule = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": list(verbs)}
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "limited"}}
    bench.make({**role, "rules": [rule]})
    bench.make(
        {
            **role,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "limited"},
            "subjects": [
                {"kind": "ServiceAccount", "name": "limited", "namespace": bench.namespace}
            ],
        }
    )
    answer = bench.cluster._connection.write(
        "POST",
        f"/api/v1/namespaces/{bench.namespace}/serviceaccounts/limited/token",
        subject="ask for a token",
        body=msgspec.json.encode(
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        ),
    )
    with connect(name="limited", kubeconfig=with_token(tmp_path, answer["status"]["token"])) as c:
        yield c


def with_token(tmp_path, token):
    """The real cluster's kubeconfig with another credential."""
    import yaml

    with open(REAL_KUBECONFIG) as source:
        body = yaml.safe_load(source)
    for user in body["users"]:
        user["user"] = {"token": token}
    path = tmp_path / "limited"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(body))
    return path


@pytest.mark.parametrize(("verbs", "missing"), [(["get"], "create"), (["create"], "get")])
def test_a_verb_that_is_missing_is_named(bench, target, tmp_path, verbs, missing):
    """WebSocket exec asks for get, and since Kubernetes 1.35 for create too."""
    with allowed(bench, tmp_path, verbs) as cluster:

        def refused():
            try:
                cluster.execute(target, ["true"]).close()
            except ForbiddenError as error:
                return error.message
            return ""

        # A real server's authorizer hears of a new role a moment later.
        message = eventually(
            lambda: (found := refused()) and f"the verb {missing} on" in found and found
        )

    assert f"the verb {missing} on pods/exec is missing" in message
