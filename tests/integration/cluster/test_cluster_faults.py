"""What the adapter makes of a server that fails, on the sandbox with its faults switched on."""

from __future__ import annotations

import re
import socket
import time

import pytest

from reconciler.cluster.kubernetes import connect
from reconciler.cluster.port import (
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotServedError,
    UnauthorizedError,
    UnavailableError,
)
from tests.support.clusters import config_map, sandbox_cluster
from tests.support.wire import kubeconfig


@pytest.fixture(scope="module")
def running():
    """A sandbox without processes; the naps that the adapter takes are counted, not taken."""
    naps = []
    with sandbox_cluster(processes=False, sleep=naps.append, timeout_s=5) as (sandbox, cluster):
        yield sandbox, cluster, naps, cluster.discover()


@pytest.fixture
def lab(running):
    """The sandbox without faults, and a clean list of naps."""
    sandbox, _, naps, _ = running
    naps.clear()
    yield running
    sandbox.faults.clear()
    sandbox.allow_all()


def types(discovery):
    """The type of ConfigMaps."""
    return discovery.find("", "ConfigMap")


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(lab, code):
    """A read is repeated after 429 and 5xx, with growing pauses, and then succeeds."""
    sandbox, cluster, naps, discovery = lab
    fault = sandbox.faults.add("answer", "configmaps", value=code, times=3)

    assert list(cluster.pages(types(discovery), namespace="default"))

    assert fault.hits == 3
    assert naps == [0.25, 0.5, 1.0]


def test_the_server_is_given_the_time_it_asks_for(lab):
    """Retry-After is waited for; asked for too much, the answer is reported with that time."""
    sandbox, cluster, naps, discovery = lab
    sandbox.faults.add("answer", "configmaps", value=429, retry_after_s=7)
    assert cluster.get(types(discovery), "none", namespace="default") is None
    assert naps == [7.0]

    fault = sandbox.faults.add("answer", "configmaps", value=429, retry_after_s=3600, times=9)
    with pytest.raises(UnavailableError) as caught:
        cluster.get(types(discovery), "none", namespace="default")
    assert caught.value.retry_after_s == 3600
    assert (fault.hits, naps) == (1, [7.0])


def test_repeats_are_bounded(lab):
    """A server that stays broken is asked five times."""
    sandbox, cluster, naps, discovery = lab
    fault = sandbox.faults.add("answer", "configmaps", value=503, times=99)

    with pytest.raises(UnavailableError, match="503"):
        list(cluster.pages(types(discovery), namespace="default"))

    assert (fault.hits, len(naps)) == (5, 4)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_writes_are_never_repeated(lab, code):
    """A write is sent once: nobody knows what a lost answer stands for."""
    sandbox, cluster, naps, discovery = lab
    fault = sandbox.faults.add("answer", "configmaps", value=code, times=99)
    kind, manifest = types(discovery), config_map("once")
    manifest["metadata"]["namespace"] = "default"
    writes = [
        lambda: cluster.create(kind, manifest, manager="t"),
        lambda: cluster.replace(kind, manifest, manager="t"),
        lambda: cluster.patch(kind, "once", {}, namespace="default", manager="t"),
        lambda: cluster.delete(kind, "once", namespace="default"),
    ]

    for write in writes:
        with pytest.raises(UnavailableError):
            write()

    assert (fault.hits, naps) == (len(writes), [])


@pytest.mark.parametrize(
    ("code", "error"),
    [(400, InvalidError), (401, UnauthorizedError), (403, ForbiddenError), (405, NotServedError), (409, ConflictError),
     (410, ExpiredError), (415, InvalidError), (422, InvalidError), (501, NotServedError), (408, UnavailableError)],
)  # fmt: skip
def test_refusals_have_their_names(lab, code, error):
    """Each code is the error that the port names, told at once."""
    sandbox, cluster, naps, discovery = lab
    fault = sandbox.faults.add("answer", "configmaps", value=code)

    with pytest.raises(error, match=rf"^list ConfigMap default: .*{code}"):
        list(cluster.pages(types(discovery), namespace="default"))
    assert (fault.hits, naps) == (1, [])


def test_a_forbidden_kind_is_forbidden(lab):
    """403 on one kind leaves the others readable."""
    sandbox, cluster, _, discovery = lab
    sandbox.deny("list", "secrets")

    with pytest.raises(ForbiddenError, match="secrets"):
        list(cluster.pages(discovery.find("", "Secret")))
    assert list(cluster.pages(types(discovery)))


