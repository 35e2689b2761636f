"""Real processes, really killed: the ledger is sound afterwards, wherever they were."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reconciler.ledger.chain import verify_chain
from tests.support.gitremote import GitRemote, fsck
from tests.support.ledgers import ledger

ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import sys
from pathlib import Path
from tests.support.ledgers import ledger, point, restore
from reconciler.ledger.ledger import Entry
here = ledger(Path(sys.argv[1]), sys.argv[2])
here.refresh()
done = len(here.view().points())
print("ready", flush=True)
for number in range(done, done + 1000):
    here.append([Entry(point(number))])
    if number % 3 == 0:
        here.push()
    if number % 5 == 0:
        here.accept(restore(attempt=number + 1))
    print(number, flush=True)
"""


ONE_RECORD = """
import sys
from pathlib import Path
from tests.support.ledgers import ledger, point
from reconciler.ledger.ledger import Entry
here = ledger(Path(sys.argv[1]), sys.argv[2])
here.append([Entry(point(0))])
print("appended", flush=True)
here.push()
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")
def test_records_are_flushed(tmp_path):
    """Pack, index and ref are flushed before an append returns, and at the remote before a push does."""
    remote, trace = GitRemote(tmp_path / "remote.git"), tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,write", "-s", "16", "-o", trace]
        + [sys.executable, "-c", ONE_RECORD, str(tmp_path / "work"), remote.url],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    before, _, after = trace.read_text().partition('"appended')
    local = [line for line in before.splitlines() if "sync(" in line]
    assert any("ledger.git/objects/pack" in line for line in local)
    assert any("refs/heads/restore-points/prod" in line for line in local)
    there = [line for line in after.splitlines() if "sync(" in line and "remote.git" in line]
    assert any("/objects/" in line for line in there)
    assert any("refs/heads/restore-points/prod" in line for line in there)


@pytest.mark.slow
def test_kill_nine(tmp_path):
    """A writer killed at different moments loses nothing that it said was written, and blocks nobody after it."""
    remote = GitRemote(tmp_path / "remote.git")
    said = -1
    for turn in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "work"), remote.url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        ) as process:
            assert process.stdout.readline() == "ready\n"
            threading.Timer(0.05 + 0.11 * turn, process.send_signal, [signal.SIGKILL]).start()
            lines = process.stdout.read().splitlines(keepends=True)
        assert process.returncode == -signal.SIGKILL
        lines = [line for line in lines if line.endswith("\n")]
        said = max([said, *map(int, lines)])
        here = ledger(tmp_path / "work", remote.url)
        assert len(here.view().points()) >= said + 1
        here.refresh()
        here.push()
        assert verify_chain(here.view()) == []
        assert len(here.view().points()) >= said + 1
        fsck(here.clone.path)
        fsck(remote.path)
    assert said > 0
