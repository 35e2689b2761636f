"""An application becomes a restore point: what is in it, and what is said of it."""

from __future__ import annotations

import threading

import pytest

from reconciler.blueprint.stop import StoppedError
from reconciler.capture.capture import CaptureFailedError, belongings
from reconciler.capture.observe import observe_cluster
from reconciler.kinds.effective import Application
from reconciler.kinds.record import RestorePointSpec
from reconciler.objects import project
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import StorageFullError
from tests.integration.capture.test_observing import crd
from tests.support.capturing import Shelf, outcomes
from tests.support.seen import manifest, pod_template, policy
from tests.support.town import key


def config(name, **data):
    return manifest("ConfigMap", name, data=data)


def deployment(name, **template):
    return manifest(
        "Deployment",
        name,
        api="apps/v1",
        labels={"app": name},
        spec={
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": pod_template(labels={"app": name}, **template),
        },
    )


@pytest.fixture
def shop(town):
    """A namespace with a workload, its configuration and a Secret."""
    town.create(
        manifest("Namespace", "shop", namespace=""),
        config("web-config", a="1"),
        manifest("Secret", "web-tls", data={"k": "c2VjcmV0"}),
        deployment("web", config_maps=["web-config"], secrets=["web-tls"]),
    )
    town.wait(lambda: town.get("v1", "ServiceAccount", "default"), "the default account")
    return town


def test_a_namespace_becomes_a_restore_point(shop):
    """Objects are stored as they are, what controllers make again is not; the record tells all of it."""
    shelf = Shelf(shop)
    captured = shelf.capture(
        policy=policy("gold", locations=[{"name": "primary", "retention": {"last": 3}}]),
        missed_slots=2,
        attempt=2,
    )
    objects, record = shelf.objects(captured), captured.record

    assert {str(k) for k in objects} == {
        "ConfigMap shop/web-config",
        "Deployment.apps shop/web",
        "Namespace shop",
        "Secret shop/web-tls",
        "ServiceAccount shop/default",
    }
    assert objects[key("ConfigMap", "web-config")] == project(
        shop.get("v1", "ConfigMap", "web-config")
    )
    assert (record.phase, record.objects, record.application, record.slot) == (
        "Succeeded",
        5,
        "shop/_",
        "20261123T110000Z",
    )
    assert (
        record.cluster,
        record.cluster_uid,
        record.policy.name,
        record.missed_slots,
        record.attempt,
    ) == ("town", shop.cluster.uid(), "gold", 2, 2)
    assert record.captured_at == record.finished_at == shelf.clock.now()
    assert record.outcome_counts["Succeeded/Captured"] == 5
    assert record.outcome_counts["Skipped/OwnedByController"] >= 1
    assert [(ref.name, ref.digest) for ref in record.locations] == [
        ("primary", captured.published["primary"].digest)
    ]
    assert record.versions["configmaps"].since
    stored = RestorePointSpec.model_validate(shelf.point(captured).record)
    assert stored == record.model_copy(update={"locations": []})


def test_an_unchanged_application_adds_little(shop):
    """The second capture stores no object again, and Secrets keep their record; a changed one gets another."""
    shop.create(*[config(f"c{i}", text="x" * 200) for i in range(300)])
    shelf = Shelf(shop)
    first, second = shelf.capture(), shelf.capture()
    shop.patch("v1", "Secret", "web-tls", {"data": {"k": "b3RoZXI="}})
    third = shelf.capture()

    assert shelf.records(second) == shelf.records(first)
    assert second.added_bytes < 4096 < first.added_bytes
    changed = {
        k for k, record in shelf.records(third).items() if record != shelf.records(second)[k]
    }
    assert changed == {key("Secret", "web-tls")}


def test_excluded_objects_are_left_out_and_named(shop):
    """By the owner's label, by the policy's rule, and while being deleted."""
    shop.create(
        manifest("ConfigMap", "mine", labels={"backup.reconciler.dev/exclude": "true"}),
        config("cache-1"),
    )
    held = config("going")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    shop.create(held)
    shop.delete("v1", "ConfigMap", "going")
    shelf = Shelf(shop)
    captured = shelf.capture(policy=policy("p", capture={"exclude": [{"names": ["cache-*"]}]}))

    assert captured.record.phase == "Succeeded"
    assert set(outcomes(captured)) >= {
        ("/ConfigMap/shop/mine", "ExcludedByLabel"),
        ("/ConfigMap/shop/cache-1", "ExcludedByPolicy"),
        ("/ConfigMap/shop/going", "BeingDeleted"),
    }
    assert {k.name for k in shelf.objects(captured) if k.kind == "ConfigMap"} == {"web-config"}


