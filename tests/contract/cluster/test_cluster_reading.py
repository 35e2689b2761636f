"""What every cluster answers when it is asked: identity, discovery, lists, single objects, watches."""

from __future__ import annotations

import threading
import uuid

import pytest

from reconciler.cluster.port import ExpiredError, NotServedError, ResourceType
from tests.contract.cluster.differences import BOOKMARKS, EXPIRY
from tests.support.clusters import MANAGER, config_map
from tests.support.sandbox import eventually


def crd(plural, kind, group):
    """A CRD with two served versions, the older one stored."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [
        {"name": "v1", "served": True, "storage": False, "schema": schema},
        {"name": "v1beta1", "served": True, "storage": True, "schema": schema},
    ]
    names = {"plural": plural, "singular": kind.lower(), "kind": kind}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": spec,
    }


def test_the_uid_is_that_of_kube_system(bench):
    """A cluster is known by the uid of kube-system, which stays the same."""
    namespace = bench.cluster.get(bench.type("Namespace"), "kube-system")

    assert bench.cluster.uid() == namespace["metadata"]["uid"] == bench.cluster.uid()


def test_discovery_tells_kinds_scopes_and_verbs(bench):
    """Built-in kinds are found with their plural, scope and verbs; nothing is at fault."""
    deployment, namespace = bench.type("Deployment", "apps"), bench.type("Namespace")

    assert bench.discovery.server_version.startswith("v1.")
    assert (deployment.api_version, deployment.plural, deployment.namespaced) == (
        "apps/v1",
        "deployments",
        True,
    )
    assert not namespace.namespaced
    assert {"get", "list", "watch", "create", "update", "patch", "delete"} <= deployment.verbs
    assert bench.discovery.faults == {}


def test_a_crd_is_served_once_it_is_registered(bench):
    """A new CRD appears in discovery with its versions, preferred first; its objects can be made and read."""
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    bench.make(crd("gadgets", "Gadget", group))
    eventually(lambda: bench.cluster.discover().versions(group, "Gadget") == ["v1", "v1beta1"])
    bench.discovery = bench.cluster.discover()

    made = eventually(lambda: _try_make(bench, group))

    older = bench.discovery.find(group, "Gadget", "v1beta1")
    assert made["spec"] == {"size": 3}
    assert (
        bench.cluster.get(older, "one", namespace=bench.namespace)["apiVersion"]
        == f"{group}/v1beta1"
    )


def _try_make(bench, group):
    # An established CRD may still answer 404 for a moment on a real server.
    try:
        return bench.make(
            {
                "apiVersion": f"{group}/v1",
                "kind": "Gadget",
                "metadata": {"name": "one"},
                "spec": {"size": 3},
            }
        )
    except NotServedError:
        return None


def test_a_list_comes_in_pages_that_make_a_whole(bench):
    """Pages hold at most what was asked for, together everything once, with apiVersion and kind on each item."""
    names = {f"page-{n}" for n in range(7)}
    for name in names:
        bench.make(
            config_map(name, key="value") | {"metadata": {"name": name, "labels": {"of": "pages"}}}
        )

    pages = list(
        bench.cluster.pages(
            bench.type("ConfigMap"),
            namespace=bench.namespace,
            label_selector="of=pages",
            page_size=3,
        )
    )

    items = [item for page in pages for item in page.items]
    assert [len(page.items) for page in pages] == [3, 3, 1]
    assert {item["metadata"]["name"] for item in items} == names
    assert all((item["apiVersion"], item["kind"]) == ("v1", "ConfigMap") for item in items)
    assert len({page.resource_version for page in pages}) == 1
    assert [bool(page.continue_token) for page in pages] == [True, True, False]


def test_a_list_over_all_namespaces_has_ours(bench):
    """Without a namespace every namespace is listed."""
    bench.make(config_map("somewhere"))

    pages = bench.cluster.pages(bench.type("ConfigMap"))

    found = {
        (i["metadata"]["namespace"], i["metadata"]["name"]) for page in pages for i in page.items
    }
    assert (bench.namespace, "somewhere") in found


def test_an_expired_continue_token_is_told(bench):
    """410 in the middle of a list is ExpiredError, never a short list."""
    if bench.is_real:
        pytest.skip(EXPIRY)
    for n in range(3):
        bench.make(config_map(f"old-{n}"))
    pages = bench.cluster.pages(bench.type("ConfigMap"), namespace=bench.namespace, page_size=1)
    next(pages)
    bench.sandbox.compact()

    with pytest.raises(ExpiredError):
        list(pages)


def test_what_is_absent_is_none(bench):
    """A missing object is None; so is one in a namespace that is not there."""
    assert bench.read("ConfigMap", "nobody") is None
    assert (
        bench.cluster.get(bench.type("ConfigMap"), "nobody", namespace="no-such-namespace") is None
    )


def test_a_kind_that_is_not_served_is_not_absent(bench):
    """Asking for a kind that does not exist is an error, so that it is never taken for an empty list."""
    unknown = ResourceType("nothing.example.com", "v1", "Nothing", "nothings", True, frozenset())

    with pytest.raises(NotServedError):
        bench.cluster.get(unknown, "one", namespace=bench.namespace)
    with pytest.raises(NotServedError):
        list(bench.cluster.pages(unknown))


def test_a_watch_tells_what_changed_since(bench):
    """From a list's version on, every change comes once, in order, with its object."""
    kind = bench.type("ConfigMap")
    [page] = bench.cluster.pages(kind, namespace=bench.namespace)
    bench.make(config_map("seen", step="1"))
    bench.cluster.patch(
        kind, "seen", {"data": {"step": "2"}}, namespace=bench.namespace, manager=MANAGER
    )
    bench.cluster.delete(kind, "seen", namespace=bench.namespace)

    watch = bench.cluster.watch(
        kind, resource_version=page.resource_version, namespace=bench.namespace, timeout_s=20
    )
    events = []
    for event in watch:
        if event.type != "BOOKMARK" and event.object["metadata"]["name"] == "seen":
            events.append(event)
        if len(events) == 3:
            break
    watch.close()

    assert [e.type for e in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert [e.object["data"]["step"] for e in events] == ["1", "2", "2"]
    assert {(e.object["apiVersion"], e.object["kind"]) for e in events} == {("v1", "ConfigMap")}


def test_a_watch_hears_what_happens_later(bench):
    """An open watch delivers a change that is made while it waits."""
    kind = bench.type("ConfigMap")
    [page] = bench.cluster.pages(kind, namespace=bench.namespace)
    watch = bench.cluster.watch(
        kind, resource_version=page.resource_version, namespace=bench.namespace, timeout_s=20
    )
    heard = threading.Thread(target=lambda: bench.make(config_map("later")))
    heard.start()

    first = next(e for e in watch if e.type == "ADDED" and e.object["metadata"]["name"] == "later")

    heard.join()
    watch.close()
    assert first.object["metadata"]["uid"]


def test_a_watch_is_ended_from_outside(bench):
    """`close` from another thread wakes whoever waits for an event, without an error, and can be called twice."""
    kind = bench.type("ConfigMap")
    [page] = bench.cluster.pages(kind, namespace=bench.namespace)
    watch = bench.cluster.watch(
        kind, resource_version=page.resource_version, namespace=bench.namespace, timeout_s=60
    )
    events = []
    reading = threading.Thread(target=lambda: events.extend(watch))
    reading.start()
    watch.close()
    watch.close()
    reading.join(10)

    assert not reading.is_alive()
    assert [e.type for e in events if e.type != "BOOKMARK"] == []


def test_the_head_of_a_list_counts_what_was_written(bench):
    """The version is that of a list made now, and the number that of all namespaces' objects; empty kinds have none."""
    kind = bench.type("LimitRange")
    before = bench.cluster.head(kind)
    body = {"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": []}}
    for at in range(3):
        made = bench.make({**body, "metadata": {"name": f"l{at}"}})
    after = bench.cluster.head(kind)

    assert after.count - before.count == 3
    assert int(after.resource_version) >= int(made["metadata"]["resourceVersion"])
    assert bench.cluster.head(bench.type("Lease", "coordination.k8s.io")).count is not None


