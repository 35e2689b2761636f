"""The demo, as a newcomer runs it: real processes, a real database, every proof of the story."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reconciler.cli.demo.stage import has_postgres
from tests.support.command import ROOT, reconciler

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_the_whole_story():
    """All six chapters hold, on PostgreSQL where the machine has it (in CI always)."""
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
    """`--keep` leaves everything up with a kubeconfig and commands that work, and ends cleanly on SIGTERM."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli.main", "demo", "--keep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        try:
            points = look_around(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    assert points.code == 0, points.err
    assert len(points.out.splitlines()) >= 9


def look_around(process):
    """Wait until the story is told, and use what it left running."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("The policy repository to work in"):
            break
    assert process.poll() is None, "".join(lines)
    exported = dict(
        line.split("export ", 1)[1].strip().split("=", 1) for line in lines if "  export " in line
    )
    kubeconfig = Path(exported["KUBECONFIG"])
    assert yaml.safe_load(kubeconfig.read_text())["kind"] == "Config"
    if shutil.which("kubectl"):
        listed = subprocess.run(
            ["kubectl", "--kubeconfig", kubeconfig, "get", "namespaces", "-o", "name"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "namespace/shop" in listed.stdout
    return reconciler("--config", exported["RECONCILER_CONFIG"], "get", "points", "-o", "name")