def test_a_part_of_a_namespace_is_captured_by_itself(shop):
    """Only what belongs to it, and what that names."""
    shop.create(deployment("other"), config("stray"))
    shelf = Shelf(shop)
    captured = shelf.capture(
        "shop/web", policy=policy("p", select={"applications": {"groupBy": "app"}})
    )

    assert {str(k) for k in shelf.objects(captured)} == {
        "ConfigMap shop/web-config",
        "Deployment.apps shop/web",
        "Namespace shop",
        "Secret shop/web-tls",
        "ServiceAccount shop/default",
    }
    assert captured.record.application == "shop/web"


def test_a_forbidden_kind_makes_it_partial_and_takes_nothing_away(shop):
    """403 on Secrets: the kind is named, and the last point's Secrets are in this one too."""
    shelf = Shelf(shop)
    first = shelf.capture()
    shop.sandbox.deny("list", "secrets")
    second = shelf.capture()
    shop.sandbox.allow_all()
    third = shelf.capture()

    assert (second.record.phase, outcomes(second, "Failed")) == (
        "Partial",
        [("kind/secrets", "Forbidden")],
    )
    assert "1 objects were taken over" in next(
        o.message for o in second.record.outcomes if o.item == "kind/secrets"
    )
    assert shelf.objects(second) == shelf.objects(first)
    assert third.record.phase == "Succeeded"
    assert shelf.objects(third) == shelf.objects(first)


def test_what_is_taken_over_keeps_its_definition(shop):
    """A custom resource that cannot be read is taken over together with the definition that it needs."""
    shop.create(crd(("v1", True, True)))
    shop.wait(lambda: shop.discovery.find("example.com", "Widget"), "the CRD to be served")
    shop.create(manifest("Widget", "w", api="example.com/v1"))
    shelf = Shelf(shop)
    first = shelf.capture()
    shop.sandbox.deny("list", "widgets", group="example.com")
    second = shelf.capture()

    assert key("Widget", "w", group="example.com") in shelf.objects(first)
    assert second.record.phase == "Partial"
    assert shelf.objects(second) == shelf.objects(first)


def test_a_broken_group_makes_it_partial(shop):
    """A failed aggregated API is named; objects of its kinds stay in the table."""
    scale = {
        "maxReplicas": 2,
        "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
    }
    shop.create(manifest("HorizontalPodAutoscaler", "web", api="autoscaling/v2", spec=scale))
    shelf = Shelf(shop)
    shelf.capture()
    shop.sandbox.break_group("autoscaling", "v1")
    shop.sandbox.break_group("autoscaling", "v2")
    second = shelf.capture()

    assert second.record.phase == "Partial"
    assert {item for item, _ in outcomes(second, "Failed")} == {
        "kind/*.autoscaling/v1",
        "kind/*.autoscaling/v2",
    }
    assert key("HorizontalPodAutoscaler", "web", group="autoscaling") in shelf.objects(second)


def test_what_was_really_deleted_is_gone(shop):
    """Absence of an object of a kind that was read whole is deletion, also while another kind is forbidden."""
    shelf = Shelf(shop)
    shelf.capture()
    shop.sandbox.deny("list", "secrets")
    shop.delete("v1", "ConfigMap", "web-config")
    second = shelf.capture()

    assert key("ConfigMap", "web-config") not in shelf.objects(second)
    assert key("Secret", "web-tls") in shelf.objects(second)
    assert ("/ConfigMap/shop/web-config", "DanglingReference") in outcomes(second, "Skipped")


