"""A daemon's process that kills itself by SIGKILL right after an effect. Run by `test_kills.py`.

Arguments: configuration, instant of the clock, name of the effect (empty = none), `pass` or `prune`. Prints the effects
that happened when it lives to the end.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from reconciler.cli.compose import Parts, Seams
from reconciler.clock import SteppedClock, parse_instant
from reconciler.daemon.prune import prune
from reconciler.daemon.settings import load_configuration
from reconciler.git.remote import DirectoryRemote
from reconciler.store.storage import open_storage
from tests.support.faults import (
    CountingClone,
    CountingCluster,
    CountingRemote,
    CountingStorage,
    Effects,
)


def main(config: str, instant: str, at: str, verb: str) -> None:
    """One pass, or one prune."""
    effects = Effects(at=at or None, kill=True)
    parts = Parts(
        load_configuration(Path(config)),
        clock=SteppedClock(parse_instant(instant)),
        seams=Seams(
            remote=CountingRemote(DirectoryRemote(), effects),
            storage=lambda url: CountingStorage(open_storage(url), effects),
            wrap_cluster=lambda cluster: CountingCluster(cluster, effects),
        ),
    )
    parts.ledger.clone = CountingClone(parts.ledger.clone, effects)
    problems = []
    if verb == "prune":
        run_prune(parts)
    else:
        report = parts.reconciler.run_pass(stop=threading.Event())
        problems = [problem.message for problem in report.problems]
    print(json.dumps({"effects": effects.done, "problems": problems}))


def run_prune(parts: Parts) -> None:
    """What the verb does."""
    done = prune(
        parts.desired(),
        settings=parts.settings,
        domain=parts.connect().uid(),
        ledger=parts.ledger,
        locations=parts.locations,
        clock=parts.clock,
        dry_run=False,
    )
    for _ in done:
        pass
    parts.ledger.push()


if __name__ == "__main__":
    main(*sys.argv[1:])
