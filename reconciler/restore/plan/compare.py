"""What differs between an object as it should be and as it is live.

After an update an object is as captured: keys, containers, list items that were added since are gone. So the
replacement is the captured object, and only what a server or another controller owns is taken over from the
live one (`replacement_for`): server metadata, status, whatever `strip` would take from the live object too
(allocated addresses, bindings, generated selectors), and what `spared` names. `differences` then compares two
manifests field by field. Values of Secrets are never shown.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.objects import Manifest, field, metadata_of
from reconciler.restore.plan.spared import Spared, keep, owner_of
from reconciler.restore.plan.strip import LAST_APPLIED, strip

HIDDEN = "(hidden, differs)"
_SERVER_METADATA = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
)
_MISSING: Any = object()


@dataclass(frozen=True)
class FieldChange:
    """One field: its path, and its value before and after; None stands for absent."""

    path: str
    before: Any
    after: Any


def replacement_for(desired: Manifest, live: Manifest, *, is_scaled: bool = False) -> Manifest:
    """Make what a replace must send so that `live` becomes `desired`.

    Args:
        desired: the object as it should be, stripped.
        live: the object as it was just read.
        is_scaled: an autoscaler owns `spec.replicas`.
    """
    plain = strip(live)
    replacement: Manifest = _spare(desired, live, plain)
    metadata, was = metadata_of(replacement), metadata_of(live)
    for name in _SERVER_METADATA:
        metadata.pop(name, None)
        if name in was:
            metadata[name] = copy.deepcopy(was[name])
    replacement["apiVersion"], replacement["kind"] = desired["apiVersion"], desired["kind"]
    owners = field(desired, "metadata", "ownerReferences")
    if owners:
        metadata["ownerReferences"] = copy.deepcopy(owners)
    else:
        metadata.pop("ownerReferences", None)
    keep(replacement, live, is_scaled=is_scaled)
    return replacement


def spared_in(
    desired: Manifest, live: Manifest, replacement: Manifest, *, is_scaled: bool = False
) -> tuple[Spared, ...]:
    """Name what a replacement leaves as it is in `live`, though `desired` says otherwise."""
    paths = [change.path for change in differences(desired, replacement)]
    return tuple(
        Spared(path, owner_of(path, live, is_scaled=is_scaled))
        for path in paths
        if not path.startswith("metadata.ownerReferences")
    )


def differences(before: Manifest, after: Manifest) -> list[FieldChange]:
    """Compare two manifests of one object, server metadata, status and managedFields aside."""
    changes = _walk(_visible(before), _visible(after), "")
    if after.get("kind") == "Secret" and "/" not in str(after.get("apiVersion", "")):
        return [_hide(change) for change in changes]
    return list(changes)


def _visible(manifest: Manifest) -> Manifest:
    view = {key: value for key, value in manifest.items() if key != "status"}
    view["metadata"] = {
        key: value
        for key, value in (manifest.get("metadata") or {}).items()
        if key not in _SERVER_METADATA
    }
    return view


def _hide(change: FieldChange) -> FieldChange:
    if change.path.startswith(("data", "stringData")) or LAST_APPLIED in change.path:
        return FieldChange(
            change.path,
            None if change.before is None else HIDDEN,
            None if change.after is None else HIDDEN,
        )
    if change.path == "metadata.annotations":
        return FieldChange(change.path, _names(change.before), _names(change.after))
    return change


def _names(value: Any) -> Any:
    return dict.fromkeys(value, HIDDEN) if isinstance(value, dict) else value


def _spare(desired: Any, live: Any, plain: Any) -> Any:
    """`desired`, with what `live` has beyond `plain` (its stripped form) wherever `desired` is silent."""
    if live == plain:
        return copy.deepcopy(desired)
    if isinstance(desired, dict) and isinstance(live, dict):
        return _spare_map(desired, live, plain if isinstance(plain, dict) else {})
    if isinstance(desired, list) and isinstance(live, list):
        return _spare_list(desired, live, plain if isinstance(plain, list) else [])
    return desired


def _spare_map(desired: Manifest, live: Manifest, plain: Manifest) -> Manifest:
    result = {}
    for key, value in desired.items():
        result[key] = _spare(value, live[key], plain.get(key, _MISSING)) if key in live else value
    for key, value in live.items():
        if key in desired:
            continue
        if key not in plain:
            result[key] = copy.deepcopy(value)
        elif isinstance(value, dict) and value != plain[key]:
            result[key] = _spare_map({}, value, plain[key])
    return result


def _spare_list(desired: list[Any], live: list[Any], plain: list[Any]) -> list[Any]:
    wanted, there, bare = keyed(desired), keyed(live), keyed(plain)
    if wanted is None or there is None or bare is None:
        if len(live) == len(plain):
            spared = [live[plain.index(item)] if item in plain else item for item in desired]
            return copy.deepcopy(spared)
        gone = [item for item in live if item not in plain and item not in desired]
        return copy.deepcopy([*desired, *gone])
    result = [
        _spare(item, there[key], bare.get(key, _MISSING)) if key in there else item
        for key, item in wanted.items()
    ]
    for index, (key, item) in enumerate(there.items()):
        if key not in wanted and key not in bare:
            result.insert(index, item)
    return result


def keyed(items: list[Any]) -> dict[Any, Any] | None:
    """List items by what tells them apart; None when nothing does."""
    if not all(isinstance(item, dict) for item in items):
        return None
    for names in (("mountPath",), ("uid", "kind"), ("port", "protocol"), ("name",), ("type",)):
        if all(names[0] in item for item in items):
            found = {tuple(str(item.get(name, "")) for name in names): item for item in items}
            if len(found) == len(items):
                return found
    return None


def _walk(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    if before == after and type(before) is type(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            left, right = before.get(key, _MISSING), after.get(key, _MISSING)
            yield from _pair(left, right, f"{path}.{step_of(key)}" if path else step_of(key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _walk_lists(before, after, path)
    elif before != after:
        yield FieldChange(path, before, after)


def _pair(left: Any, right: Any, path: str) -> Iterator[FieldChange]:
    """Compare two values of which one may be absent; an empty map or list counts as absent."""
    if left is _MISSING or right is _MISSING:
        present = right if left is _MISSING else left
        if present not in ({}, [], None):
            yield FieldChange(
                path, None if left is _MISSING else left, None if right is _MISSING else right
            )
    else:
        yield from _walk(left, right, path)


def _walk_lists(before: list[Any], after: list[Any], path: str) -> Iterator[FieldChange]:
    left, right = keyed(before), keyed(after)
    if left is None or right is None or not (left or right):
        if len(before) == len(after) and before:
            for index, (old, new) in enumerate(zip(before, after, strict=True)):
                yield from _walk(old, new, f"{path}[{index}]")
        else:
            yield FieldChange(path, before, after)
        return
    for key in [*left, *(key for key in right if key not in left)]:
        step = f"{path}[{'/'.join(part for part in key if part)}]"
        yield from _pair(left.get(key, _MISSING), right.get(key, _MISSING), step)
    shared = [key for key in left if key in right]
    if shared != [key for key in right if key in left]:
        yield FieldChange(f"{path}(order)", None, ["/".join(key) for key in right])


def step_of(key: str) -> str:
    """The name of a field as paths have it."""
    return f'["{key}"]' if "." in key or "/" in key else key
