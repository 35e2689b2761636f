"""Who owns which field: `managedFields`, as sets of paths, and what apply takes away.

A path is made of the steps of FieldsV1: `f:name`, `k:{…}`, `v:…`, and `.` for a map or item itself. Without
schemas, maps such as labels are known by name; all other maps count as structures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reconciler.cluster.sandbox.catalog import RULES
from reconciler.cluster.sandbox.patch import keyed, merge
from reconciler.objects import Manifest

Path = tuple[str, ...]
_SERVER = {"name", "namespace", "uid", "creationTimestamp", "resourceVersion", "generation"}
_SERVER |= {"managedFields", "deletionTimestamp", "deletionGracePeriodSeconds"}


def owned(manifest: Manifest) -> dict[Path, Any]:
    """The fields of a manifest that can have an owner, with their values."""
    body = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind", "metadata")}
    metadata = {k: v for k, v in (manifest.get("metadata") or {}).items() if k not in _SERVER}
    found: dict[Path, Any] = {}
    _collect(body | ({"metadata": metadata} if metadata else {}), (), found)
    return found


def _below(value: Any, step: str) -> dict[str, Any] | None:
    """The parts of a map or of a list with merge keys, by their steps."""
    if isinstance(value, dict):
        return {f"f:{k}": v for k, v in value.items()}
    return keyed(step.removeprefix("f:"), value) if isinstance(value, list) else None


def _collect(value: Any, path: Path, found: dict[Path, Any]) -> None:
    step = path[-1] if path else ""
    if not (parts := _below(value, step)):
        found[path] = value
        return
    if step.startswith("k:") or step[2:] in RULES["maps"]:
        found[*path, "."] = None
    for key, part in parts.items():
        _collect(part, (*path, key), found)


def _tree(paths: Iterable[Path]) -> Manifest:
    tree: Manifest = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    return tree


def _paths(tree: Manifest, path: Path = ()) -> set[Path]:
    found = {p for step, below in tree.items() for p in _paths(below, (*path, step))}
    return found or {path}


@dataclass(frozen=True, slots=True)
class Write:
    """How a write is asked for: under which manager's name, on which subresource, for real or not."""

    manager: str
    subresource: str = ""
    dry_run: bool = False
    applied: set[Path] | None = None


def record(old: Manifest, new: Manifest, *, how: Write, time: str) -> list[Manifest]:
    """The managedFields of `new`: what this write changed (or applied) is its manager's."""
    applied = how.applied
    before, after = owned(old), owned(new)
    there = {path[:end] for path in after for end in range(1, len(path) + 1)}
    changed = {p for p, value in after.items() if p not in before or before[p] != value}
    operation = "Update" if applied is None else "Apply"
    entry: Manifest = {"manager": how.manager, "operation": operation}
    entry |= {"apiVersion": new["apiVersion"], "fieldsType": "FieldsV1"}
    entry |= {"subresource": how.subresource} if how.subresource else {}
    mine: set[Path] = set()
    place, previous = -1, entry
    result: list[Manifest] = []
    for other in old.get("metadata", {}).get("managedFields") or []:
        theirs = _paths(other.get("fieldsV1") or {})
        if {k: v for k, v in other.items() if k not in ("time", "fieldsV1")} == entry:
            mine, place, previous = theirs, len(result), other
        elif rest := (theirs - changed) & there:
            result.append(other if rest == theirs else other | {"fieldsV1": _tree(rest)})
    if wanted := (mine | changed if applied is None else applied) & there:
        entry = previous if wanted == mine else entry | {"time": time, "fieldsV1": _tree(wanted)}
        result.insert(len(result) if place < 0 else place, entry)
    return result


def apply(live: Manifest, sent: Manifest, *, manager: str) -> Manifest:
    """Lay `sent` over `live`; what the manager applied before and sends no more goes, if nobody else has it."""
    gone: set[Path] = set()
    kept = set(owned(sent))
    for entry in live["metadata"].get("managedFields") or []:
        words = [entry.get(k) for k in ("manager", "operation", "subresource")]
        fields = _paths(entry.get("fieldsV1") or {})
        gone, kept = (fields, kept) if words == [manager, "Apply", None] else (gone, kept | fields)
    return _without(merge(live, sent, lists=True), gone - kept, ()) or {}


def _without(value: Any, gone: set[Path], path: Path) -> Any:
    """`value` without the fields of `gone`; None when nothing is left of it."""
    step = path[-1] if path else ""
    parts = _below(value, step)
    if (not parts and path in gone) or (step.startswith("k:") and (*path, ".") in gone):
        return None
    if not parts:
        return value
    kept = {key: _without(part, gone, (*path, key)) for key, part in parts.items()}
    kept = {key: part for key, part in kept.items() if part is not None}
    if isinstance(value, list):
        return list(kept.values()) or None
    return {key[2:]: part for key, part in kept.items()} or None
