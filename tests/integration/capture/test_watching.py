"""Following kinds between captures: what watches tell is what lists would have told, at the price of the changes."""

from __future__ import annotations

import random
import threading
import time
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from reconciler.capture import kindwatch
from reconciler.capture.observe import observe_cluster
from reconciler.capture.watches import Watches
from reconciler.clock import SystemClock
from reconciler.cluster.kubernetes import connect
from tests.integration.capture.test_observing import config, crd
from tests.support.reads import MeteredCluster
from tests.support.relay import relaying
from tests.support.seen import manifest
from tests.support.town import Town, key
from tests.support.wire import kubeconfig

CLOCK = SystemClock()


@pytest.fixture
def shop(town):
    """A namespace with some objects, of which reads are counted."""
    town.create(manifest("Namespace", "shop", namespace=""))
    town.create(*[config(f"c{at}", n=str(at), fill="x" * 400) for at in range(200)])
    town.create(*[manifest("Secret", f"s{at}") for at in range(5)])
    town.cluster = MeteredCluster(town.cluster)
    return town


@pytest.fixture
def watches():
    """What is followed; every kind that has objects is worth it."""
    following = Watches(worth_bytes=300, patience_s=1.5)
    yield following
    following.close()


def look(town, watches):
    """An observation through the watches."""
    return watches.observe(
        town.cluster, town.discovery, uid=town.cluster.uid(), clock=CLOCK, stop=None
    )


def same(seen, town):
    """Whether it is what lists show."""
    listed = observe_cluster(town.cluster, town.discovery)
    assert seen.gaps == listed.gaps
    assert {k: v.projection for k, v in seen.objects.items()} == {
        k: v.projection for k, v in listed.objects.items()
    }
    assert {k: v.resource_version for k, v in seen.objects.items()} == {
        k: v.resource_version for k, v in listed.objects.items()
    }
    return True


def test_only_what_changed_is_read(shop, watches):
    """With 1 % changed a second look reads less than 10 % of the first, lists no followed kind, and sees the same."""
    look(shop, watches)
    first, shop.cluster.read_bytes = shop.cluster.read_bytes, 0
    listed = shop.cluster.lists["ConfigMap"]
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "changed"}})
    shop.create(config("new"))
    shop.delete("v1", "ConfigMap", "c2")
    seen = look(shop, watches)

    assert "configmaps" in watches.followed
    assert shop.cluster.lists["ConfigMap"] == listed
    assert shop.cluster.read_bytes < first / 10
    assert seen.objects[key("ConfigMap", "c1")].manifest()["data"]["n"] == "changed"
    assert key("ConfigMap", "new") in seen.objects
    assert key("ConfigMap", "c2") not in seen.objects
    assert same(seen, shop)
    assert watches.take_alarms() == []


def test_the_versions_say_what_was_vouched_for(shop, watches):
    """The range of a followed kind ends at the version of a list made now."""
    look(shop, watches)
    made = shop.create(config("new"))
    seen = look(shop, watches)

    versions = seen.versions["configmaps"]
    assert int(versions.since) <= int(versions.upto)
    assert int(versions.upto) >= int(made["metadata"]["resourceVersion"])


