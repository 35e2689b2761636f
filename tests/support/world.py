"""A whole small world for the daemon: a sandbox, two Git remotes, a location, a stepped clock.

`World.parts()` gives what one process of the daemon has in memory; dropping it and asking again is a restart. A
restart may keep its work directory or find an empty disk (`work=` another name): both must come to the same end.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.cli.compose import Parts, Seams
from reconciler.clock import SteppedClock, format_instant
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.sandbox import Sandbox
from reconciler.daemon.settings import load_configuration
from reconciler.git.remote import DirectoryRemote
from reconciler.store.keys import Cost, init_location
from reconciler.store.memory import MemoryStorage
from reconciler.store.storage import open_storage
from tests.support.faults import (
    CountingClone,
    CountingCluster,
    CountingRemote,
    CountingStorage,
    Effects,
)

START = datetime(2026, 11, 23, 6, 2, tzinfo=UTC)
PASSPHRASE = "a passphrase for tests"
QUICK = Cost(memory_kib=64, iterations=1, lanes=1)

POLICY = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: BackupPolicy
metadata: {name: gold}
spec:
  select: {namespaces: {matchLabels: {backup: gold}}}
  schedule: {cron: "0 * * * *"}
  locations:
    - {name: primary, retention: {last: %d}}
  objectives: {rpo: 2h}
"""
LOCATION = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: Location
metadata: {name: primary}
spec: {url: "%s"}
"""
RESTORE = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: Restore
metadata: {name: %s}
spec:
  attempt: %d
  cluster: town
  reason: a test
  notAfter: "%s"
  from: {point: %s/_/latest}
  onConflict: update
"""


def git(*argv: str, cwd: Path | None = None) -> str:
    """Run git with nobody's configuration."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "Dev",
        "GIT_AUTHOR_EMAIL": "dev@example.org",
        "GIT_COMMITTER_NAME": "Dev",
        "GIT_COMMITTER_EMAIL": "dev@example.org",
    }
    return subprocess.run(
        ["git", *argv], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    ).stdout


class World:
    """Everything outside the daemon's process."""

    def __init__(self, root: Path, sandbox: Sandbox, *, keep_last: int = 24, on_disk: bool = False):
        self.root = root
        self.sandbox = sandbox
        self.clock = SteppedClock(START)
        for name in ("policies", "ledger"):
            git("init", "-q", "--bare", "-b", "main", str(root / f"{name}.git"))
        git("clone", "-q", str(root / "policies.git"), str(root / "policies"))
        git("checkout", "-q", "-B", "main", cwd=root / "policies")
        self.kubeconfig = sandbox.write_kubeconfig(root / "town.kubeconfig")
        (root / "passphrase").write_text(PASSPHRASE)
        if on_disk:
            self.storage = open_storage((root / "location").as_uri(), create=True)
        else:
            self.storage = MemoryStorage(self.clock)
        init_location(self.storage, PASSPHRASE, cost=QUICK)
        self.config = root / "town.yaml"
        self.config.write_text(
            f"""\
cluster: {{name: town, kubeconfig: town.kubeconfig}}
sources:
  - {{name: policies, url: "{(root / "policies.git").as_uri()}"}}
ledger: {{url: "{(root / "ledger.git").as_uri()}"}}
workDirectory: work
passphrases: {{primary: {{file: passphrase}}}}
leaseNamespace: default
health: {{port: 0}}
"""
        )
        self.write("policies/gold.yaml", POLICY % keep_last)
        self.write("locations/primary.yaml", LOCATION % (root / "location").as_uri())
        self.merge("protect")
        self.cluster = connect(name="town", kubeconfig=self.kubeconfig)

    def write(self, path: str, text: str) -> None:
        """Write a file of the policy repository."""
        target = self.root / "policies" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def remove(self, path: str) -> None:
        """Remove a file of the policy repository."""
        (self.root / "policies" / path).unlink()

    def merge(self, message: str) -> None:
        """Commit and push the policy repository."""
        git("add", "-A", cwd=self.root / "policies")
        git("commit", "-q", "-m", message, cwd=self.root / "policies")
        git("push", "-q", "origin", "main", cwd=self.root / "policies")

    def ask_restore(self, namespace: str, *, name: str = "back", attempt: int = 1) -> None:
        """Merge a Restore of the newest point of a namespace."""
        until = format_instant(self.clock.now() + timedelta(days=2))
        self.write(f"restores/{name}.yaml", RESTORE % (name, attempt, until, namespace))
        self.merge(f"restore {namespace}")

    def parts(
        self, *, effects: Effects | None = None, work: str = "work", wrap: Callable | None = None
    ) -> Parts:
        """What one process of the daemon has in memory."""
        text = self.config.read_text()
        path = self.root / f"{work}.yaml"
        path.write_text(text.replace("workDirectory: work", f"workDirectory: {work}"))
        storage, remote = self.storage, DirectoryRemote()
        if effects is not None:
            seams = Seams(
                remote=CountingRemote(remote, effects),
                storage=lambda _url: CountingStorage(storage, effects),
                wrap_cluster=lambda cluster: CountingCluster(cluster, effects),
            )
        else:
            seams = Seams(storage=lambda _url: storage)
        parts = Parts(load_configuration(path), clock=self.clock, seams=seams)
        if effects is not None:
            parts.ledger.clone = CountingClone(parts.ledger.clone, effects)
        return parts

    def run_pass(self, parts: Parts | None = None):
        """One pass of a process; a fresh one by default."""
        return (parts or self.parts()).reconciler.run_pass(stop=threading.Event())

    def objects(self, *manifests: dict) -> None:
        """Create objects."""
        discovery = self.cluster.discover()
        for manifest in manifests:
            group, _, version = manifest["apiVersion"].rpartition("/")
            kind = discovery.find(group, manifest["kind"], version)
            self.cluster.create(kind, manifest, manager="test")

    def settle(self, name: str, *, count: int = 3) -> None:
        """Make an application: a namespace with some ConfigMaps and a Secret."""
        self.objects(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"backup": "gold"}},
            },
            *(config_map(name, f"c{number}", value=str(number)) for number in range(count)),
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "s", "namespace": name},
                "stringData": {"password": "hunter2-marker"},
            },
        )

    def edit(self, namespace: str, name: str, value: str) -> None:
        """Change a ConfigMap."""
        kind = self.cluster.discover().find("", "ConfigMap")
        self.cluster.patch(
            kind, name, {"data": {"value": value}}, namespace=namespace, manager="test"
        )

    def destroy(self, namespace: str) -> None:
        """Delete a namespace and wait until it is gone."""
        kind = self.cluster.discover().find("", "Namespace")
        self.cluster.delete(kind, namespace)
        for _ in range(400):
            if self.cluster.get(kind, namespace) is None:
                return
            threading.Event().wait(0.02)
        raise AssertionError(f"{namespace} did not go")

    def data(self, namespace: str) -> dict[str, object]:
        """What a namespace holds: ConfigMaps and Secrets by name."""
        discovery = self.cluster.discover()
        found = {}
        for kind in ("ConfigMap", "Secret"):
            for page in self.cluster.pages(discovery.find("", kind), namespace=namespace):
                for item in page.items:
                    found[f"{kind}/{item['metadata']['name']}"] = item.get("data")
        return found


def config_map(namespace: str, name: str, *, value: str) -> dict:
    """A ConfigMap with one value."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"value": value, "padding": "x" * 500},
    }
