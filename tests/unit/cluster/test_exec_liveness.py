"""Silence in an exec stream: what is waited for, and what is given up."""

from __future__ import annotations

import threading
import time

import pytest

from reconciler.cluster.liveness import PING_AFTER_S, Pulse
from reconciler.cluster.port import ExecBrokenError, ExecTarget
from tests.support.sandbox import eventually
from tests.support.wire import connected

TARGET = ExecTarget("n", "p", "c")
SPAN_S = 0.3


class Asked:
    """A probe that answers at once, and counts."""

    def __init__(self, answer=""):
        self.answer, self.count, self.within_s = answer, 0, 0.0

    def by(self, argv):
        """Not asked for here."""

    def __call__(self, within_s):
        self.count, self.within_s = self.count + 1, within_s
        return self.answer


def lived(pulse, until, *, start=0, heard=False):
    """Tick once a second; the second at which the far side is given up and why, or nothing."""
    for now in range(start, until):
        if heard:
            pulse.heard(now)
        pulse.is_ping_due(now)
        if why := pulse.why_gone(now):
            return now, why
        prober = pulse._prober
        if prober:
            prober.join()
    return None


@pytest.mark.parametrize("has_input", [False, True])
def test_a_far_side_that_is_gone_is_given_up_within_a_minute(has_input):
    """With the spans of production: nothing is heard, and 60 s later the stream has ended."""
    pulse = Pulse(ping_after_s=PING_AFTER_S, has_input=has_input, probe=Asked("gone"), now=0)

    at, why = lived(pulse, 600)

    assert at < 60
    assert ("gone" if has_input else "ping") in why


@pytest.mark.parametrize("has_input", [False, True])
def test_ten_minutes_of_silence_are_survived(has_input):
    """Pings that are answered keep the stream, and the probe is asked every eight spans only."""
    probe = Asked()
    pulse = Pulse(ping_after_s=PING_AFTER_S, has_input=has_input, probe=probe, now=0)

    assert lived(pulse, 600, heard=True) is None
    assert 5 <= probe.count <= 6


def test_a_command_that_reads_slowly_is_waited_for():
    """Input that stands still for an hour, with pings unanswered behind it, is kept as long as the probe finds the command."""
    probe = Asked()
    pulse = Pulse(ping_after_s=PING_AFTER_S, has_input=True, probe=probe, now=0)

    assert lived(pulse, 3600) is None
    assert probe.within_s <= 20
    probe.answer = "its command runs no more"
    at, why = lived(pulse, 3700, start=3600)
    assert (at < 3660, why) == (True, probe.answer)


def test_a_command_that_is_gone_behind_a_living_server_is_found():
    """A server that answers pings says nothing about the node: the probe does."""
    pulse = Pulse(ping_after_s=PING_AFTER_S, has_input=False, probe=Asked("no such process"), now=0)

    at, why = lived(pulse, 600, heard=True)

    assert (8 * PING_AFTER_S < at < 9 * PING_AFTER_S, why) == (True, "no such process")


def test_a_probe_that_failed_while_data_came_is_forgotten():
    """What moves is alive, whatever a probe says."""
    answering = threading.Event()

    class Slow(Asked):
        def __call__(self, within_s):
            answering.wait(20)
            return "gone"

    pulse = Pulse(ping_after_s=PING_AFTER_S, has_input=True, probe=Slow(), now=0)
    assert pulse.why_gone(31) == ""
    pulse.heard(40)
    pulse.moved(40)
    answering.set()
    pulse._prober.join()

    assert pulse.why_gone(41) == ""


def test_pings_come_once_a_span():
    """A silent far side is asked every span, one that talks never."""
    pulse = Pulse(ping_after_s=PING_AFTER_S, has_input=False, probe=Asked(), now=0)
    assert [now for now in range(60) if pulse.is_ping_due(now)] == [13, 26, 39, 52]
    assert not any(pulse.heard(now) or pulse.is_ping_due(now) for now in range(60, 120))


