"""Requests: what they mean, what part of a point they take, what they say of readiness."""

import threading
from datetime import timedelta

import pytest

from reconciler.clock import SteppedClock
from reconciler.cluster.waiting import wait_for
from reconciler.errors import RefusedError, UsageError
from reconciler.kinds.request import Include
from reconciler.restore.execute.cause import event_cause, first_cause
from reconciler.restore.execute.ready import workload_problem
from reconciler.restore.plan.request import NoSuchPointError, find_point
from reconciler.restore.plan.selection import Selection
from reconciler.store.content import open_store
from reconciler.store.keys import Cost, init_location
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import Content, Point, PointName, Root
from tests.support.rescue import NOW, request
from tests.support.seen import manifest


@pytest.fixture(scope="module")
def store():
    """A location with points of two clusters."""
    clock = SteppedClock(NOW)
    storage = MemoryStorage(clock)
    init_location(storage, "p", cost=Cost(memory_kib=64, iterations=1, lanes=1))
    store = open_store(storage, "p", clock=clock)
    for cluster, slots in (("town", (10, 11)), ("port", (9,))):
        with store.session(f"uid-{cluster}") as session:
            for hour in slots:
                table = session.put_table([], previous=None)
                name = PointName(f"uid-{cluster}", "shop", "_", f"20261123T{hour:02}0000Z")
                session.publish(name, Point(record={"cluster": cluster}, table=table))
    return store


def find(store, point="shop/_/latest", **origin):
    asked = request(point, origin=origin)
    return find_point(asked, stores=[("primary", store)], cluster="town", cluster_uid="uid-town")


def test_latest_and_instants_are_resolved(store):
    """`latest` is the newest, `@TIME` the newest that is not after it, a slot itself."""
    assert find(store).title == "town/shop/_/20261123T110000Z"
    assert find(store, "shop/_/@2026-11-23T10:59:59Z").name.slot == "20261123T100000Z"
    assert find(store, "shop/_/20261123T100000Z").name.slot == "20261123T100000Z"
    for none in ("shop/_/@2026-11-23T09:00:00Z", "shop/web/latest", "shop/_/20261123T120000Z"):
        with pytest.raises(NoSuchPointError, match="not in primary"):
            find(store, none)


def test_points_of_another_cluster_are_found_by_its_name(store):
    """The domain is the other cluster's uid, which its points tell."""
    assert find(store, cluster="port").name == PointName(
        "uid-port", "shop", "_", "20261123T090000Z"
    )
    with pytest.raises(NoSuchPointError):
        find(store, cluster="nowhere")


def test_another_digest_than_asked_for_is_refused(store):
    """A point is what its record said, or it is not used."""
    good = find(store).digest
    assert find(store, digest=good).digest == good
    with pytest.raises(RefusedError, match="another digest"):
        find(store, digest="0" * 64)


def test_the_digest_of_a_request_is_that_of_its_spec():
    """Any change of the spec is another digest; who asks is not part of it."""
    assert request().digest == request(name="other").digest
    assert request().digest != request(reason="other").digest
    assert request().digest != request(notAfter="2026-11-25T00:00:00Z").digest


def content(name):
    return Content(name=name, root=Root("tree", "0", 0, 0))


def test_objects_are_selected_by_every_clause():
    """All clauses of a rule hold, any rule suffices; values of Secrets are hidden from expressions."""
    chosen = Selection(
        Include.model_validate(
            {
                "objects": [
                    {"kinds": ["ConfigMap"], "names": ["a*"], "matchLabels": {"x": "1"}},
                    {"kinds": ["Secret"], "where": "object.data.p == ''"},
                ]
            }
        )
    )

    assert chosen.has(manifest("ConfigMap", "ab", labels={"x": "1"}))
    assert not chosen.has(manifest("ConfigMap", "ab"))
    assert not chosen.has(manifest("ConfigMap", "b", labels={"x": "1"}))
    assert chosen.has(manifest("Secret", "s", data={"p": "eA=="}))
    assert chosen.warnings() == []
    assert chosen.has(manifest("Secret", "other", data={}))
    assert "failed on 1 objects" in chosen.warnings()[0]


def test_contents_are_named_by_any_part():
    """Claim, workload, artifact, full name or pattern; a name for nothing is a mistake."""
    contents = [
        content("volume/pages"),
        content("content/postgresql/StatefulSet.orders-db/database"),
    ]

    def named(*names):
        return [
            c.name
            for c in Selection(Include.model_validate({"contents": list(names)})).contents(contents)
        ]

    assert named("orders-db") == named("database") == named("content/*") == [contents[1].name]
    assert named("pages") == named("volume/pages") == [contents[0].name]
    assert named() == []
    assert Selection(Include()).contents(contents) is None
    with pytest.raises(UsageError, match="no such content"):
        named("page")


