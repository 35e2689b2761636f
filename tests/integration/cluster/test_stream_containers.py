"""Streams in containers of every shell, and of those that have little."""

from __future__ import annotations

import os
import shutil

import pytest

from reconciler.blueprint.streams import (
    CommandFailedError,
    NoShellError,
    StreamCutError,
    pull,
    push,
    run,
)
from tests.support.clusters import pod_spec
from tests.support.streaming import (
    CONTENT,
    DASH_WITH_BUSYBOX,
    SHELLS,
    SOON,
    V4,
    boxed,
    no_faults,
    running,
    speaking,
    started,
    target,
)

__all__ = ["no_faults", "running", "target"]


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


def bare(running, name, tools, *, shell=("dash",)):
    """A container whose PATH has these tools alone."""
    folder = running[0].directory / f"bin-{name}"
    path = boxed(folder, shell, tools)
    spec = pod_spec(shutil.which("sleep"), "600")
    spec["containers"][0]["env"] = [{"name": "PATH", "value": path}]
    return started(running, name, spec)


LITTLE = ["tee sha256sum", "tee dd md5sum", "tee dd cksum", "tee cksum", "dd sha256sum", "dd"]
OF_BUSYBOX = [
    "tee sha256sum",
    "tee dd md5sum",
]  # it may be built without cksum, and a dd that counts


@pytest.mark.parametrize(
    ("tools", "shell"),
    [(tools, ["dash"]) for tools in LITTLE] + [(tools, DASH_WITH_BUSYBOX) for tools in OF_BUSYBOX],
    ids=[*(f"GNU {tools}" for tools in LITTLE), *(f"busybox {tools}" for tools in OF_BUSYBOX)],
)
def test_a_container_with_little_is_measured_with_what_it_has(running, tools, shell, tmp_path):
    """Without sha256sum another digest serves, without tee or any digest dd's count, without dd the digest alone."""
    sandbox, cluster, _ = running
    name = f"little-{shell[-1]}-{tools.replace(' ', '-')}"
    little = bare(running, name, ["sh", "cat", *tools.split()], shell=shell)
    sent = push(cluster, little, ["sh", "-c", f"cat > {tmp_path}/f"], [CONTENT] * 3, timeout=SOON)
    got = b"".join(pull(cluster, little, ["cat", f"{tmp_path}/f"], timeout=SOON))
    assert (sent, got) == (len(CONTENT) * 3, CONTENT * 3)

    sandbox.faults.add("exec-cut-stdin", "exec", value=196_608)
    with pytest.raises(StreamCutError):
        push(cluster, little, ["sh", "-c", f"cat > {tmp_path}/f"], [CONTENT] * 3, timeout=SOON)
    sandbox.faults.clear()
    sandbox.faults.add("exec-cut-stdout", "exec", value=196_608)
    with pytest.raises(StreamCutError):
        list(pull(cluster, little, ["cat", f"{tmp_path}/f"], timeout=SOON))


@pytest.mark.parametrize(
    ("tools", "missing"),
    [
        ([], "sh"),
        (["sh"], "tee"),
        (["sh", "sha256sum"], "tee"),
        (["sh", "tee"], "sha256sum"),
    ],
)
def test_a_container_without_the_tools_is_told(running, tools, missing):
    """A container that cannot verify streams is refused before the source is read, and the missing tool is named."""
    _, cluster, _ = running
    empty = bare(running, f"lacks-{len(tools)}-{missing}", tools)

    def untouched():
        pytest.fail("the source was read")
        yield

    with pytest.raises(NoShellError, match=f"its container has no {missing}$") as caught:
        run(cluster, empty, ["true"], timeout=SOON)
    assert caught.value.reason == "NoShell"
    with pytest.raises(NoShellError, match=f"its container has no {missing}$"):
        push(cluster, empty, ["cat"], untouched(), timeout=SOON)


def test_frames_need_dd(running):
    """Where the server cannot tell the end of input and the container has no dd, that is said."""
    without = bare(running, "no-dd", ["sh", "tee", "sha256sum", "cat"])

    with speaking(running[0], V4) as old:
        with pytest.raises(NoShellError, match="has no dd with iflag=fullblock"):
            push(old, without, ["cat"], [CONTENT], timeout=SOON)
