"""What people and programs do to the demo's applications: deploy, write orders, edit pages, look, destroy."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from reconciler.blueprint.streams import push, run
from reconciler.cli.demo.applications import SHOP, WIKI
from reconciler.cli.demo.stage import DemoFailedError
from reconciler.cluster.port import AlreadyExistsError, Cluster, Discovery, ExecTarget, ResourceType
from reconciler.objects import (
    Manifest,
    ObjectKey,
    canonical,
    field,
    group_of,
    name_of,
    project,
    version_of,
)

_BRIEF = timedelta(seconds=30)
_READY_S = 120.0


@dataclass(frozen=True)
class Snapshot:
    """What a namespace looks like from outside: compared before and after."""

    objects: dict[str, bytes]
    """Key → what a person would call its content: spec, data, labels; no uids, no server's counters."""
    rows: tuple[int, str]
    """Rows of the orders table, and a checksum over them."""
    files: dict[str, str]
    """Path → SHA-256."""


class People:
    """Everybody who works with one cluster."""

    def __init__(self, cluster: Cluster, *, postgres: bool) -> None:
        self._cluster = cluster
        self._postgres = postgres

    def deploy(self, manifests: Iterable[Manifest]) -> None:
        """Create objects, as `kubectl create` would."""
        discovery = self._cluster.discover()
        for manifest in manifests:
            try:
                self._cluster.create(_type(discovery, manifest), manifest, manager="kubectl-create")
            except AlreadyExistsError:
                continue

    def wait_ready(self, namespace: str, *, timeout_s: float = _READY_S) -> None:
        """Wait until every pod of a namespace is Ready.

        Raises:
            DemoFailedError: they are not in time.
        """

        def ready() -> bool:
            pods = self._list("", "Pod", namespace)
            return bool(pods) and all(is_ready(pod) for pod in pods)

        wait(ready, what=f"pods of {namespace} to be ready", timeout_s=timeout_s)

    def add_orders(self, first: int, count: int) -> None:
        """Insert orders, as customers do."""
        if self._postgres:
            sql = (
                "create table if not exists orders (id bigint primary key, item text, amount int);"
                f"insert into orders select n, md5(n::text), n % 97 from generate_series({first},"
                f"{first + count - 1}) n"
            )
            self._database(["psql", "-qtAX", "-v", "ON_ERROR_STOP=1", "-c", sql])
        else:
            code = (
                "import hashlib,os,sqlite3;db=sqlite3.connect(os.environ['SQLITE_PATH'],timeout=10)\n"
                "db.executemany('insert into orders values (?,?,?)', "
                f"((n,hashlib.md5(str(n).encode()).hexdigest(),n%97) for n in range({first},{first + count})))\n"
                "db.commit()"
            )
            self._database(["python3", "-c", code])

    def orders(self) -> tuple[int, str]:
        """Count the orders, with a checksum over every row."""
        if self._postgres:
            sql = "select count(*), coalesce(md5(string_agg(id||item||amount, ',' order by id)),'') from orders"
            count, _, checksum = self._database(["psql", "-qtAX", "-c", sql]).strip().partition("|")
        else:
            code = (
                "import hashlib,os,sqlite3;db=sqlite3.connect(os.environ['SQLITE_PATH'],timeout=10)\n"
                "rows=list(db.execute('select id,item,amount from orders order by id'))\n"
                "text=','.join(f'{a}{b}{c}' for a,b,c in rows)\n"
                "print(len(rows), hashlib.md5(text.encode()).hexdigest(), sep='|')"
            )
            count, _, checksum = self._database(["python3", "-c", code]).strip().partition("|")
        return int(count), checksum

    def write_page(self, name: str, text: str) -> None:
        """Edit a page of the wiki."""
        push(
            self._cluster,
            self._pod(WIKI, "wiki"),
            ["sh", "-c", f"mkdir -p /srv/www/pages && cat > /srv/www/pages/{name}"],
            [text.encode()],
            timeout=_BRIEF,
        )

    def read_page(self) -> str:
        """Read the shop's page from inside its pod, as its neighbours would."""
        request = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 8080"
        answer = run(self._cluster, self._pod(SHOP, "web"), ["sh", "-c", request], timeout=_BRIEF)
        return answer.decode(errors="replace").rpartition("\r\n\r\n")[2]

    def edit_settings(self, namespace: str, name: str, **data: str) -> None:
        """Change a ConfigMap."""
        kind = self._cluster.discover().find("", "ConfigMap")
        assert kind is not None
        self._cluster.patch(kind, name, {"data": data}, namespace=namespace, manager="kubectl-edit")

    def look(self, namespace: str) -> Snapshot:
        """Take down what a namespace holds."""
        objects = {}
        for kind in self._cluster.discover().preferred():
            if not kind.namespaced or not {"list", "create"} <= kind.verbs or kind.kind in _MOVING:
                continue
            for manifest in self._list(kind.group, kind.kind, namespace):
                if not manifest["metadata"].get("ownerReferences"):
                    objects[ObjectKey.of(manifest).path] = canonical(content_of(manifest))
        return Snapshot(
            objects=objects,
            rows=self.orders() if namespace == SHOP else (0, ""),
            files=self._files(namespace),
        )

    def _files(self, namespace: str) -> dict[str, str]:
        if namespace != WIKI:
            return {}
        listing = run(
            self._cluster,
            self._pod(WIKI, "wiki"),
            ["sh", "-c", "cd /srv/www && find . -type f -exec sha256sum {} +"],
            timeout=_BRIEF,
        )
        pairs = (line.split("  ", 1) for line in listing.decode().splitlines())
        return {path: digest for digest, path in pairs}

    def destroy(self, namespace: str) -> None:
        """Delete a namespace with everything in it, and wait until it is gone."""
        kind = self._cluster.discover().find("", "Namespace")
        assert kind is not None
        self._cluster.delete(kind, namespace)
        wait(lambda: self._cluster.get(kind, namespace) is None, what=f"{namespace} to be gone")

    def _database(self, argv: Sequence[str]) -> str:
        target = ExecTarget(namespace=SHOP, pod="orders-db-0", container="database")
        return run(self._cluster, target, argv, timeout=_BRIEF).decode()

    def _pod(self, namespace: str, app: str) -> ExecTarget:
        for pod in self._list("", "Pod", namespace):
            if field(pod, "metadata", "labels", "app") == app and is_ready(pod):
                return ExecTarget(namespace=namespace, pod=name_of(pod))
        raise DemoFailedError(f"find pod of {namespace}/{app}: none is ready")

    def _list(self, group: str, kind: str, namespace: str) -> list[Manifest]:
        found = self._cluster.discover().find(group, kind)
        assert found is not None
        return [
            item for page in self._cluster.pages(found, namespace=namespace) for item in page.items
        ]


