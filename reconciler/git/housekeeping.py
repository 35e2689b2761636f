"""Put the many small packs of a long-lived clone together, with the `git` program where there is one.

Only packs are touched: refs are left alone, because packing them locks branches that a writer moves, and
nothing is pruned, because a writer's newest pack is not referred to yet. Without `git` a clone keeps working,
only slower.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

REPACK_TIMEOUT_S = 600.0


def repack(clone: Path) -> bool:
    """Merge packs geometrically; whether it was done."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
        "LC_ALL": "C"
    }
    try:
        done = subprocess.run(  # noqa: S603 - every word is ours
            ["git", "-C", str(clone), "repack", "-d", "-q", "--geometric=2", "--write-midx"],  # noqa: S607
            env=environment,
            capture_output=True,
            timeout=REPACK_TIMEOUT_S,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        log.warning("packs were not put together", clone=str(clone), reason=type(error).__name__)
        return False
    if done.returncode != 0:
        text = done.stderr.decode(errors="replace").strip()[:500]
        log.warning("packs were not put together", clone=str(clone), message=text)
    return done.returncode == 0
