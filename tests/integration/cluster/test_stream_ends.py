"""Streams that end before their time: timeouts, stops, pods that die, commands that are gone, silence."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from reconciler.blueprint.streams import (
    CommandFailedError,
    CommandStoppedError,
    CommandTimeoutError,
    StreamCutError,
    pull,
    push,
    run,
)
from reconciler.cluster.port import ExecBrokenError, ExecTarget
from tests.support.clusters import pod_spec
from tests.support.sandbox import eventually
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
from tests.support.wire import connected

__all__ = ["no_faults", "running", "target"]


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


def test_a_stop_is_heard_while_the_server_does_not_answer(tmp_path):
    """A server that accepts connections and says nothing does not hold up who wants to stop."""
    stop, hung = threading.Event(), threading.Event()

    def handler(call):
        stop.set()
        hung.wait(30)

    with connected(handler, tmp_path) as (_, cluster):
        began = time.monotonic()
        with pytest.raises(CommandStoppedError):
            run(cluster, ExecTarget("n", "p"), ["true"], timeout=timedelta(minutes=5), stop=stop)
        assert time.monotonic() - began < 5
        with pytest.raises(CommandTimeoutError):
            run(cluster, ExecTarget("n", "p"), ["true"], timeout=timedelta(seconds=1))
        hung.set()
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "exec-open"])


def test_a_consumer_may_leave(running, target):
    """Leaving a pull early closes its session and leaves no thread behind."""
    _, cluster, _ = running
    before = threading.active_count()
    stream = pull(cluster, target, ["cat", "/dev/zero"], timeout=SOON)
    assert next(stream)

    stream.close()

    eventually(lambda: threading.active_count() <= before)


@pytest.mark.parametrize("act", ["pull", "push"])
def test_a_stream_that_outlives_its_command_is_given_up(running, target, act):
    """A server that keeps the stream of a command that is gone, as real ones can, is found by the probe."""
    sandbox, _, _ = running
    sandbox.faults.add("exec-hang", "exec")

    with speaking(sandbox, "", exec_ping_after_s=0.1) as cluster:
        with pytest.raises(ExecBrokenError, match="its command runs no more"):
            if act == "pull":
                list(pull(cluster, target, ["echo", "x"], timeout=timedelta(seconds=60)))
            else:
                push(cluster, target, ["cat"], [b"x"], timeout=timedelta(seconds=60))


@pytest.mark.parametrize("act", ["pull", "push"])
def test_a_command_that_is_silent_for_long_is_waited_for(running, target, act):
    """Thirty spans of silence, ten minutes at the usual length of one, end as they should."""
    with speaking(running[0], "", exec_ping_after_s=0.1) as cluster:
        if act == "pull":
            got = b"".join(pull(cluster, target, ["sh", "-c", "sleep 4; echo late"], timeout=SOON))
            assert got == b"late\n"
        else:
            content = [CONTENT] * 20
            sent = push(cluster, target, ["sh", "-c", "sleep 4; cat"], content, timeout=SOON)
            assert sent == 20 * len(CONTENT)


@pytest.mark.parametrize("protocol", ["", V4])
def test_a_command_that_fails_early_ends_its_input(running, target, protocol):
    """When the command fails, no more is sent: a load that runs for hours does not go on for nothing."""
    sent = []

    def endless():
        while True:
            sent.append(len(CONTENT))
            yield CONTENT

    with speaking(running[0], protocol) as spoken:
        with pytest.raises(CommandFailedError, match="exit code 3: no space left"):
            push(
                spoken,
                target,
                ["sh", "-c", "head -c 9 >/dev/null; echo no space left >&2; exit 3"],
                endless(),
                timeout=SOON,
            )