def test_what_was_written_before_a_look_is_in_it(shop, watches):
    """Fifty times: a change made right before a look is seen by it, whatever connection it came over."""
    look(shop, watches)
    for at in range(50):
        shop.patch("v1", "ConfigMap", f"c{at}", {"data": {"n": f"new{at}"}})
        seen = look(shop, watches)
        assert seen.objects[key("ConfigMap", f"c{at}")].manifest()["data"]["n"] == f"new{at}"
    assert watches.take_alarms() == []


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_a_look_is_a_list(shop, watches, seed):
    """Random writes, cut and refused watches, compaction and definitions that come and go: always the same as lists."""
    chance = random.Random(seed)
    names = [f"c{at}" for at in range(30)]

    def write():
        name = chance.choice(names)
        if shop.get("v1", "ConfigMap", name) is None:
            shop.create(config(name, n="again"))
        elif chance.random() < 0.5:
            shop.patch("v1", "ConfigMap", name, {"data": {"n": str(chance.random())}})
        else:
            shop.delete("v1", "ConfigMap", name)

    def disturb():
        faults = shop.sandbox.faults
        choice = chance.randrange(5)
        if choice == 0:
            faults.add("answer", "watch=true", value=429, retry_after_s=0, times=3)
        elif choice == 1:
            faults.add("drop", "watch=true", times=3)
        elif choice == 2:
            faults.add("expire-watch", "watch=true", value=chance.randrange(3), times=2)
        elif choice == 3:
            shop.sandbox.compact()
        else:
            faults.add("answer", "limit=1&|limit=1$", value=500, times=6)

    for _ in range(12):
        for _ in range(chance.randrange(6)):
            write()
        if chance.random() < 0.6:
            disturb()
        assert same(look(shop, watches), shop)
        shop.sandbox.faults.clear()
    assert watches.take_alarms() == []


@pytest.mark.parametrize("way", ["mute", "cut"])
def test_a_dead_connection_hides_nothing(shop, watches, tmp_path, way):
    """A half-open or a cut connection under the watches: the change made meanwhile is in the next look."""
    at = urlsplit(shop.sandbox.url)
    with relaying(at.hostname, at.port) as relay:
        config_file = kubeconfig(
            tmp_path / "relayed", relay.url, user={"token": shop.sandbox.token}
        )
        with connect(name="town", kubeconfig=config_file, sleep=lambda _: None) as cluster:
            town = Town(shop.sandbox, MeteredCluster(cluster))
            look(town, watches)
            if way == "cut":
                relay.cut()
            else:
                assert relay.mute(b"watch=true") >= 2
            shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "meanwhile"}})
            seen = look(Town(shop.sandbox, town.cluster), watches)
            watches.close()

    assert seen.objects[key("ConfigMap", "c1")].manifest()["data"]["n"] == "meanwhile"
    assert watches.take_alarms() == []


def test_a_silent_watch_is_opened_again(shop, watches, tmp_path, monkeypatch):
    """Longer silence than bookmarks are apart: the watch comes back by itself and goes on where it was."""
    monkeypatch.setattr(kindwatch, "SILENCE_S", 0.3)
    monkeypatch.setattr(kindwatch, "FIRST_WAIT_S", 0.05)
    look(shop, watches)
    before = shop.cluster.watches["ConfigMap"]

    Town.wait(lambda: shop.cluster.watches["ConfigMap"] > before + 1, "the watch to come again")
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "later"}})

    assert same(look(shop, watches), shop)


def test_a_version_that_is_gone_needs_a_list(shop, watches):
    """An ERROR event with 410 after a 200: listed once, then followed again, no alarm."""
    look(shop, watches)
    listed = shop.cluster.lists["ConfigMap"]
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "changed"}})
    shop.create(manifest("Secret", "newer"))
    shop.sandbox.faults.add("expire-watch", "configmaps.*watch=true", value=0)
    look(shop, watches)
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "changed again"}})
    seen = look(shop, watches)
    look(shop, watches)

    assert seen.objects[key("ConfigMap", "c1")].manifest()["data"]["n"] == "changed again"
    assert shop.cluster.lists["ConfigMap"] == listed + 1
    assert watches.take_alarms() == []


def test_a_busy_server_is_given_time(shop, watches):
    """429 with Retry-After: the kind is listed meanwhile, and the watch is not asked for before its time."""
    look(shop, watches)
    fault = shop.sandbox.faults.add(
        "answer", "configmaps.*watch=true", value=429, retry_after_s=30, times=100
    )
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "changed"}})

    assert same(look(shop, watches), shop)
    assert fault.hits <= 2


