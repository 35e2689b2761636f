"""What every cluster runs: claims that bind, workloads whose pods become Ready, commands in containers."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta

import pytest

from reconciler.blueprint import streams
from reconciler.clock import SystemClock
from reconciler.cluster import claimpod
from reconciler.cluster.permissions import RULES, check_permissions
from reconciler.cluster.port import ExecBrokenError, ExecTarget, NotFoundError
from tests.support.clusters import IMAGE, WITHIN_S, claim, is_ready, pod, pod_spec

SOON = timedelta(seconds=WITHIN_S)


@pytest.fixture
def target(bench):
    """A container that sleeps."""
    bench.make(pod("runner"))
    bench.seen("Pod", "runner", is_ready)
    return ExecTarget(bench.namespace, "runner", "main")


def finish(session):
    """What a session wrote and how it ended."""
    with session:
        out = b"".join(session.read())
        return out, session.result()


def test_a_claim_binds_and_keeps_what_pods_write(bench):
    """A claim that a pod uses is Bound, and what one pod wrote the next one reads."""
    bench.make(claim("data"))
    bench.make(pod("writer", claim="data"))
    bench.seen("Pod", "writer", is_ready)
    bench.seen("PersistentVolumeClaim", "data", lambda found: found["status"]["phase"] == "Bound")

    writer = ExecTarget(bench.namespace, "writer")
    streams.push(
        bench.cluster, writer, ["sh", "-c", 'cat > "$0"/file', "/data"], [b"kept"], timeout=SOON
    )
    bench.cluster.delete(bench.type("Pod"), "writer", namespace=bench.namespace)
    bench.gone("Pod", "writer")
    with claimpod.claim_pod(
        bench.cluster,
        bench.discovery,
        namespace=bench.namespace,
        claim="data",
        image=IMAGE,
        clock=SystemClock(),
        timeout_s=WITHIN_S,
        read_only=True,
    ) as reader:
        got = streams.run(
            bench.cluster, reader, ["cat", f"{claimpod.MOUNT_PATH}/file"], timeout=SOON
        )

    assert got == b"kept"
    assert bench.all("Pod") == []


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_workloads_get_ready_pods(bench, kind):
    """A workload's pods run, belong to it, and its status counts them."""
    labels = {"app": "work"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = "work"
        # Claims from the template carry the ordinal in their names.
        template["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        made = claim("data")
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": made["spec"]}]
    bench.make({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "work"}, "spec": spec})

    found = bench.seen(
        kind, "work", lambda f: (f.get("status") or {}).get("readyReplicas") == 2, "apps"
    )

    pods = bench.all("Pod", label_selector="app=work")
    assert len(pods) == 2 and all(is_ready(each) for each in pods)
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    if kind == "StatefulSet":
        assert {p["metadata"]["name"] for p in pods} == {"work-0", "work-1"}
        assert {c["metadata"]["name"] for c in bench.all("PersistentVolumeClaim")} == {
            "data-work-0",
            "data-work-1",
        }


def test_a_command_gives_its_output_and_exit_code(bench, target):
    """stdout, stderr and the exit code come apart, and whole."""
    out, ended = finish(
        bench.cluster.execute(target, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    )

    assert (out, ended.stderr, ended.exit_code) == (b"out\n", b"err\n", 7)


def test_the_first_container_is_the_default(bench, target):
    """Without a container's name commands run in the first one."""
    out, ended = finish(
        bench.cluster.execute(ExecTarget(target.namespace, target.pod), ["echo", "here"])
    )

    assert (out, ended.exit_code) == (b"here\n", 0)


def test_arguments_arrive_as_they_are(bench, target):
    """No shell comes between: spaces, quotes, dollars, empty words and newlines arrive unchanged."""
    words = ["a b", "c'd", '"$HOME"', "", "x\ny", "ü*"]

    out, _ = finish(bench.cluster.execute(target, ["printf", "%s|", *words]))

    assert out.decode() == "".join(word + "|" for word in words)


def test_input_ends_by_a_half_close(bench, target):
    """After close_stdin the command reads end of file, and its output still comes."""
    with bench.cluster.execute(target, ["sh", "-c", "cat; echo after"], stdin=True) as session:
        session.send(b"before ")
        session.close_stdin()
        out = b"".join(session.read())
        ended = session.result()

    assert (out, ended.exit_code) == (b"before after\n", 0)


def test_bytes_pass_unchanged_both_ways(bench, target):
    """Every byte value goes in and out, more of them than any buffer holds."""
    sent = bytes(range(256)) * 8192
    got = bytearray()
    with bench.cluster.execute(target, ["cat"], stdin=True) as session:
        reader = threading.Thread(target=lambda: got.extend(b"".join(session.read())))
        reader.start()
        for start in range(0, len(sent), 100_000):
            session.send(sent[start : start + 100_000])
        session.close_stdin()
        reader.join(60)

    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


def test_a_command_without_input_reads_its_end(bench, target):
    """Without stdin a command that reads gets end of file."""
    out, ended = finish(bench.cluster.execute(target, ["cat"]))

    assert (out, ended.exit_code) == (b"", 0)


def test_a_program_that_is_missing_is_127_or_said(bench, target):
    """A program that is not there is told as exit code 127 with the reason, as a shell tells it."""
    _, ended = finish(bench.cluster.execute(target, ["no-such-program"]))

    assert ended.exit_code in (126, 127)
    assert b"no-such-program" in ended.stderr


def test_commands_need_a_pod_and_a_container(bench, target):
    """No such pod, or no such container, is NotFoundError."""
    with pytest.raises(NotFoundError):
        bench.cluster.execute(ExecTarget(bench.namespace, "nobody"), ["true"])
    with pytest.raises(NotFoundError):
        bench.cluster.execute(ExecTarget(bench.namespace, target.pod, "nobody"), ["true"])


def test_closing_wakes_who_reads(bench, target):
    """A session that is closed elsewhere ends its reader with an error."""
    session = bench.cluster.execute(target, ["sleep", "60"])
    closer = threading.Timer(0.2, session.close)
    closer.start()

    with pytest.raises(ExecBrokenError, match="closed here"):
        list(session.read())
    closer.join()


def test_verified_streams_carry_a_megabyte_each_way(bench, target):
    """What is pushed is what is read there, and what is pulled is what was written there."""
    content = bytes(range(251)) * 4200

    sent = streams.push(
        bench.cluster, target, ["sh", "-c", "cat > /tmp/contract.$$; mv /tmp/contract.$$ /tmp/contract"],
        [content[:70_000], content[70_000:]], timeout=SOON,
    )  # fmt: skip
    got = b"".join(streams.pull(bench.cluster, target, ["cat", "/tmp/contract"], timeout=SOON))

    assert sent == len(content)
    assert got == content


def test_permissions_are_known(bench):
    """Whoever runs this suite may do everything; the server says so."""
    assert check_permissions(bench.cluster, RULES, bench.namespace) == []
