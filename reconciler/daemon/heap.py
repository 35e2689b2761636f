"""One heap for all threads of the daemon, which gives back what is large.

glibc gives threads heaps of their own, up to eight a core, and memory that one thread frees serves no other. The
daemon's threads wait for each other's interpreter anyway, so that a single heap costs no time and some megabytes less.
And it keeps large pieces in the heap once one was freed: a page of a list, gone since long, would count for ever
(`mallopt(3)`: M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD). Other C libraries have no such call, and no such heaps.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 128 * 1024


def share_one_heap() -> bool:
    """Do it; False where the C library knows nothing of it. Before the first thread starts."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    for threshold in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        set_option(threshold, _LARGE_BYTES)
    return bool(set_option(_M_ARENA_MAX, 1))
