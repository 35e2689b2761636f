"""Gives fields back to the managers that owned them when the object was captured; none is kept for us.

Whoever creates an object owns all its fields, as an `Update` under the request's manager name; managedFields
in a POST are ignored. So an object with one `Update` manager is created under that name and is done. With
several managers, or one that applies, a patch of `metadata.managedFields` afterwards is taken whole by the
server. Entries are rewritten to the version and the paths that transforms made (`rewritten`); what only exists
after the write (status entries of controllers, new uids of owners) is put in by `given_back`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.objects import FIELD_MANAGER, Manifest, duplicate, field, owners_of
from reconciler.restore.plan.fieldset import (
    SELF,
    Path,
    entries_of,
    follow,
    key_step,
    leaves,
    merge,
    prune,
)
from reconciler.restore.plan.strip import explicit_node_ports, strip

_OWNERS = "f:ownerReferences"
_NOBODY: dict[str, Any] = {}
"""One empty entry takes every owner off an object; an empty list would be taken for no answer."""
_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "webhooks": ("name",),
}
"""Lists whose items have owners of their own, by the name of their field; all others count as one value."""


@dataclass(frozen=True)
class Ownership:
    """Under whose name an object is written, and the entries to give back afterwards (none: no patch)."""

    creator: str
    entries: tuple[dict[str, Any], ...] = ()
    owners: tuple[tuple[str, str, str], ...] = ()
    """(captured uid, kind, name) of the object's owners, whose uids stand in paths of `entries`."""


def ownership_of(
    captured: Manifest,
    desired: Manifest,
    *,
    served: Collection[str] = (),
    live: Manifest | None = None,
    replacement: Manifest | None = None,
) -> Ownership:
    """Decide how the managers of `captured` get their fields of `desired` back.

    Args:
        captured: the object as captured, managedFields included.
        desired: the object as it should be.
        served: the apiVersions in which the target serves this kind.
        live: the object as it is, when it is to be updated in place.
        replacement: what an update sends; what it spares stays with its live owners.
    """
    if not field(captured, "metadata", "managedFields", default=[]):
        is_made_up = not field(captured, "metadata", "uid")
        return Ownership(creator=FIELD_MANAGER, entries=() if is_made_up else (_NOBODY,))
    owned = [entry for entry in entries_of(captured) if entry.get("subresource") != "status"]
    updaters = [
        entry["manager"]
        for entry in owned
        if entry.get("operation") == "Update" and not entry.get("subresource")
    ]
    creator = updaters[0] if updaters else FIELD_MANAGER
    is_exact = _is_alone(creator, live) and not _has_given_ports(captured, desired)
    if len(owned) == 1 and updaters and is_exact:
        return Ownership(creator=creator)
    entries = rewritten(captured, desired, owned, served=served)
    if live is not None and replacement is not None:
        entries += _spared_parts(live, desired, replacement)
    owners = tuple(
        (str(owner.get("uid")), str(owner.get("kind")), str(owner.get("name")))
        for owner in owners_of(captured)
    )
    return Ownership(creator=creator, entries=tuple(_joined(entries)) or (_NOBODY,), owners=owners)


def given_back(ownership: Ownership, written: Manifest) -> list[dict[str, Any]]:
    """Make the managedFields that a written object must get.

    Args:
        ownership: what was decided.
        written: the object as the server answered; its status entries stay.
    """
    there = {
        (str(owner.get("kind")), str(owner.get("name"))): str(owner.get("uid"))
        for owner in owners_of(written)
    }
    uids = {uid: there.get((kind, name), "") for uid, kind, name in ownership.owners}
    entries = [_with_uids(entry, uids) for entry in ownership.entries if entry]
    entries += [entry for entry in entries_of(written) if entry.get("subresource") == "status"]
    return [entry for entry in entries if entry["fieldsV1"]] or [_NOBODY]


def is_unsettled(ownership: Ownership, live: Manifest) -> bool:
    """Whether the managers of a live object are not those that it should have."""

    def managers(entries: Iterable[dict[str, Any]]) -> set[tuple[Any, ...]]:
        return {
            (entry.get("manager"), entry.get("operation"), entry.get("subresource"))
            for entry in entries
            if entry.get("manager") and entry.get("subresource") != "status"
        }

    if not ownership.entries:
        return False
    return managers(ownership.entries) != managers(entries_of(live))


