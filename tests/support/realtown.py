"""A namespace on a real cluster, captured and brought back: for what only real Kubernetes can show.

The tests that use it are skipped unless `RECONCILER_TEST_KUBECONFIG` names a cluster. Every object they make is in
a namespace of their own, or carries its name, and is removed afterwards.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SteppedClock
from reconciler.cluster.kubernetes import connect
from reconciler.restore.execute.execution import Bounds
from reconciler.store.content import open_store
from reconciler.store.keys import Cost, init_location
from reconciler.store.memory import MemoryStorage
from tests.support.clusters import REAL_KUBECONFIG, REAL_VARIABLE
from tests.support.rescue import NOW, Rescue, request
from tests.support.sandbox import eventually
from tests.support.town import Town

WITHIN_S = 180.0
BOUNDS = Bounds(definitions_s=60, claims_s=60, gone_s=180, ready_s=180)
needs_cluster = pytest.mark.skipif(
    not REAL_KUBECONFIG, reason=f"set {REAL_VARIABLE} to a kubeconfig, or run `make test-cluster`"
)


class RealTown(Rescue):
    """A fresh namespace of a real cluster, and a store for its restore points."""

    def __init__(self, cluster: Any, namespace: str) -> None:
        clock = SteppedClock(NOW)
        storage = MemoryStorage(clock)
        init_location(storage, "a pass phrase", cost=Cost(memory_kib=64, iterations=1, lanes=1))
        store = open_store(storage, "a pass phrase", clock=clock)
        super().__init__(Town(None, cluster), store, clock)
        self.namespace = namespace
        self.aside: list[tuple[str, str, str]] = []

    def make(self, manifest: dict[str, Any], *, manager: str = "person") -> dict[str, Any]:
        """Create an object, in the namespace unless it is the cluster's."""
        kind = self.town.kind(manifest["apiVersion"], manifest["kind"])
        if kind.namespaced:
            manifest = {
                **manifest,
                "metadata": {"namespace": self.namespace, **manifest["metadata"]},
            }
        else:
            self.aside.append(
                (manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])
            )
        return self.town.cluster.create(kind, manifest, manager=manager)

    def apply(
        self, manifest: dict[str, Any], *, manager: str, force: bool = False
    ) -> dict[str, Any]:
        """Server-side apply, as `manager`."""
        kind = self.town.kind(manifest["apiVersion"], manifest["kind"])
        body = {**manifest, "metadata": {"namespace": self.namespace, **manifest["metadata"]}}
        return self.town.cluster.patch(
            kind,
            body["metadata"]["name"],
            body,
            namespace=self.namespace,
            style="apply",
            manager=manager,
            force=force,
        )

    def read(self, api: str, kind: str, name: str) -> dict[str, Any] | None:
        """An object as it is."""
        found = self.town.kind(api, kind)
        return self.town.cluster.get(
            found, name, namespace=self.namespace if found.namespaced else ""
        )

    def edit(self, api: str, kind: str, name: str, body: dict[str, Any], **how: Any) -> Any:
        """Merge a patch."""
        return self.town.cluster.patch(
            self.town.kind(api, kind),
            name,
            body,
            namespace=self.namespace,
            manager=how.pop("manager", "person"),
            **how,
        )

    def ask(self, **spec: Any) -> Any:
        """A Restore of the newest point of the namespace."""
        return request(f"{self.namespace}/_/latest", **spec)

    def point(self) -> Any:
        """Capture the namespace."""
        return self.capture(self.namespace)

    def execution(self, asked: Any, plan: Any, **kwargs: Any) -> Any:
        """A run of a plan, with the patience that a busy cluster needs."""
        return super().execution(asked, plan, **{"bounds": BOUNDS, **kwargs})

    def wipe(self) -> None:
        """Delete the namespace and wait until it is gone."""
        self.town.delete("v1", "Namespace", self.namespace, namespace="")
        eventually(
            lambda: self.town.get("v1", "Namespace", self.namespace, namespace="") is None,
            within_s=WITHIN_S,
        )

    def close(self) -> None:
        """Remove what is left."""
        for api, kind, name in reversed(self.aside):
            if self.town.get(api, kind, name, namespace="") is not None:
                self.town.delete(api, kind, name, namespace="")
        if self.town.get("v1", "Namespace", self.namespace, namespace="") is not None:
            self.town.delete("v1", "Namespace", self.namespace, namespace="")


@pytest.fixture
def real() -> Iterator[RealTown]:
    """A namespace of one's own on the real cluster."""
    name = f"plan-{uuid.uuid4().hex[:8]}"
    with connect(name="town", kubeconfig=Path(REAL_KUBECONFIG)) as cluster:
        town = RealTown(cluster, name)
        try:
            town.make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            eventually(lambda: town.read("v1", "ServiceAccount", "default"), within_s=WITHIN_S)
            yield town
        finally:
            town.close()


def eventual(check: Any) -> Any:
    """Ask again until the answer is true, as long as a real cluster may take."""
    return eventually(check, within_s=WITHIN_S)
