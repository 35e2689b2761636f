"""The daemon's small parts: health, the probes' server, metrics, the exit code of a pass, and the clock that waits."""

from __future__ import annotations

import threading
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.clock import SteppedClock
from reconciler.daemon.captures import CaptureLine
from reconciler.daemon.daemon import Daemon
from reconciler.daemon.desired import Desired
from reconciler.daemon.due import Upcoming
from reconciler.daemon.health import Health, HealthServer
from reconciler.daemon.metrics import ApplicationFacts, Metrics
from reconciler.daemon.reconcile import PassReport, Problem
from reconciler.daemon.timer import TimerClock
from reconciler.errors import UsageError
from reconciler.kinds.effective import Application
from reconciler.kinds.finding import Finding

NOW = datetime(2026, 11, 23, 6, 2, tzinfo=UTC)
POLL = timedelta(minutes=1)


class Passes:
    """Passes that look at the daemon's health while they run."""

    def __init__(self, clock, *, took=timedelta(), problems=(), upcoming=(), most=1):
        self.clock, self.took, self.problems = clock, took, list(problems)
        self.upcoming, self.most = list(upcoming), most
        self.daemon = None
        self.during = []
        self.starts = []

    def run_pass(self, *, stop):
        self.starts.append(self.clock.now())
        self.clock.advance(self.took)
        self.during.append(self.daemon.health())
        if len(self.starts) == self.most:
            stop.set()
        return PassReport(
            started_at=self.clock.now(),
            ended_at=self.clock.now(),
            problems=self.problems,
            upcoming=self.upcoming,
        )


def run(**how):
    """Run a daemon to its end; its passes and itself."""
    clock = SteppedClock(NOW)
    passes = Passes(clock, **how)
    daemon = Daemon(passes, clock=clock, poll=POLL)
    passes.daemon = daemon
    before = daemon.health()
    daemon.run(stop=threading.Event())
    return passes, daemon, before


class TestHealth:
    """Alive and ready."""

    def test_not_ready_before_the_first_pass_has_ended(self):
        """A daemon that starts is alive and not ready; after a good pass it is both."""
        passes, daemon, before = run()

        assert (before.alive, before.ready) == (True, False)
        assert (passes.during[0].alive, passes.during[0].ready) == (True, False)
        assert daemon.health() == Health(
            alive=True, ready=True, message="last pass ended 2026-11-23T06:02:00Z"
        )

    def test_a_long_pass_is_alive(self):
        """Streaming a large database for hours is no reason to be killed; hanging for half a day is."""
        long, _, _ = run(took=timedelta(hours=3))
        hanging, _, _ = run(took=timedelta(hours=13))

        assert long.during[0].alive
        assert not hanging.during[0].alive

    def test_a_loop_that_stopped_is_not_alive(self):
        """When no pass starts for long after the last one the daemon is not alive."""
        passes, daemon, _ = run()
        passes.clock.advance(timedelta(minutes=17))

        assert not daemon.health().alive

    def test_only_what_blocks_makes_it_not_ready(self):
        """A problem that keeps everything from being protected makes it not ready, with the reason; others do not."""
        _, blocked, _ = run(problems=[Problem("cluster", "away", blocks=True)])
        _, noisy, _ = run(problems=[Problem("retention", "would retire too much")])

        assert not blocked.health().ready
        assert "cluster: away" in blocked.health().message
        assert noisy.health().ready


class TestLoop:
    """When the next pass starts."""

    def test_by_the_poll(self):
        """Without anything due earlier, passes follow at the poll's pace."""
        passes, _, _ = run(most=3)

        assert passes.starts == [NOW, NOW + POLL, NOW + 2 * POLL]

    def test_earlier_when_something_is_due(self):
        """What is due before the next poll starts a pass at its time."""
        due = Upcoming(Application("shop"), NOW + timedelta(seconds=20))
        passes, _, _ = run(most=2, upcoming=[due])

        assert passes.starts == [NOW, NOW + timedelta(seconds=20)]

    def test_never_in_a_tight_loop(self):
        """Something due in the past does not spin the loop: a second lies between passes."""
        due = Upcoming(Application("shop"), NOW - timedelta(hours=1))
        passes, _, _ = run(most=3, upcoming=[due])

        assert passes.starts[1] - passes.starts[0] == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("phases", "problems", "faulty", "code"),
    [
        (["Succeeded"], [], False, 0),
        (["Succeeded"], [], True, 1),
        (["Succeeded", "Partial"], [], True, 3),
        (["Partial", "Failed"], [], False, 6),
        (["Succeeded"], [Problem("ledger", "away", may_pass=True)], False, 7),
        (["Failed"], [Problem("ledger", "away", may_pass=True)], False, 6),
        (["Succeeded"], [Problem("retention", "too much")], False, 6),
        ([], [Problem("cluster", "away", blocks=True)], False, 7),
    ],
)
def test_exit_code_of_a_pass(phases, problems, faulty, code):
    """The worst of what happened decides."""
    findings = (Finding("p.yaml", 1, 1, "spec", "wrong"),) if faulty else ()
    report = PassReport(
        started_at=NOW,
        ended_at=NOW,
        captured=[CaptureLine(Application("shop"), "s", phase) for phase in phases],
        problems=problems,
        desired=Desired(findings=findings),
    )

    assert report.exit_code == code


