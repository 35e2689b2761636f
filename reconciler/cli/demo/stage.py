"""The demo's stage: Git remotes on disk, a location, sandbox clusters as processes of their own, or the user's cluster.

Everything lives below one temporary folder that the user's database may enter (PostgreSQL refuses root, so it
runs as another user). Only processes that the stage started are ended, by their ids; in the user's cluster only the
namespaces that the demo made are deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from reconciler.cli.compose import Parts
from reconciler.cli.demo.setting import Real
from reconciler.clock import Clock
from reconciler.cluster.port import Cluster
from reconciler.daemon.settings import Configuration, load_configuration
from reconciler.errors import TerminalError

PASSPHRASE = "the demo's passphrase is no secret"  # noqa: S105 - the demo's store is thrown away
AUTHOR, EMAIL = "Dana Developer", "dana@outpost.example"
READY_S = 20.0
DATABASE = "RECONCILER_DEMO_DATABASE"
"""Set to `sqlite` to tell the story without PostgreSQL."""


class DemoFailedError(TerminalError):
    """The demo could not go on, or found that something was not as it should be."""


@dataclass
class SandboxProcess:
    """A sandbox cluster in a process of its own."""

    name: str
    profile: str
    kubeconfig: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End the process and what it started."""
        end(self.process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started, by force when it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Stage:
    """The folder, the remotes and the clusters; a context manager that takes them down."""

    root: Path
    clusters: dict[str, SandboxProcess] = field(default_factory=dict)
    real: dict[str, Real] = field(default_factory=dict)
    """Clusters that are the user's."""
    borrowed: list[tuple[Cluster, str]] = field(default_factory=list)
    """Namespaces that were made in them."""
    configured: list[str] = field(default_factory=list)
    """The clusters that have a configuration, in the order in which they came up."""
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        # Others may pass through, none may list: the database's user needs its own folder only.
        self.root.chmod(0o711)
        return self

    def __exit__(self, *exc: object) -> None:
        for daemon in self.daemons:
            daemon.terminate()
        for daemon in self.daemons:
            end(daemon)
        for cluster in self.clusters.values():
            cluster.stop()
        for borrowed, namespace in self.borrowed:
            kind = borrowed.discover().find("", "Namespace")
            if kind is not None and borrowed.get(kind, namespace) is not None:
                borrowed.delete(kind, namespace)
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def policies(self) -> Path:
        """The clone of the policy repository that a person works in."""
        return self.root / "policies"

    @property
    def policies_url(self) -> str:
        """The policy repository's remote."""
        return (self.root / "remotes" / "policies.git").as_uri()

    @property
    def ledger_url(self) -> str:
        """The ledger's remote."""
        return (self.root / "remotes" / "ledger.git").as_uri()

    @property
    def location_url(self) -> str:
        """The store."""
        return (self.root / "location").as_uri()

    def make_remotes(self) -> None:
        """Make two bare repositories and clone the policies."""
        for name in ("policies", "ledger"):
            git(["init", "-q", "--bare", "-b", "main", str(self.root / "remotes" / f"{name}.git")])
        git(["clone", "-q", str(self.root / "remotes" / "policies.git"), str(self.policies)])
        git(["checkout", "-q", "-B", "main"], cwd=self.policies)
        for key, value in (("name", AUTHOR), ("email", EMAIL)):
            git(["config", f"user.{key}", value], cwd=self.policies)

    def make_location(self) -> None:
        """Make the location ready, with the demo's passphrase."""
        from reconciler.store.keys import init_location
        from reconciler.store.storage import open_storage

        (self.root / "passphrase").write_text(PASSPHRASE + "\n")
        (self.root / "passphrase").chmod(0o600)
        init_location(open_storage(self.location_url, create=True), PASSPHRASE)

    def merge(self, message: str) -> None:
        """Commit everything in the clone and push it, as a merged pull request would be."""
        git(["add", "-A"], cwd=self.policies)
        git(["commit", "-q", "-m", message], cwd=self.policies)
        git(["push", "-q", "origin", "main"], cwd=self.policies)

    def start_cluster(self, name: str, *, profile: str) -> SandboxProcess:
        """Start a sandbox cluster and wait until it answers.

        Raises:
            DemoFailedError: it did not start.
        """
        directory = self.root / name
        directory.mkdir(mode=0o711)
        kubeconfig = self.root / f"{name}.kubeconfig"
        log = self.root / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own module, our own arguments
                [
                    *(sys.executable, "-m", "reconciler.cluster.sandbox", "--processes"),
                    *("--directory", str(directory), "--name", name, "--profile", profile),
                    *("--kubeconfig", str(kubeconfig)),
                ],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        cluster = SandboxProcess(name=name, profile=profile, kubeconfig=kubeconfig, process=process)
        self.clusters[name] = cluster
        deadline = time.monotonic() + READY_S
        while b" serves " not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise DemoFailedError(f"start sandbox {name}: it did not become ready\n{tail}")
            time.sleep(0.05)
        return cluster

    def start_daemon(self, name: str) -> None:
        """Start the daemon of a cluster, on the clock of this machine; its log lies beside its configuration."""
        with (self.root / f"{name}-daemon.log").open("wb") as output:
            daemon = subprocess.Popen(  # noqa: S603 - our own module, our own arguments
                [
                    *(sys.executable, "-m", "reconciler.cli.main"),
                    *("--config", str(self.root / f"{name}.yaml"), "run"),
                ],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        self.daemons.append(daemon)

    def borrow(self, cluster: Cluster, namespaces: Sequence[str]) -> None:
        """Take namespaces of the user's cluster for the time of the demo.

        Raises:
            DemoFailedError: one of them is there already: it is somebody's.
        """
        kind = cluster.discover().find("", "Namespace")
        assert kind is not None
        for namespace in namespaces:
            if cluster.get(kind, namespace) is not None:
                raise DemoFailedError(
                    f"use cluster {cluster.name}: it has a namespace {namespace} already",
                    hint="the demo makes it and deletes it at the end; use a cluster without one",
                )
        self.borrowed += [(cluster, namespace) for namespace in namespaces]

    def configure(self, name: str) -> Configuration:
        """Write the operator's configuration for a cluster and load it."""
        path = self.root / f"{name}.yaml"
        if name not in self.configured:
            self.configured.append(name)
        reached = f"kubeconfig: {name}.kubeconfig"
        helper = ""
        if name in self.real:
            real = self.real[name]
            reached = f"context: {json.dumps(real.context)}"
            if real.kubeconfig:
                reached += f", kubeconfig: {json.dumps(str(real.kubeconfig.absolute()))}"
            helper = f"\nhelperImage: {json.dumps(real.tools_image)}"
        path.write_text(
            f"""\
# The operator's configuration of the daemon for the cluster {name}.
cluster: {{name: {name}, {reached}}}
sources:
  - {{name: policies, url: "{self.policies_url}", ref: main}}
ledger: {{url: "{self.ledger_url}"}}
workDirectory: work-{name}{helper}
passphrases:
  primary: {{file: passphrase}}
health: {{port: 0}}
poll: 3s
"""
        )
        return load_configuration(path)

    def parts(self, name: str, *, clock: Clock) -> Parts:
        """The parts of a daemon for a cluster, on the demo's clock."""
        return Parts(self.configure(name), clock=clock)


def git(argv: Sequence[str], *, cwd: Path | None = None) -> str:
    """Run git with nobody's configuration but ours, and return its output.

    Raises:
        DemoFailedError: git failed, or is not installed.
    """
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": AUTHOR,
        "GIT_AUTHOR_EMAIL": EMAIL,
        "GIT_COMMITTER_NAME": AUTHOR,
        "GIT_COMMITTER_EMAIL": EMAIL,
    }
    try:
        result = subprocess.run(  # noqa: S603 - fixed program, arguments of ours
            ["git", *argv],  # noqa: S607 - the user's git, wherever it is
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError as error:
        raise DemoFailedError("run git: it is not installed", hint="install git") from error
    except subprocess.CalledProcessError as error:
        raise DemoFailedError(f"run git {argv[0]}: {error.stderr.strip()}") from error
    return result.stdout


def has_postgres() -> bool:
    """Whether this machine has a PostgreSQL server that may be used."""
    if os.environ.get(DATABASE) == "sqlite":
        return False
    return shutil.which("initdb") is not None or any(
        Path("/usr/lib/postgresql").glob("*/bin/initdb")
    )