def test_sizes_are_those_of_what_was_read(bench):
    """A page and an event say how many bytes they were."""
    kind = bench.type("ConfigMap")
    [before] = bench.cluster.pages(kind, namespace=bench.namespace)
    bench.make(config_map("large", fill="x" * 5000))
    [after] = bench.cluster.pages(kind, namespace=bench.namespace)
    watch = bench.cluster.watch(
        kind, resource_version=before.resource_version, namespace=bench.namespace, timeout_s=20
    )
    event = next(one for one in watch if one.type == "ADDED")
    watch.close()

    assert 5000 < after.size_bytes - before.size_bytes < 7000
    assert 5000 < event.size_bytes < 7000


def test_a_quiet_watch_ends_with_a_bookmark(bench):
    """When nothing happens the watch ends in time, without an error, and its bookmark can be resumed from."""
    if bench.is_real:
        pytest.skip(BOOKMARKS)
    kind = bench.type("Secret")
    [page] = bench.cluster.pages(kind, namespace=bench.namespace)

    events = list(
        bench.cluster.watch(
            kind, resource_version=page.resource_version, namespace=bench.namespace, timeout_s=1
        )
    )

    assert {e.type for e in events} == {"BOOKMARK"}
    version = events[-1].object["metadata"]["resourceVersion"]
    assert int(version) >= int(page.resource_version)
    again = bench.cluster.watch(
        kind, resource_version=version, namespace=bench.namespace, timeout_s=1
    )
    assert {e.type for e in again} == {"BOOKMARK"}


def test_a_watch_from_too_long_ago_is_told(bench):
    """A version that is gone is ExpiredError, though the server answers 200 and then an ERROR event."""
    if bench.is_real:
        pytest.skip(EXPIRY)
    kind = bench.type("ConfigMap")
    [page] = bench.cluster.pages(kind, namespace=bench.namespace)
    bench.make(config_map("newer"))
    bench.sandbox.compact()

    with pytest.raises(ExpiredError):
        list(
            bench.cluster.watch(
                kind, resource_version=page.resource_version, namespace=bench.namespace, timeout_s=1
            )
        )
