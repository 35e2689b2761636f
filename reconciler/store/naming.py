"""What a name in a location may look like.

A name is parts joined by `/`. Each part starts with a letter, a digit or `_` and goes on with those, `.`
and `-`; so no name can leave the root, hide a file, or collide with an adapter's temporary files.
"""

from __future__ import annotations

import re

from reconciler.errors import UsageError

NAME_BYTES_MAX = 1000
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


def is_part(text: str) -> bool:
    """Tell whether `text` may be one part of a name."""
    return PART.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Return `name` when it names an object.

    Raises:
        UsageError: a part is empty, or has characters that names do not have.
    """
    if len(name) > NAME_BYTES_MAX or not all(map(is_part, name.split("/"))):
        raise UsageError(
            f"name object {name[:80]!r}: not a name in a store",
            hint="use letters, digits, '_', '.' and '-'; a part starts with a letter, a digit or '_'",
        )
    return name


def check_prefix(prefix: str) -> str:
    """Return `prefix` when names can start with it; it may end in the middle of a part, or be empty."""
    if prefix:
        check_name(prefix.removesuffix("/"))
    return prefix
