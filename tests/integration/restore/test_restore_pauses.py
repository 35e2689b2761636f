"""What would fight a restore stands still while it goes on, and is as it was afterwards, whatever happens in between."""

from __future__ import annotations

import json
import shlex
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.cluster import claimpod
from reconciler.objects import annotations_of, field
from reconciler.restore.execute.glass import read_journal, run_break_glass
from reconciler.restore.execute.pausing import held_back
from reconciler.restore.plan.mark import ANNOTATION
from tests.support.desk import make_desk, step
from tests.support.rescue import BOUNDS, SLOT, Dying, Killed, Looking, request
from tests.support.seen import manifest

BATCH, APPS = "batch/v1", "apps/v1"
LONG_AGO = "2026-01-01T00:00:00Z"
LATER = SLOT + timedelta(hours=1)
OPERATOR = {"kind": "Deployment", "namespace": "ops", "name": "operator"}


def cron(name="report", *, reads="conf", **spec):
    """A CronJob whose runs read a ConfigMap."""
    container = {"name": "m", "image": "i", "envFrom": [{"configMapRef": {"name": reads}}]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    given = {"schedule": "7 * * * *", "jobTemplate": {"spec": {"template": template}}, **spec}
    return manifest("CronJob", name, api=BATCH, spec=given)


def workload(kind="Deployment", *, name="operator", namespace="ops", replicas=2):
    labels = {"app": name}
    pod = {"containers": [{"name": "m", "image": "i"}]}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return manifest(kind, name, api=APPS, namespace=namespace, spec=spec)


class Yard:
    """A desk with CronJobs in the application, an operator elsewhere, and a look at both."""

    def __init__(self, rescue, tmp_path):
        idle = cron("idle", suspend=True)
        self.desk = make_desk(rescue, tmp_path, cron(), idle, cron("other", reads="else"))
        self.town = rescue.town
        self.rescue = rescue
        self.town.create(manifest("Namespace", "ops", namespace=""), workload())
        self.town.wait(lambda: len(self.pods()) == 2, "the operator's pods")
        kind = self.town.kind(BATCH, "CronJob")
        body = {"status": {"lastScheduleTime": LONG_AGO}}
        for name in ("report", "idle", "other"):
            self.town.cluster.patch(
                kind, name, body, namespace="shop", manager="m", subresource="status"
            )

    def cron(self, name="report"):
        return self.town.get(BATCH, "CronJob", name)

    def operator(self):
        return self.town.get(APPS, "Deployment", "operator", namespace="ops")

    def pods(self):
        kind = self.town.kind("v1", "Pod")
        pages = self.town.cluster.pages(kind, namespace="ops")
        return [pod for page in pages for pod in page.items]

    def state(self):
        """(suspended CronJobs, replicas and pods of the operator, how many objects are marked)."""
        names = ("report", "idle", "other")
        suspended = [name for name in names if field(self.cron(name), "spec", "suspend")]
        marks = len(list(held_back(self.town.cluster, self.town.discovery)))
        return suspended, self.operator()["spec"]["replicas"], len(self.pods()), marks

    def is_as_before(self):
        """Everything is released."""
        self.town.wait(lambda: len(self.pods()) == 2, "the operator's pods")
        return self.state() == (["idle"], 2, 2, 0)

    def managers(self, manifest, name):
        """Who owns a field of the spec."""
        entries = field(manifest, "metadata", "managedFields", default=[])
        return {
            entry["manager"]
            for entry in entries
            if f"f:{name}" in field(entry, "fieldsV1", "f:spec", default={})
        }


@pytest.fixture
def yard(rescue, tmp_path):
    return Yard(rescue, tmp_path)


def test_everything_stands_still_while_it_goes_on(yard):
    """At the first write the CronJob is suspended and the operator has no pods; at the end all is as it was."""
    seen = []
    before = yard.managers(yard.operator(), "replicas"), yard.managers(yard.cron(), "suspend")
    untouched = [yard.cron(name)["metadata"]["resourceVersion"] for name in ("idle", "other")]
    asked = request(pause=[OPERATOR])

    results = yard.desk.runner(Looking(yard.town.cluster, lambda: seen.append(yard.state()))).step(
        [asked], stop=threading.Event()
    )

    assert [(one.phase, one.outcomes[0].result) for one in results] == [("Succeeded", "Succeeded")]
    assert seen == [(["report", "idle"], 0, 0, 2)]
    assert yard.desk.conf() == {"a": "1"}
    assert yard.is_as_before()
    after = yard.managers(yard.operator(), "replicas"), yard.managers(yard.cron(), "suspend")
    assert after == before
    assert yard.cron()["status"]["lastScheduleTime"] != LONG_AGO
    assert [
        yard.cron(name)["metadata"]["resourceVersion"] for name in ("idle", "other")
    ] == untouched


def test_the_plan_and_the_accepted_record_say_so(yard):
    """Before the first effect it is on the ledger what is held back, and how many replicas it has."""
    asked = request(pause=[OPERATOR])
    plan = yard.desk.runner().plan(asked)
    step(yard.desk.runner(), asked)
    (state,) = yard.desk.ledger().view().restores().values()

    assert [(pause.key.name, pause.how) for pause in plan.pauses] == [
        ("operator", "scaled from 2 to 0"),
        ("report", "suspended"),
    ]
    assert plan.digest != yard.desk.runner().plan(request()).digest
    assert [(one.object, one.replicas) for one in state.accepted.spec.pauses] == [
        ("apps/Deployment/ops/operator", 2),
        ("batch/CronJob/shop/report", None),
    ]


def test_nothing_is_held_back_when_nothing_is_written(yard):
    """A plan without a write pauses nothing, whatever was asked."""
    yard.desk.change("1")
    plan = yard.desk.runner().plan(request(pause=[OPERATOR]))

    assert plan.pauses == ()
    assert plan.refusals == ()


def test_a_live_cronjob_that_is_restored_is_held_back_and_comes_back_as_captured(yard):
    """Its update releases it; it had another schedule and image."""
    yard.town.patch(BATCH, "CronJob", "report", {"spec": {"schedule": "1 1 * * *"}})
    seen = []
    runner = yard.desk.runner(Looking(yard.town.cluster, lambda: seen.append(yard.state()[0])))

    assert step(runner, request()) == [("Succeeded", "Succeeded")]
    assert seen == [["report", "idle"]]
    assert yard.cron()["spec"]["schedule"] == "7 * * * *"
    assert yard.is_as_before()


def test_a_live_cronjob_that_is_recreated_does_not_fire_before_it_is_deleted(yard):
    """It is held back until its turn, and the new one is free."""
    before = yard.cron()["metadata"]["uid"]
    yard.town.patch(BATCH, "CronJob", "report", {"spec": {"schedule": "1 1 * * *"}})
    seen = []
    looking = Looking(
        yard.town.cluster,
        lambda: seen.append(field(yard.cron(), "spec", "suspend")),
        kinds=("CronJob",),
        effects=("delete",),
    )
    asked = request(recreate=["CronJob.batch/report"])

    assert step(yard.desk.runner(looking), asked) == [("Succeeded", "Succeeded")]
    assert seen == [True]
    assert yard.cron()["metadata"]["uid"] != before
    assert yard.cron()["spec"]["schedule"] == "7 * * * *"
    assert yard.is_as_before()


def test_a_change_that_somebody_makes_meanwhile_is_theirs(yard):
    """Scaled to 5 while it was held back: it keeps 5, and the record says so."""

    def scale():
        yard.town.patch(APPS, "Deployment", "operator", {"spec": {"replicas": 5}}, namespace="ops")

    runner = yard.desk.runner(Looking(yard.town.cluster, scale))
    (result,) = runner.step([request(pause=[OPERATOR])], stop=threading.Event())

    assert result.phase == "Succeeded"
    ended = next(one for one in result.outcomes if one.item.startswith("pause/"))
    assert (ended.result, ended.reason) == ("Skipped", "ChangedMeanwhile")
    assert yard.operator()["spec"]["replicas"] == 5
    assert ANNOTATION not in annotations_of(yard.operator())


def test_an_operator_that_does_not_stop_is_not_restored_under(yard):
    """Its pods stay beyond the bound: nothing is written, everything is released, the cause is named."""
    for pod in yard.pods():
        yard.town.patch(
            "v1",
            "Pod",
            pod["metadata"]["name"],
            {"metadata": {"finalizers": ["example.org/stay"]}},
            namespace="ops",
        )
    runner = yard.desk.runner(bounds=replace(BOUNDS, gone_s=0.3))
    (result,) = runner.step([request(pause=[OPERATOR])], stop=threading.Event())

    assert (result.phase, yard.desk.conf()) == ("Failed", {"a": "2"})
    assert result.message.startswith("pause/apps/Deployment/ops/operator: StillRunning")
    assert yard.state()[0] == ["idle"]
    assert (yard.operator()["spec"]["replicas"], yard.state()[3]) == (2, 0)


def test_what_scales_it_up_again_is_named(yard):
    """Another controller undoes the pause: the restore does not begin under it."""

    class Undone:
        def __getattr__(self, name):
            return getattr(yard.town.cluster, name)

        def pages(self, kind, **how):
            if kind.kind == "Pod" and how.get("namespace") == "ops" and yard.state()[1] == 0:
                body = {"spec": {"replicas": 3}}
                yard.town.patch(APPS, "Deployment", "operator", body, namespace="ops")
            return yard.town.cluster.pages(kind, **how)

    runner = yard.desk.runner(Undone(), bounds=replace(BOUNDS, gone_s=0.3))
    (result,) = runner.step([request(pause=[OPERATOR])], stop=threading.Event())

    assert (result.phase, yard.desk.conf()) == ("Failed", {"a": "2"})
    assert "replicas to 3 again" in result.outcomes[0].message
    assert (yard.operator()["spec"]["replicas"], yard.state()[3]) == (3, 0)


@pytest.mark.parametrize(
    ("named", "word"),
    [
        ({**OPERATOR, "name": "nobody"}, "is not there"),
        ({"kind": "Deployment", "namespace": "shop", "name": "web"}, "is itself restored"),
    ],
)
def test_what_cannot_be_paused_is_refused(rescue, tmp_path, named, word):
    """A name that nothing stands behind, or one that the restore writes itself, is never passed over."""
    desk = make_desk(rescue, tmp_path, workload(name="web", namespace="shop"))
    (result,) = desk.runner().step([request(pause=[named])], stop=threading.Event())

    assert (result.phase, result.reason) == ("Refused", "PlanRefused")
    assert word in result.message
    assert desk.states() == {}


def test_a_missing_permission_is_named_before_anything_is_done(yard):
    """The server refuses the trial: the plan says which verb it needs, on what, where."""
    yard.town.sandbox.faults.add("answer", "/ops/deployments/operator", method="PUT", value=403)
    (result,) = yard.desk.runner().step([request(pause=[OPERATOR])], stop=threading.Event())

    assert (result.phase, result.reason) == ("Refused", "PlanRefused")
    assert "it needs `update` on deployments.apps in namespace ops" in result.message
    assert yard.is_as_before()


def test_a_cronjob_that_may_not_be_suspended_is_warned_of(yard):
    """The restore goes on without, and the plan says what may happen."""
    yard.town.sandbox.faults.add("answer", "/cronjobs/report", method="PUT", value=403)
    plan = yard.desk.runner().plan(request())

    assert plan.pauses == ()
    assert plan.refusals == ()
    (warning,) = [one for one in plan.warnings if "cannot be suspended" in one]
    assert "it needs `update` on cronjobs.batch in namespace shop" in warning


def test_a_cronjob_that_could_not_be_suspended_makes_it_partial(yard):
    """The plan's trial went well and the write did not: all else is restored, and what was promised is not claimed."""
    yard.town.sandbox.faults.add("answer", "/cronjobs/report", method="PUT", value=403, nth=2)
    (result,) = yard.desk.runner().step([request()], stop=threading.Event())

    assert (result.phase, yard.desk.conf()) == ("Partial", {"a": "1"})
    assert result.outcomes[0].item == "pause/batch/CronJob/shop/report"
    assert result.outcomes[0].reason == "NotPaused"
    assert yard.is_as_before()


def test_a_tenant_pauses_only_where_its_source_may_reach(yard):
    """Another namespace is refused; one that the source is confined to as well is not."""
    asked = request(namespace="shop", pause=[OPERATOR])

    assert step(yard.desk.runner(), asked) == [("Refused", "NeedsGrant")]
    assert yard.desk.states() == {}
    wider = replace(asked, namespaces=("shop", "ops"))
    assert step(yard.desk.runner(), wider) == [("Succeeded", "Succeeded")]
    assert yard.is_as_before()


@pytest.mark.slow
def test_death_after_any_effect_releases_everything(yard, monkeypatch):
    """Killed after each effect in turn: what is held back says so, and the resumed run releases it."""
    effects, was_held = 0, set()
    while True:
        effects += 1
        yard.desk.change(str(effects + 1))
        monkeypatch.setattr(claimpod, "_PROCESS", f"process-{effects}")
        asked = request(name=f"r-{effects}", pause=[OPERATOR])
        try:
            first = step(yard.desk.runner(Dying(yard.town.cluster, after=effects)), asked)
        except Killed:
            first = None
        held = {one.key.name for one in held_back(yard.town.cluster, yard.town.discovery)}
        suspended, replicas, _, _ = yard.state()
        assert ("report" in held, "operator" in held) == ("report" in suspended, replicas == 0)
        was_held |= held
        yard.rescue.clock.advance(timedelta(seconds=61))
        again = step(yard.desk.runner(), asked)

        if first is None:
            assert again in ([], [("Succeeded", "Succeeded")]), (effects, again)
        assert yard.desk.states()[asked.name, 1] == (True, "Succeeded")
        assert yard.desk.conf() == {"a": "1"}
        assert yard.is_as_before()
        if first is not None:
            break
    assert was_held == {"report", "operator"}


def stopped(yard, asked):
    """Begin a restore and stop it at its first object."""
    stop = threading.Event()
    runner = yard.desk.runner(Looking(yard.town.cluster, stop.set))
    assert step(runner, asked, stop=stop) == [("Waiting", "Stopped")]
    assert yard.state()[3] == 2


def test_a_request_that_is_removed_releases_what_it_held(yard):
    """Stopped, then gone from Git: the cancelling pass releases everything."""
    stopped(yard, request(pause=[OPERATOR]))

    assert step(yard.desk.runner(), sources=["main"]) == [("Cancelled", "Withdrawn")]
    assert yard.is_as_before()


def test_a_release_that_fails_is_tried_at_the_next_pass(yard):
    """A request that is gone is not over before what it held is released."""
    stopped(yard, request(pause=[OPERATOR]))
    yard.town.sandbox.faults.add("answer", "/operator", method="PUT", value=403)

    assert step(yard.desk.runner(), sources=["main"]) == [("Waiting", "NotReleased")]
    assert step(yard.desk.runner(), sources=["main"]) == [("Cancelled", "Withdrawn")]
    assert yard.is_as_before()


def test_the_next_attempt_takes_over_what_an_earlier_one_held(yard):
    """Attempt 1 was stopped and never goes on: attempt 2 releases what it left."""
    stopped(yard, request(pause=[OPERATOR]))

    assert step(yard.desk.runner(), request(attempt=2)) == [("Succeeded", "Succeeded")]
    assert yard.state()[0] == ["idle"]
    assert step(yard.desk.runner(), request(attempt=3, pause=[OPERATOR])) == [
        ("Succeeded", "Succeeded")
    ]
    assert yard.is_as_before()


def test_another_restore_does_not_take_it_over(yard):
    """What one restore holds back, another one refuses to pause; its mark stays."""
    stopped(yard, request(pause=[OPERATOR]))
    (result,) = yard.desk.runner().step(
        [request(name="another", pause=[OPERATOR])], stop=threading.Event()
    )

    assert (result.phase, result.reason) == ("Refused", "PlanRefused")
    assert "held back by restore main/again#1" in result.message
    assert yard.state()[3] == 2


def test_a_release_that_the_server_refuses_is_a_failure_with_the_way_out(yard):
    """The record says Partial; the command that the doctor gives puts it back."""
    fault = yard.town.sandbox.faults.add(
        "answer", "/ops/deployments/operator", method="PUT", value=403, nth=3, times=9
    )
    (result,) = yard.desk.runner().step([request(pause=[OPERATOR])], stop=threading.Event())

    assert (result.phase, yard.desk.conf()) == ("Partial", {"a": "1"})
    assert fault.hits
    assert result.outcomes[0].reason == "NotReleased"
    (left,) = held_back(yard.town.cluster, yard.town.discovery)
    words = shlex.split(left.command)
    assert words[:6] == ["kubectl", "-n", "ops", "patch", "deployment.apps", "operator"]
    yard.town.patch(
        APPS, "Deployment", words[5], json.loads(words[words.index("-p") + 1]), namespace="ops"
    )
    assert yard.is_as_before()


def test_the_broken_glass_pauses_too(yard, tmp_path):
    """Without Git: the journal has what is held back; a run that died is taken up and releases it."""
    journal = tmp_path / "restores.jsonl"
    asked = request(break_glass=True, pause=[OPERATOR])

    def run(cluster):
        return run_break_glass(
            asked,
            stores=yard.rescue.stores,
            cluster=cluster,
            settings=yard.desk.settings(),
            clock=yard.rescue.clock,
            journal=journal,
            stop=threading.Event(),
        )

    with pytest.raises(Killed):
        run(Dying(yard.town.cluster, after=5))
    assert yard.state()[3] == 2
    yard.rescue.clock.advance(timedelta(seconds=61))

    assert run(yard.town.cluster)[1].phase == "Succeeded"
    assert yard.is_as_before()
    assert [one.object for one in read_journal(journal)[0].spec.pauses] == [
        "apps/Deployment/ops/operator",
        "batch/CronJob/shop/report",
    ]


def test_a_statefulset_is_paused_as_well(yard):
    """It is scaled to zero and gets its replicas back."""
    yard.town.create(workload("StatefulSet", name="broker", replicas=1))
    yard.town.wait(lambda: len(yard.pods()) == 3, "the broker's pod")
    seen = []
    named = {"kind": "StatefulSet", "namespace": "ops", "name": "broker"}
    runner = yard.desk.runner(Looking(yard.town.cluster, lambda: seen.append(len(yard.pods()))))

    assert step(runner, request(pause=[named])) == [("Succeeded", "Succeeded")]
    assert seen == [2]
    yard.town.wait(lambda: len(yard.pods()) == 3, "the broker's pod")


def test_what_was_captured_while_it_was_held_back_comes_back_free(yard):
    """A point that was made in the middle of a restore has no trace of it."""
    done = []
    runner = yard.desk.runner(
        Looking(yard.town.cluster, lambda: done or done.append(yard.rescue.capture(slot=LATER)))
    )
    assert step(runner, request()) == [("Succeeded", "Succeeded")]
    yard.rescue.delete_namespace()

    result = yard.rescue.restore(request())

    assert result.phase == "Succeeded"
    assert field(yard.cron(), "spec", "suspend", default=False) is False
    assert ANNOTATION not in annotations_of(yard.cron())
