"""Streams into and out of containers: whole, or an error that says what is wrong."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.blueprint.streams import (
    CommandFailedError,
    OutputTooLargeError,
    StreamCutError,
    pull,
    push,
    run,
)
from reconciler.cluster.port import ExecBrokenError
from tests.support.clusters import pod_spec, sandbox_cluster
from tests.support.streaming import (
    CONTENT,
    SOON,
    V4,
    no_faults,
    running,
    speaking,
    started,
    target,
)

__all__ = ["no_faults", "running", "target"]


@pytest.mark.parametrize("kept", [0, 1, 100, 32768, 500_000])
def test_output_cut_short_with_exit_code_0_is_found(running, target, kept):
    """A stdout that loses its end, though the status says success, is StreamCutError; our own first line counts too."""
    sandbox, cluster, _ = running
    fault = sandbox.faults.add("exec-cut-stdout", "exec", value=kept)
    stream = pull(cluster, target, ["head", "-c", "1000000", "/dev/zero"], timeout=SOON)

    got = 0
    with pytest.raises(StreamCutError) as caught:
        for piece in stream:
            got += len(piece)
    assert fault.hits == 1
    assert max(0, kept - 100) <= got <= kept
    if got:
        assert f"{got} bytes here, 1000000 bytes there (exit code 0)" in caught.value.message


@pytest.mark.parametrize("protocol", ["", V4])
@pytest.mark.parametrize("kept", [0, 3, 32768, 196_608])
def test_input_cut_short_with_exit_code_0_is_found(running, target, kept, protocol, tmp_path):
    """A stdin that ends early, which the command takes for its end and succeeds, is StreamCutError."""
    sandbox, cluster, _ = running
    fault = sandbox.faults.add("exec-cut-stdin", "exec", value=kept)
    command = ["sh", "-c", 'cat > "$0"', f"{tmp_path}/f"]

    with speaking(sandbox, protocol) as spoken, pytest.raises(StreamCutError):
        push(spoken, target, command, [CONTENT] * 4, timeout=SOON)

    assert fault.hits == 1
    if kept > 3:
        assert (tmp_path / "f").stat().st_size <= kept
    else:
        assert not (tmp_path / "f").exists(), "a stream that is cut before it starts starts nothing"


def test_the_truncation_of_containerd_cannot_happen(running, target, tmp_path):
    """Where stdin ends with stdout or stderr, a bare command stores a part; ours stores all, because a shell holds both."""
    sandbox, cluster, _ = running
    fault = sandbox.faults.add("exec-early-eof", "exec", times=2)
    content = bytes(1 << 20)
    with cluster.execute(
        target, ["sh", "-c", f"exec cat > {tmp_path}/bare 2>/dev/null"], stdin=True
    ) as session:
        with suppress(
            ExecBrokenError
        ):  # such a command may end before its input, or lose its status
            for _ in range(32):
                session.send(content)
            session.close_stdin()
            assert session.result().exit_code == 0
    assert (tmp_path / "bare").stat().st_size < 32 << 20

    command = ["sh", "-c", f"exec cat > {tmp_path}/held 2>/dev/null"]
    sent = push(cluster, target, command, [content] * 32, timeout=SOON)

    assert fault.hits == 2
    assert (tmp_path / "held").stat().st_size == sent == 32 << 20


@pytest.mark.parametrize("sizes", [[], [0], [1], [65536], [1 << 20, 1], [100] * 3000, [3 << 20]])
def test_a_server_without_half_close_is_told_how_much_comes(running, target, sizes, tmp_path):
    """Under v4 every length arrives whole, in frames, whatever pieces it comes in."""
    content = os.urandom(sum(sizes))
    view, pieces = memoryview(content), []
    for size in sizes:
        pieces.append(bytes(view[:size]))
        view = view[size:]

    with speaking(running[0], V4) as old:
        sent = push(old, target, ["sh", "-c", f"cat > {tmp_path}/f"], pieces, timeout=SOON)

    assert sent == len(content)
    assert (tmp_path / "f").read_bytes() == content


def test_a_server_from_before_v5_takes_streams(tmp_path):
    """Kubernetes 1.21 speaks v4 alone: streams pass both ways."""
    with sandbox_cluster(profile="1.21") as (sandbox, cluster):
        old = started((sandbox, cluster, cluster.discover()), "old", pod_spec())
        sent = push(cluster, old, ["sh", "-c", f"cat > {tmp_path}/f"], [CONTENT] * 9, timeout=SOON)
        got = b"".join(pull(cluster, old, ["cat", f"{tmp_path}/f"], timeout=SOON))

    assert sent == len(got)
    assert got == CONTENT * 9


@pytest.mark.parametrize("protocol", ["", V4])
@pytest.mark.parametrize("count", [1, 40])
def test_a_command_that_does_not_read_its_input_is_found(running, target, count, protocol):
    """A command that succeeds and leaves input, be it a few bytes in a pipe, did not take what was sent."""
    with speaking(running[0], protocol) as spoken:
        with pytest.raises(StreamCutError, match="the command ended before its input did"):
            push(
                spoken,
                target,
                ["head", "-c", "5"],
                (CONTENT[: 100_000 // count] for _ in range(count)),
                timeout=SOON,
            )


def test_a_stream_without_a_status_is_found(running, target):
    """No status, no result."""
    sandbox, cluster, _ = running
    sandbox.faults.add("exec-no-status", "exec", times=2)

    with pytest.raises(ExecBrokenError):
        run(cluster, target, ["true"], timeout=SOON)
    with pytest.raises(ExecBrokenError):
        push(cluster, target, ["cat"], [b"x"], timeout=SOON)


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


def test_a_command_cannot_forge_the_report(running, target):
    """What a command writes to stderr in the form of the report counts for nothing."""
    _, cluster, _ = running
    digest = hashlib.sha256(b"").hexdigest()
    forged = f"echo 'reconciler-0123456789abcdef report exit 0 {digest} - 0' >&2; exit 9"

    with pytest.raises(CommandFailedError, match="exit code 9"):
        run(cluster, target, ["sh", "-c", forged], timeout=SOON)


def test_the_line_that_tells_is_quoted(running, target):
    """Not what a program shows behind its error: the input, which may be secret, and a caret."""
    _, cluster, _ = running
    said = "echo 'ERROR:  syntax error at or near x' >&2; echo 'LINE 1: row' >&2; echo '  ^' >&2"

    with pytest.raises(CommandFailedError, match="exit code 3: ERROR:  syntax error at or near x$"):
        run(cluster, target, ["sh", "-c", f"{said}; exit 3"], timeout=SOON)


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
