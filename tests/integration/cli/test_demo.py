"""The demo, as a newcomer runs it: real processes, a real database, every proof of the story."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reconciler.cli.demo.stage import has_postgres
from reconciler.cluster.kubernetes import connect
from tests.support.command import ROOT, reconciler
from tests.support.excerpts import blocks, missing
from tests.support.sandbox import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_the_whole_story():
    """All six chapters hold, on PostgreSQL where the machine has it (in CI always); the README quotes this story."""
    answer = reconciler("demo")

    assert answer.code == 0, answer.out + answer.err
    for proof in (
        "objects and 150030 rows are equal to what was captured",
        "objects and 40 files are equal to what was captured",
        "nothing happens twice",
        "catches up 1 missed",
        "networking.k8s.io/v1beta1 → networking.k8s.io/v1",
        "expired-certificate",
        "capture(outpost/shop): Succeeded",
        "time taken:",
    ):
        assert proof in answer.out, proof
    assert ("PostgreSQL" in answer.out) == has_postgres()
    if has_postgres():
        quoted = [lines for lines in blocks() if "Succeeded" in str(lines) or "Plan:" in str(lines)]
        assert len(quoted) == 3
        assert [missing(lines, answer.out) for lines in quoted] == [None] * 3, "README.md"
    if os.environ.get("CI"):
        assert has_postgres(), "CI must not fall back to SQLite"


def test_sqlite_when_there_is_no_server(tmp_path):
    """Without a PostgreSQL server the shop runs on SQLite and the story is the same; CI refuses that."""
    without = {"RECONCILER_DEMO_DATABASE": "sqlite"}
    refused = reconciler("demo", CI="true", **without)
    answer = reconciler("demo", CI="", **without)

    assert refused.code == 6
    assert "PostgreSQL" in refused.err
    assert answer.code == 0, answer.out + answer.err
    assert "SQLite" in answer.out
    assert "objects and 150030 rows are equal to what was captured" in answer.out


def test_keep_stays_until_told_to_end(tmp_path):
    """`--keep` leaves everything up, both clusters with their daemons, and ends cleanly on SIGTERM.

    What it says to type works: a namespace that is lost comes back by a manifest that is pushed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli.main", "demo", "--keep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        try:
            points, kept = look_around(process)
            bring_back(kept)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    assert points.code == 0, points.err
    assert len(points.out.splitlines()) >= 9
    assert not kept.root.exists()


class Kept:
    """What was printed about what stays up."""

    def __init__(self, lines):
        self.text = "".join(lines)
        self.exported = dict(
            line.split("export ", 1)[1].split("#")[0].strip().split("=", 1)
            for line in lines
            if "  export " in line
        )
        self.root = Path(self.exported["RECONCILER_CONFIG"]).parent
        self.policies = self.root / "policies"

    def reconciler(self, *argv, cluster="outpost"):
        """A verb with the configuration of a cluster."""
        return reconciler("--config", str(self.root / f"{cluster}.yaml"), *argv)


def bring_back(kept):
    """Delete the wiki, ask for it back by Git, and wait for the daemon; the harbor can be asked too."""
    outpost = connect(name="outpost", kubeconfig=Path(kept.exported["KUBECONFIG"]))
    namespaces = outpost.discover().find("", "Namespace")
    outpost.delete(namespaces, "wiki")
    eventually(lambda: outpost.get(namespaces, "wiki") is None)
    asked = kept.reconciler("restore", "new", "wiki/_/latest", "--reason", "a try", "--name", "try")
    assert asked.code == 0, asked.err
    (kept.policies / "restores/try.yaml").write_text(asked.out)
    for argv in (("add", "-A"), ("commit", "-qm", "back"), ("push", "-q", "origin", "main")):
        subprocess.run(["git", "-C", kept.policies, *argv], check=True)

    def phase():
        items = json.loads(kept.reconciler("get", "restores", "-o", "json").out)["items"]
        return next((one["phase"] for one in items if one["name"].endswith("/try")), "")

    eventually(lambda: phase() in ("Succeeded", "Partial", "Failed"), within_s=60)
    log = (kept.root / "outpost-daemon.log").read_text()
    assert phase() == "Succeeded", log
    assert outpost.get(namespaces, "wiki") is not None
    assert f"RECONCILER_CONFIG={kept.root}/harbor.yaml" in kept.text
    assert "legacy" in kept.reconciler("get", "apps", cluster="harbor").out
    assert "kubectl apply --validate=false" in kept.text


def look_around(process):
    """Wait until the story is told, and use what it left running."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("The policy repository to work in"):
            break
    assert process.poll() is None, "".join(lines)
    kept = Kept(lines)
    kubeconfig = Path(kept.exported["KUBECONFIG"])
    assert yaml.safe_load(kubeconfig.read_text())["kind"] == "Config"
    if shutil.which("kubectl"):
        listed = subprocess.run(
            ["kubectl", "--kubeconfig", kubeconfig, "get", "namespaces", "-o", "name"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "namespace/shop" in listed.stdout
    return kept.reconciler("get", "points", "-o", "name"), kept
