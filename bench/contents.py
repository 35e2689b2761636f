"""Peak memory of capturing a long stream and many small files from running containers, as a capture reads them.

The stream comes out of a data service by its blueprint; the files lie in a claim that nobody mounts, so that a claim
pod reads them. Both go the whole way: exec channel, verified stream, archive parser, chunks, packs on disk. The
sandbox is a process of its own and runs the commands as local processes.

Usage: python -m bench.contents [--stream-mib 2048] [--files 100000] [--only stream|files]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.store_memory import FILE_BYTES
from bench.town import Town, dump, town
from reconciler.blueprint.pods import is_ready
from reconciler.capture.capture import Captured, capture
from reconciler.capture.observe import observe_cluster
from reconciler.clock import SystemClock
from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.effective import Application
from reconciler.kinds.model import API_VERSION

SPACE = "data"
PATIENCE_S = 60
# Half of each MiB is noise, half compresses.
SOURCE = (
    "import random, sys\n"
    "chance = random.Random(1)\n"
    "for n in range(int(sys.argv[1])):\n"
    "    sys.stdout.buffer.write(chance.randbytes(1 << 19) + b'%016d' % n * (1 << 15))\n"
)
CLAIM_SPEC = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}


def forget_peak() -> float:
    """Let the kernel count the peak of this process from now on; the resident memory of now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    """The peak resident memory since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


def put(place: Town, manifest: dict[str, Any]) -> None:
    """Create an object."""
    kind = next(t for t in place.cluster.discover().preferred() if t.kind == manifest["kind"])
    place.cluster.create(kind, manifest, manager="bench")


def get(place: Town, kind: str, name: str) -> dict[str, Any] | None:
    """Read an object of the namespace."""
    found = next(t for t in place.cluster.discover().preferred() if t.kind == kind)
    return place.cluster.get(found, name, namespace=SPACE)


def blueprint(mebibytes: int) -> Blueprint:
    """The service's dump is this long."""
    command = [sys.executable, "-c", SOURCE, str(mebibytes)]
    step = {"name": "dump", "stream": {"artifact": "dump", "command": command}}
    spec = {
        "service": "noise",
        "match": "workload.metadata.name == 'noise'",
        "actions": {"backup": {"phases": [step]}, "restore": {"phases": [step]}},
    }
    return Blueprint.model_validate(
        {
            "apiVersion": API_VERSION,
            "kind": "Blueprint",
            "metadata": {"name": "noise"},
            "spec": spec,
        }
    )


def make_service(place: Town) -> None:
    """A pod whose container the dump runs in."""
    labels = {"app": "noise"}
    container = {"name": "noise", "image": "example/noise:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "noise", "namespace": SPACE}
    put(
        place,
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": metadata,
            "spec": {**spec, "serviceName": "noise"},
        },
    )
    ends_at = time.monotonic() + PATIENCE_S
    while not ((pod := get(place, "Pod", "noise-0")) and is_ready(pod)):
        assert time.monotonic() < ends_at, "the service starts"
        time.sleep(0.1)


def make_files(place: Town, count: int) -> None:
    """A claim with small files in folders of a hundred, half of each file noise."""
    metadata = {"name": "files", "namespace": SPACE}
    put(
        place,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata,
            "spec": CLAIM_SPEC,
        },
    )
    claim = get(place, "PersistentVolumeClaim", "files")
    assert claim is not None
    folder = place.root / "cluster" / "volumes" / claim["spec"]["volumeName"]
    chance = random.Random(1)
    for number in range(count):
        parent = folder / f"d{number // 100:05}"
        parent.mkdir(exist_ok=True)
        noise = chance.randbytes(FILE_BYTES // 2)
        (parent / f"file-{number:08}").write_bytes(noise + b"%08d" % number * (FILE_BYTES // 16))


def captured(place: Town, blueprints: list[Blueprint]) -> Captured:
    """One capture of the namespace, as the daemon makes it."""
    clock = SystemClock()
    discovery = place.cluster.discover()
    with place.store.session(place.cluster.uid()) as session:
        return capture(
            Application(SPACE),
            cluster=place.cluster,
            discovery=discovery,
            observation=observe_cluster(place.cluster, discovery, clock=clock),
            policy=None,
            blueprints=blueprints,
            sessions={"primary": (session, place.store)},
            previous={"primary": None},
            slot=clock.now(),
            clock=clock,
            helper_image="example/helper:1",
        )


def measure(form: str, size: int) -> None:
    """Capture once and print what it took."""
    with town(namespaces=0, objects=0, processes=True) as place:
        put(place, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
        make_service(place) if form == "stream" else make_files(place, size)
        before, began = forget_peak(), time.monotonic()
        done = captured(place, [blueprint(size)] if form == "stream" else [])
        took, peak = time.monotonic() - began, peak_mib()
        assert done.record.phase == "Succeeded", done.record.outcomes
        (content,) = done.points["primary"].contents
        print(
            f"{form}: {content.root.size_bytes / 2**20:.0f} MiB in {content.root.items} items, "
            f"stored {place.stored_bytes() / 2**20:.0f} MiB, {took:.1f} s, "
            f"peak {peak:.0f} MiB (before the capture {before:.0f} MiB)"
        )
        dump({"form": form, "peakMib": peak, "beforeMib": before, "seconds": took})


def main() -> None:
    """Run both forms, each in a process of its own, so that the peaks are apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream-mib", type=int, default=2048)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--only", choices=["stream", "files"])
    options = parser.parse_args()
    sizes = {"stream": options.stream_mib, "files": options.files}
    if options.only:
        measure(options.only, sizes[options.only])
        return
    root = Path(__file__).resolve().parents[1]
    for form in sizes:
        argv = [sys.executable, "-m", "bench.contents", "--only", form]
        argv += ["--stream-mib", str(sizes["stream"]), "--files", str(sizes["files"])]
        subprocess.run(argv, check=True, cwd=root)


if __name__ == "__main__":
    main()
