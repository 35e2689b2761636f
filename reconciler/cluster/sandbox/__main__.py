"""Run a sandbox as a process of its own until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from reconciler.cluster.sandbox.server import Sandbox


def main() -> int:
    """Parse the command line, serve, end cleanly."""
    parser = argparse.ArgumentParser(prog="python -m reconciler.cluster.sandbox")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--name", default="sandbox")
    parser.add_argument("--profile", default="1.36")
    parser.add_argument("--processes", action="store_true", help="run the commands of pods")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    given = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    kubeconfig = given.__dict__.pop("kubeconfig")
    with Sandbox(**vars(given)) as sandbox:
        sandbox.write_kubeconfig(kubeconfig)
        sys.stdout.write(f"sandbox {sandbox.name} serves {sandbox.url}\n")
        sys.stdout.flush()
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
