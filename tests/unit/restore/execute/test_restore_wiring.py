"""What comes after what: levels, needs across levels, webhooks, contents, circles."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from reconciler.objects import ObjectKey
from reconciler.restore.execute.walk import walk
from reconciler.restore.execute.wiring import wire
from reconciler.restore.plan.entry import ContentEntry, Entry, Plan
from reconciler.restore.plan.order import Level, level_of, needs_of
from reconciler.store.port import Content, Root

ROOT = Root("stream", "00", 1, 1)


def thing(api, kind, name, *, namespace="n", owner=None, **rest):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    if owner is not None:
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
        metadata["ownerReferences"] = [reference | {"name": owner["metadata"]["name"], "uid": ""}]
    return {"apiVersion": api, "kind": kind, "metadata": metadata} | rest


def workload(name, kind="Deployment", **spec):
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "m"}]} | spec}
    return thing("apps/v1", kind, name, spec={"template": template})


def entry(manifest, *, verdict="create", level=None, awaits=()):
    key = ObjectKey.of(manifest)
    return Entry(
        source=key,
        target=key,
        verdict=verdict,
        reason="",
        level=level_of(key) if level is None else level,
        desired=manifest,
        needs=tuple(dict.fromkeys((*needs_of(manifest), *awaits))),
        awaits=tuple(awaits),
    )


def content(name, into):
    return ContentEntry(content=Content(name, ROOT), into=into, verdict="load", reason="")


def plan(*entries, contents=()):
    made = [one if isinstance(one, Entry) else entry(one) for one in entries]
    random.Random(7).shuffle(made)
    return Plan("p", "d", "c", tuple(made), contents=tuple(contents))


def write(manifest):
    return f"write {ObjectKey.of(manifest).path}"


def ready(manifest):
    return f"ready {ObjectKey.of(manifest).path}"


class Order:
    """What a plan's graph says of two steps."""

    def __init__(self, made):
        self.nodes, self.left_out = wire(made)
        self._before = {}
        walk(self.nodes, lambda node: None)

    def before(self, name):
        if name not in self._before:
            found = set()
            for one in self.nodes[name].after:
                found |= {one} | self.before(one)
            self._before[name] = found
        return self._before[name]

    def has(self, first, then):
        return first in self.before(then)


SPACE = thing("v1", "Namespace", "n", namespace="")
SECRET = thing("v1", "Secret", "s")
SERVICE = thing("v1", "Service", "web", spec={"selector": {"app": "web"}})
WEB = workload("web")
CLIENT = {"clientConfig": {"service": {"namespace": "n", "name": "web"}}}
HOOKS = thing(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "h",
    namespace="",
    webhooks=[{"name": "h.example", **CLIENT}],
)
WIDGETS = thing(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "widgets.example.org",
    namespace="",
    spec={
        "group": "example.org",
        "names": {"kind": "Widget"},
        "conversion": {"strategy": "Webhook", "webhook": CLIENT},
    },
)
WIDGET = thing("example.org/v1", "Widget", "w")


def test_levels_follow_one_another():
    """Nothing of a level starts before the one below has ended, and siblings do not wait for each other."""
    account, other = thing("v1", "ServiceAccount", "a"), thing("v1", "Secret", "t")
    order = Order(plan(SPACE, SECRET, other, account, SERVICE, WEB))

    chain = [write(each) for each in (SPACE, account, SECRET, SERVICE, WEB)]
    assert all(order.has(a, b) for a, b in zip(chain, chain[1:], strict=False))
    assert not order.has(write(SECRET), write(other))
    assert not order.has(write(other), write(SECRET))
    assert order.has(write(WEB), "standing")
    assert order.left_out == []


def test_an_owner_of_the_same_level_comes_first():
    """A chain of ConfigMaps is written from its root; an owner of a later level is left to a reference set then."""
    first = thing("v1", "ConfigMap", "z")
    second = thing("v1", "ConfigMap", "m", owner=first)
    third = thing("v1", "ConfigMap", "a", owner=second)
    owned = thing("v1", "Secret", "made", owner=WIDGET)
    order = Order(plan(third, first, second, owned, WIDGET))

    assert order.has(write(first), write(second))
    assert order.has(write(second), write(third))
    assert order.has(write(owned), write(WIDGET))
    assert order.left_out == []


def test_definitions_and_claims_are_waited_for():
    """Custom resources come when their kind is served, workloads when their claims stand."""
    claim = thing("v1", "PersistentVolumeClaim", "data")
    mounts = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    order = Order(plan(WIDGETS, WIDGET, claim, workload("w", volumes=mounts)))

    assert order.has(f"stand {ObjectKey.of(WIDGETS).path}", write(WIDGET))
    assert order.has(f"stand {ObjectKey.of(claim).path}", write(workload("w")))