def rewritten(
    captured: Manifest,
    desired: Manifest,
    owned: list[dict[str, Any]],
    *,
    served: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Rewrite entries to the version and paths of `desired`.

    An entry of another version that the target serves stays as it is: its paths are those of that version.
    A field that transforms made, in place of others, goes to the managers that owned the others.
    """
    placed = _placed_owners(desired, captured)
    kept: list[dict[str, Any]] = []
    lost: list[set[Path]] = []
    was = strip(captured)
    for entry in owned:
        version = entry.get("apiVersion")
        fields = entry["fieldsV1"]
        is_foreign = version not in (captured.get("apiVersion"), desired["apiVersion"])
        if is_foreign and version in served:
            marks = {step: fields[step] for step in ("f:metadata",) if step in fields}
            metadata = prune(marks, placed)
            rest = {step: inside for step, inside in fields.items() if step != "f:metadata"}
            kept.append({**entry, "fieldsType": "FieldsV1", "fieldsV1": rest | metadata})
            lost.append(set())
            continue
        remaining = prune(fields, placed)
        there = {path for path in leaves(fields) if _leads(path, was) or is_foreign}
        lost.append({path for path in there if not _leads(path, placed)})
        given = {"apiVersion": desired["apiVersion"], "fieldsType": "FieldsV1"}
        kept.append({**entry, **given, "fieldsV1": remaining})
    _assign(kept, lost, captured, desired)
    return [entry for entry in kept if entry["fieldsV1"]]


def _is_alone(manager: str, live: Manifest | None) -> bool:
    """Whether an update under this name leaves no other owner behind."""
    if live is None:
        return True
    return all(
        (entry["manager"], entry.get("operation")) == (manager, "Update")
        for entry in entries_of(live)
        if entry.get("subresource") != "status"
    )


def _has_given_ports(captured: Manifest, desired: Manifest) -> bool:
    """Whether a Service gets node ports back that nobody asked for: whoever creates it would own them."""
    if (desired.get("kind"), desired.get("apiVersion")) != ("Service", "v1"):
        return False
    asked = explicit_node_ports(captured)
    return any(
        port.get("nodePort") and (port.get("port"), port.get("protocol", "TCP")) not in asked
        for port in field(desired, "spec", "ports", default=[])
    )


def _placed_owners(desired: Manifest, captured: Manifest) -> Manifest:
    """`desired` with the captured uids of its owners, which is what captured paths name."""
    uids = {(o.get("kind"), o.get("name")): o.get("uid") for o in owners_of(captured)}
    owners = [
        {**owner, "uid": uids.get((owner.get("kind"), owner.get("name")), owner.get("uid"))}
        for owner in owners_of(desired)
    ]
    if not owners:
        return desired
    return {**desired, "metadata": {**desired["metadata"], "ownerReferences": owners}}


def _with_uids(entry: dict[str, Any], uids: dict[str, str]) -> dict[str, Any]:
    """The entry with the uids that owners have now; a reference that is not there is dropped."""
    references = field(entry, "fieldsV1", "f:metadata", _OWNERS)
    if not references:
        return entry
    placed = {}
    for step, inside in references.items():
        old = json.loads(step[2:]).get("uid", "") if step.startswith("k:") else ""
        if step == SELF or uids.get(old):
            placed[step if step == SELF else key_step(uid=uids[old])] = inside
    changed = duplicate(entry)
    changed["fieldsV1"]["f:metadata"].pop(_OWNERS)
    if set(placed) - {SELF}:
        changed["fieldsV1"]["f:metadata"][_OWNERS] = placed
    if not changed["fieldsV1"]["f:metadata"]:
        del changed["fieldsV1"]["f:metadata"]
    return changed


def _leads(path: Path, value: Any) -> bool:
    """Whether a path leads somewhere."""
    for step in path:
        found = follow(step, value)
        if found is None:
            return False
        value = found[0]
    return True


def _assign(
    kept: list[dict[str, Any]], lost: list[set[Path]], captured: Manifest, desired: Manifest
) -> None:
    """Give fields that transforms made to the managers that lost fields nearest to them."""
    if not any(lost):
        return
    covered = {path for entry in kept for path in leaves(entry["fieldsV1"])}
    for path in _paths_of(desired):
        if _leads(path, captured) or any(
            path[:length] in covered for length in range(1, 1 + len(path))
        ):
            continue
        near = [max((_shared(path, old) for old in paths), default=0) for paths in lost]
        nearest = max(near)
        for index, entry in enumerate(kept):
            if nearest and near[index] == nearest:
                kept[index] = {**entry, "fieldsV1": merge(entry["fieldsV1"], _tree(path))}


def _shared(one: Path, other: Path) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _tree(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for step in reversed(path):
        tree = {SELF: {}, step: tree} if step.startswith("k:") and tree else {step: tree}
    return tree


def _paths_of(manifest: Manifest) -> Iterator[Path]:
    """The paths to the values of an object that can have an owner."""
    body = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind", "metadata")}
    metadata = {
        key: manifest["metadata"][key]
        for key in ("labels", "annotations")
        if manifest["metadata"].get(key)
    }
    yield from _paths_in({**body, **({"metadata": metadata} if metadata else {})}, (), "")


def _paths_in(value: Any, path: Path, name: str) -> Iterator[Path]:
    keys = _LIST_KEYS.get(name)
    if isinstance(value, dict) and value:
        for key, inside in value.items():
            yield from _paths_in(inside, (*path, f"f:{key}"), key)
    elif isinstance(value, list) and keys and all(isinstance(item, dict) for item in value):
        for item in value:
            step = key_step(**{key: item.get(key) for key in keys})
            yield from _paths_in(item, (*path, step), "")
    else:
        yield path


def _spared_parts(live: Manifest, desired: Manifest, replacement: Manifest) -> list[dict[str, Any]]:
    """What live managers own of the fields that an update spares."""
    parts = []
    for entry in entries_of(live):
        if entry.get("subresource") == "status":
            continue
        part: dict[str, Any] = {}
        for path in leaves(entry["fieldsV1"]):
            if _leads(path, replacement) and _value(path, replacement) != _value(path, desired):
                part = merge(part, _tree(path))
        if part:
            parts.append({**entry, "fieldsV1": part})
    return parts


def _value(path: Path, value: Any) -> Any:
    for step in path:
        found = follow(step, value)
        if found is None:
            return None
        value = found[0]
    return value


def _joined(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each manager: a server keeps the last of those that it cannot tell apart."""
    joined: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        is_apply = entry.get("operation") == "Apply"
        version = None if is_apply else entry.get("apiVersion")
        place = (entry["manager"], entry.get("operation"), version, entry.get("subresource"))
        known = joined.get(place)
        if known is None:
            joined[place] = entry
        elif known.get("apiVersion") == entry.get("apiVersion"):
            fields = merge(known["fieldsV1"], entry["fieldsV1"])
            joined[place] = {**known, "fieldsV1": fields}
    return list(joined.values())
