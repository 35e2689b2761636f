"""The daemon's metrics, rebuilt from the ledger at every pass.

Labels are bounded: cluster, namespace, application, policy, location, result; never a slot, commit or
message. Each promise is exported beside its fact, so that one generic alert serves every policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from reconciler import __version__


@dataclass(frozen=True)
class ApplicationFacts:
    """What is known of one application after a pass."""

    namespace: str
    application: str
    policy: str
    state: str
    """compliant, noncompliant or unmanaged."""
    rpo_s: float | None
    last_success_at: datetime | None
    last_attempt_at: datetime | None
    next_run_at: datetime | None
    points: int
    note: str = ""
    """One line for people."""
    is_suspended: bool = False
    """Its policy pauses its captures now."""


class Metrics:
    """One registry for one daemon."""

    def __init__(self, *, cluster: str) -> None:
        self.registry = CollectorRegistry()
        self._cluster = cluster
        app = ("cluster", "namespace", "application", "policy")
        self._build = self._gauge("build_info", "Version of the program, always 1.", "version")
        self._build.labels(version=__version__).set(1)
        self._protection = self._gauge(
            "application_protection_info", "State of an application, always 1.", *app, "state"
        )
        self._rpo = self._gauge(
            "policy_rpo_seconds", "The promised recovery point objective.", *app
        )
        self._success = self._gauge(
            "last_success_timestamp_seconds", "Slot of the newest Succeeded restore point.", *app
        )
        self._attempt = self._gauge(
            "last_attempt_timestamp_seconds", "Slot of the newest attempt, good or bad.", *app
        )
        self._next = self._gauge(
            "next_run_timestamp_seconds", "When the next capture is due.", *app
        )
        self._points = self._gauge("restore_points", "Live restore points.", *app)
        self.captures = self._counter(
            "captures", "Captures ended.", "cluster", "namespace", "result"
        )
        self.capture_seconds = Histogram(
            "reconciler_capture_duration_seconds",
            "Duration of a capture.",
            ("cluster",),
            registry=self.registry,
            buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200),
        )
        self.added_bytes = self._counter("added_bytes", "Bytes added to locations.", "cluster")
        self.restores = self._counter("restores", "Restores ended.", "cluster", "result")
        self.retired = self._counter("retired_points", "Restore points retired.", "cluster")
        self.passes = self._counter("passes", "Passes ended.", "cluster", "result")
        self.pass_seconds = Histogram(
            "reconciler_pass_duration_seconds",
            "Duration of a pass.",
            ("cluster",),
            registry=self.registry,
        )
        self.git_synced = self._gauge(
            "git_last_sync_timestamp_seconds", "When a source was last read.", "cluster", "source"
        )
        self.git_pending = self._gauge(
            "git_unpushed_commits", "Ledger commits not yet pushed.", "cluster"
        )
        self.invalid = self._gauge(
            "policy_faults", "Faults of the newest revision of a source.", "cluster", "source"
        )
        self.location_up = self._gauge(
            "location_up", "Whether a location opens.", "cluster", "location"
        )

        self.watch_alarms = self._counter(
            "watch_alarms", "Watches that did not tell what they should have.", "cluster", "kind"
        )
        self.followed_kinds = self._gauge(
            "followed_kinds", "Kinds that are watched between captures.", "cluster"
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"reconciler_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"reconciler_{name}", text, labels, registry=self.registry)

    def show_applications(self, facts: Iterable[ApplicationFacts]) -> None:
        """Replace the state of all applications; those that are gone vanish."""
        gauges = (
            self._protection,
            self._rpo,
            self._success,
            self._attempt,
            self._next,
            self._points,
        )
        for gauge in gauges:
            gauge.clear()
        for fact in facts:
            labels = (self._cluster, fact.namespace, fact.application, fact.policy)
            self._protection.labels(*labels, fact.state).set(1)
            self._points.labels(*labels).set(fact.points)
            if fact.rpo_s is not None:
                self._rpo.labels(*labels).set(fact.rpo_s)
            for gauge, instant in (
                (self._success, fact.last_success_at),
                (self._attempt, fact.last_attempt_at),
                (self._next, fact.next_run_at),
            ):
                if instant is not None:
                    gauge.labels(*labels).set(instant.timestamp())

    def exposition(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
