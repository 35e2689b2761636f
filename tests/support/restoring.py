"""A process that runs a restore, to be killed: `python -m tests.support.restoring JSON`."""

from __future__ import annotations

import json
import sys
import threading
from datetime import timedelta
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.cluster.kubernetes import connect
from reconciler.ledger.ledger import Ledger
from reconciler.restore.execute.attempt import RunnerSettings
from reconciler.restore.execute.execution import Bounds
from reconciler.restore.execute.once import RestoreRunner
from reconciler.store.content import open_store
from reconciler.store.directory import DirectoryStorage
from tests.support.rescue import IMAGE, request


def main(given: dict[str, str]) -> None:
    """Run one step and print how it ended."""
    clock = SystemClock()
    ledger = Ledger(
        directory=Path(given["ledger"]), url=given["remote"], cluster="town", clock=clock
    )
    ledger.refresh()
    store = open_store(DirectoryStorage(Path(given["store"])), "a pass phrase", clock=clock)
    with connect(name="town", kubeconfig=Path(given["kubeconfig"])) as cluster:
        runner = RestoreRunner(
            ledger=ledger,
            cluster=cluster,
            stores=lambda _: [("primary", store)],
            settings=RunnerSettings(
                cluster="town",
                holder=given["holder"],
                lease_namespace="reconciler-leases",
                helper_image=IMAGE,
                lease_duration=timedelta(seconds=1),
                bounds=Bounds(definitions_s=10, claims_s=10, gone_s=10, ready_s=15),
            ),
            clock=clock,
        )
        pause = json.loads(given.get("pause", "[]"))
        asked = request(notAfter="2099-01-01T00:00:00Z", onConflict="fail", pause=pause)
        for result in runner.step([asked], stop=threading.Event()):
            print(result.phase, result.reason, result.message)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