def test_a_server_that_cuts_every_watch_is_not_hammered(shop, watches):
    """Watches that open and break at once are opened later each time; captures go on with lists."""
    look(shop, watches)
    shop.sandbox.faults.add("cut", "watch=true", value=0, times=10_000)
    look(shop, watches)
    before = shop.cluster.watches["ConfigMap"]
    time.sleep(4)
    assert shop.cluster.watches["ConfigMap"] - before <= 4
    assert same(look(shop, watches), shop)
    assert watches.take_alarms() == []


def test_a_watch_that_is_not_allowed_is_a_list(shop, watches):
    """Without the verb `watch` all is captured by lists, and the server is not asked at every look."""
    shop.sandbox.deny("watch", "configmaps")
    look(shop, watches)
    Town.wait(lambda: shop.cluster.watches["ConfigMap"], "the watch to be refused")
    for _ in range(3):
        assert same(look(shop, watches), shop)

    assert "configmaps" not in watches.followed
    assert "secrets" in watches.followed
    assert shop.cluster.watches["ConfigMap"] == 1


def test_a_kind_that_cannot_be_read_is_a_gap(shop, watches):
    """Forbidden, or failing on the server, since the last look: a gap with its reason, as with lists."""
    look(shop, watches)
    shop.sandbox.deny("list", "secrets")
    shop.sandbox.faults.add("answer", "/api/v1/configmaps", value=500, times=1000)
    seen = look(shop, watches)

    assert sorted((gap.name, gap.reason) for gap in seen.gaps) == [
        ("configmaps", "Unavailable"),
        ("secrets", "Forbidden"),
    ]
    shop.sandbox.faults.clear()
    assert key("ConfigMap", "c1") in look(shop, watches).objects


def test_definitions_come_and_go(shop, watches):
    """A new kind is seen; when its definition changes it is read anew; when it goes, its objects and its watch go."""
    look(shop, watches)
    shop.create(crd(("v1", True, True)))
    shop.wait(lambda: shop.discovery.find("example.com", "Widget"), "the CRD to be served")
    shop.create(
        *[manifest("Widget", f"w{at}", api="example.com/v1", spec={"x": 1}) for at in range(3)]
    )
    assert same(look(shop, watches), shop)
    assert "widgets.example.com" in watches.followed
    assert same(look(shop, watches), shop)
    listed = shop.cluster.lists["Widget"]

    definition = ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com")
    shop.patch(*definition, {"spec": {"preserveUnknownFields": False}}, namespace="")
    look(shop, watches)
    assert shop.cluster.lists["Widget"] == listed + 1

    shop.delete(*definition, namespace="")
    shop.wait(lambda: shop.discovery.find("example.com", "Widget") is None, "the CRD to be gone")
    seen = look(shop, watches)
    assert not [k for k in seen.objects if k.kind == "Widget"]
    assert "widgets.example.com" not in watches.followed
    assert watches.take_alarms() == []


def test_a_list_finds_what_a_watch_kept_back(shop, watches):
    """The proof: a change of which no event came is seen, is an alarm that names it, and the kind is followed anew."""
    watches.proof_every = timedelta(0)
    look(shop, watches)
    shop.cluster.swallowed = {"c1", "c2", "hidden"}
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "unheard"}})
    shop.delete("v1", "ConfigMap", "c2")
    shop.create(config("hidden"))

    assert same(look(shop, watches), shop)
    [alarm] = watches.take_alarms()
    assert alarm.kind == "configmaps"
    assert {k.name for k in alarm.objects} == {"c1", "c2", "hidden"}
    shop.cluster.swallowed = set()
    assert same(look(shop, watches), shop)
    assert watches.take_alarms() == []


def test_a_watch_that_misses_objects_is_found_by_their_number(shop, watches):
    """Between proofs: another number of objects than the server counts makes a list, which is right, and an alarm."""
    look(shop, watches)
    shop.cluster.swallowed = {"hidden"}
    shop.create(config("hidden"))
    seen = look(shop, watches)

    assert key("ConfigMap", "hidden") in seen.objects
    assert [alarm.kind for alarm in watches.take_alarms()] == ["configmaps"]


