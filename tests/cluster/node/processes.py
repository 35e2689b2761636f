"""Processes of a test cluster: started apart from the caller, known by id and start time, ended by these alone.

A record beside the logs survives the caller, so that another process can end the cluster, and an id that the
system gave to somebody else meanwhile is never signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

TERM_S = 10.0


class StartError(Exception):
    """A part of the cluster did not come up; the text names its log."""


def started_at(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None when it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Processes:
    """What was started for one cluster, in order."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "processes.json"
        self._logs = folder / "logs"

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        namespace: str,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start a program in a network namespace; its output goes to `logs/NAME.log`."""
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{namespace}", "--", *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self._logs)} | (environment or {}),
                start_new_session=True,
            )
        known = self._read()
        known.append({"name": name, "pid": process.pid, "started": started_at(process.pid)})
        self._file.write_text(json.dumps(known))

    def check(self) -> None:
        """Raise StartError when one of them ended."""
        for entry in self._read():
            if started_at(entry["pid"]) != entry["started"]:
                raise StartError(f"{entry['name']} ended:\n{self.tail(entry['name'])}")

    def tail(self, name: str, lines: int = 15) -> str:
        """The end of a log."""
        path = self._logs / f"{name}.log"
        text = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join([str(path), *text[-lines:]])

    def stop(self, *, first: Iterable[str] = (), last: Iterable[str] = ()) -> None:
        """End them all: those of `first`, then the others from the youngest on, then those of `last`."""
        known = self._read()
        order = list(first)
        order += [e["name"] for e in reversed(known) if e["name"] not in {*first, *last}]
        for name in [*order, *last]:
            stop_all([(e["pid"], e["started"]) for e in known if e["name"] == name])
        self._file.unlink(missing_ok=True)

    def _read(self) -> list[dict]:
        return json.loads(self._file.read_text()) if self._file.exists() else []


def stop_all(known: Iterable[tuple[int, str | None]], *, term_s: float = TERM_S) -> None:
    """End processes by id, each only while it is the one that is meant."""
    left = [(pid, started) for pid, started in known if started is not None]
    for number, patience_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, 5.0)):
        left = [(pid, started) for pid, started in left if started_at(pid) == started]
        for pid, _ in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + patience_s
        while left and time.monotonic() < deadline:
            for pid, _ in left:
                _reap(pid)
            left = [(pid, started) for pid, started in left if started_at(pid) == started]
            time.sleep(0.05)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def wait_until(check, *, what: str, within_s: float, processes: Processes | None = None):
    """Ask until the answer is true, and give it; names the part when time is up or a process ended."""
    deadline = time.monotonic() + within_s
    while True:
        answer = check()
        if answer:
            return answer
        if processes:
            processes.check()
        if time.monotonic() > deadline:
            raise StartError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.1)
