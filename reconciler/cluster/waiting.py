"""Waits for what others do.

Every wait has a bound in real time, because a cluster's time is real, and ends early when work must stop. A check gives
the problem that is left, empty when there is none; the last problem is the cause that a person reads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_FIRST_NAP_S = 0.05
_LONGEST_NAP_S = 1.0


Hear = Callable[[str, str], None]
"""Is told who is waited for and what is lacking, empty at the end."""


def _heard_by_nobody(_what: str, _problem: str) -> None:
    """Nobody asks."""


def wait_for(
    check: Callable[[], str],
    *,
    timeout_s: float,
    stop: threading.Event,
    what: str = "",
    hear: Hear = _heard_by_nobody,
) -> str:
    """Ask `check` until it gives an empty text; give the last problem when time is up or work stops.

    `what` is who is waited for; `hear` is told each problem, and an empty one at the end.
    """
    deadline, nap_s = time.monotonic() + timeout_s, _FIRST_NAP_S
    try:
        while True:
            problem = check()
            left_s = deadline - time.monotonic()
            if not problem or left_s <= 0:
                return problem
            hear(what, problem)
            if stop.wait(min(nap_s, left_s)):
                return problem
            nap_s = min(nap_s * 1.5, _LONGEST_NAP_S)
    finally:
        hear(what, "")