class TestServer:
    """Probes over HTTP."""

    def test_answers(self):
        """Each path answers with its state; the server goes with the block."""
        state = Health(alive=True, ready=False, message="cluster: away")
        metrics = Metrics(cluster="town")
        with HealthServer(host="127.0.0.1", port=0, metrics=metrics, health=lambda: state) as it:
            url = f"http://127.0.0.1:{it.port}"
            with urllib.request.urlopen(f"{url}/healthz") as answer:
                alive = answer.status, answer.read()
            with urllib.request.urlopen(f"{url}/metrics?x=1") as answer:
                text = answer.read().decode()
            with pytest.raises(urllib.error.HTTPError) as ready:
                urllib.request.urlopen(f"{url}/readyz")
            said = ready.value.code, ready.value.read()
            ready.value.close()

        assert alive == (200, b"cluster: away\n")
        assert said == (503, b"cluster: away\n")
        assert "reconciler_build_info" in text

    def test_a_port_that_is_taken(self):
        """A port in use is wrong usage, with what to change."""
        state = Health(alive=True, ready=True, message="")
        metrics = Metrics(cluster="town")
        with HealthServer(host="127.0.0.1", port=0, metrics=metrics, health=lambda: state) as it:
            with pytest.raises(UsageError) as caught:
                HealthServer(host="127.0.0.1", port=it.port, metrics=metrics, health=lambda: state)
        assert "health.port" in caught.value.hint


def test_applications_that_are_gone_vanish_from_the_metrics():
    """Metrics of applications are those of the newest pass alone."""
    facts = ApplicationFacts(
        namespace="shop",
        application="_",
        policy="gold",
        state="compliant",
        rpo_s=7200,
        last_success_at=NOW,
        last_attempt_at=NOW,
        next_run_at=None,
        points=3,
    )
    metrics = Metrics(cluster="town")
    metrics.show_applications([facts])
    labels = 'application="_",cluster="town",namespace="shop",policy="gold"'
    first = metrics.exposition().decode()
    metrics.show_applications([])

    assert f"reconciler_policy_rpo_seconds{{{labels}}} 7200.0" in first
    assert f"reconciler_restore_points{{{labels}}} 3.0" in first
    assert f"reconciler_next_run_timestamp_seconds{{{labels}}}" not in first
    assert 'namespace="shop"' not in metrics.exposition().decode()


class TestTimer:
    """Waiting on the machine's clock."""

    def test_waits_and_returns(self):
        """It returns True at the instant, at once when that has passed."""
        with TimerClock() as clock:
            start = clock.now()
            assert clock.wait_until(start - timedelta(hours=1), stop=threading.Event())
            assert clock.wait_until(start + timedelta(milliseconds=120), stop=threading.Event())
            assert clock.now() - start >= timedelta(milliseconds=120)

    def test_may_be_left_at_any_moment(self):
        """Leaving right after a wait, however the scheduler's thread is placed, raises nowhere."""
        for number in range(60):
            with TimerClock() as clock:
                soon = clock.now() + timedelta(milliseconds=number % 4)
                assert clock.wait_until(soon, stop=threading.Event())

    def test_stops(self):
        """A stop ends a long wait with False; a stop before it starts does not wait at all."""
        stop = threading.Event()
        with TimerClock() as clock:
            threading.Timer(0.05, stop.set).start()
            assert not clock.wait_until(clock.now() + timedelta(hours=1), stop=stop)
            assert not clock.wait_until(clock.now() - timedelta(hours=1), stop=stop)
