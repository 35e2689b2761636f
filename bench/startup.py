"""Start-up of the command line beside `python -c pass`, in one run: medians and their ratio."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

RUNS = 15


def timed(argv: list[str], **environment: str) -> float:
    """Seconds of one run of a command."""
    started = time.perf_counter()
    subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, check=False)
    return time.perf_counter() - started


def main() -> dict[str, float]:
    """Measure in turns, so that a change of the machine's speed meets all alike."""
    module = [sys.executable, "-m", "reconciler.cli.main"]
    commands: dict[str, tuple[list[str], dict[str, str]]] = {
        "python -c pass": ([sys.executable, "-c", "pass"], {}),
        "reconciler --help": ([*module, "--help"], {}),
        "completion": (
            module,
            {
                "_RECONCILER_COMPLETE": "bash_complete",
                "COMP_WORDS": "reconciler re",
                "COMP_CWORD": "1",
            },
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(RUNS + 1):
        for name, (argv, environment) in commands.items():
            taken = timed(argv, **environment)
            if turn:  # the first turn warms the caches
                seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = medians["python -c pass"]
    for name, median in medians.items():
        print(f"{name:<20} {median * 1000:6.0f} ms   {median / base:4.1f} × python -c pass")
    return medians


if __name__ == "__main__":
    main()
