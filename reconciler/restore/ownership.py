"""Gives fields back to the managers that owned them when the object was captured.

Whoever creates an object owns all its fields, as an `Update` under the request's manager name; managedFields
in a POST are ignored. So an object with one `Update` manager is created under that name and is done. With
several managers, or one that applies, a patch of `metadata.managedFields` afterwards is taken whole by the
server. Entries are rewritten to the version that is written, and lose paths that transforms removed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from reconciler.objects import FIELD_MANAGER, Manifest, field


@dataclass(frozen=True)
class Ownership:
    """Under whose name an object is created, and the entries to give back afterwards (none: no patch)."""

    creator: str
    entries: tuple[dict[str, Any], ...] = ()


def ownership_of(captured: Manifest, desired: Manifest) -> Ownership:
    """Decide how the managers of `captured` get their fields of `desired` back."""
    entries = [
        entry
        for entry in field(captured, "metadata", "managedFields", default=[])
        if not entry.get("subresource") and entry.get("manager") and entry.get("fieldsV1")
    ]
    updaters = [entry["manager"] for entry in entries if entry.get("operation") == "Update"]
    if len(entries) == 1 and updaters:
        return Ownership(creator=updaters[0])
    if not entries:
        return Ownership(creator=FIELD_MANAGER)
    creator = updaters[0] if updaters else FIELD_MANAGER
    rewritten = [entry for old in entries if (entry := _rewrite(old, desired)) is not None]
    return Ownership(creator=creator, entries=tuple(rewritten))


def _rewrite(entry: dict[str, Any], desired: Manifest) -> dict[str, Any] | None:
    owned = _prune(entry["fieldsV1"], desired)
    if not owned:
        return None
    return {
        **entry,
        "apiVersion": desired["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
    }


def _prune(owned: dict[str, Any], value: Any) -> dict[str, Any]:
    """Keep the owned paths that lead somewhere in `value`."""
    kept = {}
    for step, inside in owned.items():
        if step == ".":
            kept[step] = inside
            continue
        target = _follow(step, value)
        if target is None:
            continue
        below = _prune(inside, target[0]) if inside else {}
        if below or not inside:
            kept[step] = below
    return kept


def _follow(step: str, value: Any) -> tuple[Any] | None:
    """What one step of a field path leads to, in a tuple; None when it leads nowhere."""
    mark, _, name = step.partition(":")
    if mark == "f" and isinstance(value, dict):
        return (value[name],) if name in value else None
    if not isinstance(value, list):
        return None
    if mark == "v":
        wanted = json.loads(name)
        return (wanted,) if wanted in value else None
    if mark == "k":
        keys = json.loads(name)
        for item in value:
            if isinstance(item, dict) and all(_is_key(item, k, v) for k, v in keys.items()):
                return (item,)
    if mark == "i" and name.isdigit() and int(name) < len(value):
        return (value[int(name)],)
    return None


def _is_key(item: dict[str, Any], key: str, wanted: Any) -> bool:
    """Whether a list item has this key; the protocol of a port defaults to TCP."""
    return bool(item.get(key, "TCP" if key == "protocol" else None) == wanted)
