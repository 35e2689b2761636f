"""Clusters that tests run on: the sandbox always, a real API server when a kubeconfig is given.

`bench` gives a contract test one of them with a namespace of its own, removed afterwards.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.cluster.kubernetes import KubernetesCluster, connect
from reconciler.cluster.port import Discovery, ResourceType
from reconciler.cluster.sandbox import Sandbox
from tests.support.sandbox import eventually, open_directory

REAL_VARIABLE = "RECONCILER_TEST_KUBECONFIG"
REAL_KUBECONFIG = os.environ.get(REAL_VARIABLE, "")
IMAGE = os.environ.get("RECONCILER_TEST_IMAGE", "busybox:1.35")
"""Has sh, tee, dd, sha256sum, tar; must be on the real server's nodes or pullable (so not `latest`)."""
BARE_IMAGE = os.environ.get("RECONCILER_TEST_BARE_IMAGE", "pause:1")
"""Has a program that sleeps, and no shell."""
MANAGER = "contract"
WITHIN_S = 120.0 if REAL_KUBECONFIG else 20.0


@dataclass
class Bench:
    """A cluster, a namespace of one's own, and short words for what tests do."""

    cluster: KubernetesCluster
    discovery: Discovery
    namespace: str
    sandbox: Sandbox | None
    made: list[tuple[ResourceType, str]] = field(default_factory=list)

    @property
    def is_real(self) -> bool:
        """Whether this is a real API server."""
        return self.sandbox is None

    def type(self, kind: str, group: str = "") -> ResourceType:
        """A served type, which must be there."""
        found = self.discovery.find(group, kind)
        assert found, f"{kind}.{group} is not served"
        return found

    def make(self, manifest: dict[str, Any], *, manager: str = MANAGER) -> dict[str, Any]:
        """Create an object; cluster-scoped ones are removed at the end of the test."""
        group = manifest["apiVersion"].rpartition("/")[0]
        kind = self.type(manifest["kind"], group)
        if kind.namespaced:
            manifest["metadata"].setdefault("namespace", self.namespace)
        else:
            self.made.append((kind, manifest["metadata"].get("name", "")))
        return self.cluster.create(kind, manifest, manager=manager)

    def read(self, kind: str, name: str, group: str = "") -> dict[str, Any] | None:
        """An object of the namespace."""
        return self.cluster.get(self.type(kind, group), name, namespace=self.namespace)

    def seen(self, kind: str, name: str, check, group: str = "") -> dict[str, Any]:
        """The object, once `check` is true of it."""

        def look():
            found = self.read(kind, name, group)
            return found if found is not None and check(found) else None

        return eventually(look, within_s=WITHIN_S)

    def gone(self, kind: str, name: str, group: str = "") -> None:
        """Wait until the object is away."""
        eventually(lambda: self.read(kind, name, group) is None, within_s=WITHIN_S)

    def all(self, kind: str, group: str = "", **how) -> list[dict[str, Any]]:
        """Every object of a kind in the namespace."""
        pages = self.cluster.pages(self.type(kind, group), namespace=self.namespace, **how)
        return [item for page in pages for item in page.items]


def config_map(name: str, **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def claim(name: str) -> dict[str, Any]:
    """A claim of 64 MiB."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": spec,
    }


def pod_spec(*command: str, claim: str = "") -> dict[str, Any]:
    """A pod spec with one container `main`; without a command it sleeps."""
    words = list(command) or [
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done",
    ]
    main: dict[str, Any] = {"name": "main", "image": IMAGE, "command": words}
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 1, "containers": [main]}
    if claim:
        main["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    return spec


def pod(name: str, *command: str, claim: str = "") -> dict[str, Any]:
    """A Pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": pod_spec(*command, claim=claim),
    }


def is_ready(found: dict[str, Any]) -> bool:
    """Whether a pod is Ready."""
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@contextmanager
def sandbox_cluster(
    *, processes: bool = True, profile: str = "1.36", **how: Any
) -> Iterator[tuple[Sandbox, KubernetesCluster]]:
    """A sandbox with the adapter connected to it, both closed at the end."""
    directory = open_directory()
    try:
        with Sandbox(directory, name="sandbox", processes=processes, profile=profile) as sandbox:
            kubeconfig = sandbox.write_kubeconfig(directory / "kubeconfig")
            with connect(name="sandbox", kubeconfig=kubeconfig, **how) as cluster:
                yield sandbox, cluster
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session", params=["sandbox", *(["real"] if REAL_KUBECONFIG else [])])
def contracted(request) -> Iterator[tuple[Sandbox | None, KubernetesCluster]]:
    """Each adapter that the contract binds."""
    if request.param == "sandbox":
        with sandbox_cluster() as (sandbox, cluster):
            yield sandbox, cluster
    else:
        with connect(name="real", kubeconfig=Path(REAL_KUBECONFIG)) as cluster:
            yield None, cluster


@contextmanager
def furnished(sandbox: Sandbox | None, cluster: KubernetesCluster) -> Iterator[Bench]:
    """A cluster with a fresh namespace, removed at the end."""
    made = Bench(cluster, cluster.discover(), f"contract-{uuid.uuid4().hex[:8]}", sandbox)
    made.make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}})
    # A real server's controllers fill a namespace a moment after it was made.
    made.seen("ServiceAccount", "default", bool)
    try:
        yield made
    finally:
        for kind, name in made.made:
            if cluster.get(kind, name) is not None:
                cluster.delete(kind, name)


@pytest.fixture
def bench(contracted) -> Iterator[Bench]:
    """A cluster under contract, with a fresh namespace."""
    with furnished(*contracted) as made:
        yield made
