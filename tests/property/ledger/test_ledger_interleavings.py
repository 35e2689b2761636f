"""Two ledgers on one branch, in any order of their steps: nothing is lost, nothing is twice, the row is unbroken."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import ReconcilerError
from reconciler.git.remote import PushResult
from reconciler.ledger.chain import verify_chain
from reconciler.ledger.ledger import Entry
from tests.support.gitremote import FlakyRemote, GitRemote, fsck
from tests.support.ledgers import failure, ledger, point, restore, retire

STEP = st.tuples(
    st.integers(0, 1),
    st.sampled_from(
        [
            "point",
            "point",
            "failure",
            "retire",
            "accept",
            "push",
            "push",
            "refresh",
            "restart",
            "cut",
            "away",
        ]
    ),
    st.integers(0, 5),
)


class World:
    """A remote, two daemons, and what each was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remote = GitRemote(folder / "remote.git")
        self.flaky = [FlakyRemote(), FlakyRemote()]
        self.ledgers = [self.open(0), self.open(1)]
        self.points: set[str] = set()
        self.failures = 0
        self.retired: set[str] = set()
        self.accepted: list[int] = []
        self.refused: set[int] = set()

    def open(self, who: int):
        return ledger(self.folder / str(who), self.remote.url, remote=self.flaky[who])

    def step(self, who: int, what: str, number: int) -> None:
        here, flaky = self.ledgers[who], self.flaky[who]
        try:
            match what:
                case "point":
                    record = point(number)
                    if record.spec.slot not in self.retired:
                        self.points.add(record.spec.slot)
                        here.append([Entry(record)])
                case "failure":
                    self.failures += 1
                    here.append([Entry(failure(number, attempt=self.failures))])
                case "retire":
                    live = here.view().points()[:1]
                    if live:
                        here.append([retire(here.view(), live, hour=10 + number)])
                        self.retired |= {entry.slot for entry in live}
                case "accept":
                    if here.accept(restore(attempt=number + 1)):
                        self.accepted.append(number)
                case "push":
                    here.push()
                case "refresh":
                    here.refresh()
                case "restart":
                    self.ledgers[who] = self.open(who)
                case "cut":
                    flaky.after_push = lambda _: PushResult("unreachable", "cut")
                    here.push()
                case "away":
                    flaky.fail_fetch = True
                    here.refresh()
        except ReconcilerError:
            pass
        finally:
            flaky.after_push = lambda result: result
            flaky.fail_fetch = False


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=14))
def test_any_interleaving(steps):
    """Every record is on the remote exactly once, in one unbroken row that both see alike."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for step in steps:
            world.step(*step)
        for here in (*world.ledgers, *world.ledgers):
            here.refresh()
            here.push()
        world.ledgers[0].refresh()
        one, two = (here.view() for here in world.ledgers)
        assert one.tip == two.tip
        assert verify_chain(one) == []
        gone = {retired.slot for retired in one.retired()}
        live = {entry.slot for entry in one.points()}
        assert gone & live == set()
        assert gone | live == world.points
        assert gone == world.retired
        assert len(one.retired()) == len(gone)
        assert len(list(one.records("CaptureFailure"))) == world.failures
        assert len(world.accepted) == len(set(world.accepted))
        assert {key.attempt - 1 for key in one.restores()} == set(world.accepted)
        assert all(here.pending == 0 for here in world.ledgers)
        fsck(world.remote.path)
