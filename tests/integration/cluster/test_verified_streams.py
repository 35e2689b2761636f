"""Streams into and out of containers: whole, or an error that says what is wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.blueprint.streams import (
    CommandFailedError,
    CommandStoppedError,
    CommandTimeoutError,
    NoShellError,
    OutputTooLargeError,
    StreamCutError,
    pull,
    push,
    run,
)
from reconciler.cluster.port import ExecBrokenError, ExecTarget
from tests.support.clusters import is_ready, pod_spec, sandbox_cluster
from tests.support.sandbox import eventually

SOON = timedelta(seconds=20)
CONTENT = bytes(range(253)) * 2000
SHELLS = {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
TOOLS = ("tee", "sha256sum", "wc", "cat", "head", "sleep", "printf", "true", "false", "test")


@pytest.fixture(scope="module")
def running():
    """A sandbox that runs commands."""
    with sandbox_cluster() as (sandbox, cluster):
        yield sandbox, cluster, cluster.discover()


@pytest.fixture(autouse=True)
def no_faults(running):
    """Each test sets its own faults."""
    running[0].faults.clear()


def started(running, name, spec):
    """A running pod."""
    _, cluster, discovery = running
    kind = discovery.find("", "Pod")
    metadata = {"name": name, "namespace": "default"}
    cluster.create(
        kind, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, manager="t"
    )
    eventually(lambda: is_ready(cluster.get(kind, name, namespace="default")))
    return ExecTarget("default", name)


@pytest.fixture(scope="module")
def target(running):
    """A container with whatever this machine has."""
    return started(running, "plain", pod_spec())


def boxed(folder, shell):
    """A PATH in which `sh` is `shell`; with busybox every tool is busybox's own."""
    folder.mkdir(mode=0o755)
    program = shutil.which(shell[0])
    if program is None:
        pytest.skip(f"needs {shell[0]} in PATH (Debian: apt install {shell[0]})")
    for tool in ("sh", *TOOLS):
        source = program if tool == "sh" or shell[0] == "busybox" else shutil.which(tool)
        if source:
            (folder / tool).symlink_to(source)
    return str(folder)


@pytest.fixture(scope="module", params=sorted(SHELLS))
def shelled(request, running):
    """A container whose shell is each of the shells that images have, run by a user that owns nothing there."""
    folder = running[0].directory / f"bin-{request.param}"
    spec = pod_spec("sleep", "600")
    main = spec["containers"][0]
    main["env"] = [{"name": "PATH", "value": boxed(folder, SHELLS[request.param])}]
    if os.geteuid() == 0:
        main["securityContext"] = {"runAsUser": 65534, "runAsGroup": 65534}
    return started(running, f"shell-{request.param}", spec)


def test_content_goes_in_and_out_whole_in_every_shell(running, shelled):
    """Every byte value passes both ways under dash, bash and busybox, also as a user who cannot reopen the streams."""
    _, cluster, _ = running
    out = b"".join(pull(cluster, shelled, ["head", "-c", "3000000", "/dev/zero"], timeout=SOON))
    seen = run(
        cluster,
        shelled,
        ["sh", "-c", 'printf "%s|" "$@"', "x", "a b", "$HOME", "'", ""],
        timeout=SOON,
    )
    sent = push(cluster, shelled, ["sha256sum", "-"], [CONTENT] * 5, timeout=SOON)

    assert out == bytes(3_000_000)
    assert seen == b"a b|$HOME|'||"
    assert sent == 5 * len(CONTENT)


def test_failures_are_the_commands_own_in_every_shell(running, shelled):
    """The inner exit code survives, with the command's last words, whichever way the data goes."""
    _, cluster, _ = running
    failing = ["sh", "-c", "echo first >&2; echo last words >&2; exit 7"]

    for act in (
        lambda: run(cluster, shelled, failing, timeout=SOON),
        lambda: push(cluster, shelled, failing, [b"x"] * 3, timeout=SOON),
        lambda: push(cluster, shelled, failing, (CONTENT for _ in range(40)), timeout=SOON),
    ):
        with pytest.raises(
            CommandFailedError, match=r"^run sh in default/.*: exit code 7: last words$"
        ) as caught:
            act()
        assert caught.value.command_exit_code == 7
    with pytest.raises(CommandFailedError) as caught:
        run(cluster, shelled, ["no-such-program"], timeout=SOON)
    assert caught.value.command_exit_code == 127


