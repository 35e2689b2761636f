"""Small workloads that applications are made of."""

from __future__ import annotations

from typing import Any

from tests.support.clusters import IMAGE

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done"]


def deployment(name: str, *, replicas: int = 1, claim: str = "", **container: Any) -> Any:
    """A Deployment whose one container sleeps; `claim` is mounted at `/data`."""
    main = {"name": "main", "image": IMAGE, "command": SLEEP, **container}
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 1, "containers": [main]}
    if claim:
        main["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def claim(name: str) -> Any:
    """A claim of the default class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": spec,
    }


def config_map(name: str, *, metadata: dict[str, Any] | None = None, **data: str) -> Any:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **(metadata or {})},
        "data": data,
    }
