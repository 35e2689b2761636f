"""A plan as people read it: what stays, what goes along, what is extra, and that nothing is hidden unsaid."""

import json

import click

from reconciler.cli.plantext import plan_text, summary
from reconciler.objects import ObjectKey
from reconciler.restore.plan.compare import FieldChange
from reconciler.restore.plan.entry import Entry, Extra, Plan
from reconciler.restore.plan.pause import Pause
from reconciler.restore.plan.spared import Spared


def key(kind, name, group=""):
    return ObjectKey(group, kind, "shop", name)


def plan(*entries, extras=(), **how):
    return Plan(
        point="town/shop/_/x",
        point_digest="d",
        cluster="town",
        entries=tuple(entries),
        extras=tuple(Extra(one) for one in extras),
        **how,
    )


def text(made, **how):
    return click.unstyle(plan_text(made, **how))


def entry(verdict, target, **more):
    return Entry(target, target, verdict, "x", **more)


def test_what_an_update_leaves_is_named():
    """The field and whose it is stand under the object."""
    spared = (Spared("spec.replicas", "its autoscaler"),)
    change = (FieldChange("spec.paused", True, None),)
    made = plan(entry("update", key("Deployment", "web", "apps"), diff=change, spared=spared))

    assert "stays: spec.replicas (its autoscaler)" in text(made)
    assert json.loads(json.dumps(made.to_json()))["entries"][0]["spared"] == [
        {"path": "spec.replicas", "owner": "its autoscaler"}
    ]


def test_what_goes_along_is_listed_and_summed_up():
    """Each object, at most twenty of them without --details, all of them in JSON, and the sum at the end."""
    pods = tuple(key("Pod", f"p{n:02}") for n in range(25))
    made = plan(entry("recreate", key("Deployment", "web", "apps"), deletes=pods))

    assert text(made).count("deletes with it: Pod shop/p") == 20
    assert "… and 5 more (--details or -o json shows all)" in text(made)
    assert text(made, details=True).count("deletes with it: Pod shop/p") == 25
    assert len(made.to_json()["entries"][0]["deletes"]) == 25
    assert "26 live objects are deleted." in summary(made)
    assert "deleted" not in summary(plan(entry("create", key("ConfigMap", "c"))))


def test_extras_are_shown():
    """Each one, at most twenty without --details."""
    made = plan(extras=[key("ConfigMap", f"c{n:02}") for n in range(21)])

    assert "? extra     ConfigMap shop/c00 is live and not in the point; it is left alone" in text(
        made
    )
    assert "… and 1 more extra objects" in text(made)
    assert "ConfigMap shop/c20" in text(made, details=True)
    assert made.to_json()["extras"][20] == "/ConfigMap/shop/c20"


def test_what_is_held_back_is_shown():
    """A line for each, with what is done to it; the JSON has the same."""
    pauses = (
        Pause(key("CronJob", "report", "batch"), note="1 of its runs go on"),
        Pause(ObjectKey("apps", "Deployment", "ops", "operator"), replicas=2),
    )
    made = plan(entry("update", key("ConfigMap", "c")), pauses=pauses)

    assert "‖ pause     CronJob.batch shop/report is suspended while" in text(made)
    assert "; 1 of its runs go on" in text(made)
    assert "Deployment.apps ops/operator is scaled from 2 to 0 while" in text(made)
    assert [one["how"] for one in made.to_json()["pauses"]] == ["suspended", "scaled from 2 to 0"]
    assert {"object": "apps/Deployment/ops/operator", "verdict": "pause"}.items() <= made.rows()[
        -1
    ].items()


def test_the_digest_does_not_rest_on_pods():
    """Pods that go along come and go by themselves; a claim that goes along makes another plan."""

    def digest(*deletes):
        return plan(entry("recreate", key("Deployment", "web", "apps"), deletes=deletes)).digest

    assert digest(key("Pod", "a")) == digest(key("Pod", "b"), key("ReplicaSet", "r", "apps"))
    assert digest(key("PersistentVolumeClaim", "a")) != digest()
