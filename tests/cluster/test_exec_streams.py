"""Streams into real containers: a database that loads through a command without output, a container that restarts."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.blueprint.streams import CommandFailedError, StreamCutError, pull, push, run
from reconciler.clock import SystemClock
from reconciler.cluster import claimpod
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.port import ExecBrokenError, ExecTarget
from tests.cluster.applications.shop import POSTGRESQL, START
from tests.support.clusters import (
    BARE_IMAGE,
    REAL_KUBECONFIG,
    WITHIN_S,
    claim,
    furnished,
    is_ready,
    pod,
)
from tests.support.sandbox import eventually

SOON = timedelta(seconds=WITHIN_S)
ROWS = 200_000
SUM = "select count(*), sum(n), md5(string_agg(name, ',' order by n)) from orders"


@pytest.fixture
def bench():
    """The real cluster, with a namespace of one's own."""
    with connect(name="real", kubeconfig=Path(REAL_KUBECONFIG)) as cluster:
        with furnished(None, cluster) as made:
            yield made


@pytest.fixture
def database(bench):
    """A PostgreSQL with a table of many rows."""
    body = pod("database", "bash", "-c", START)
    body["spec"]["securityContext"] = {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999}
    main = body["spec"]["containers"][0]
    settings = {"DATA": "/tmp/pgdata", "USER": "shop", "HOST": "127.0.0.1", "DATABASE": "postgres"}
    settings["PASSWORD"] = "for-this-test"
    main["env"] = [{"name": f"PG{name}", "value": value} for name, value in settings.items()]
    main["image"] = POSTGRESQL
    main["readinessProbe"] = {
        "exec": {"command": ["psql", "-qtAc", "select 1"]},
        "periodSeconds": 1,
    }
    bench.make(body)
    bench.seen("Pod", "database", is_ready)
    target = ExecTarget(bench.namespace, "database", "main")
    table = (
        f"create table orders as select n, 'order ' || n as name from generate_series(1, {ROWS}) n"
    )
    run(bench.cluster, target, ["psql", "-qc", table], timeout=SOON)
    return target


def test_every_row_comes_back_through_a_command_that_says_nothing(bench, database):
    """`exec psql >/dev/null 2>&1` lost all but some hundred rows, with exit code 0, when run without a shell around it."""
    before = run(bench.cluster, database, ["psql", "-qtAc", SUM], timeout=SOON)
    dump = list(pull(bench.cluster, database, ["pg_dump", "-t", "orders"], timeout=SOON))
    run(bench.cluster, database, ["psql", "-qc", "drop table orders"], timeout=SOON)

    load = ["sh", "-c", "exec psql -v ON_ERROR_STOP=1 >/dev/null 2>&1"]
    push(bench.cluster, database, load, dump, timeout=SOON)

    assert run(bench.cluster, database, ["psql", "-qtAc", SUM], timeout=SOON) == before
    assert before.startswith(b"%d|" % ROWS)


def test_a_load_that_fails_says_how(bench, database):
    """psql's own exit code and last words come through, in the middle of a pipe, and the rest is not waited for."""
    content = (b"this is no SQL;\n" * 10_000 for _ in range(100))

    with pytest.raises(CommandFailedError, match="exit code 3: .*syntax error") as caught:
        load = ["psql", "-v", "ON_ERROR_STOP=1"]
        push(bench.cluster, database, load, content, timeout=SOON)
    assert caught.value.command_exit_code == 3


@pytest.mark.parametrize("way", ["in", "out", "still"])
def test_a_container_that_restarts_ends_its_streams(bench, way):
    """Its successor has the same name and answers; the streams of the first one end within a minute all the same."""
    body = pod("phoenix")
    bench.make(body)
    bench.seen("Pod", "phoenix", is_ready)
    target = ExecTarget(bench.namespace, "phoenix", "main")
    moved = threading.Event()

    def endless():
        for n in range(1 << 30):
            if n > 20:
                moved.set()
            yield bytes(1 << 18)

    def end():
        moved.wait(60)
        with bench.cluster.execute(target, ["kill", "-TERM", "1"]) as session:
            session.result()

    ender = threading.Thread(target=end)
    ender.start()
    began = time.monotonic()
    with pytest.raises((ExecBrokenError, StreamCutError, CommandFailedError)):
        if way == "out":
            for _ in pull(bench.cluster, target, ["cat", "/dev/zero"], timeout=SOON):
                moved.set()
        else:
            if way == "still":
                threading.Timer(5, moved.set).start()
            reader = "cat >/dev/null" if way == "in" else "sleep 1000"
            push(bench.cluster, target, ["sh", "-c", reader], endless(), timeout=SOON)
    ender.join()

    assert time.monotonic() - began < 75
    eventually(lambda: _restarts(bench) == 1, within_s=WITHIN_S)


def _restarts(bench):
    found = bench.read("Pod", "phoenix")
    return found["status"]["containerStatuses"][0]["restartCount"]


def test_a_helper_image_without_a_shell_is_told(bench):
    """The pod that would read a claim never starts, and the reason names what its image lacks."""
    bench.make(claim("data"))

    with pytest.raises(claimpod.ClaimPodRefusedError, match="its image has no sh") as caught:
        with claimpod.claim_pod(
            bench.cluster,
            bench.discovery,
            namespace=bench.namespace,
            claim="data",
            image=BARE_IMAGE,
            clock=SystemClock(),
            timeout_s=WITHIN_S,
        ):
            pass

    assert caught.value.reason == "NoShell"
    assert bench.all("Pod") == []
