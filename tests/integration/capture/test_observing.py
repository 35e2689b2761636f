"""Seeing a real API server's objects: completely, or with what is missing named."""

from __future__ import annotations

import threading
import time

import pytest

from reconciler.blueprint.stop import StoppedError
from reconciler.capture.observe import capturable, observe, observe_cluster
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.port import UnauthorizedError, UnavailableError
from reconciler.cluster.sandbox.server import Sandbox
from reconciler.objects import canonical, project
from tests.support.seen import manifest
from tests.support.town import Town, key


def config(name, namespace="shop", **data):
    return manifest("ConfigMap", name, namespace=namespace, data=data)


@pytest.fixture
def shop(town):
    """A namespace with a few objects."""
    town.create(
        manifest("Namespace", "shop", namespace=""), manifest("Namespace", "wiki", namespace="")
    )
    town.create(
        *[config(f"c{i}", n=str(i)) for i in range(7)],
        config("w", namespace="wiki"),
        manifest("Secret", "s"),
    )
    return town


def look(town, **options):
    return observe_cluster(town.cluster, town.discovery, **options)


def test_everything_is_seen_as_it_is(shop):
    """Each object's projection is that of the object as it can be read; everything is new at first."""
    seen = look(shop)
    live = shop.get("v1", "ConfigMap", "c1")

    assert seen.objects[key("ConfigMap", "c1")].projection == canonical(project(live))
    assert seen.objects[key("Secret", "s")].uid == shop.get("v1", "Secret", "s")["metadata"]["uid"]
    assert key("Namespace", "shop", namespace="") in seen.objects
    assert seen.gaps == ()
    assert set(seen.complete.values()) == {""}
    assert set(seen.changed) == set(seen.objects)
    assert seen.versions["configmaps"].since == seen.versions["configmaps"].upto != ""


def test_only_what_can_be_made_again_is_read(town):
    """Kinds that cannot be created, events, and cluster-scoped kinds that no application needs are not read."""
    names = {f"{k.kind}.{k.group}" for k in capturable(town.discovery)}

    assert {
        "ConfigMap.",
        "Deployment.apps",
        "ClusterRole.rbac.authorization.k8s.io",
        "Lease.coordination.k8s.io",
    } <= names
    assert names.isdisjoint(
        {
            "Event.",
            "Event.events.k8s.io",
            "Node.",
            "PersistentVolume.",
            "Binding.",
            "ComponentStatus.",
            "TokenReview.authentication.k8s.io",
        }
    )


def test_a_second_look_names_the_difference(shop):
    """Changed, new and removed objects, and nothing else."""
    first = look(shop)
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "x"}})
    shop.create(config("new"))
    shop.delete("v1", "ConfigMap", "c2")
    second = look(shop, since=first)

    assert set(second.changed) == {key("ConfigMap", "c1"), key("ConfigMap", "new")}
    assert second.removed == (key("ConfigMap", "c2"),)


def test_one_namespace_by_itself(shop):
    """Only objects of that namespace; those of others do not count as removed."""
    kinds = capturable(shop.discovery)
    first = look(shop)
    shop.delete("v1", "ConfigMap", "c2")
    seen = observe(shop.cluster, shop.discovery, kinds, since=first, namespace="shop")

    assert {k.namespace for k in seen.objects} == {"shop"}
    assert seen.removed == (key("ConfigMap", "c2"),)


def test_a_token_that_expires_between_pages_starts_the_list_again(shop):
    """410 on the second page: everything is seen once, nothing twice, nothing missing."""
    kind = shop.kind("v1", "ConfigMap")
    fault = shop.sandbox.faults.add("answer", "configmaps.*continue=", value=410)
    seen = observe(SmallPages(shop.cluster), shop.discovery, [kind])

    assert fault.hits == 1
    assert {k.name for k in seen.objects if k.namespace == "shop"} >= {f"c{i}" for i in range(7)}
    assert seen.gaps == ()


class SmallPages:
    """The cluster with small pages."""

    def __init__(self, cluster):
        self._cluster = cluster

    def pages(self, kind, **options):
        return self._cluster.pages(kind, **{**options, "page_size": 2})


@pytest.mark.parametrize("action", ["cut", "drop"])
def test_a_page_that_breaks_off_is_read_again(shop, action):
    """A cut answer starts that kind's list again; a bounded number of times."""
    fault = shop.sandbox.faults.add(action, "configmaps.*continue=", value=100, times=2)
    seen = observe(SmallPages(shop.cluster), shop.discovery, [shop.kind("v1", "ConfigMap")])

    assert fault.hits == 2
    assert seen.gaps == ()
    assert key("ConfigMap", "c6") in seen.objects


def test_a_kind_that_stays_broken_is_a_gap(shop):
    """It is named with its reason, keeps what was known of it, and takes nothing away; the others are whole."""
    first = look(shop)
    shop.sandbox.faults.add("answer", "/api/v1/configmaps", value=500, times=1000)
    shop.delete("v1", "ConfigMap", "c2")
    shop.delete("v1", "Secret", "s")
    second = look(shop, since=first)

    assert [(g.name, g.reason) for g in second.gaps] == [("configmaps", "Unavailable")]
    assert second.removed == (key("Secret", "s"),)
    assert key("ConfigMap", "c2") in second.objects
    assert second.complete["configmaps"] == "Unavailable"
    assert second.complete["secrets"] == ""


