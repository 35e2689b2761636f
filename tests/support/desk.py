"""Runners of restores with ledgers of their own on one remote, as processes on several machines would have."""

from __future__ import annotations

import subprocess
import threading

from reconciler.kinds.model import Metadata
from reconciler.kinds.record import RestorePoint
from reconciler.ledger.ledger import Entry, Ledger
from reconciler.restore.execute.attempt import RunnerSettings
from reconciler.restore.execute.lease import name_of_lease
from reconciler.restore.execute.once import RestoreRunner
from tests.support.rescue import BOUNDS, IMAGE
from tests.support.seen import manifest


class Desk:
    """Runners with ledgers of their own on one remote, as processes on several machines would have."""

    def __init__(self, rescue, remote, tmp_path):
        self.rescue = rescue
        self.url = f"file://{remote}"
        self._tmp_path = tmp_path
        self._runners = 0

    def ledger(self):
        """A ledger on an empty disk, refreshed."""
        self._runners += 1
        directory = self._tmp_path / f"ledger-{self._runners}"
        ledger = Ledger(directory=directory, url=self.url, cluster="town", clock=self.rescue.clock)
        ledger.refresh()
        return ledger

    def settings(self, bounds=BOUNDS, **how):
        """Another process each time."""
        return RunnerSettings(
            cluster="town",
            holder=f"process-{self._runners}",
            lease_namespace="reconciler-leases",
            helper_image=IMAGE,
            bounds=bounds,
            **how,
        )

    def runner(self, cluster=None, *, how=None, bounds=BOUNDS, **kwargs):
        """A runner in a fresh process."""
        return RestoreRunner(
            ledger=self.ledger(),
            cluster=cluster or self.rescue.town.cluster,
            stores=self.rescue.stores,
            settings=self.settings(bounds, **(how or {})),
            clock=self.rescue.clock,
            **kwargs,
        )

    def capture(self, **kwargs):
        """Capture and record."""
        done = self.rescue.capture(**kwargs)
        record = RestorePoint(
            api_version="backup.reconciler.dev/v1alpha1",
            metadata=Metadata(name="shop"),
            spec=done.record,
        )
        ledger = self.ledger()
        ledger.append([Entry(record)])
        ledger.push()

    def lease(self, asked):
        """The Lease of an attempt."""
        kind = self.rescue.town.kind("coordination.k8s.io/v1", "Lease")
        return self.rescue.town.cluster.get(
            kind, name_of_lease(asked.title), namespace="reconciler-leases"
        )

    def states(self):
        """Attempt → (accepted, finished phase), as the remote says."""
        return {
            (key.name, key.attempt): (
                state.accepted is not None,
                state.finished.spec.phase if state.finished else None,
            )
            for key, state in self.ledger().view().restores().items()
        }

    def conf(self):
        """What the test object says."""
        found = self.rescue.town.get("v1", "ConfigMap", "conf")
        return found["data"] if found else None

    def change(self, value="2"):
        """Somebody changes the test object."""
        self.rescue.town.patch("v1", "ConfigMap", "conf", {"data": {"a": value}})


def step(runner, *requests, sources=(), stop=None):
    """One pass; gives (phase, reason) of each result."""
    results = runner.step(requests, stop=stop or threading.Event(), sources=sources)
    return [(result.phase, result.reason) for result in results]


def make_desk(rescue, tmp_path, *more, **kwargs):
    """A captured namespace whose object was changed since, with `more` objects in it."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    desk = Desk(rescue, remote, tmp_path)
    rescue.town.create(
        manifest("Namespace", "shop", namespace=""),
        manifest("ConfigMap", "conf", data={"a": "1"}),
        manifest("Secret", "pass", data={"p": "eA=="}),
        manifest("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]}),
        *more,
    )
    desk.capture(**kwargs)
    desk.change()
    return desk
