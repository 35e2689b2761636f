"""Notices within a minute that the far side of a stream is gone, and that a silent one is not.

A far side that says nothing for `ping_after_s`, a span, is pinged, which also keeps proxies from cutting an idle
stream. Where no input is sent, answers come at once: three spans of silence mean that nobody is there.
Where input is sent, an answer stands behind input that the command has not read yet, for hours perhaps; and
who answers is the API server, not the node. So a stream in which nothing moves is probed by another command in the
same container: after two spans when no ping is answered, after eight when pings are. As long as the probe finds what it
looks for, the stream is waited for.

TCP helps where it can. `TCP_USER_TIMEOUT` is left out where input is sent: Linux counts it against a far side that
is alive and has closed its window (`tcp_probe_timer`), which a slow command does.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Protocol

PING_AFTER_S = 12.0
GONE_SPANS = 3
PROBE_SPANS = 2
PROBE_ANSWERED_SPANS = 8
PROBE_WITHIN_SPANS = 1.5
PROBE_LEAST_S = 5.0
"""A command takes some time to start, however short the spans."""
_KEEPALIVE_EVERY_S = 10
_KEEPALIVE_TRIES = 3


class Probe(Protocol):
    """Looks from outside whether a stream's command still runs."""

    def by(self, argv: Sequence[str]) -> None:
        """Probe by a command that ends with 0 as long as there is something to wait for."""
        ...

    def __call__(self, within_s: float) -> str:
        """Say why there is nothing to wait for; empty when there is."""
        ...


class Pulse:
    """When a stream was last heard of, and whether it is to be given up. One thread uses it; the probe has its own."""

    def __init__(self, *, ping_after_s: float, has_input: bool, probe: Probe, now: float) -> None:
        self.probe = probe
        self._ping_after_s = ping_after_s
        self._has_input = has_input
        self._heard_at = self._moved_at = self._pinged_at = now
        self._prober: threading.Thread | None = None
        self._verdict: str | None = None

    @property
    def heard_at(self) -> float:
        """The last sign of life."""
        return self._heard_at

    def heard(self, now: float) -> None:
        """Note a sign of life, a pong perhaps."""
        self._heard_at = now

    def moved(self, now: float) -> None:
        """Note that contents came, or that input was taken."""
        self._moved_at = now

    def is_ping_due(self, now: float) -> bool:
        """Whether to ping; it then counts as done."""
        is_due = now - max(self._heard_at, self._pinged_at) > self._ping_after_s
        if is_due:
            self._pinged_at = now
        return is_due

    def why_gone(self, now: float) -> str:
        """Why the far side is to be given up; empty while it is not."""
        silent = (now - self._heard_at) / self._ping_after_s
        still = (now - self._moved_at) / self._ping_after_s
        if not self._has_input and silent > GONE_SPANS:
            return "the far side answers no ping"
        if self._prober is not None:
            return self._judge(still, now)
        if still > PROBE_ANSWERED_SPANS or (self._has_input and min(still, silent) > PROBE_SPANS):
            self._prober = threading.Thread(target=self._ask, name="exec-probe", daemon=True)
            self._prober.start()
        return ""

    def _judge(self, still: float, now: float) -> str:
        assert self._prober is not None
        if self._prober.is_alive():
            return ""
        self._prober = None
        if self._verdict and still > PROBE_SPANS:
            return self._verdict
        self._heard_at = self._moved_at = now
        return ""

    def _ask(self) -> None:
        self._verdict = None
        self._verdict = self.probe(max(PROBE_LEAST_S, self._ping_after_s * PROBE_WITHIN_SPANS))


def watch_over(wire: socket.socket, *, has_input: bool, ping_after_s: float) -> None:
    """Ask TCP to notice a far side that is gone, as far as this system can."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    settings = {
        "TCP_KEEPIDLE": max(1, int(ping_after_s)),
        "TCP_KEEPINTVL": _KEEPALIVE_EVERY_S,
        "TCP_KEEPCNT": _KEEPALIVE_TRIES,
    }
    if not has_input:
        settings["TCP_USER_TIMEOUT"] = int(1000 * ping_after_s * GONE_SPANS)
    for name, value in settings.items():
        if option := getattr(socket, name, None):
            wire.setsockopt(socket.IPPROTO_TCP, option, value)
