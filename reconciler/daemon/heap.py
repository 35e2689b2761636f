"""One heap for all threads of the daemon.

glibc gives threads heaps of their own, up to eight a core, and memory that one thread frees serves no other. The
daemon's threads wait for each other's interpreter anyway, so that a single heap costs no time and some megabytes less
(`mallopt(3)`, M_ARENA_MAX). Other C libraries have no such call, and no such heaps.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8


def share_one_heap() -> bool:
    """Do it; False where the C library knows nothing of it. Before the first thread starts."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except (OSError, AttributeError):
        return False
