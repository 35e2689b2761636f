"""Peak memory of capturing a long stream and many small files into a directory.

Usage: python bench/store_memory.py [--stream-mib 2048] [--files 100000]

Each form runs in a process of its own, so that the peaks are apart. Prints one line per form.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.store.content import open_store
from reconciler.store.keys import init_location
from reconciler.store.port import TreeEntry
from reconciler.store.storage import open_storage

PIECE = 1 << 20
FILE_BYTES = 2048


def stream(mib: int) -> Iterator[bytes]:
    """Bytes of which about half compress."""
    chance = random.Random(1)
    for number in range(mib):
        yield chance.randbytes(PIECE // 2) + b"%016d" % number * (PIECE // 32)


def files(count: int) -> Iterator[TreeEntry]:
    """Small files in directories of a hundred."""

    def content(number: int) -> list[bytes]:
        noise = random.Random(number).randbytes(FILE_BYTES // 2)
        return [noise + b"%08d" % number * (FILE_BYTES // 16)]

    for number in range(count):
        if number % 100 == 0:
            yield TreeEntry(f"d{number // 100:05}", "directory", 0o755, 0, 0, number)
        yield TreeEntry(
            f"d{number // 100:05}/file-{number:08}",
            "file",
            0o644,
            1000,
            1000,
            number * 10**9,
            size_bytes=FILE_BYTES,
            content=lambda number=number: content(number),
        )


def measure(form: str, size: int) -> None:
    """Capture once and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(f"file://{folder}/location", create=True)
        init_location(storage, "only for a measurement")
        store = open_store(storage, "only for a measurement", clock=SystemClock())
        before = peak_mib()
        began = time.monotonic()
        with store.session("local") as session:
            root = (
                session.put_stream(stream(size))
                if form == "stream"
                else session.put_tree(files(size))
            )
        took = time.monotonic() - began
        stored = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
        print(
            f"{form}: {root.size_bytes / 2**20:.0f} MiB in {root.items} items, stored {stored / 2**20:.0f} MiB, "
            f"{took:.1f} s, peak {peak_mib():.0f} MiB (before the capture {before:.0f} MiB)"
        )


def peak_mib() -> float:
    """The peak resident set of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run both forms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream-mib", type=int, default=2048)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--only", choices=["stream", "tree"])
    options = parser.parse_args()
    sizes = {"stream": options.stream_mib, "tree": options.files}
    if options.only:
        measure(options.only, sizes[options.only])
        return
    for form in sizes:
        arguments = [
            "--only",
            form,
            "--stream-mib",
            str(sizes["stream"]),
            "--files",
            str(sizes["tree"]),
        ]
        subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
