"""A CronJob with Jobs that have finished and that run, and Jobs that nobody schedules."""

from __future__ import annotations

from typing import Any

from tests.cluster.applications.kinds import Application
from tests.cluster.outpost import Outpost, until
from tests.support.clusters import IMAGE


def template(*command: str) -> dict[str, Any]:
    """The spec of a Job."""
    main = {"name": "main", "image": IMAGE, "command": list(command)}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main]}
    return {"backoffLimit": 0, "template": {"spec": pod}}


def deploy(outpost: Outpost, namespace: str) -> None:
    """Two CronJobs that are not due for long, a Job of each that ended, one that runs, and a loose one that ended."""
    cron = {"apiVersion": "batch/v1", "kind": "CronJob"}
    yearly = {"schedule": "0 3 29 2 *", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid"}
    script = "[ -n \"$LONG\" ] || exit 0; trap 'exit 0' TERM; while :; do sleep 1; done"
    things = [
        {
            **cron,
            "metadata": {"name": "report"},
            "spec": {**yearly, "jobTemplate": {"spec": template("sh", "-c", script)}},
        },
        {
            **cron,
            "metadata": {"name": "stopped"},
            "spec": {**yearly, "suspend": True, "jobTemplate": {"spec": template("true")}},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "once"},
            "spec": template("true"),
        },
    ]
    outpost.kubectl.apply(things, "-n", namespace)
    outpost.kubectl("create", "job", "done", "--from=cronjob/report", "-n", namespace)
    running = outpost.kubectl(
        *("create", "job", "running", "--from=cronjob/report", "-n", namespace),
        *("--dry-run=client", "-o", "json"),
    )
    changed = running.replace('"command"', '"env": [{"name": "LONG", "value": "1"}], "command"')
    outpost.kubectl.create(changed, "-n", namespace)
    for name in ("done", "once"):
        argv = ("--for=condition=Complete", f"job/{name}", "-n", namespace, "--timeout=90s")
        outpost.kubectl("wait", *argv)

    def is_running() -> bool:
        status = outpost.kubectl.get("job", "running", "-n", namespace).get("status", {})
        return status.get("ready") == 1

    until(is_running)


def change(outpost: Outpost, namespace: str) -> None:
    """The report comes an hour later."""
    patch = '{"spec":{"schedule":"0 4 29 2 *"}}'
    outpost.kubectl("patch", "cronjob", "report", "-n", namespace, "-p", patch)


def works(outpost: Outpost, namespace: str) -> None:
    """Nothing was fired, what was stopped still is, and a Job made from the schedule does its work."""
    assert outpost.kubectl.get("jobs", "-n", namespace)["items"] == []
    suspended = {
        item["metadata"]["name"]: item["spec"]["suspend"]
        for item in outpost.kubectl.get("cronjobs", "-n", namespace)["items"]
    }
    assert suspended == {"report": False, "stopped": True}
    outpost.kubectl("create", "job", "again", "--from=cronjob/report", "-n", namespace)
    argv = ("--for=condition=Complete", "job/again", "-n", namespace, "--timeout=90s")
    outpost.kubectl("wait", *argv)


SCHEDULED = Application("scheduled", deploy=deploy, change=change, works=works)