_MOVING = frozenset(
    {"Event", "Endpoints", "EndpointSlice", "Lease", "Pod", "ReplicaSet", "ControllerRevision"}
)
"""Kinds that controllers make and change all the time."""
_FRESH = frozenset({"uid", "creationTimestamp", "managedFields", "resourceVersion", "generation"})
_ALLOCATED = frozenset({"clusterIP", "clusterIPs", "volumeName"})


def content_of(manifest: Manifest) -> Manifest:
    """An object without what a server gives anew: identity, owners of fields, addresses."""
    kept = project(manifest)
    kept["metadata"] = {k: v for k, v in kept["metadata"].items() if k not in _FRESH}
    annotations = {
        k: v
        for k, v in (kept["metadata"].get("annotations") or {}).items()
        if not k.startswith(("pv.kubernetes.io/", "volume.", "deployment.kubernetes.io/"))
    }
    kept["metadata"].pop("annotations", None)
    if annotations:
        kept["metadata"]["annotations"] = annotations
    kept["metadata"].pop("finalizers", None)
    if isinstance(kept.get("spec"), dict):
        kept["spec"] = {
            k: v for k, v in kept["spec"].items() if k not in _ALLOCATED or v in ("None", ["None"])
        }
    return kept


def is_ready(pod: Manifest) -> bool:
    """Whether a pod's Ready condition is True."""
    conditions = field(pod, "status", "conditions", default=[])
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def fetch(port: int) -> str:
    """Read a page from a workload, as a browser would."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


def wait(done: Callable[[], bool], *, what: str, timeout_s: float = _READY_S) -> None:
    """Look until something is so.

    Raises:
        DemoFailedError: it is not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise DemoFailedError(f"wait for {what}: not after {timeout_s:.0f} s")
        time.sleep(0.05)


def _type(discovery: Discovery, manifest: Manifest) -> ResourceType:
    api_version = manifest["apiVersion"]
    found = discovery.find(group_of(api_version), manifest["kind"], version_of(api_version))
    if found is None:
        raise DemoFailedError(f"deploy {ObjectKey.of(manifest)}: {api_version} is not served")
    return found
