"""Streams out of a pod and into one on real Kubernetes, beside `kubectl exec`, turn by turn.

Ours proves what arrived (a digest and a count from the far side); kubectl's is the bare stream. `make bench-exec`
starts a test node for it. Aim: at least 100 MB/s out of a pod. Here everything shares the machine's cores: the server,
the kubelet, both ends and the digests.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from bench.town import dump
from reconciler.blueprint.streams import pull, push, run
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.port import Cluster, ExecTarget
from tests.support.clusters import REAL_KUBECONFIG, furnished, is_ready, pod

MIB = 512
ROUNDS = 5
BLOCK = os.urandom(1 << 20)
SOON = timedelta(minutes=10)
AIM_MB_S = 100


def main() -> None:
    """Measure and judge."""
    if not REAL_KUBECONFIG:
        raise SystemExit("no cluster: use `make bench-exec`, or set RECONCILER_TEST_KUBECONFIG")
    with (
        connect(name="bench", kubeconfig=Path(REAL_KUBECONFIG)) as cluster,
        furnished(None, cluster) as made,
    ):
        made.make(pod("streams", "sleep", "3600"))
        made.seen("Pod", "streams", is_ready)
        target = ExecTarget(made.namespace, "streams", "main")
        fill = f"head -c {MIB << 20} /dev/urandom > /tmp/data"
        run(cluster, target, ["sh", "-c", fill], timeout=SOON)
        outward = _compare("out of a pod", _ours_out(cluster, target), _kubectl_out(target))
        inward = _compare("into a pod", _ours_in(cluster, target), _kubectl_in(target))
    dump({"out": outward, "in": inward})
    if outward[0] < AIM_MB_S:
        print(f"the aim of {AIM_MB_S} MB/s out of a pod is not reached on this machine")


def _compare(
    what: str, ours: Callable[[], None], kubectl: Callable[[], None]
) -> tuple[float, float]:
    """MB/s of both, the median of several turns; each turn runs one after the other."""
    taken: dict[Callable[[], None], list[float]] = {ours: [], kubectl: []}
    for _ in range(ROUNDS):
        for act, times in taken.items():
            began = time.perf_counter()
            act()
            times.append(time.perf_counter() - began)
    mine, theirs = ((MIB << 20) / 1e6 / statistics.median(times) for times in taken.values())
    print(
        f"{what:<14} {mine:6.0f} MB/s, kubectl exec {theirs:6.0f} MB/s ({mine / theirs:.2f} ×)",
        flush=True,
    )
    return mine, theirs


def _ours_out(cluster: Cluster, target: ExecTarget) -> Callable[[], None]:
    def act() -> None:
        stream = pull(cluster, target, ["cat", "/tmp/data"], timeout=SOON)
        _check(sum(len(part) for part in stream))

    return act


def _ours_in(cluster: Cluster, target: ExecTarget) -> Callable[[], None]:
    def act() -> None:
        command = ["sh", "-c", "cat > /dev/null"]
        _check(push(cluster, target, command, _blocks(), timeout=SOON))

    return act


def _kubectl_out(target: ExecTarget) -> Callable[[], None]:
    def act() -> None:
        with _kubectl(target, "cat", "/tmp/data", stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            _check(sum(len(part) for part in iter(lambda: process.stdout.read(1 << 18), b"")))

    return act


def _kubectl_in(target: ExecTarget) -> Callable[[], None]:
    def act() -> None:
        with (
            tempfile.TemporaryFile() as said,
            _kubectl(
                target,
                "sh",
                "-c",
                "cat > /dev/null; echo whole",
                stdin=subprocess.PIPE,
                stdout=said,
            ) as process,
        ):
            assert process.stdin is not None
            for block in _blocks():
                process.stdin.write(block)
            process.stdin.close()
            process.wait()
            said.seek(0)
            if said.read() != b"whole\n":
                raise SystemExit("kubectl exec failed")

    return act


def _kubectl(target: ExecTarget, *command: str, **streams: object) -> subprocess.Popen[bytes]:
    where = ["-n", target.namespace, target.pod, "-c", target.container]
    ways = ["-i"] if "stdin" in streams else []
    argv = ["kubectl", "--kubeconfig", REAL_KUBECONFIG, "exec", *ways, *where, "--", *command]
    return subprocess.Popen(argv, **streams)  # type: ignore[call-overload, no-any-return]


def _blocks() -> Iterator[bytes]:
    return (BLOCK for _ in range(MIB))


def _check(count: int) -> None:
    if count != MIB << 20:
        raise SystemExit(f"{count:,} bytes arrived, not {MIB << 20:,}")


if __name__ == "__main__":
    main()
