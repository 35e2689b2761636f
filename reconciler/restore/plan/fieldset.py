"""Sets of fields as managedFields hold them (FieldsV1), followed through objects.

A step of a path is `f:name` of a map, `k:{…}` of a list item by its keys, `v:…` of a list of values, `i:n` of an
item by its place; `.` marks a map or item itself.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/, structured-merge-diff
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from reconciler.objects import Manifest, field

Path = tuple[str, ...]
SELF = "."


def entries_of(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The managedFields entries of an object that say something."""
    for entry in field(manifest, "metadata", "managedFields", default=[]):
        if entry.get("manager") and isinstance(entry.get("fieldsV1"), dict):
            yield entry


def leaves(owned: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    """The paths that lead to values, or to whole lists and maps; marks of maps and items are left out."""
    for step, inside in owned.items():
        if step == SELF:
            continue
        if any(key != SELF for key in inside or {}):
            yield from leaves(inside, (*path, step))
        else:
            yield (*path, step)


def follow(step: str, value: Any) -> tuple[Any] | None:
    """What one step leads to, in a tuple; None when it leads nowhere."""
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


def prune(owned: dict[str, Any], value: Any) -> dict[str, Any]:
    """Keep the owned paths that lead somewhere in `value`."""
    kept = {}
    for step, inside in owned.items():
        if step == SELF:
            kept[step] = inside
            continue
        target = follow(step, value)
        if target is None:
            continue
        below = prune(inside, target[0]) if inside else {}
        if below or not inside:
            kept[step] = below
    return {} if set(kept) == {SELF} and set(owned) != {SELF} else kept


def merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The union of two sets; neither is changed."""
    union = dict(one)
    for step, inside in other.items():
        union[step] = merge(union[step], inside) if step in union else inside
    return union


def key_step(**keys: Any) -> str:
    """The step to a list item by its keys, as servers write it."""
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)


def _is_key(item: dict[str, Any], key: str, wanted: Any) -> bool:
    """Whether a list item has this key; the protocol of a port defaults to TCP."""
    return bool(item.get(key, "TCP" if key == "protocol" else None) == wanted)
