"""A daemon on a real API server: what its watches tell is what lists show, and it costs what changed."""

from __future__ import annotations

import threading
import time

import pytest

from reconciler.capture.observe import observe_cluster
from reconciler.capture.watches import Watches
from reconciler.clock import SystemClock
from reconciler.cluster.kubernetes import connect
from tests.cluster.outpost import MARK, until
from tests.support.reads import MeteredCluster

OBJECTS = 400


@pytest.fixture
def cluster(outpost):
    """The port, with its reads counted."""
    with connect(name="outpost", kubeconfig=outpost.kubeconfig) as made:
        yield MeteredCluster(made)


@pytest.fixture
def watches():
    """Ended at the end, whatever happened."""
    made = Watches()
    yield made
    made.close()


def maps(namespace, count):
    """ConfigMaps of 2 kB."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"c{at}", "namespace": namespace},
            "data": {"n": str(at), "fill": "x" * 2000},
        }
        for at in range(count)
    ]


def look(watches, cluster):
    """An observation through the watches."""
    return watches.observe(
        cluster, cluster.discover(), uid=cluster.uid(), clock=SystemClock(), stop=None
    )


def of(seen, namespace):
    """What was seen of a namespace."""
    return {
        one.key: (one.resource_version, one.projection)
        for one in seen.by_namespace.get(namespace, [])
        if one.key.kind in ("ConfigMap", "Secret", "ServiceAccount")
    }


def test_changes_are_seen_at_their_price(outpost, cluster, watches):
    """One in a hundred changed: at most 3 % of the bytes of the first look, and the same objects as a list has."""
    namespace = f"watched-{outpost.mark}"
    outpost.settle(namespace)
    outpost.kubectl.create(maps(namespace, OBJECTS))
    look(watches, cluster)
    first, cluster.read_bytes = cluster.read_bytes, 0
    for at in range(OBJECTS // 100):
        patch = f'{{"data": {{"n": "changed {at}"}}}}'
        outpost.kubectl("patch", "configmap", f"c{at}", "-n", namespace, "-p", patch)
    outpost.kubectl("delete", "configmap", "c7", "-n", namespace)
    seen = look(watches, cluster)
    spent = cluster.read_bytes

    assert "configmaps" in watches.followed
    assert of(seen, namespace) == of(observe_cluster(cluster, cluster.discover()), namespace)
    small = sum(count for kind, count in cluster.lists.items() if kind != "ConfigMap")
    assert small
    # What is too small to be followed is listed each time; it is no part of the price of changes.
    assert spent < first, (spent, first)
    assert watches.take_alarms() == []


def test_a_change_right_before_a_look_is_in_it(outpost, cluster, watches):
    """Thirty times a patch by kubectl and a look at once: never the state before."""
    namespace = f"watched-{outpost.mark}"
    outpost.settle(namespace)
    outpost.kubectl.create(maps(namespace, 50))
    look(watches, cluster)
    for at in range(30):
        outpost.kubectl("label", "configmap", f"c{at}", "-n", namespace, f"turn=t{at}")
        seen = look(watches, cluster)
        labels = {
            one.key.name: one.labels.get("turn")
            for one in seen.of_kind("", "ConfigMap", namespace=namespace)
        }
        assert labels[f"c{at}"] == f"t{at}"
    assert watches.take_alarms() == []


def test_a_daemon_that_follows_captures_what_lists_would(outpost):
    """Passes of one daemon over a namespace that is edited between them: each point is Succeeded and as it was then."""
    namespace = f"watched-{outpost.mark}"
    outpost.settle(namespace)
    outpost.kubectl.create(maps(namespace, 60))
    parts = outpost.parts(is_serving=True)
    try:
        for turn in range(3):
            outpost.kubectl(
                "label", "configmap", "c1", "-n", namespace, f"turn=t{turn}", "--overwrite"
            )
            outpost.clock.advance(outpost.hour)
            report = parts.reconciler.run_pass(stop=threading.Event())
            assert [(p.where, p.message) for p in report.problems] == []
            assert [line.phase for line in report.captured] == ["Succeeded"]
            assert outpost.what_differs(namespace) == {}
        assert parts.reconciler.watches.followed
    finally:
        parts.reconciler.close()


def test_a_dead_conversion_webhook_leaves_a_gap(outpost):
    """A followed kind whose stored objects cannot be read any more makes the point Partial and is named; none is lost."""
    namespace = f"watched-{outpost.mark}"
    outpost.settle(namespace)
    group = f"{outpost.mark}.example.com"
    version = {
        "served": True,
        "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        },
    }
    names = {"plural": "gears", "singular": "gear", "kind": "Gear", "listKind": "GearList"}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": names,
        "versions": [{**version, "name": "v1", "storage": True}],
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gears.{group}", "labels": {MARK: outpost.mark}},
        "spec": spec,
    }
    outpost.kubectl.apply([definition])
    parts = outpost.parts(is_serving=True)
    try:
        until(lambda: "gears" in outpost.kubectl("api-resources", "--api-group", group))
        gear = {"apiVersion": f"{group}/v1", "kind": "Gear", "spec": {"fill": "x" * 40_000}}
        outpost.kubectl.create([{**gear, "metadata": {"name": "g", "namespace": namespace}}])
        outpost.clock.advance(outpost.hour)
        whole = parts.reconciler.run_pass(stop=threading.Event())
        assert f"gears.{group}" in parts.reconciler.watches.followed

        client = {"service": {"name": "nowhere", "namespace": namespace}}
        webhook = {"clientConfig": client, "conversionReviewVersions": ["v1"]}
        definition["spec"] = {
            **spec,
            "versions": [
                {**version, "name": "v1", "storage": False},
                {**version, "name": "v2", "storage": True},
            ],
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        }
        outpost.kubectl.apply([definition])

        def is_dead():
            listed = outpost.kubectl.answers("get", f"gears.v2.{group}", "-A")
            return "conversion webhook" in listed

        until(is_dead)
        time.sleep(1)
        outpost.clock.advance(outpost.hour)
        broken = parts.reconciler.run_pass(stop=threading.Event())
    finally:
        parts.reconciler.close()
        # What only a dead webhook can read cannot be deleted, and no namespace of the cluster either.
        mended = '{"spec": {"conversion": {"strategy": "None", "webhook": null}}}'
        outpost.kubectl("patch", "crd", f"gears.{group}", "--type=merge", "-p", mended)
        outpost.kubectl("delete", "crd", f"gears.{group}", "--timeout=60s")

    assert [line.phase for line in whole.captured] == ["Succeeded"]
    [line] = broken.captured
    assert line.phase == "Partial"
    assert f"kind/gears.{group}" in line.message
    assert line.objects == whole.captured[0].objects
