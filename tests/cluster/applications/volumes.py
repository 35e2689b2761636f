"""Files in volumes that two containers of a pod write as different users, with every mode that matters."""

from __future__ import annotations

from tests.cluster.applications.kinds import Application
from tests.cluster.applications.workloads import SLEEP, claim, deployment
from tests.cluster.outpost import Outpost
from tests.support.clusters import IMAGE

FILL = r"""
set -e
cd /data
mkdir -p deep/er private empty drop
echo one > first
echo two > deep/er/second
dd if=/dev/urandom of=deep/large bs=65536 count=48 2>/dev/null
printf 'a\nb' > "odd name * with
a line break"
: > .hidden
ln -s deep/er/second link
ln -s /nowhere/at/all dangling
ln first hard
touch -t 200102030405.06 first
chown 1001:2001 first private
chown -R 1002:2002 deep
chown 1003:2003 drop
chmod 0600 first
chmod 0751 deep
chmod 0700 private
chmod 1777 drop
chmod 2775 empty
chmod 4755 .hidden
sync
"""
LOOK = r"""
cd /data
find . -mindepth 1 ! -name lost+found | sort | while IFS= read -r one; do
  stat -c '%A %u:%g %h %N' "$one"
  [ -f "$one" ] && [ ! -L "$one" ] && { stat -c '%Y %s' "$one"; sha256sum < "$one"; }
done
echo end
"""


def deploy(outpost: Outpost, namespace: str) -> None:
    """A pod of two containers on one claim."""
    pair = deployment("pair", claim="data", securityContext={"runAsUser": 0})
    pair["spec"]["strategy"] = {"type": "Recreate"}
    pair["spec"]["template"]["spec"]["containers"].append(
        {
            "name": "second",
            "image": IMAGE,
            "command": SLEEP,
            "securityContext": {"runAsUser": 1002, "runAsGroup": 2002},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
    )
    outpost.kubectl.apply([claim("data"), pair], "-n", namespace)
    outpost.ready(namespace)
    run(outpost, namespace, FILL)


def run(outpost: Outpost, namespace: str, script: str, *, container: str = "main") -> str:
    """Run a script in the pod."""
    argv = ("exec", "-n", namespace, "deploy/pair", "-c", container, "--", "sh", "-c", script)
    return outpost.kubectl(*argv)


def change(outpost: Outpost, namespace: str) -> None:
    """Files come, go, and change."""
    run(outpost, namespace, "cd /data && rm link && echo three > first && mv drop dropped && sync")


def works(outpost: Outpost, namespace: str) -> None:
    """The user of the second container may write to its folder, and not to the first one's."""
    script = "echo x >> /data/deep/er/second && ! cat /data/first 2>/dev/null && echo kept out"
    assert "kept out" in run(outpost, namespace, script, container="second")


FILED = Application(
    "filed",
    deploy=deploy,
    change=change,
    state=lambda outpost, namespace: run(outpost, namespace, LOOK),
    works=works,
)