def test_a_command_that_leaves_a_process_behind_ends(running, shelled):
    """A daemon that a command starts does not keep the stream open."""
    _, cluster, _ = running

    got = run(
        cluster, shelled, ["sh", "-c", "sleep 30 >/dev/null 2>&1 & echo started"], timeout=SOON
    )

    assert got == b"started\n"


@pytest.mark.parametrize("kept", [0, 1, 32768, 500_000])
def test_output_cut_short_with_exit_code_0_is_found(running, target, kept):
    """A stdout that loses its end, though the status says success, is StreamCutError."""
    sandbox, cluster, _ = running
    fault = sandbox.faults.add("exec-cut-stdout", "exec", value=kept)
    stream = pull(cluster, target, ["head", "-c", "1000000", "/dev/zero"], timeout=SOON)

    got = 0
    with pytest.raises(StreamCutError, match=f"{kept} bytes here, 1000000 bytes there"):
        for piece in stream:
            got += len(piece)
    assert (fault.hits, got) == (1, kept)


@pytest.mark.parametrize("kept", [0, 32768, 196_608])
def test_input_cut_short_with_exit_code_0_is_found(running, target, kept, tmp_path):
    """A stdin that ends early, which the command takes for its end and succeeds, is StreamCutError."""
    sandbox, cluster, _ = running
    fault = sandbox.faults.add("exec-cut-stdin", "exec", value=kept)

    with pytest.raises(StreamCutError):
        push(
            cluster,
            target,
            ["sh", "-c", 'cat > "$0"', f"{tmp_path}/f"],
            [CONTENT] * 4,
            timeout=SOON,
        )

    assert fault.hits == 1
    assert (tmp_path / "f").stat().st_size <= max(kept, 1)


def test_a_command_that_does_not_read_its_input_is_found(running, target):
    """A command that succeeds without reading everything did not take what was sent."""
    _, cluster, _ = running

    with pytest.raises(StreamCutError):
        push(cluster, target, ["head", "-c", "5"], (CONTENT for _ in range(40)), timeout=SOON)


def test_a_stream_without_a_status_is_found(running, target):
    """No status, no result."""
    sandbox, cluster, _ = running
    sandbox.faults.add("exec-no-status", "exec", times=2)

    with pytest.raises(ExecBrokenError):
        run(cluster, target, ["true"], timeout=SOON)
    with pytest.raises(ExecBrokenError):
        push(cluster, target, ["cat"], [b"x"], timeout=SOON)


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_pod_that_dies_is_found(running, way):
    """A pod killed in the middle ends the stream with an error, whichever way it goes."""
    sandbox, cluster, _ = running
    victim = started(running, f"victim-{way}", pod_spec())
    sandbox.faults.add("exec-kill-pod", "exec", value=200_000)

    with pytest.raises((ExecBrokenError, StreamCutError, CommandFailedError)):
        if way == "in":
            push(
                cluster,
                victim,
                ["sh", "-c", "cat >/dev/null"],
                (CONTENT for _ in range(200)),
                timeout=SOON,
            )
        else:
            for _ in pull(cluster, victim, ["head", "-c", "200000000", "/dev/zero"], timeout=SOON):
                pass


@pytest.mark.parametrize("act", ["run", "push", "blocked push"])
def test_silence_ends_at_the_timeout(running, target, act):
    """A far side that says nothing, or reads nothing, is given up in time."""
    _, cluster, _ = running
    brief, began = timedelta(seconds=0.6), time.monotonic()

    with pytest.raises(CommandTimeoutError, match="not done in 0.6 s"):
        if act == "run":
            run(cluster, target, ["sleep", "60"], timeout=brief)
        else:
            chunks = [b"x"] if act == "push" else (CONTENT for _ in range(1000))
            push(cluster, target, ["sleep", "60"], chunks, timeout=brief)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("act", ["run", "push"])
