"""The command line at a terminal: somebody types when something asks."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.command import ROOT, Answer


def at_terminal(*argv: str, typed: str, **environment: str) -> Answer:
    """Run one command whose stdin is a terminal, and type a line at its first question, if it has one."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment}
    ours, theirs = os.openpty()
    said = b""
    with subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli.main", *argv],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={key: value for key, value in variables.items() if value},
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            while piece := os.read(process.stderr.fileno(), 4096):
                asked = b"assphrase" in said
                said += piece
                if not asked and b"assphrase" in said and said.rstrip().endswith(b":"):
                    os.write(ours, typed.encode() + b"\n")
            out = process.stdout.read()
            code = process.wait(timeout=60)
        finally:
            process.kill()
            os.close(ours)
    return Answer(code, out.decode(), said.decode())
