"""A daemon that follows its cluster between passes."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from reconciler.cli.compose import Parts, Seams
from reconciler.daemon.settings import load_configuration
from tests.support.passes import told, view_of
from tests.support.reads import MeteredCluster

HOUR = timedelta(hours=1)


@pytest.fixture
def serve(world):
    """Make parts that serve, with a meter on their reads; every kind is worth to be followed."""
    made = []

    def parts(**more):
        meters = []

        def meter(cluster):
            meters.append(MeteredCluster(cluster))
            return meters[0]

        text = world.config.read_text() + "".join(f"{k}: {v}\n" for k, v in more.items())
        path = world.root / "serving.yaml"
        path.write_text(text)
        seams = Seams(storage=lambda _url: world.storage, wrap_cluster=meter)
        serving = Parts(load_configuration(path), clock=world.clock, seams=seams, is_serving=True)
        made.append(serving)
        if serving.reconciler.watches is not None:
            serving.reconciler.watches.worth_bytes = 200
        return serving, serving.connect()

    yield parts
    for one in made:
        one.reconciler.close()


def passing(parts):
    return parts.reconciler.run_pass(stop=threading.Event())


def edit(world, name, **data):
    kind = world.cluster.discover().find("", "ConfigMap")
    world.cluster.patch(kind, name, {"data": data}, namespace="shop", manager="person")


def sample(parts, name):
    """A metric's samples: labels → value."""
    return {
        tuple(sorted(one.labels.items())): one.value
        for family in parts.reconciler.metrics.registry.collect()
        for one in family.samples
        if one.name == name
    }


def test_passes_of_a_daemon_list_once(world, serve):
    """The second pass lists no followed kind, and its point has what was changed in between."""
    parts, meter = serve()
    first = passing(parts)
    listed = meter.lists["ConfigMap"]
    edit(world, "c0", fresh="yes")
    world.clock.advance(HOUR)
    second = passing(parts)

    assert told(first) == told(second) == [("shop", "Succeeded")]
    assert meter.lists["ConfigMap"] == listed
    assert [p.message for p in second.problems] == []
    [followed] = sample(parts, "reconciler_followed_kinds").values()
    assert followed >= 2
    record = view_of(world).point("shop/_", second.captured[0].slot).spec
    assert int(record.versions["configmaps"].upto) > 0


def test_a_restarted_daemon_lists_again(world, serve):
    """What was followed is lost with the process: the next one lists, and captures the same."""
    before, meter = serve()
    passing(before)
    before.reconciler.close()
    edit(world, "c0", fresh="yes")
    world.clock.advance(HOUR)
    after, again = serve()
    report = passing(after)

    assert told(report) == [("shop", "Succeeded")]
    assert again.lists["ConfigMap"] == meter.lists["ConfigMap"] == 1


def test_watches_can_be_turned_off(world, serve):
    """`watches.enabled: false`: every pass lists, and nothing is watched."""
    parts, meter = serve(watches="{enabled: false}")
    passing(parts)
    world.clock.advance(HOUR)
    passing(parts)

    assert meter.lists["ConfigMap"] == 2
    assert not meter.watches
    assert not [t for t in threading.enumerate() if t.name.startswith("watch ")]


def test_a_watch_that_was_wrong_is_a_problem(world, serve):
    """A proof that finds a difference: the pass captures what the list shows, and says and counts it."""
    parts, meter = serve(watches="{proof: 1s}")
    passing(parts)
    parts.reconciler.watches.proof_every = timedelta(0)
    meter.swallowed = {"c0"}
    edit(world, "c0", unheard="yes")
    world.clock.advance(HOUR)
    report = passing(parts)

    assert told(report) == [("shop", "Succeeded")]
    [problem] = [p for p in report.problems if p.where == "watches"]
    assert "ConfigMap shop/c0" in problem.message
    assert report.exit_code == 7
    counted = sample(parts, "reconciler_watch_alarms_total")
    assert [v for k, v in counted.items() if ("kind", "configmaps") in k] == [1]
