"""What acts by itself does not fight a restore, and what keeps a workload from being Ready is named."""

from __future__ import annotations

import json
from datetime import timedelta

from reconciler.clock import SystemClock, format_instant
from tests.cluster.outpost import until
from tests.support.clusters import IMAGE

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]


def deployment(name, **container):
    """A Deployment that takes three seconds to be Ready."""
    ready = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    main = {
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-c", f"(sleep 3; touch /tmp/ready) & {SLEEP[2]}"],
        "readinessProbe": ready,
        **container,
    }
    spec = {"terminationGracePeriodSeconds": 1, "containers": [main]}
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def job_spec(*command):
    """A Job's spec."""
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": IMAGE, "command": list(command)}],
    }
    return {"template": {"spec": pod}}


def test_schedules_and_autoscalers_come_last(outpost):
    """CronJobs and autoscalers are made when the workloads are Ready; what was suspended stays so; no run is doubled."""
    namespace = f"acting-{outpost.mark}"
    outpost.settle(namespace)
    cron = {"jobTemplate": {"spec": job_spec("true")}}
    outpost.kubectl.apply(
        [
            deployment("web"),
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "web"},
                "spec": {
                    "minReplicas": 1,
                    "maxReplicas": 3,
                    "scaleTargetRef": {
                        "apiVersion": "apps/v1",
                        "kind": "Deployment",
                        "name": "web",
                    },
                },
            },
            {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": "yearly"},
                "spec": {"schedule": "0 0 1 1 *", **cron},
            },
            {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": "paused"},
                "spec": {"schedule": "* * * * *", "suspend": True, **cron},
            },
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "running"},
                "spec": job_spec(*SLEEP),
            },
        ],
        "-n",
        namespace,
    )
    outpost.ready(namespace)
    outpost.capture()
    outpost.destroy(namespace)

    report = outpost.restore(namespace)

    web = outpost.kubectl.get("deployment", "web", "-n", namespace)
    available = next(c for c in web["status"]["conditions"] if c["type"] == "Available")
    for name in ("cronjob/yearly", "cronjob/paused", "hpa/web"):
        made = outpost.kubectl.get(name, "-n", namespace)["metadata"]["creationTimestamp"]
        assert made >= available["lastTransitionTime"], name
    assert outpost.kubectl.get("cronjob", "yearly", "-n", namespace)["spec"]["suspend"] is False
    assert outpost.kubectl.get("cronjob", "paused", "-n", namespace)["spec"]["suspend"] is True
    assert outpost.kubectl.get("jobs", "-n", namespace)["items"] == []
    assert "skip" in report.restored[0].message

    outpost.restore(namespace, name=f"again-{namespace}", onConflict="update", runningJobs=True)

    job = "job/running"
    until(lambda: outpost.kubectl.get(job, "-n", namespace)["status"].get("active") == 1)


def test_a_live_schedule_that_is_released_catches_up_nothing(outpost):
    """Of two CronJobs that missed a run, the one that a person releases starts it, and the restored one does not."""
    namespace = f"missed-{outpost.mark}"
    outpost.settle(namespace)
    now = SystemClock().now()
    # The next run is most of an hour away, the last one a moment ago.
    schedule = f"{(now - timedelta(minutes=3)).minute} * * * *"
    spec = {"schedule": schedule, "jobTemplate": {"spec": job_spec("true")}}
    for name in ("restored", "by-hand"):
        cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}}
        outpost.kubectl.create([{**cron, "spec": spec}], "-n", namespace)
    outpost.capture()
    earlier = format_instant(now - timedelta(minutes=30))
    for name in ("restored", "by-hand"):
        where = ("patch", "cronjob", name, "-n", namespace, "--type=merge", "-p")
        outpost.kubectl(*where, json.dumps({"spec": {"suspend": True}}))
        ran = {"status": {"lastScheduleTime": earlier}}
        outpost.kubectl(*where, json.dumps(ran), "--subresource=status")

    include = {"objects": [{"kinds": ["CronJob"], "names": ["restored"]}]}
    outpost.restore(namespace, onConflict="update", include=include)
    outpost.kubectl(
        *("patch", "cronjob", "by-hand", "-n", namespace, "--type=merge", "-p"),
        json.dumps({"spec": {"suspend": False}}),
    )

    def owners():
        jobs = outpost.kubectl.get("jobs", "-n", namespace)["items"]
        return {job["metadata"]["ownerReferences"][0]["name"] for job in jobs}

    until(lambda: "by-hand" in owners())
    assert owners() == {"by-hand"}
    live = outpost.kubectl.get("cronjob", "restored", "-n", namespace)
    assert live["spec"]["suspend"] is False


def test_the_first_cause_is_named(outpost):
    """A restore whose pods a quota forbids, or whose image is nowhere, is Partial and says so."""
    outpost.ready_s = 15
    outpost.configure()
    namespace = f"causes-{outpost.mark}"
    outpost.settle(namespace)
    nowhere = deployment("nowhere", image="registry.invalid/nothing:1")
    outpost.kubectl.apply([nowhere, deployment("web")], "-n", namespace)
    outpost.capture()
    outpost.destroy(namespace)
    outpost.settle(namespace)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": {"count/pods": "1"}},
    }
    holder = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "holder"},
        "spec": {"containers": [{"name": "main", "image": IMAGE, "command": SLEEP}]},
    }
    outpost.kubectl.apply([quota], "-n", namespace)
    until(lambda: outpost.kubectl.get("quota", "tight", "-n", namespace).get("status"))
    outpost.kubectl.apply([holder], "-n", namespace)

    quota_report = outpost.restore(namespace, expect="Partial", onConflict="update")
    outpost.kubectl("delete", "quota", "tight", "-n", namespace)
    image_report = outpost.restore(
        namespace, name=f"again-{namespace}", expect="Partial", onConflict="recreate"
    )

    assert "exceeded quota" in quota_report.restored[0].message
    assert "nowhere" in image_report.restored[0].message
    assert "Pull" in image_report.restored[0].message or "registry.invalid" in (
        image_report.restored[0].message
    )
