"""A real cluster with everything that the product needs around it: remotes, a ledger, a location, a daemon's parts.

Each test has an outpost of its own, and protects only namespaces that carry its mark, so tests can share a
cluster. What a namespace holds is looked at through kubectl, not through the product: a comparison of before
and after must not rest on the code that it judges.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from reconciler.cli.compose import Parts
from reconciler.clock import SteppedClock, SystemClock, format_instant
from reconciler.daemon.reconcile import PassReport
from reconciler.daemon.settings import load_configuration
from reconciler.store.keys import Cost, init_location
from reconciler.store.s3 import Credentials
from reconciler.store.storage import open_storage
from tests.support.clusters import IMAGE
from tests.support.command import reconciler
from tests.support.world import git

BLUEPRINT = Path(__file__).resolve().parents[2] / "blueprints/postgresql/blueprint.yaml"
MARK = "brc.example/outpost"
PASSPHRASE = "a passphrase for tests"
READY_S = 120.0

POLICY = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: BackupPolicy
metadata: {{name: marked}}
spec:
  select: {{namespaces: {{matchLabels: {{{mark}: "{value}"}}}}}}
  schedule: {{cron: "0 * * * *"}}
  locations: [{{name: primary, retention: {{last: 24}}}}]
  objectives: {{rpo: 2h}}
"""
LOCATION = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: Location
metadata: {{name: primary}}
spec: {{url: "{url}"}}
"""


class KubectlError(Exception):
    """kubectl said no."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl on one cluster."""

    kubeconfig: Path

    def __call__(
        self, *argv: str, stdin: str | bytes | None = None, timeout_s: float = READY_S
    ) -> str:
        """Run it, and give its output."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), *argv],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(argv)}: {done.stderr.decode().strip()[-2000:]}")
        return done.stdout.decode()

    def answers(self, *argv: str) -> str:
        """What it says, whether it succeeds or not."""
        try:
            return self(*argv)
        except KubectlError as error:
            return str(error)

    def get(self, *argv: str) -> dict[str, Any]:
        """Read as JSON."""
        return json.loads(self("get", *argv, "-o", "json"))

    def apply(self, manifests: str | Iterable[dict[str, Any]], *argv: str) -> None:
        """Apply YAML text, or manifests, as a person would."""
        text = manifests if isinstance(manifests, str) else yaml.safe_dump_all(manifests)
        self("apply", *argv, "-f", "-", stdin=text)

    def create(self, manifests: str | Iterable[dict[str, Any]], *argv: str) -> None:
        """Create YAML text, or manifests."""
        text = manifests if isinstance(manifests, str) else yaml.safe_dump_all(manifests)
        self("create", *argv, "-f", "-", stdin=text)

    def gone(self, *argv: str) -> bool:
        """Whether an object is away."""
        return not self("get", *argv, "--ignore-not-found", "-o", "name").strip()


@dataclass
class Outpost:
    """One cluster, its remotes and its location. `beside` makes a second cluster that shares them."""

    root: Path
    kubeconfig: Path
    name: str = "outpost"
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    clock: SteppedClock | None = None
    ready_s: int = 120
    """How long restores wait for workloads."""
    hour: timedelta = timedelta(hours=1)
    """From one slot to the next."""
    location: str = ""
    """URL of the location; a directory of its own by default."""
    settings: str = ""
    """Further lines of the operator's configuration."""
    credentials: Credentials | None = None
    """The location's access key."""
    is_made: bool = False
    """Whether the remotes and the location are there already."""

    def __post_init__(self) -> None:
        self.kubectl = Kubectl(self.kubeconfig)
        if self.clock is None:
            hour = SystemClock().now().replace(minute=0, second=0, microsecond=0)
            self.clock = SteppedClock(hour - timedelta(hours=6) + timedelta(minutes=2))
        if not self.is_made:
            self._make()
        self.config = self.root / f"{self.name}.yaml"
        self.configure()

    def configure(self) -> None:
        """Write the operator's configuration."""
        self.config.write_text(
            f"""\
cluster: {{name: {self.name}, kubeconfig: "{self.kubeconfig}"}}
sources:
  - {{name: policies, url: "{(self.root / "policies.git").as_uri()}"}}
ledger: {{url: "{(self.root / "ledger.git").as_uri()}"}}
workDirectory: work-{self.name}
passphrases: {{primary: {{file: passphrase}}}}
leaseNamespace: brc-leases
helperImage: {IMAGE}
readyTimeout: {self.ready_s}s
health: {{port: 0}}
{self.settings}"""
        )

    def _make(self) -> None:
        for name in ("policies", "ledger"):
            git("init", "-q", "--bare", "-b", "main", str(self.root / f"{name}.git"))
        git("clone", "-q", str(self.root / "policies.git"), str(self.root / "policies"))
        git("checkout", "-q", "-B", "main", cwd=self.root / "policies")
        (self.root / "passphrase").write_text(PASSPHRASE)
        location = self.location or (self.root / "location").as_uri()
        quick = Cost(memory_kib=64, iterations=1, lanes=1)
        storage = open_storage(location, create=True, credentials=self.credentials)
        init_location(storage, PASSPHRASE, cost=quick)
        self.write("policies/marked.yaml", POLICY.format(mark=MARK, value=self.mark))
        self.write("locations/primary.yaml", LOCATION.format(url=location))
        self.write("blueprints/postgresql.yaml", BLUEPRINT.read_text())
        self.merge("protect what carries the mark")

    def beside(self, kubeconfig: Path, *, name: str = "harbor") -> Outpost:
        """A second cluster with the same remotes and location."""
        how = {"mark": self.mark, "clock": self.clock, "is_made": True, "settings": self.settings}
        return Outpost(self.root, kubeconfig, name=name, **how)

    # -- the policy repository ---------------------------------------------------------------------

    def write(self, path: str, text: str) -> None:
        """Write a file of the policy repository."""
        target = self.root / "policies" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def merge(self, message: str) -> None:
        """Commit and push, as a merged pull request would be."""
        for argv in (("add", "-A"), ("commit", "-q", "-m", message), ("push", "-q", "origin")):
            git(*argv, *(["main"] if argv[0] == "push" else []), cwd=self.root / "policies")

    # -- the daemon --------------------------------------------------------------------------------

    def parts(self, *, is_serving: bool = False) -> Parts:
        """What a fresh process of the daemon has in memory."""
        return Parts(load_configuration(self.config), clock=self.clock, is_serving=is_serving)

    def run_pass(self) -> PassReport:
        """One pass of a fresh process."""
        return self.parts().reconciler.run_pass(stop=threading.Event())

    def capture(self, *, later: timedelta = timedelta(hours=1)) -> PassReport:
        """A pass an hour later, in which every marked application must succeed."""
        self.clock.advance(later)
        report = self.run_pass()
        assert [(p.where, p.message) for p in report.problems] == []
        assert {line.phase for line in report.captured} == {"Succeeded"}, [
            (str(line.application), line.phase, line.message) for line in report.captured
        ]
        return report

    def ask(self, namespace: str, *, name: str = "", origin: str = "outpost", **spec: Any) -> str:
        """Merge a Restore of the newest point of a namespace; its name."""
        name = name or f"{namespace}-{self.name}"
        manifest = {
            "apiVersion": "backup.reconciler.dev/v1alpha1",
            "kind": "Restore",
            "metadata": {"name": name},
            "spec": {
                "attempt": 1,
                "cluster": self.name,
                "reason": "a test",
                "notAfter": format_instant(self.clock.now() + timedelta(days=2)),
                "from": {"cluster": origin, "point": f"{namespace}/_/latest"},
                **spec,
            },
        }
        self.write(f"restores/{name}.yaml", yaml.safe_dump(manifest))
        self.merge(f"restore {namespace}")
        return name

    def restore(self, namespace: str, *, expect: str = "Succeeded", **spec: Any) -> PassReport:
        """Merge a Restore, and the pass that carries it out."""
        self.ask(namespace, **spec)
        report = self.run_pass()
        assert [line.phase for line in report.restored] == [expect], [
            (line.phase, line.message) for line in report.restored
        ] + [(p.where, p.message) for p in report.problems]
        return report

    def plan(self, namespace: str, *options: str) -> dict[str, Any]:
        """What `restore plan` says of the newest point of a namespace that was captured on the outpost."""
        point = ("--from-cluster", "outpost", f"{namespace}/_/latest")
        argv = ("restore", "plan", *point, "--on-conflict", "update", "-o", "json", *options)
        answer = reconciler("--config", str(self.config), *argv)
        assert answer.code in (0, 4), answer.err
        return json.loads(answer.out)

    def what_differs(self, namespace: str, *options: str) -> dict[str, Any]:
        """Each object that a restore of the newest point would not leave as it is, with what is about it."""
        entries = self.plan(namespace, *options)["entries"]
        assert entries
        return {entry["object"]: entry for entry in entries if entry["verdict"] != "unchanged"}

    # -- the cluster -------------------------------------------------------------------------------

    def settle(self, namespace: str, **labels: str) -> None:
        """Make a namespace that is protected, and wait for its account."""
        metadata = {"name": namespace, "labels": {MARK: self.mark, **labels}}
        self.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        until(lambda: not self.kubectl.gone("serviceaccount", "default", "-n", namespace))

    def destroy(self, namespace: str) -> None:
        """Delete a namespace with everything in it."""
        self.kubectl("delete", "namespace", namespace, "--wait", f"--timeout={READY_S:.0f}s")

    def ready(self, namespace: str) -> None:
        """Wait until every workload of a namespace has what it wants."""

        def problem() -> str:
            for item in self.kubectl.get("deployments,statefulsets,daemonsets", "-n", namespace)[
                "items"
            ]:
                status, spec = item.get("status", {}), item.get("spec", {})
                wanted = status.get("desiredNumberScheduled", spec.get("replicas", 1))
                count = status.get("numberReady", status.get("readyReplicas", 0))
                seen = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
                if not seen or count < wanted:
                    return f"{item['kind']} {item['metadata']['name']}: {count} of {wanted}"
            return ""

        until(lambda: not problem(), what=problem)

    def look(self, namespace: str) -> dict[str, Any]:
        """What a namespace holds: `Kind.group/name` → what a person would call its content."""
        listed = self.kubectl("api-resources", "--namespaced", "--verbs=list,create", "-o", "name")
        kinds = sorted(set(listed.split()) - MOVING)
        found = {}
        for item in self.kubectl.get(",".join(kinds), "-n", namespace)["items"]:
            if not is_derived(item):
                group = item["apiVersion"].rpartition("/")[0]
                kind = f"{item['kind']}.{group}" if group else item["kind"]
                found[f"{kind}/{item['metadata']['name']}"] = content_of(item)
        return found