def test_who_answers_for_a_webhook_is_ready_before_it_is_asked():
    """The configuration and objects that need a conversion wait until the workload behind the Service is Ready."""
    order = Order(plan(SERVICE, WEB, HOOKS, WIDGETS, WIDGET, workload("beside")))

    assert order.has(ready(WEB), write(HOOKS))
    assert order.has(ready(WEB), write(WIDGET))
    assert order.has(write(SERVICE), ready(WEB))
    assert ready(workload("beside")) not in order.nodes


def test_what_a_live_webhook_would_refuse_moves_up_alone():
    """A ConfigMap that waits for a Deployment, with the Deployment that mounts it; others keep their places."""
    guarded = thing("v1", "ConfigMap", "guarded")
    free = thing("v1", "ConfigMap", "free")
    mounts = [{"name": "g", "configMap": {"name": "guarded"}}]
    user = workload("user", volumes=mounts)
    late = entry(guarded, awaits=[ObjectKey.of(WEB)])
    order = Order(plan(late, free, SERVICE, WEB, user))

    assert order.has(ready(WEB), write(guarded))
    assert order.has(write(guarded), write(user))
    assert order.has(write(free), write(WEB))
    assert order.nodes[write(guarded)].level == Level.WORKLOADS
    assert order.left_out == []


def test_contents_come_between():
    """Claims are filled when they stand and are let go of; nothing mounts one before; databases load before others."""
    claim = thing("v1", "PersistentVolumeClaim", "data")
    mounts = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    database = workload("db", "StatefulSet", volumes=mounts)
    served = entry(database, level=Level.DATA_SERVICES)
    fill = content("volume/data", ObjectKey.of(claim))
    load = content("content/postgresql/StatefulSet.db/dump", served.target)
    order = Order(plan(SERVICE, claim, served, WEB, contents=[fill, load]))

    assert order.has(f"stand {ObjectKey.of(claim).path}", "fill volume/data")
    assert order.has("release", "fill volume/data")
    assert order.has("fill volume/data", write(SERVICE))
    assert order.has("fill volume/data", write(database))
    name = f"load {served.target.path} postgresql"
    assert order.has(write(database), name)
    assert order.has(name, write(WEB))


def test_a_guarded_claim_is_filled_later_and_still_before_its_users():
    """The content follows its claim up; the workload that mounts it follows both."""
    claim = thing("v1", "PersistentVolumeClaim", "data")
    mounts = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    user = workload("user", volumes=mounts)
    late = entry(claim, awaits=[ObjectKey.of(WEB)])
    fill = content("volume/data", ObjectKey.of(claim))
    order = Order(plan(SERVICE, WEB, late, user, contents=[fill]))

    assert order.has(ready(WEB), write(claim))
    assert order.has(write(claim), "fill volume/data")
    assert order.has("fill volume/data", write(user))


def test_a_database_that_waits_for_an_operator_does_not_stop_it():
    """The operator serves the webhook that the database waits for, so it does not wait for the database's content."""
    database = entry(
        workload("db", "StatefulSet"), level=Level.DATA_SERVICES, awaits=[ObjectKey.of(WEB)]
    )
    load = content("content/postgresql/StatefulSet.db/dump", database.target)
    app = workload("app")
    order = Order(plan(SERVICE, WEB, database, app, contents=[load]))

    name = f"load {database.target.path} postgresql"
    assert order.has(ready(WEB), name)
    assert order.has(name, write(app))
    assert order.left_out == []


def test_a_circle_is_broken_at_the_same_place_every_time():
    """Two objects that own each other are both written, and one need is told as left out."""
    two = thing("v1", "ConfigMap", "two", owner=thing("v1", "ConfigMap", "one"))
    one = thing("v1", "ConfigMap", "one", owner=two)
    orders = [Order(plan(one, two, SPACE)) for _ in range(3)]

    assert {write(one), write(two)} <= set(orders[0].nodes)
    assert len(orders[0].left_out) == 1
    assert orders[0].left_out == orders[1].left_out == orders[2].left_out


@pytest.mark.parametrize("verdict", ["blocked", "skip", "unchanged"])
def test_what_is_not_written_waits_for_nothing(verdict):
    """It ends at its level, whatever it would have needed."""
    guarded = entry(thing("v1", "ConfigMap", "g"), awaits=[ObjectKey.of(WEB)])
    order = Order(plan(replace(guarded, verdict=verdict), WEB, SERVICE))

    assert ready(WEB) not in order.nodes
    assert order.nodes[write(guarded.desired)].level == Level.CONFIGURATION


def test_a_long_chain_of_owners_is_no_deep_recursion():
    """3,000 ConfigMaps, each the owner of the next."""
    chain = [thing("v1", "ConfigMap", "c0")]
    for number in range(1, 3000):
        chain.append(thing("v1", "ConfigMap", f"c{number}", owner=chain[-1]))
    nodes, left_out = wire(plan(*chain))

    assert left_out == []
    assert write(chain[-2]) in nodes[write(chain[-1])].after
