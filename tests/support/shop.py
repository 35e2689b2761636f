"""A shop for tests of restores: a wiki with files in a volume, and a data service with rows."""

from __future__ import annotations

from reconciler.cluster.port import ExecTarget
from tests.support.blueprints import step
from tests.support.seen import manifest
from tests.support.service import kv_blueprint, shell, stateful_set

CLAIM = manifest(
    "PersistentVolumeClaim",
    "pages",
    spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
)


def wiki(*, namespace="shop", replicas=1):
    """A Deployment that starts a file of its own when it finds none."""
    container = {
        "name": "wiki",
        "image": "example/wiki:1",
        "command": ["sh", "-c", "test -e /pages/home || echo fresh > /pages/home; exec sleep 3600"],
        "volumeMounts": [{"name": "pages", "mountPath": "/pages"}],
    }
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "wiki"}},
        "template": {
            "metadata": {"labels": {"app": "wiki"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
                "volumes": [{"name": "pages", "persistentVolumeClaim": {"claimName": "pages"}}],
            },
        },
    }
    return manifest("Deployment", "wiki", api="apps/v1", namespace=namespace, spec=spec)


def say(rescue, pod, script, *, namespace="shop"):
    """Run a script in a pod; gives its output."""
    with rescue.town.cluster.execute(ExecTarget(namespace, pod), ["sh", "-c", script]) as session:
        output = b"".join(session.read())
        assert session.result().exit_code == 0
    return output.decode()


def pod_of(rescue, app, *, namespace="shop"):
    """The name of the Ready pod of an app."""
    found = []

    def look():
        kind = rescue.town.kind("v1", "Pod")
        pages = rescue.town.cluster.pages(kind, namespace=namespace, label_selector=f"app={app}")
        found[:] = [
            pod["metadata"]["name"]
            for page in pages
            for pod in page.items
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                c["type"] == "Ready" and c["status"] == "True"
                for c in pod.get("status", {}).get("conditions", [])
            )
        ]
        return found

    rescue.town.wait(look, f"a pod of {app}")
    return found[0]


def furnish(rescue):
    """Make the shop: a wiki with files in a claim, a data service with rows."""
    rescue.town.create(manifest("Namespace", "shop", namespace=""), CLAIM, wiki(), stateful_set())
    say(rescue, pod_of(rescue, "kv"), "echo a=1 > /data/table")
    files = "echo welcome > home && mkdir -m 750 sub && echo deep > 'sub/a b' && ln -s home link"
    say(rescue, pod_of(rescue, "wiki"), f"cd /pages && {files}")


BLUEPRINT = kv_blueprint(verify=[step("ask", *shell("grep -q a=1 /data/table"))])


def look(rescue, namespace="shop"):
    """Everything in the wiki's volume, and the rows."""
    files = say(
        rescue,
        pod_of(rescue, "wiki", namespace=namespace),
        "cd /pages && find . | sort && cat home 'sub/a b' && stat -c %a sub && readlink link",
        namespace=namespace,
    )
    rows = say(
        rescue, pod_of(rescue, "kv", namespace=namespace), "cat /data/table", namespace=namespace
    )
    return files, rows