MOVING = frozenset(
    {
        "bindings",
        "controllerrevisions.apps",
        "endpoints",
        "events",
        "events.events.k8s.io",
        "leases.coordination.k8s.io",
        "localsubjectaccessreviews.authorization.k8s.io",
        "replicasets.apps",
    }
)
"""Kinds that are made and changed by controllers all the time, or cannot be listed."""
FRESH = frozenset(
    {
        "uid",
        "creationTimestamp",
        "managedFields",
        "resourceVersion",
        "generation",
        "ownerReferences",
        "selfLink",
    }
)
ALLOCATED = frozenset(
    {"clusterIP", "clusterIPs", "volumeName", "nodeName", "healthCheckNodePort", "volumeMode"}
)
MAKERS = frozenset(
    {"CronJob", "DaemonSet", "Endpoints", "Job", "ReplicaSet", "Service", "StatefulSet"}
)
"""Owners that make what they own again."""
TOKEN = "kubernetes.io/service-account-token"
OURS = ("pv.kubernetes.io/", "volume.", "deployment.kubernetes.io/", "deprecated.daemonset.")


def is_derived(item: dict[str, Any]) -> bool:
    """Whether a built-in controller made it: its pods, its Jobs, its slices, the namespace's defaults."""
    owners = {owner["kind"] for owner in item["metadata"].get("ownerReferences", [])}
    name, kind = item["metadata"]["name"], item["kind"]
    if owners & MAKERS:
        return kind != "PersistentVolumeClaim"
    if kind == "Job" and any(c["status"] == "True" for c in item["status"].get("conditions", [])):
        # It has finished: what it did is done, and it is no part of what runs.
        return True
    return (kind, name) in {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}