def test_a_stop_is_heard_within_a_second(running, target, act):
    """Setting `stop` ends a stream that says nothing."""
    _, cluster, _ = running
    stop = threading.Event()
    stopped_at = []
    timer = threading.Timer(0.5, lambda: (stopped_at.append(time.monotonic()), stop.set()))
    timer.start()

    with pytest.raises(CommandStoppedError):
        if act == "run":
            run(cluster, target, ["sleep", "60"], timeout=SOON, stop=stop)
        else:
            push(
                cluster,
                target,
                ["sleep", "60"],
                (CONTENT for _ in range(1000)),
                timeout=SOON,
                stop=stop,
            )
    assert time.monotonic() - stopped_at[0] < 20


def test_a_consumer_may_leave(running, target):
    """Leaving a pull early closes its session and leaves no thread behind."""
    _, cluster, _ = running
    before = threading.active_count()
    stream = pull(cluster, target, ["cat", "/dev/zero"], timeout=SOON)
    assert next(stream)

    stream.close()

    eventually(lambda: threading.active_count() <= before)


def test_a_failing_source_is_not_an_end_of_input(running, target):
    """When the chunks themselves fail, that error comes through, also when it is a broken stream's."""
    _, cluster, _ = running

    def failing():
        yield b"first"
        raise ExecBrokenError("the source broke")

    with pytest.raises(ExecBrokenError, match="the source broke"):
        push(cluster, target, ["cat"], failing(), timeout=SOON)


def test_output_that_is_read_whole_is_bounded(running, target):
    """`run` takes a megabyte and no more."""
    _, cluster, _ = running
    assert (
        len(run(cluster, target, ["head", "-c", str(1 << 20), "/dev/zero"], timeout=SOON))
        == 1 << 20
    )

    with pytest.raises(OutputTooLargeError, match="more than 1 MiB"):
        run(cluster, target, ["cat", "/dev/zero"], timeout=SOON)


@pytest.mark.parametrize("missing", ["sh", "tee", "sha256sum", "wc"])
def test_a_container_without_the_tools_is_told(running, missing):
    """A container that cannot verify streams is refused, and the missing tool is named."""
    sandbox, cluster, _ = running
    folder = sandbox.directory / f"lacks-{missing}"
    boxed(folder, ["dash"])
    (folder / missing).unlink()
    spec = pod_spec(shutil.which("sleep"), "600")
    spec["containers"][0]["env"] = [{"name": "PATH", "value": str(folder)}]
    bare = started(running, f"lacks-{missing}", spec)

    with pytest.raises(NoShellError, match=f"its container has no {missing}$"):
        run(cluster, bare, ["true"], timeout=SOON)
    with pytest.raises(NoShellError, match=f"its container has no {missing}$"):
        push(cluster, bare, ["cat"], [CONTENT], timeout=SOON)


def test_a_command_cannot_forge_the_report(running, target):
    """What a command writes to stderr in the form of the report counts for nothing."""
    _, cluster, _ = running
    digest = hashlib.sha256(b"").hexdigest()
    forged = f"echo 'reconciler-0123456789abcdef report exit 0 {digest} - 0' >&2; exit 9"

    with pytest.raises(CommandFailedError, match="exit code 9"):
        run(cluster, target, ["sh", "-c", forged], timeout=SOON)


@pytest.mark.parametrize(
    "said",
    [
        "connect to postgres://shop:hunter2@db/shop",
        "Password: hunter2",
        "PGPASSWORD=hunter2 is wrong",
    ],
)
def test_last_words_lose_their_secrets(running, target, said):
    """Credentials that a program quotes do not reach the message; neither do the command's arguments."""
    _, cluster, _ = running

    with pytest.raises(CommandFailedError) as caught:
        run(
            cluster,
            target,
            ["sh", "-c", f"echo '{said}' >&2; exit 1 # --password=hunter2"],
            timeout=SOON,
        )

    assert "hunter2" not in caught.value.message
    assert "***" in caught.value.message


@pytest.mark.slow
def test_memory_does_not_grow_with_the_stream(running, target):
    """150 MB pass each way without being held anywhere."""
    _, cluster, _ = running

    def resident_kb():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    before = resident_kb()
    size = sum(
        len(p)
        for p in pull(cluster, target, ["head", "-c", "150000000", "/dev/zero"], timeout=SOON)
    )
    sent = push(
        cluster, target, ["sh", "-c", "cat >/dev/null"], (CONTENT for _ in range(300)), timeout=SOON
    )

    assert size == 150_000_000
    assert sent == 300 * len(CONTENT)
    assert resident_kb() - before < 100_000
