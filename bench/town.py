"""A cluster for benchmarks: the sandbox in a process of its own, many namespaces, a store in a directory."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.capture.capture import Prepared, prepare, publish_together
from reconciler.capture.observe import observe_cluster
from reconciler.clock import SystemClock
from reconciler.cluster.kubernetes import KubernetesCluster, connect
from reconciler.kinds.effective import Application
from reconciler.store.content import open_store
from reconciler.store.keys import init_location
from reconciler.store.port import Point
from reconciler.store.storage import open_storage

PASSPHRASE = "for benchmarks only"
KINDS = ("ConfigMap", "Secret", "Service", "ServiceAccount", "Deployment", "Role", "CronJob")
STATUS_KINDS = ("Service", "Deployment", "CronJob")
"""Those of them that have a status in Kubernetes."""


@dataclass
class Town:
    """A running cluster with an open store."""

    cluster: KubernetesCluster
    process: subprocess.Popen[bytes]
    root: Path
    store: Any
    namespaces: list[str]

    def stored_bytes(self) -> int:
        """Everything that lies in the location."""
        return sum(p.stat().st_size for p in (self.root / "location").rglob("*") if p.is_file())

    def stored_points(self) -> int:
        """Points in the location."""
        return sum(1 for _ in self.store.points())

    def capture_all(
        self, previous: dict[str, Point | None]
    ) -> tuple[dict[str, Point | None], Figures]:
        """Capture every namespace, as one pass would; what it cost."""
        before_bytes, before_points = self.stored_bytes(), self.stored_points()
        before_read = loopback_bytes()
        started, cpu = time.perf_counter(), time.process_time()
        clock, stop = SystemClock(), threading.Event()
        discovery = self.cluster.discover()
        observation = observe_cluster(self.cluster, discovery)
        slot = clock.now()
        results: dict[str, Point | None] = {}

        def one(namespace: str) -> Prepared:
            return prepare(
                Application(namespace),
                cluster=self.cluster,
                discovery=discovery,
                observation=observation,
                policy=None,
                blueprints=(),
                sessions={"primary": (session, self.store)},
                previous={"primary": previous.get(namespace)},
                slot=slot,
                clock=clock,
                stop=stop,
                helper_image="busybox",
            )

        with self.store.session(self.cluster.uid()) as session, ThreadPoolExecutor(4) as pool:
            ready = list(pool.map(one, self.namespaces))
            for namespace, captured in zip(self.namespaces, publish_together(ready), strict=True):
                assert not isinstance(captured, Exception), captured
                assert captured.record.phase == "Succeeded", captured.record.outcomes[:3]
                results[namespace] = captured.points["primary"]
        figures = Figures(
            wall_s=time.perf_counter() - started,
            cpu_s=time.process_time() - cpu,
            stored_bytes=self.stored_bytes() - before_bytes,
            points=self.stored_points() - before_points,
            read_bytes=loopback_bytes() - before_read,
        )
        time.sleep(1.1)  # the next capture needs a slot of its own
        return results, figures


@dataclass(frozen=True)
class Figures:
    """What one capture of everything cost."""

    wall_s: float
    cpu_s: float
    stored_bytes: int
    points: int
    read_bytes: int

    def beyond_points(self) -> int:
        """Bytes stored beyond 1 KiB a point."""
        return self.stored_bytes - 1024 * self.points

    def line(self, what: str) -> str:
        """One row."""
        return (
            f"{what:<28} {self.wall_s:6.2f} s wall  {self.cpu_s:6.2f} s CPU  stored {self.stored_bytes:>10,} B"
            f"  ({self.points} points)  read {self.read_bytes / 2**20:.1f} MiB"
        )


@contextmanager
def town(
    *, namespaces: int, objects: int, kinds: tuple[str, ...] = KINDS, processes: bool = False
) -> Iterator[Town]:
    """Start a cluster with `objects` objects in `namespaces` namespaces."""
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    kubeconfig = root / "kubeconfig"
    argv = [sys.executable, "-m", "reconciler.cluster.sandbox", "--name", "bench"]
    argv += ["--directory", str(root / "cluster"), "--kubeconfig", str(kubeconfig)]
    argv += ["--processes"] if processes else []
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        cluster = connect(name="bench", kubeconfig=kubeconfig)
        names = [f"team-{number:02}" for number in range(namespaces)]
        fill(cluster, names, per_namespace=objects // (namespaces or 1), kinds=kinds)
        storage = open_storage((root / "location").as_uri(), create=True)
        init_location(storage, PASSPHRASE)
        store = open_store(storage, PASSPHRASE, clock=SystemClock())
        yield Town(cluster, process, root, store, names)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(root, ignore_errors=True)


def fill(
    cluster: KubernetesCluster,
    names: list[str],
    *,
    per_namespace: int,
    kinds: tuple[str, ...] = KINDS,
    labels: dict[str, str] | None = None,
    is_new: bool = True,
) -> None:
    """Create namespaces with objects of the kinds in equal shares; ConfigMaps have 2 kB."""
    discovery = cluster.discover()
    types = {(t.kind): t for t in discovery.preferred()}

    def one(manifest: dict[str, Any]) -> None:
        cluster.create(types[manifest["kind"]], manifest, manager="kubectl-client-side-apply")

    with ThreadPoolExecutor(8) as pool:
        if is_new:
            list(pool.map(one, (_namespace(name, labels or {}) for name in names)))
        wanted = ((name, n) for name in names for n in range(per_namespace))
        list(pool.map(one, (_object(name, n, kinds[n % len(kinds)]) for name, n in wanted)))


def change(cluster: KubernetesCluster, names: list[str], *, count: int, per_namespace: int) -> None:
    """Edit `count` objects of any kind anywhere, the same ones in every run."""
    types = {t.kind: t for t in cluster.discover().preferred()}
    chosen = random.Random(1).sample(range(len(names) * per_namespace), count)
    for serial in chosen:
        space, number = divmod(serial, per_namespace)
        body = {"metadata": {"annotations": {"example.org/edited-at": f"{time.time_ns()}"}}}
        kind = types[KINDS[number % len(KINDS)]]
        cluster.patch(kind, f"o-{number:03}", body, namespace=names[space], manager="kubectl-edit")


def churn(cluster: KubernetesCluster, names: list[str], *, turn: int) -> int:
    """Update the status of every object that has one (its kind has a status subresource); how many that were."""
    types = {t.kind: t for t in cluster.discover().preferred()}

    def one(entry: tuple[str, str, str]) -> None:
        kind, namespace, name = entry
        body = {"status": {"observedGeneration": turn, "example": f"{kind} {turn}"}}
        cluster.patch(
            types[kind],
            name,
            body,
            namespace=namespace,
            manager="controller",
            subresource="status",
        )

    found = [
        (kind, name, item["metadata"]["name"])
        for kind in STATUS_KINDS
        for name in names
        for page in cluster.pages(types[kind], namespace=name)
        for item in page.items
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, found))
    return len(found)


def _namespace(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _object(namespace: str, number: int, kind: str) -> dict[str, Any]:
    name = f"o-{number:03}"
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": namespace}
    base = {"kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": labels}}
    noise = hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "containers": [{"name": "main", "image": f"registry.example/{namespace}/{noise[:12]}"}]
        },
    }
    match kind:
        case "ConfigMap":
            # Text that compresses about as well as real configuration does (five times): 2 kB.
            lines = "".join(
                f"server.{_word(noise, n)}.setting-{n:02} = "
                f"https://{_word(noise, n + 7)}.example/{_noise(name, namespace, n)}\n"
                for n in range(24)
            )
            return {**base, "apiVersion": "v1", "data": {"app.conf": lines, "id": noise}}
        case "Secret":
            return {**base, "apiVersion": "v1", "stringData": {"token": noise}}
        case "Service":
            return {
                **base,
                "apiVersion": "v1",
                "spec": {"ports": [{"port": 80}], "selector": labels},
            }
        case "ServiceAccount":
            return {**base, "apiVersion": "v1"}
        case "Deployment":
            spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
            return {**base, "apiVersion": "apps/v1", "spec": spec}
        case "Role":
            rules = [
                {
                    "apiGroups": [""],
                    "resources": ["configmaps"],
                    "verbs": ["get"],
                    "resourceNames": [name],
                }
            ]
            return {**base, "apiVersion": "rbac.authorization.k8s.io/v1", "rules": rules}
        case _:
            template["spec"]["restartPolicy"] = "Never"  # type: ignore[index]
            spec = {
                "schedule": "0 3 * * *",
                "suspend": True,
                "jobTemplate": {"spec": {"template": template}},
            }
            return {**base, "apiVersion": "batch/v1", "spec": spec}


_WORDS = (
    "alpha",
    "bravo",
    "cache",
    "delta",
    "engine",
    "front",
    "gate",
    "house",
    "index",
    "journal",
)


def _word(noise: str, n: int) -> str:
    return _WORDS[int(noise[n % 60 : n % 60 + 2], 16) % len(_WORDS)]


def _noise(name: str, namespace: str, n: int) -> str:
    return hashlib.sha256(f"{namespace}/{name}/{n}".encode()).hexdigest()[:20]


def loopback_bytes() -> int:
    """Bytes that the loopback interface has carried: on a quiet machine, what was read from the server."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, fields = line.strip().partition(":")
        if name == "lo":
            return int(fields.split()[0])
    return 0


def rss_mib(process: subprocess.Popen[bytes] | None = None) -> float:
    """Resident memory of a process, our own by default, in MiB."""
    pid = process.pid if process else os.getpid()
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def dump(figures: dict[str, Any]) -> None:
    """Print figures as one JSON line, for whoever keeps them."""
    print(json.dumps(figures))
