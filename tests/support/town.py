"""A small cluster for tests: the sandbox, the adapter to it, and the few things that people do there."""

from __future__ import annotations

import time

from reconciler.blueprint.pods import is_ready
from reconciler.cluster.port import Discovery, ResourceType
from reconciler.objects import ObjectKey, group_of, version_of

WAIT_S = 20


class Town:
    """A sandbox and the port to it."""

    def __init__(self, sandbox, cluster):
        self.sandbox = sandbox
        self.cluster = cluster
        self._known = cluster.discover()

    @property
    def discovery(self) -> Discovery:
        """What is served now."""
        return self.cluster.discover()

    def kind(self, api: str, kind: str) -> ResourceType:
        """The type of a kind."""
        found = self._known.find(group_of(api), kind, version_of(api))
        if found is None:
            self._known = self.discovery
            found = self._known.find(group_of(api), kind, version_of(api))
        assert found is not None, f"{kind} is served"
        return found

    def create(self, *manifests):
        """Create objects; uid and resourceVersion are the server's."""
        made = []
        for manifest in manifests:
            body = {
                **manifest,
                "metadata": {
                    k: v
                    for k, v in manifest["metadata"].items()
                    if k not in ("uid", "resourceVersion")
                },
            }
            made.append(
                self.cluster.create(
                    self.kind(manifest["apiVersion"], manifest["kind"]), body, manager="person"
                )
            )
        return made[0] if len(made) == 1 else made

    def patch(self, api, kind, name, body, *, namespace="shop"):
        """Merge a patch."""
        return self.cluster.patch(
            self.kind(api, kind), name, body, namespace=namespace, manager="person"
        )

    def delete(self, api, kind, name, *, namespace="shop"):
        """Delete an object."""
        self.cluster.delete(self.kind(api, kind), name, namespace=namespace)

    def get(self, api, kind, name, *, namespace="shop"):
        """Read an object."""
        return self.cluster.get(self.kind(api, kind), name, namespace=namespace)

    def wait_ready(self, *names, namespace="shop"):
        """Wait until pods are Ready."""
        self.wait(
            lambda: all(
                (pod := self.get("v1", "Pod", n, namespace=namespace)) and is_ready(pod)
                for n in names
            ),
            f"pods {names} Ready",
        )

    @staticmethod
    def wait(condition, what):
        """Wait for a condition of the real world, bounded."""
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f"waited {WAIT_S} s for {what}"
            time.sleep(0.02)


def key(kind, name, *, namespace="shop", group="") -> ObjectKey:
    """A key in few words."""
    return ObjectKey(group, kind, namespace, name)