def test_a_forbidden_kind_is_a_gap(shop):
    """403 names the kind; none of its objects counts as removed."""
    first = look(shop)
    shop.sandbox.deny("list", "secrets")
    second = look(shop, since=first)

    assert [(g.name, g.reason) for g in second.gaps] == [("secrets", "Forbidden")]
    assert second.removed == ()
    assert ("", "Secret") not in second.complete_kinds


def test_a_failed_group_is_a_gap(shop):
    """A broken aggregated API is named by group and version; its objects stay known."""
    shop.create(
        manifest(
            "HorizontalPodAutoscaler",
            "h",
            api="autoscaling/v2",
            spec={
                "maxReplicas": 2,
                "scaleTargetRef": {"kind": "Deployment", "name": "x", "apiVersion": "apps/v1"},
            },
        )
    )
    first = look(shop)
    shop.sandbox.break_group("autoscaling", "v2")
    shop.sandbox.break_group("autoscaling", "v1")
    second = look(shop, since=first)

    assert {g.name for g in second.gaps} == {"*.autoscaling/v1", "*.autoscaling/v2"}
    assert second.removed == ()
    assert key("HorizontalPodAutoscaler", "h", group="autoscaling") in second.objects


def test_credentials_that_do_not_hold_stop_everything(shop):
    """401 is no gap: nothing was seen."""
    discovery = shop.discovery
    shop.sandbox.faults.add("answer", "", value=401, times=10_000)

    with pytest.raises(UnauthorizedError):
        observe(shop.cluster, discovery, capturable(discovery)[:3])


def test_a_server_that_answers_nothing_is_no_empty_cluster(shop):
    """When every kind fails, the observation fails."""
    discovery = shop.discovery
    shop.sandbox.faults.add("answer", "", value=503, times=10_000)

    with pytest.raises(UnavailableError):
        observe(shop.cluster, discovery, capturable(discovery)[:5])


def test_looking_can_be_stopped(shop):
    """A stop that is set ends the work between pages."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        look(shop, stop=stop)


def test_an_object_that_two_groups_serve_is_seen_once(tmp_path):
    """An old server shows every Ingress in two groups: one uid, one object, in the group that stays."""
    with Sandbox(tmp_path / "old", name="old", profile="1.21") as sandbox:
        with connect(
            name="old", kubeconfig=sandbox.write_kubeconfig(tmp_path / "kubeconfig")
        ) as cluster:
            town = Town(sandbox, cluster)
            backend = {"service": {"name": "web", "port": {"number": 80}}}
            town.create(
                manifest("Namespace", "shop", namespace=""),
                manifest(
                    "Ingress", "i", api="networking.k8s.io/v1", spec={"defaultBackend": backend}
                ),
            )
            served = town.discovery.find("extensions", "Ingress")
            seen = look(town)

    assert served is not None
    assert [k.group for k in seen.objects if k.kind == "Ingress"] == ["networking.k8s.io"]


def crd(*versions):
    return manifest(
        "CustomResourceDefinition",
        "widgets.example.com",
        namespace="",
        api="apiextensions.k8s.io/v1",
        spec={
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
            "versions": [
                {
                    "name": n,
                    "served": served,
                    "storage": stored,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
                for n, served, stored in versions
            ],
        },
    )


@pytest.mark.parametrize(
    ("versions", "read"),
    [
        ((("v1", True, False), ("v1beta1", True, True)), "v1beta1"),
        ((("v1", True, True), ("v1beta1", True, False)), "v1"),
    ],
)
def test_custom_resources_are_read_as_they_are_stored(shop, versions, read):
    """The storage version is read, whichever the server prefers."""
    shop.create(crd(*versions))
    shop.wait(lambda: shop.discovery.find("example.com", "Widget"), "the CRD to be served")
    shop.create(manifest("Widget", "w", api=f"example.com/{versions[0][0]}"))

    assert look(shop).objects[key("Widget", "w", group="example.com")].version == read


def test_a_deleted_definition_takes_its_objects_with_it(shop):
    """Objects of a kind that is no longer served are gone, not missing."""
    shop.create(crd(("v1", True, True)))
    shop.wait(lambda: shop.discovery.find("example.com", "Widget"), "the CRD to be served")
    shop.create(manifest("Widget", "w", api="example.com/v1"))
    first = look(shop)
    shop.delete(
        "apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com", namespace=""
    )
    shop.wait(lambda: shop.discovery.find("example.com", "Widget") is None, "the CRD to be gone")
    second = look(shop, since=first)

    assert key("Widget", "w", group="example.com") in second.removed
    assert key("Widget", "w", group="example.com") not in second.objects


@pytest.mark.slow
def test_many_objects_are_seen_quickly(town):
    """Less than 1.5 ms of CPU for an object, though the server shares the process."""
    town.create(manifest("Namespace", "shop", namespace=""))
    town.create(*[config(f"c{at}", a="x" * 500) for at in range(2000)])
    discovery, before = town.discovery, time.process_time()
    seen = observe_cluster(town.cluster, discovery)

    assert len(seen.objects) >= 2000
    assert (time.process_time() - before) / len(seen.objects) < 0.0015
