"""The command line as a process, the way people and scripts meet it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


def reconciler(
    *argv: str,
    cwd: Path | None = None,
    stdin: str | None = None,
    within_s: float = 120,
    **environment: str,
) -> Answer:
    """Run one command; variables with an empty value are unset."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment}
    made = subprocess.run(
        [sys.executable, "-m", "reconciler.cli.main", *argv],
        cwd=cwd,
        env={key: value for key, value in variables.items() if value},
        **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        capture_output=True,
        text=True,
        timeout=within_s,
    )
    return Answer(made.returncode, made.stdout, made.stderr)