@pytest.mark.parametrize(
    ("workload", "problem"),
    [
        (
            {
                "kind": "Deployment",
                "metadata": {"generation": 2},
                "status": {"observedGeneration": 1},
            },
            "not seen",
        ),
        (
            {
                "kind": "Deployment",
                "spec": {"replicas": 2},
                "status": {"updatedReplicas": 2, "readyReplicas": 1},
            },
            "1 of 2 replicas are Ready",
        ),
        ({"kind": "Deployment", "spec": {"replicas": 0}}, ""),
        ({"kind": "StatefulSet", "spec": {"replicas": 1}, "status": {"readyReplicas": 1}}, ""),
        (
            {
                "kind": "DaemonSet",
                "status": {
                    "desiredNumberScheduled": 3,
                    "updatedNumberScheduled": 3,
                    "numberReady": 2,
                },
            },
            "2 of 3",
        ),
        ({"kind": "Pod", "status": {"phase": "Pending"}}, "Pending"),
        ({"kind": "Pod", "status": {"phase": "Succeeded"}}, ""),
        ({"kind": "Job", "spec": {"suspend": True}}, ""),
        (
            {
                "kind": "Job",
                "status": {"conditions": [{"type": "Failed", "status": "True", "message": "why"}]},
            },
            "why",
        ),
        ({"kind": "Job", "status": {}}, "none of its pods"),
        ({"kind": "CronJob"}, ""),
        (None, "gone"),
    ],
)
def test_ready_means_what_each_kind_says(workload, problem):
    """The problem that is left is told; an empty text means Ready."""
    said = workload_problem(workload)
    assert problem in said
    assert bool(said) == bool(problem)


def rolling(kind, *, strategy=None, **status):
    spec = {"replicas": 2, **({"updateStrategy": strategy} if strategy else {})}
    return {"kind": kind, "metadata": {"generation": 2}, "spec": spec, "status": status}


SEEN = {"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2}
DAEMONS = {"desiredNumberScheduled": 3, "numberReady": 3, "observedGeneration": 2}
REVISIONS = {"currentRevision": "a", "updateRevision": "b"}


@pytest.mark.parametrize(
    ("workload", "problem"),
    [
        (
            rolling("Deployment", **SEEN | {"replicas": 3}, updatedReplicas=2),
            "1 replicas of before",
        ),
        (rolling("Deployment", **SEEN, updatedReplicas=2), ""),
        (rolling("StatefulSet", **SEEN, **REVISIONS, updatedReplicas=1), "1 of 2 replicas are up"),
        (rolling("StatefulSet", **SEEN, currentRevision="b", updateRevision="b"), ""),
        (
            rolling("StatefulSet", strategy={"type": "OnDelete"}, **SEEN, **REVISIONS),
            "",
        ),
        (
            rolling(
                "StatefulSet",
                strategy={"rollingUpdate": {"partition": 1}},
                **SEEN,
                **REVISIONS,
                updatedReplicas=1,
            ),
            "",
        ),
        (rolling("DaemonSet", **DAEMONS, updatedNumberScheduled=2), "2 of 3 pods are up to date"),
        (rolling("DaemonSet", **DAEMONS, updatedNumberScheduled=3), ""),
        (rolling("DaemonSet", strategy={"type": "OnDelete"}, **DAEMONS), ""),
    ],
)
def test_pods_of_before_an_update_do_not_make_it_ready(workload, problem):
    """They are Ready until those that replace them are; what is updated only by hand is not waited for."""
    said = workload_problem(workload)
    assert problem in said
    assert bool(said) == bool(problem)


def test_the_first_cause_of_a_pod_is_told():
    """Containers that wait or ended, and pods that fit nowhere, say why."""
    waiting = {
        "status": {
            "containerStatuses": [
                {"name": "a", "state": {"waiting": {"reason": "ErrImagePull", "message": "m"}}}
            ]
        }
    }
    unplaced = {
        "status": {
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]
        }
    }

    assert first_cause([{}, waiting]) == "container a: ErrImagePull: m"
    assert first_cause([unplaced]) == "not scheduled: no node"
    assert first_cause([]) == ""


def test_a_wait_ends_in_time_or_when_told_to():
    """The last problem is given back when time is up; a stop ends it at once."""
    stop = threading.Event()
    assert wait_for(lambda: "still", timeout_s=0.0, stop=stop) == "still"
    answers = iter(["a", "b", ""])
    assert wait_for(lambda: next(answers), timeout_s=5, stop=stop) == ""
    stop.set()
    assert (
        wait_for(lambda: "still", timeout_s=timedelta(hours=1).total_seconds(), stop=stop)
        == "still"
    )


def test_the_newest_warning_about_a_workload_is_its_cause():
    """A quota that made no pod, told by an event of the workload or of what it made; others' are passed over."""

    def event(name, message, *, at, kind="Warning"):
        involved = {"kind": "ReplicaSet", "name": name}
        return {
            "type": kind,
            "reason": "FailedCreate",
            "message": message,
            "lastTimestamp": at,
            "involvedObject": involved,
        }

    events = [
        event("web-1", "older", at="2026-11-23T06:00:00Z"),
        event("web-1", "exceeded quota", at="2026-11-23T06:01:00Z"),
        event("web-1", "scaled", at="2026-11-23T06:02:00Z", kind="Normal"),
        event("website", "not ours", at="2026-11-23T06:03:00Z"),
    ]

    assert event_cause(events, "web") == "FailedCreate: exceeded quota"
    assert event_cause(events, "db") == ""
