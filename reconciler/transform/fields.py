"""Reading parts of a manifest that may be missing, null or of a wrong type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.objects import Manifest

Lines = list[str]
"""What was changed, one line each."""


def map_of(manifest: Manifest, field: str) -> dict[str, Any]:
    """The map at `field`, made when it is missing or null, so that changes to it stay."""
    value = manifest.get(field)
    if not isinstance(value, dict):
        value = manifest[field] = {}
    return value


def items_of(value: Any) -> Iterator[dict[str, Any]]:
    """The maps in a list; nothing when it is none."""
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))
