"""A real PostgreSQL server in a StatefulSet, captured by the blueprint of the catalog."""

from __future__ import annotations

import os
import shutil
import socket
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.blueprint import actions, streams
from reconciler.blueprint.pods import pod_of
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.sandbox.server import Sandbox
from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.loader import load
from tests.support.capturing import Shelf, outcomes
from tests.support.postgres import _user, find_binaries
from tests.support.sandbox import open_directory
from tests.support.seen import manifest
from tests.support.service import CLAIM_TEMPLATE
from tests.support.town import Town

pytestmark = pytest.mark.real
FILE = Path(__file__).resolve().parents[3] / "blueprints/postgresql/blueprint.yaml"
START = """
set -e
[ -s "$PGDATA/PG_VERSION" ] || initdb -D "$PGDATA" -U shop -A trust -E UTF8 --locale=C -N >/dev/null
exec postgres -D "$PGDATA" -p "$PGPORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off
"""


def database(port):
    """The server, under a user that it accepts."""
    env = {
        "PATH": f"{find_binaries()}:{os.environ['PATH']}",
        "PGDATA": "/var/lib/postgresql/pgdata",
        "PGUSER": "shop",
        "PGDATABASE": "postgres",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
    }
    container = {
        "name": "database",
        "image": "postgres:15",
        "command": ["sh", "-c", START],
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql"}],
        "readinessProbe": {"exec": {"command": ["psql", "-qtAc", "select 1"]}, "periodSeconds": 1},
    }
    pod = {"containers": [container], "terminationGracePeriodSeconds": 5}
    if (user := _user()) is not None:
        pod["securityContext"] = {"runAsUser": user, "fsGroup": user}
    labels = {"app": "db"}
    spec = {
        "replicas": 1,
        "serviceName": "db",
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
        "volumeClaimTemplates": [CLAIM_TEMPLATE],
    }
    return manifest("StatefulSet", "db", api="apps/v1", spec=spec)


@pytest.fixture
def shop(tmp_path):
    """A namespace with the server, Ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = open_directory()
    try:
        with Sandbox(directory, name="town", processes=True) as sandbox:
            path = sandbox.write_kubeconfig(tmp_path / "kubeconfig")
            with connect(name="town", kubeconfig=path, sleep=lambda _: None) as cluster:
                town = Town(sandbox, cluster)
                town.create(manifest("Namespace", "shop", namespace=""), database(port))
                town.wait_ready("db-0")
                yield town
    finally:
        shutil.rmtree(directory)


def sql(town, text):
    """Run SQL in the server's pod."""
    target = pod_of(town.cluster, town.discovery, town.get("apps/v1", "StatefulSet", "db"))
    return (
        streams.run(town.cluster, target, ["psql", "-qtAc", text], timeout=timedelta(seconds=60))
        .decode()
        .split()
    )


def fill(town):
    sql(town, "create table orders (id int primary key, note text)")
    sql(town, "insert into orders select n, md5(n::text) from generate_series(1, 20000) n")


@pytest.mark.slow
def test_rows_come_back_as_they_were_captured(shop):
    """What the point holds, loaded into the server after damage, gives the captured rows; a second capture adds little."""
    blueprint = load(str(FILE), FILE.read_bytes()).manifests[0].kind
    assert isinstance(blueprint, Blueprint)
    fill(shop)
    digest = "select md5(string_agg(id || note, ',' order by id)) from orders"
    before = sql(shop, digest)
    shelf = Shelf(shop)
    first = shelf.capture(blueprints=[blueprint])
    sql(shop, "insert into orders values (0, 'one more')")
    second = shelf.capture(blueprints=[blueprint])
    sql(shop, "delete from orders where id % 2 = 0")

    workload = shop.get("apps/v1", "StatefulSet", "db")
    actions.restore(
        blueprint,
        cluster=shop.cluster,
        target=pod_of(shop.cluster, shop.discovery, workload),
        open_artifact=lambda name: iter(
            [shelf.stream(first, f"content/postgresql/StatefulSet.db/{name}")]
        ),
    )

    assert first.record.phase == second.record.phase == "Succeeded"
    assert outcomes(first) == [("volume/data-db-0", "CoveredByBlueprint")]
    assert sql(shop, digest) == before
    assert second.added_bytes < first.added_bytes
