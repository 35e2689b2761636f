"""A stream into a bucket and back, beside the same into a directory, in one run.

Usage: python -m bench.buckets [MIB]. MinIO on loopback is the bucket's server; both write to the same disk. What is
compared is the way, not the server: seconds, and how many requests a capture makes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.store_memory import stream
from bench.town import dump
from reconciler.clock import SystemClock
from reconciler.store.content import open_store
from reconciler.store.keys import init_location
from reconciler.store.port import Storage
from reconciler.store.s3 import Bucket, S3Storage
from reconciler.store.storage import open_storage
from tests.support.buckets import missing, serving

PASSPHRASE = "only for a measurement"
SMALL = 200


class Counted:
    """Storage whose requests are counted."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self.requests: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("create", "replace", "read", "entries", "delete", "now"):
            self.requests[name] += 1
        return found


def measure(storage: Storage, mib: int) -> dict[str, float]:
    """Write the stream, read it back, write small objects: seconds of each, and the requests of a capture."""
    counted: Any = Counted(storage)
    init_location(counted, PASSPHRASE)
    store = open_store(counted, PASSPHRASE, clock=SystemClock())
    counted.requests.clear()
    began = time.perf_counter()
    with store.session("local") as session:
        root = session.put_stream(stream(mib))
    written = time.perf_counter() - began
    requests = sum(counted.requests.values())
    began = time.perf_counter()
    size = sum(len(piece) for piece in store.stream("local", root))
    read = time.perf_counter() - began
    assert size == root.size_bytes
    began = time.perf_counter()
    for number in range(SMALL):
        storage.create(f"small/{number}", b"x" * 1000)
    small = time.perf_counter() - began
    return {
        "write_mb_s": size / 1e6 / written,
        "read_mb_s": size / 1e6 / read,
        "small_ms": 1000 * small / SMALL,
        "requests": requests,
    }


def main() -> None:
    """Measure and compare."""
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    if how := missing("minio"):
        raise SystemExit(how)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        directory = open_storage(f"file://{folder}/location", create=True)
        with serving("minio", Path(folder) / "minio") as minio:
            minio.make("bench")
            place = Bucket.parse(minio.url("bench", "location"))
            bucket = S3Storage(place, credentials=minio.credentials)
            rows = {"directory": measure(directory, mib), "bucket": measure(bucket, mib)}
    for name, row in rows.items():
        print(
            f"{name:<10} write {row['write_mb_s']:6.0f} MB/s  read {row['read_mb_s']:6.0f} MB/s  "
            f"a small object {row['small_ms']:5.1f} ms  {row['requests']:.0f} requests for {mib} MiB"
        )
    dump(rows)


if __name__ == "__main__":
    main()
