"""Waiting for many workloads at once."""

from __future__ import annotations

import threading

import pytest

from reconciler.cluster.port import Page, ResourceType, UnavailableError
from reconciler.objects import ObjectKey
from reconciler.restore.execute.standing import Patience, await_standing

KEYS = [ObjectKey("apps", "Deployment", "shop", name) for name in ("a", "b")]
QUICK = Patience(ready_s=0.5, settle_s=0.1, relapse_s=0.3)


def deployment(name, ready):
    """A Deployment of one replica."""
    counts = {"updatedReplicas": ready, "readyReplicas": ready, "availableReplicas": ready}
    return {
        "metadata": {"name": name, "namespace": "shop", "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, **counts},
    }


class Scripted:
    """A cluster whose lists follow a script; the last answer stays."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.looks = 0

    def pages(self, kind, *, namespace=""):
        self.looks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        yield Page([deployment(*one) for one in answer], "1", "")


def kind_of(key):
    """The served type of a key."""
    return ResourceType(key.group, "v1", key.kind, "deployments", True, frozenset())


def wait(cluster, keys=KEYS, **how):
    """What is left of each."""
    how = {"patience": QUICK, "stop": threading.Event()} | how
    return await_standing(keys, cluster=cluster, kind_of=kind_of, **how)


def test_one_list_a_look_however_many_there_are():
    """Everything stands after the look that finds it Ready and the one that finds it so still."""
    cluster = Scripted([("a", 0), ("b", 1)], [("a", 1), ("b", 1)])

    assert wait(cluster) == {}
    assert cluster.looks < 8


def test_what_never_stands_is_told():
    """One that is not Ready in time and one that is gone are told; the bound holds."""
    assert wait(Scripted([("a", 0)])) == {
        KEYS[0]: "0 of 1 replicas are up to date",
        KEYS[1]: "it is gone",
    }


def test_one_that_falls_over_again_is_told():
    """Ready for a moment is not Ready."""
    flaky = Scripted([("a", 1)], [("a", 0)])

    assert wait(flaky, KEYS[:1]) == {KEYS[0]: "0 of 1 replicas are up to date"}


def test_one_that_comes_back_stands():
    """After a relapse, Ready again is enough."""
    assert wait(Scripted([("a", 1)], [("a", 0)], [("a", 1)]), KEYS[:1]) == {}


def test_an_unanswered_list_is_asked_again():
    """A server that is away for a look is no failed workload; one that stays away is."""
    away = UnavailableError("list deployments: no answer")

    assert wait(Scripted(away, [("a", 1), ("b", 1)])) == {}
    assert wait(Scripted(away)) == dict.fromkeys(KEYS, "list deployments: no answer")


@pytest.mark.parametrize("kind", ["CronJob", "ConfigMap"])
def test_kinds_without_readiness_are_not_waited_for(kind):
    """Nothing is asked about them."""
    cluster = Scripted([])

    assert wait(cluster, [ObjectKey("batch", kind, "shop", "x")]) == {}
    assert cluster.looks == 0


def test_stopping_ends_the_wait():
    """A stop is heeded within a nap."""
    stop = threading.Event()
    stop.set()
    patient = Patience(ready_s=60, settle_s=1, relapse_s=1)

    assert wait(Scripted([("a", 0)]), KEYS[:1], stop=stop, patience=patient) == {
        KEYS[0]: "0 of 1 replicas are up to date"
    }
