"""What acts by itself does not fight a restore, and what keeps a workload from being Ready is named."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta

import yaml

from reconciler.clock import SystemClock, format_instant
from tests.cluster.applications.volumes import FILED
from tests.cluster.outpost import KubectlError, Outpost, until
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


@contextmanager
def reading_all(outpost, *, writes_in):
    """A kubeconfig of an account that reads everything and writes in one namespace."""
    name, account = f"reader-{outpost.mark}", f"system:serviceaccount:{writes_in}:limited"
    rules = ("--verb=get,list,watch", "--resource=*.*")
    outpost.kubectl("create", "serviceaccount", "limited", "-n", writes_in)
    outpost.kubectl("create", "clusterrole", name, *rules)
    user = f"--serviceaccount={writes_in}:limited"
    outpost.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", user)
    admin = ("--clusterrole=cluster-admin", user, "-n", writes_in)
    outpost.kubectl("create", "rolebinding", "limited", *admin)
    try:
        until(lambda: "yes" in can(outpost, account, "list", "customresourcedefinitions"))
        token = outpost.kubectl("create", "token", "limited", "-n", writes_in).strip()
        known = yaml.safe_load(outpost.kubectl("config", "view", "--raw", "--minify"))
        known["users"] = [{"name": known["users"][0]["name"], "user": {"token": token}}]
        path = outpost.root / "limited.kubeconfig"
        path.write_text(yaml.safe_dump(known))
        yield path
    finally:
        outpost.kubectl("delete", "clusterrolebinding,clusterrole", name)


def can(outpost, account, *what):
    """What the server says of a permission."""
    try:
        return outpost.kubectl("auth", "can-i", *what, f"--as={account}")
    except KubectlError as error:
        return str(error)


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


def test_a_live_schedule_stands_still_while_a_restore_goes_on(outpost):
    """A run that comes due in the middle of a restore in place is not started, then or at its end."""
    namespace, elsewhere = f"still-{outpost.mark}", f"beside-{outpost.mark}"
    for name in (namespace, elsewhere):
        outpost.settle(name)
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "each-minute"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job_spec("true")}},
    }
    slow = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    command = ["sh", "-c", f"(sleep 15; touch /tmp/ready) & {SLEEP[2]}"]
    web = deployment("web", command=command, readinessProbe=slow)
    outpost.kubectl.apply([web, cron], "-n", namespace)
    outpost.kubectl.apply([cron], "-n", elsewhere)
    outpost.capture()
    changed = {"spec": {"template": {"metadata": {"annotations": {"added": "since"}}}}}
    outpost.kubectl("patch", "deploy", "web", "-n", namespace, "-p", json.dumps(changed))
    # Its old pods are gone then, so that what is restored takes its time to be Ready again.
    outpost.kubectl("rollout", "status", "deploy/web", "-n", namespace)
    until(lambda: 48 <= SystemClock().now().second <= 55)
    where = ("patch", "cronjob", "each-minute", "-n", elsewhere, "--type=merge", "-p")
    outpost.kubectl(*where, json.dumps({"spec": {"suspend": True}}))
    began = format_instant(SystemClock().now())

    outpost.restore(namespace, onConflict="update")
    ended = format_instant(SystemClock().now())
    outpost.kubectl(*where, json.dumps({"spec": {"suspend": False}}))

    def runs(space):
        """When the runs that came due in the meantime were due, and when they were started."""
        jobs = outpost.kubectl.get("jobs", "-n", space)["items"]
        due = "batch.kubernetes.io/cronjob-scheduled-timestamp"
        found = [
            (one["metadata"]["annotations"][due], one["metadata"]["creationTimestamp"])
            for one in jobs
        ]
        return [one for one in found if began <= one[0] <= ended]

    assert began[:16] < ended[:16], "a minute began in the middle of the restore"
    until(lambda: runs(elsewhere))
    live = outpost.kubectl.get("cronjob", "each-minute", "-n", namespace, "--show-managed-fields")
    assert runs(namespace) == []
    assert live["spec"]["suspend"] is False
    assert "backup.reconciler.dev/paused" not in live["metadata"]["annotations"]
    owned = [
        entry["manager"]
        for entry in live["metadata"]["managedFields"]
        if entry.get("subresource") != "status"
    ]
    assert owned == ["kubectl-client-side-apply"]


def test_an_operator_is_paused_for_as_long_as_a_restore_takes(outpost):
    """It is stopped before the first write and started after the last one, and its manager still owns its replicas."""
    namespace, elsewhere = f"house-{outpost.mark}", f"operators-{outpost.mark}"
    for name in (namespace, elsewhere):
        outpost.settle(name)
    operator = deployment("operator")
    operator["spec"]["replicas"] = 2
    apply = ("--server-side", "--field-manager=platform", "-n", elsewhere)
    outpost.kubectl.apply([operator], *apply)
    outpost.kubectl.apply([deployment("web")], "-n", namespace)
    outpost.ready(elsewhere)
    outpost.ready(namespace)
    outpost.capture()
    changed = {"spec": {"template": {"metadata": {"annotations": {"added": "since"}}}}}
    outpost.kubectl("patch", "deploy", "web", "-n", namespace, "-p", json.dumps(changed))

    def pods(space):
        return {
            pod["metadata"]["name"]: pod["metadata"]["creationTimestamp"]
            for pod in outpost.kubectl.get("pods", "-n", space)["items"]
            if "deletionTimestamp" not in pod["metadata"]
        }

    before = pods(elsewhere)
    named = {"kind": "Deployment", "namespace": elsewhere, "name": "operator"}
    outpost.restore(namespace, onConflict="update", pause=[named])

    outpost.ready(elsewhere)
    after = pods(elsewhere)
    web = outpost.kubectl.get("deployment", "web", "-n", namespace)
    progressing = next(c for c in web["status"]["conditions"] if c["type"] == "Progressing")
    assert len(after) == 2
    assert not set(before) & set(after)
    assert min(after.values()) >= progressing["lastUpdateTime"]
    live = outpost.kubectl.get("deploy", "operator", "-n", elsewhere, "--show-managed-fields")
    owners = [
        (entry["manager"], entry["operation"])
        for entry in live["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    ]
    assert owners == [("platform", "Apply")]
    operator["spec"]["replicas"] = 1
    outpost.kubectl.apply([operator], *apply)
    del operator["spec"]["replicas"]


def test_a_volume_is_filled_in_place_while_its_workload_is_paused(outpost):
    """The files are as captured, in the same claim, and the workload that was named runs on them again."""
    namespace = f"filled-{outpost.mark}"
    outpost.settle(namespace)
    FILED.deploy(outpost, namespace)
    before = FILED.state(outpost, namespace)
    bound = outpost.kubectl.get("pvc", "data", "-n", namespace)["spec"]["volumeName"]
    outpost.capture()
    FILED.change(outpost, namespace)
    assert FILED.state(outpost, namespace) != before
    include = {"objects": [{"kinds": ["PersistentVolumeClaim"]}], "contents": ["volume/data"]}
    named = {"kind": "Deployment", "namespace": namespace, "name": "pair"}

    outpost.restore(namespace, onConflict="update", include=include, pause=[named])

    outpost.ready(namespace)
    assert FILED.state(outpost, namespace) == before
    assert outpost.kubectl.get("pvc", "data", "-n", namespace)["spec"]["volumeName"] == bound
    FILED.works(outpost, namespace)


def test_a_missing_permission_to_pause_is_named(outpost):
    """The server's own refusal of the trial stands in the plan, with the verb, the resource and the namespace."""
    namespace, elsewhere = f"fenced-{outpost.mark}", f"apart-{outpost.mark}"
    for name in (namespace, elsewhere):
        outpost.settle(name)
    outpost.kubectl.apply([deployment("operator")], "-n", elsewhere)
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}}
    outpost.kubectl.apply([{**data, "data": {"a": "1"}}], "-n", namespace)
    outpost.capture()
    outpost.kubectl.apply([{**data, "data": {"a": "2"}}], "-n", namespace)
    named = {"kind": "Deployment", "namespace": elsewhere, "name": "operator"}
    outpost.ask(namespace, onConflict="update", pause=[named])

    with reading_all(outpost, writes_in=namespace) as kubeconfig:
        limited = Outpost(outpost.root, kubeconfig, "outpost", clock=outpost.clock, is_made=True)
        (line,) = limited.run_pass().restored

    assert (line.phase, line.reason) == ("Refused", "PlanRefused")
    assert f"it needs `update` on deployments.apps in namespace {elsewhere}" in line.message
    assert outpost.kubectl.get("configmap", "conf", "-n", namespace)["data"] == {"a": "2"}


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