def test_a_wrong_token_is_told_without_it(lab, tmp_path):
    """401 names the cluster, and nowhere the token."""
    sandbox, _, _, discovery = lab
    with connect(name="prod", kubeconfig=kubeconfig(tmp_path / "kc", sandbox.url)) as cluster:
        with pytest.raises(UnauthorizedError) as caught:
            cluster.get(types(discovery), "one", namespace="default")

    assert "very-secret-token" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_page_that_is_cut_is_never_a_short_list(lab, size):
    """A list whose second page breaks off is an error, not the half of it."""
    sandbox, cluster, naps, discovery = lab
    kind = types(discovery)
    for n in range(3):
        manifest = config_map(f"cut-{size}-{n}")
        manifest["metadata"]["namespace"] = "default"
        cluster.create(kind, manifest, manager="t")
    fault = sandbox.faults.add("cut", "configmaps", value=size, nth=2)
    pages = cluster.pages(kind, namespace="default", page_size=1)

    assert len(next(pages).items) == 1
    with pytest.raises(UnavailableError, match="broke"):
        next(pages)
    assert (fault.hits, naps) == (1, [])


def test_a_dropped_connection_is_told_once(lab):
    """A connection cut without an answer is UnavailableError; the next request works."""
    sandbox, cluster, _, discovery = lab
    fault = sandbox.faults.add("drop", "configmaps")

    with pytest.raises(UnavailableError):
        cluster.get(types(discovery), "one", namespace="default")
    assert cluster.get(types(discovery), "one", namespace="default") is None
    assert fault.hits == 1


def test_a_slow_server_is_given_up(lab, tmp_path):
    """A server that does not answer in time is UnavailableError."""
    sandbox, _, _, discovery = lab
    sandbox.faults.add("delay", "configmaps", value=2)
    with connect(
        name="slow", kubeconfig=sandbox.write_kubeconfig(tmp_path / "kc"), timeout_s=0.2
    ) as cluster:
        started = time.monotonic()
        with pytest.raises(UnavailableError, match=re.escape("no answer for 0.2 s")):
            cluster.get(types(discovery), "one", namespace="default")
    assert time.monotonic() - started < 20


def test_a_refused_connection_is_told(lab, tmp_path):
    """Nobody listening is UnavailableError, with the cause in the system's words."""
    _, _, _, discovery = lab
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with connect(
        name="down", kubeconfig=kubeconfig(tmp_path / "kc", f"http://127.0.0.1:{port}")
    ) as cluster:
        with pytest.raises(UnavailableError, match="Connection refused"):
            cluster.get(types(discovery), "one", namespace="default")


def test_a_watch_that_expires_after_its_start_is_told(lab):
    """A 200, an event, then an ERROR event with 410: the event comes, then ExpiredError."""
    sandbox, cluster, _, discovery = lab
    kind = types(discovery)
    [page] = cluster.pages(kind, namespace="default")
    manifest = config_map("expiring")
    manifest["metadata"]["namespace"] = "default"
    cluster.create(kind, manifest, manager="t")
    sandbox.faults.add("expire-watch", "watch=true", value=1)
    watch = cluster.watch(
        kind, resource_version=page.resource_version, namespace="default", timeout_s=5
    )

    assert next(watch).type == "ADDED"
    with pytest.raises(ExpiredError):
        next(watch)


def test_a_broken_group_is_a_fault_and_not_an_error(lab):
    """An aggregated API whose server is down is named with its reason; its types are not vouched for."""
    sandbox, cluster, _, discovery = lab
    assert discovery.find("policy", "PodDisruptionBudget")
    sandbox.break_group("policy", "v1")

    found = cluster.discover()

    assert list(found.faults) == ["policy/v1"]
    assert found.find("policy", "PodDisruptionBudget") is None
    assert found.find("apps", "Deployment")


def test_an_old_server_is_asked_group_by_group():
    """Without aggregated discovery the same is found, and a group that answers 503 is a fault."""
    naps = []
    with sandbox_cluster(processes=False, profile="1.21", sleep=naps.append) as (sandbox, cluster):
        whole = cluster.discover()
        sandbox.faults.add("answer", "^/apis/policy/v1beta1", value=503, times=99)
        partial = cluster.discover()

    assert whole.faults == {}
    assert whole.find("apps", "Deployment").plural == "deployments"
    assert whole.versions("networking.k8s.io", "Ingress") == ["v1", "v1beta1"]
    assert all("/" not in entry.plural for entry in whole.types)
    assert list(partial.faults) == ["policy/v1beta1"]
    assert "503" in partial.faults["policy/v1beta1"]
    assert partial.find("apps", "Deployment")
