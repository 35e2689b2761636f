"""pygit2, loaded when first used and set to be safe: files are flushed, waits are bounded.

libgit2 flushes nothing and waits for ever unless told otherwise, and these settings hold for the process.
Loading costs a tenth of a second, which `reconciler --help` does not pay.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

CONNECT_TIMEOUT_MS = 10_000
SERVER_TIMEOUT_MS = 60_000
CACHE_BYTES_MAX = 64 * 1024 * 1024


@cache
def load_pygit2() -> ModuleType:
    """Import pygit2 once and set its process-wide switches."""
    import pygit2
    import pygit2.enums

    pygit2.settings.enable_fsync_gitdir(True)
    pygit2.settings.enable_strict_hash_verification(True)
    pygit2.settings.server_connect_timeout = CONNECT_TIMEOUT_MS
    pygit2.settings.server_timeout = SERVER_TIMEOUT_MS
    pygit2.settings.cache_max_size(CACHE_BYTES_MAX)
    return pygit2
