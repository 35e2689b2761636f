"""The daemon's heap."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import sys, threading
from reconciler.daemon.heap import share_one_heap
done = share_one_heap() if sys.argv[1] == "shared" else None
start, end = threading.Barrier(9), threading.Barrier(9)
def work():
    start.wait()
    kept = bytearray(60_000)
    end.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]
start.wait()
# A heap of a thread is a mapping of 64 MiB, most of it only reserved.
maps = [line.split()[:2] for line in open("/proc/self/maps")]
sizes = [tuple(int(end, 16) for end in place.split("-")) for place, _ in maps]
heaps = sum(1 for low, high in sizes if low % (64 << 20) == 0)
end.wait()
print(done, heaps)
"""


def heaps(how):
    """What it answered, and how many heaps of threads there were."""
    out = subprocess.run(
        [sys.executable, "-c", COUNT, how], check=True, capture_output=True, text=True
    ).stdout
    done, count = out.split()
    return done, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="heaps of threads are glibc's")
def test_threads_share_a_heap():
    """After it, threads make no heaps of their own; without it they do."""
    usual, shared = heaps("usual"), heaps("shared")

    if shared[0] == "False":
        assert usual[1] == shared[1], "no such call, no such heaps"
    else:
        assert usual[1] > shared[1]
