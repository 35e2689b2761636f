"""Real Kubernetes: 50 namespaces × 200 objects captured, captured again, and ten of them destroyed and restored.

`make bench-cluster` starts a test node for it. One process runs the passes, as the daemon does; this one fills and
changes the cluster. The figures to beat are Velero 1.18.3's on the same kind of node and objects, measured
once with its client limit raised to 500 requests a second (docs/benchmarks.md).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.town import change, dump, fill
from reconciler.cli.compose import Parts, Seams, set_up_logging
from reconciler.cluster.kubernetes import KubernetesCluster, connect
from reconciler.cluster.port import Cluster
from reconciler.daemon.heap import share_one_heap
from reconciler.daemon.settings import load_configuration
from reconciler.errors import ReconcilerError
from tests.cluster.outpost import MARK, Outpost
from tests.support.reads import MeteredCluster

NAMESPACES, EACH, CHANGED, DESTROYED = 50, 200, 100, 10


@dataclass(frozen=True)
class Peer:
    """What Velero took: seconds, CPU seconds of its own and of the API server, MiB, bytes stored."""

    wall_s: float
    cpu_s: float
    server_s: float
    memory_mib: float
    stored: int = 0


VELERO = {
    "first capture": Peer(31, 26, 10, 149, 5_300_000),
    "again, 100 changed": Peer(29, 25, 10, 149, 5_300_000),
    "restore of ten": Peer(110, 29, 58, 459),
}


class Daemon:
    """A process that runs a pass whenever it is told to, and says what each cost."""

    def __init__(self, outpost: Outpost) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.cluster", str(outpost.root), str(outpost.kubeconfig)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "BENCH_MARK": outpost.mark},
        )

    def run_pass(self, *, hours: int) -> dict[str, Any]:
        """Tell it to run a pass so many hours later; its figures."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{hours}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the daemon's process ended"
        figures: dict[str, Any] = json.loads(line)
        return figures

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(root: Path, kubeconfig: Path) -> None:
    """The daemon's process: one line in, one pass, one line out."""
    set_up_logging(verbose=False)
    share_one_heap()
    outpost = Outpost(root, kubeconfig, mark=os.environ["BENCH_MARK"], clock=_clock(), is_made=True)
    meters: list[MeteredCluster] = []

    def metered(cluster: Cluster) -> Any:
        meters.append(MeteredCluster(cluster))
        return meters[-1]

    seams = Seams(wrap_cluster=metered)
    settings = load_configuration(outpost.config)
    parts = Parts(settings, clock=outpost.clock, seams=seams, is_serving=True)
    for line in sys.stdin:
        outpost.clock.advance(timedelta(hours=int(line)))
        began, cpu = time.perf_counter(), time.process_time()
        report = parts.reconciler.run_pass(stop=threading.Event())
        phases = [one.phase for one in (*report.captured, *report.restored)]
        figures = {
            "wall": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
            "read": sum(meter.take_read_bytes() for meter in meters),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "captured": len(report.captured),
            "restored": len(report.restored),
            "faults": [p.message for p in report.problems]
            + [p for p in phases if p != "Succeeded"],
        }
        print(json.dumps(figures), flush=True)
    parts.reconciler.close()


def _clock() -> Any:
    from reconciler.clock import SteppedClock, SystemClock

    hour = SystemClock().now().replace(minute=0, second=0, microsecond=0)
    return SteppedClock(hour - timedelta(hours=6) + timedelta(minutes=2))


def server_cpu_s() -> float:
    """CPU seconds of every API server on this machine; 0 where none is to be seen."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        try:
            argv = (entry / "cmdline").read_bytes()
            if argv.split(b"\0")[0].endswith(b"kube-apiserver"):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(daemon: Daemon, outpost: Outpost, what: str, *, hours: int = 1) -> dict[str, Any]:
    """One pass: its row beside Velero's."""
    before, served = _stored(outpost), server_cpu_s()
    figures = daemon.run_pass(hours=hours)
    figures |= {"stored": _stored(outpost) - before, "server": server_cpu_s() - served}
    peer = VELERO[what]
    print(
        f"{what:<20} {figures['wall']:7.2f} s ({peer.wall_s / figures['wall']:5.1f}× as fast as Velero)"
        f"  CPU {figures['cpu']:6.2f} s ({peer.cpu_s / figures['cpu']:4.1f}× less)"
        f"  API server {figures['server']:6.2f} s ({peer.server_s:.0f})"
        f"  memory {figures['memory']:4.0f} MiB ({peer.memory_mib:.0f})"
        f"  stored {figures['stored']:>9,} B  read {figures['read']:>10,} B",
        flush=True,
    )
    if figures["faults"]:
        raise SystemExit(f"{what}: {figures['faults'][:5]}")
    return figures


def _stored(outpost: Outpost) -> int:
    return sum(p.stat().st_size for p in (outpost.root / "location").rglob("*") if p.is_file())


def main() -> None:
    """Measure and judge."""
    kubeconfig = os.environ.get("RECONCILER_TEST_KUBECONFIG", "")
    if not kubeconfig:
        raise SystemExit("no cluster: use `make bench-cluster`, or set RECONCILER_TEST_KUBECONFIG")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        outpost = Outpost(Path(folder), Path(kubeconfig))
        names = [f"bench-{outpost.mark}-{number:02}" for number in range(NAMESPACES)]
        cluster = connect(name="bench", kubeconfig=Path(kubeconfig))
        try:
            _run(outpost, cluster, names)
        finally:
            outpost.kubectl("delete", "namespace", "-l", f"{MARK}={outpost.mark}", "--wait=false")


def _run(outpost: Outpost, cluster: KubernetesCluster, names: list[str]) -> None:
    fill(cluster, names, per_namespace=EACH, labels={MARK: outpost.mark})
    _settled(outpost)
    daemon = Daemon(outpost)
    first = measure(daemon, outpost, "first capture")
    change(cluster, names, count=CHANGED, per_namespace=EACH)
    second = measure(daemon, outpost, "again, 100 changed")
    gone = names[:DESTROYED]
    outpost.kubectl("delete", "namespace", *gone, "--timeout=300s", timeout_s=310)
    for name in gone:
        outpost.ask(name)
    # Without a new slot: the pass restores, and captures nothing.
    restored = measure(daemon, outpost, "restore of ten", hours=0)
    daemon.close()
    share, read = second["stored"] / first["stored"], second["read"] / first["read"]
    of_velero = second["stored"] / VELERO["again, 100 changed"].stored
    print(
        f"the second capture stored {of_velero:.2%} of what Velero's did (limit 3 %), {share:.2%} of the first;"
        f" it read {read:.2%} of what the first read (limit 3 %)"
    )
    dump({"first": first, "second": second, "restore": restored, "share": share, "read": read})


def _settled(outpost: Outpost) -> None:
    """Wait until controllers have made what they make: ReplicaSets of Deployments, slices of Services."""
    wanted = NAMESPACES * len([n for n in range(EACH) if n % 7 == 4])
    for _ in range(300):
        listed = outpost.kubectl("get", "replicasets", "-A", "-o", "name")
        if listed.count("replicaset") >= wanted:
            return
        time.sleep(0.5)
    raise SystemExit("the controllers did not settle")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        try:
            main()
        except ReconcilerError as error:
            raise SystemExit(str(error)) from error
