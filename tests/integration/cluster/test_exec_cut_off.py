"""Exec streams whose far side vanishes without a word: behind a firewall, or stopped. They end; none waits for ever."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from reconciler.cluster.kubernetes import connect
from reconciler.cluster.port import ExecBrokenError, ExecTarget
from tests.support.exec_server import served, walled_off
from tests.support.sandbox import eventually
from tests.support.wire import kubeconfig

SPAN_S = 0.5
SOON_S = 30
NOTICED_WITHIN_S = 60


@contextmanager
def client(server, tmp_path, **how):
    """A cluster whose API server is the endless one."""
    with connect(
        name="far", kubeconfig=kubeconfig(tmp_path / "kubeconfig", server.url), **how
    ) as c:
        yield c


class Stream:
    """An endless stream one way, in a thread; how it ended and when."""

    def __init__(self, cluster, way):
        self.way, self.carried, self.error, self.ended_at = way, 0, "", 0.0
        self.session = cluster.execute(ExecTarget("n", "p", "c"), [way], stdin=way == "in")
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            if self.way == "out":
                for piece in self.session.read():
                    self.carried += len(piece)
            while self.way == "in":
                self.session.send(bytes(32 << 10))
                self.carried += 32 << 10
        except ExecBrokenError as error:
            self.error = error.message
        self.ended_at = time.monotonic()

    def end_after(self, cut, within_s):
        """Cut the far side off in the middle; how many seconds it took to be noticed."""
        eventually(lambda: self.carried > 1 << 20)
        cut_at = time.monotonic()
        cut()
        self.thread.join(within_s)
        assert not self.thread.is_alive(), f"not noticed within {within_s} s"
        self.session.close()
        return self.ended_at - cut_at


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("hook", ["input", "output"])
def test_a_firewall_that_drops_everything_is_noticed(tmp_path, way, hook):
    """Whichever way the stream goes, and whichever way packets are lost, without RST or FIN."""
    with walled_off() as server, client(server, tmp_path, exec_ping_after_s=SPAN_S) as cluster:
        stream = Stream(cluster, way)
        stream.end_after(lambda: server.cut_off(hook), SOON_S)

    assert stream.error


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_server_that_is_stopped_is_noticed(tmp_path, way):
    """Its kernel still acknowledges what is sent, but nobody is there."""
    with served() as server, client(server, tmp_path, exec_ping_after_s=SPAN_S) as cluster:
        stream = Stream(cluster, way)
        stream.end_after(lambda: server.process.send_signal(signal.SIGSTOP), SOON_S)

    assert stream.error


@pytest.mark.slow
def test_it_takes_less_than_a_minute(tmp_path):
    """With the spans of production: cut off and stopped, in both directions, all at once."""
    with (
        walled_off() as cut,
        served() as stopped,
        client(cut, tmp_path) as far,
        connect(name="near", kubeconfig=kubeconfig(tmp_path / "near", stopped.url)) as near,
    ):
        streams = [Stream(cluster, way) for cluster in (far, near) for way in ("in", "out")]
        for stream in streams:
            eventually(lambda stream=stream: stream.carried > 1 << 20)
        cut.cut_off("output")
        stopped.process.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(4) as pool:
            took = list(
                pool.map(lambda each: each.end_after(lambda: None, NOTICED_WITHIN_S), streams)
            )

    assert max(took) < NOTICED_WITHIN_S
    assert all(stream.error for stream in streams)
