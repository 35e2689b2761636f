"""Recovery on real Kubernetes: a namespace with PostgreSQL (1,000,000 rows) and 200 objects, destroyed, and back.

The time is that of the pass that carries out the merged Restore: from the merge to the last workload Ready, with every
row back. `make bench-recovery` starts a test node for it.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from bench.town import dump, fill
from reconciler.cluster.kubernetes import connect
from tests.cluster.applications import shop
from tests.cluster.outpost import MARK, Outpost

ROWS, OBJECTS = 1_000_000, 200
MADE_UP = f"select n, md5(n::text)||md5((n*7)::text) from generate_series(1, {ROWS}) n"  # noqa: S608 - ours


def main() -> None:
    """Measure, and prove that everything is back."""
    kubeconfig = os.environ.get("RECONCILER_TEST_KUBECONFIG", "")
    if not kubeconfig:
        raise SystemExit("no cluster: use `make bench-recovery`, or set RECONCILER_TEST_KUBECONFIG")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        outpost = Outpost(Path(folder), Path(kubeconfig))
        namespace = f"recovery-{outpost.mark}"
        try:
            _run(outpost, namespace)
        finally:
            outpost.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


def _run(outpost: Outpost, namespace: str) -> None:
    outpost.settle(namespace)
    cluster = connect(name="bench", kubeconfig=outpost.kubeconfig)
    labels = {MARK: outpost.mark}
    fill(cluster, [namespace], per_namespace=OBJECTS - 11, labels=labels, is_new=False)
    shop.deploy(outpost, namespace)
    shop.sql(
        outpost,
        namespace,
        f"truncate orders; insert into orders {MADE_UP}",
    )
    before = outpost.look(namespace), shop.state(outpost, namespace)
    began = time.perf_counter()
    line = outpost.capture().captured[0]
    print(f"captured in {time.perf_counter() - began:.1f} s: {line}", flush=True)
    outpost.destroy(namespace)
    outpost.ask(namespace)
    began = time.perf_counter()
    report = outpost.run_pass()
    taken = time.perf_counter() - began
    if [one.phase for one in report.restored] != ["Succeeded"]:
        raise SystemExit(str([(one.phase, one.message) for one in report.restored]))
    after = outpost.look(namespace), shop.state(outpost, namespace)
    if after != before:
        raise SystemExit("what came back is not what was captured")
    print(f"{len(after[0])} objects and {after[1].partition('|')[0]} rows are back.")
    print(f"time taken: {taken:.0f} secs")
    dump({"restore": taken})


if __name__ == "__main__":
    main()