def test_a_namespace_that_is_gone_or_going_makes_no_point(shop):
    """Half a namespace never becomes the newest point."""
    shelf = Shelf(shop)
    with pytest.raises(CaptureFailedError) as missing:
        shelf.capture("nowhere")
    held = config("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    shop.create(held)
    shop.delete("v1", "Namespace", "shop", namespace="")
    with pytest.raises(CaptureFailedError) as ending:
        shelf.capture()

    assert (missing.value.reason, ending.value.reason) == (
        "NamespaceMissing",
        "NamespaceTerminating",
    )
    assert list(shelf.stores["primary"].points()) == []


def test_nothing_readable_makes_no_point(shop):
    """When every kind of the namespace is forbidden, that is a failure and not an empty point."""
    for kind in shop.discovery.preferred():
        if kind.namespaced:
            shop.sandbox.deny("list", kind.plural, group=kind.group)
    shelf = Shelf(shop)

    with pytest.raises(CaptureFailedError) as caught:
        shelf.capture()
    assert caught.value.reason == "NothingReadable"


def test_an_empty_namespace_is_a_point_all_the_same(town):
    """A namespace without anything of its own can be gone back to."""
    town.create(manifest("Namespace", "empty", namespace=""))
    shelf = Shelf(town)

    assert {k.kind for k in shelf.objects(shelf.capture("empty"))} <= {
        "Namespace",
        "ServiceAccount",
    }


def test_two_locations_hold_the_same(shop):
    """Each has a point of its own with the same record and objects."""
    shelf = Shelf(shop, "primary", "offsite")
    captured = shelf.capture()

    assert [ref.name for ref in captured.record.locations] == ["primary", "offsite"]
    assert shelf.point(captured).record == shelf.point(captured, "offsite").record
    assert shelf.objects(captured) == shelf.objects(captured, "offsite")


class FullStorage(MemoryStorage):
    """A place without room for packs."""

    def create(self, name, data):
        if "/packs/" in name:
            raise StorageFullError(f"write {name}: no space left")
        super().create(name, data)


def test_a_full_location_does_not_stop_the_other(shop):
    """The point is made where there is room; the missing copy is a failure of the capture."""
    shelf = Shelf(shop, "full", "primary", kinds={"full": FullStorage})
    captured = shelf.capture()

    assert captured.record.phase == "Partial"
    assert outcomes(captured, "Failed") == [("location/full", "StorageFull")]
    assert [ref.name for ref in captured.record.locations] == ["primary"]
    assert len(shelf.objects(captured)) == 5


def test_without_any_room_there_is_no_point(shop):
    """When the last location fails, its error is the capture's."""
    with pytest.raises(StorageFullError):
        Shelf(shop, "full", kinds={"full": FullStorage}).capture()


def test_a_location_that_did_not_open_is_a_missing_copy(shop):
    """The policy names two, one could be opened: Partial, and the other is named."""
    gold = policy(
        "gold", locations=[{"name": n, "retention": {"last": 1}} for n in ("primary", "offsite")]
    )
    captured = Shelf(shop).capture(policy=gold)

    assert captured.record.phase == "Partial"
    assert outcomes(captured, "Failed") == [("location/offsite", "LocationMissing")]


def test_a_slot_has_one_point(shop):
    """Who comes second gets the first one's record, and writes nothing."""
    shelf = Shelf(shop, "primary", "offsite")
    first = shelf.capture(missed_slots=3)
    shop.create(config("later"))
    second = shelf.capture(same_slot=True)

    assert second.created is False
    assert second.record.missed_slots == 3
    assert second.published == {}
    assert [(r.name, r.digest) for r in second.record.locations] == [
        (r.name, r.digest) for r in first.record.locations
    ]
    assert len(list(shelf.stores["primary"].points())) == 1


def test_a_capture_can_be_stopped(shop):
    """A stop that is set ends it without a point."""
    stop = threading.Event()
    stop.set()
    shelf = Shelf(shop)
    seen = observe_cluster(shop.cluster, shop.discovery)

    with pytest.raises(StoppedError):
        shelf.capture(observation=seen, stop=stop)
    assert list(shelf.stores["primary"].points()) == []


def test_what_a_capture_would_take_is_known_beforehand(shop):
    """`belongings` names exactly the objects of the next point."""
    shelf = Shelf(shop)
    seen = observe_cluster(shop.cluster, shop.discovery)
    wanted = belongings(Application("shop"), observation=seen, policy=None)

    assert [s.key for s in wanted] == sorted(shelf.objects(shelf.capture(observation=seen)))