def test_an_inexact_count_is_asked_once(shop, watches):
    """A server whose count is an estimate costs one list; then it is not compared any more."""
    look(shop, watches)
    shop.cluster.overcount = 1
    look(shop, watches)
    listed = shop.cluster.lists["ConfigMap"]
    look(shop, watches)

    assert shop.cluster.lists["ConfigMap"] == listed
    assert watches.take_alarms() == []


def test_an_event_that_comes_late_is_an_alarm(shop, watches):
    """What is told after it was vouched for that nothing more comes: the look was older than it said, and that is said."""
    look(shop, watches)
    shop.cluster.held = True
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "late"}})
    seen = look(shop, watches)
    assert seen.objects[key("ConfigMap", "c1")].manifest()["data"]["n"] == "1"
    shop.cluster.held = False
    shop.patch("v1", "ConfigMap", "c2", {"data": {"n": "wakes"}})

    assert same(look(shop, watches), shop)
    assert same(look(shop, watches), shop)
    assert [(a.kind, [k.name for k in a.objects]) for a in watches.take_alarms()] == [
        ("configmaps", ["c1"])
    ]


def test_a_kind_that_is_wrong_again_and_again_is_listed(shop, watches):
    """After three alarms a kind is not followed any more."""
    shop.cluster.swallowed = {f"c{at}" for at in range(200)}
    watches.proof_every = timedelta(0)
    for at in range(4):
        look(shop, watches)
        shop.patch("v1", "ConfigMap", "c1", {"data": {"n": f"unheard{at}"}})

    assert same(look(shop, watches), shop)
    assert len(watches.take_alarms()) == 3
    assert "configmaps" not in watches.followed


def test_changes_that_cost_more_than_lists_are_not_followed(shop, watches):
    """Churn: when events of three looks in a row outweigh a list, the kind is listed."""
    for _ in range(4):
        look(shop, watches)
        for at in range(40):
            shop.patch("v1", "Secret", "s1", {"metadata": {"annotations": {"at": str(at)}}})
    Town.wait(lambda: same(look(shop, watches), shop), "the same as lists")

    assert "secrets" not in watches.followed
    assert "configmaps" in watches.followed


def test_what_changed_since_is_known(shop, watches):
    """After a look, changes of a namespace's objects are named, and no others."""
    seen = look(shop, watches)
    shop.patch("v1", "ConfigMap", "c1", {"data": {"n": "since"}})
    shop.delete("v1", "ConfigMap", "c2")
    shop.create(config("c201"), manifest("Namespace", "wiki", namespace=""))
    shop.create(config("elsewhere", namespace="wiki"))

    def told():
        changed = watches.changed("shop", seen)
        return changed if {k.name for k in changed} == {"c1", "c2", "c201"} else None

    elsewhere = key("ConfigMap", "elsewhere", namespace="wiki")
    Town.wait(told, "the changes to be told")
    Town.wait(lambda: elsewhere in watches.changed("wiki", seen), "those of another namespace")
    assert watches.changed("shop", look(shop, watches)) == []


def test_another_cluster_is_not_taken_for_the_first(shop, watches, tmp_path):
    """Under another uid, what was followed is forgotten."""
    look(shop, watches)
    listed = shop.cluster.lists["ConfigMap"]
    watches.observe(shop.cluster, shop.discovery, uid="another", clock=CLOCK, stop=None)

    assert shop.cluster.lists["ConfigMap"] == listed + 1


def test_nothing_is_left_running(shop):
    """`close` ends every thread at once, though each waits for its server."""
    before = set(threading.enumerate())
    following = Watches(worth_bytes=300)
    look(shop, following)
    assert [t for t in threading.enumerate() if t.name.startswith("watch ")]
    started = time.monotonic()
    following.close()

    assert time.monotonic() - started < 3
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("watch ")]