def content_of(item: dict[str, Any]) -> dict[str, Any]:
    """An object without what a server gives anew: identity, owners of fields, addresses, state."""
    kept = {key: value for key, value in item.items() if key != "status"}
    metadata = {k: v for k, v in item["metadata"].items() if k not in FRESH}
    annotations = {
        k: v for k, v in metadata.pop("annotations", {}).items() if not k.startswith(OURS)
    }
    if annotations:
        metadata["annotations"] = annotations
    kept["metadata"] = metadata
    if isinstance(kept.get("spec"), dict):
        # A headless service's address is `None`, which is its author's word and stays.
        kept["spec"] = {
            k: v for k, v in kept["spec"].items() if k not in ALLOCATED or v in ("None", ["None"])
        }
    if kept["kind"] == "Service":
        # Those that somebody asked for are compared by the application that did.
        ports = kept["spec"].get("ports", [])
        kept["spec"]["ports"] = [
            {k: v for k, v in port.items() if k != "nodePort"} for port in ports
        ]
    if kept.get("type") == TOKEN:
        # The server signs it for the account's uid.
        del kept["data"], metadata["annotations"]["kubernetes.io/service-account.uid"]
    return kept


def until(check, *, within_s: float = READY_S, what=None) -> Any:
    """Ask until the answer is true; say what was left when time is up."""
    deadline = time.monotonic() + within_s
    while not (answer := check()):
        assert time.monotonic() < deadline, what() if what else "not true in time"
        time.sleep(0.2)
    return answer