def test_a_silent_server_is_pinged_and_kept_when_it_answers(tmp_path):
    """A command that is silent for long stays connected as long as pings are answered."""
    pings = []

    def handler(call):
        call.upgrade()
        if "command=true" in call.path:
            call.success()
            return
        for _ in range(12):
            opcode, payload = call.hear()
            pings.append(opcode)
            call.frame(payload, opcode=10)
        call.frame(b"\x01late")
        call.success()

    with connected(handler, tmp_path, exec_ping_after_s=SPAN_S) as (_, cluster):
        with cluster.execute(TARGET, ["cat"]) as session:
            assert b"".join(session.read()) == b"late"
    assert set(pings) == {9}


def test_a_server_that_answers_no_ping_is_given_up(tmp_path):
    """Without an answer to any ping the far side is gone: nothing waits for ever."""

    def handler(call):
        call.upgrade()
        call.until_gone()

    with connected(handler, tmp_path, exec_ping_after_s=SPAN_S) as (_, cluster):
        started = time.monotonic()
        with cluster.execute(TARGET, ["cat"]) as session:
            with pytest.raises(ExecBrokenError, match="no ping"):
                session.result()
    assert time.monotonic() - started < 10


class Blocked:
    """A server whose command reads nothing; probes are answered as the test says."""

    def __init__(self):
        self.done, self.probes, self.answer = threading.Event(), [], lambda call: call.success()

    def __call__(self, call):
        if "stdin=true" in call.path:
            call.upgrade()
            self.done.wait(30)
            return
        self.probes.append(call.path)
        if self.answer:
            call.upgrade()
            self.answer(call)
        else:
            self.done.wait(30)


@pytest.fixture
def blocked(tmp_path):
    """A session whose input stands still, and its server."""
    server = Blocked()
    with connected(server, tmp_path, exec_ping_after_s=SPAN_S) as (_, cluster):
        with cluster.execute(TARGET, ["slow"], stdin=True) as session:
            yield server, session
        server.done.set()


def fill(session):
    """Send until nothing is taken any more, and then on until it breaks."""
    with pytest.raises(ExecBrokenError):
        while True:
            session.send(bytes(1 << 20))


def test_input_that_stands_still_is_probed_in_its_own_container(blocked):
    """The stream is kept while another command in the container ends, which is asked again and again."""
    server, session = blocked
    session.probe_by(["ask", "me"])
    sender = threading.Thread(target=lambda: fill(session))
    sender.start()

    eventually(lambda: len(server.probes) >= 4)

    assert sender.is_alive()
    assert all("command=ask&command=me&container=c&stdout=true" in path for path in server.probes)
    session.close()
    sender.join(10)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda call: (
                call.frame(
                    b'\x03{"status":"Failure","details":'
                    b'{"causes":[{"reason":"ExitCode","message":"1"}]}}'
                ),
                call.frame(b"\x03\xe8", opcode=8),
            ),
            "its command runs no more",
        ),
        (lambda call: call.drop(), "a second command there does not run"),
        (None, "a second command there does not run"),
    ],
    ids=["says no", "breaks", "is silent"],
)
def test_input_that_stands_still_for_good_is_given_up(blocked, answer, message):
    """When the probe finds nobody, the sender is woken with that."""
    server, session = blocked
    server.answer = answer
    session.probe_by(["ask"])
    started = time.monotonic()

    fill(session)
    with pytest.raises(ExecBrokenError, match=message):
        session.result()

    assert time.monotonic() - started < 20
    assert server.probes


def test_a_probe_that_is_refused_says_that_somebody_answers(tmp_path):
    """Credentials that expired meanwhile, or a busy server, do not end a stream that runs."""
    done = threading.Event()
    codes = [401, 429, 403]
    asked = []

    def handler(call):
        if "stdin=true" in call.path:
            call.upgrade()
            done.wait(30)
            call.success()
            return
        asked.append(codes[len(asked) % 3])
        call.answer(asked[-1], {"kind": "Status", "message": "no"})

    with connected(handler, tmp_path, exec_ping_after_s=SPAN_S) as (_, cluster):
        with cluster.execute(TARGET, ["slow"], stdin=True) as session:
            eventually(lambda: len(asked) >= 4)
            done.set()
            assert session.result().exit_code == 0
