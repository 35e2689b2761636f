"""A small data service for tests: keys and values in one file of a volume, kept by a real shell process."""

from __future__ import annotations

import shutil

from tests.support.blueprints import blueprint, step
from tests.support.seen import manifest

APPEND = 'printf "%s=%s\\n" "$1" "$2" >> /data/table'
CLAIM_TEMPLATE = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def template(*, labels=None):
    """A pod that keeps a table in /data, with the claim's volume called `data`."""
    container = {
        "name": "kv",
        "image": "example/kv:1",
        "command": ["sh", "-c", "touch /data/table; exec sleep 3600"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return {
        "metadata": {"labels": labels or {"app": "kv"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def stateful_set(name="kv", *, replicas=1, namespace="shop", labels=None):
    """The service as a StatefulSet with a claim of its own."""
    spec = {
        "replicas": replicas,
        "serviceName": name,
        "selector": {"matchLabels": {"app": name}},
        "template": template(labels={"app": name}),
        "volumeClaimTemplates": [CLAIM_TEMPLATE],
    }
    return manifest(
        "StatefulSet",
        name,
        api="apps/v1",
        namespace=namespace,
        labels=labels or {"app": name},
        spec=spec,
    )


def with_bare_container(workload):
    """The workload with a second container `bare`, which has no shell nor any tool."""
    workload["spec"]["template"]["spec"]["containers"].append(
        {
            "name": "bare",
            "image": "example/bare:1",
            "command": [shutil.which("sleep"), "3600"],
            "env": [{"name": "PATH", "value": "/nowhere"}],
        }
    )
    return workload


def shell(script):
    """A command of the service's container."""
    return ["sh", "-c", script]


def kv_blueprint(name="kv", *, match="workload.metadata.name.startsWith('kv')", **actions):
    """How the service is captured: its table as it stands; clear, then load."""
    standard = {
        "backup": [step("dump", *shell("cat /data/table"), artifact="table")],
        "restore": [
            step(
                "load",
                *shell("cat > /data/table.new && mv /data/table.new /data/table"),
                artifact="table",
            )
        ],
    }
    return blueprint(name, match, covers=["data"], **{**standard, **actions})
