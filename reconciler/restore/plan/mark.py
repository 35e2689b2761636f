"""The mark on what a restore holds back while it goes on, and what it takes to put it back.

A CronJob is suspended, a Deployment or StatefulSet scaled to zero, and in the same write the object gets an annotation:
which restore did it, what the field was, and which field managers owned it. So whatever dies in between, the object
itself says how it was. `unmarked` gives it as it would be without us; plans and comparisons look at that form.
A field that somebody else has changed since is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.objects import FIELD_MANAGER, Manifest, ObjectKey, annotations_of, duplicate, field
from reconciler.restore.plan.fieldset import entries_of, merge

ANNOTATION = "backup.reconciler.dev/paused"
PAUSABLE = (("batch", "CronJob"), ("apps", "Deployment"), ("apps", "StatefulSet"))
"""(group, kind) of all that can be held back."""


@dataclass(frozen=True)
class Mark:
    """Who holds an object back, and how it was."""

    restore: str
    """The title of the attempt: `source/namespace/name#attempt`."""
    was: bool | int | None
    """The field before; None when it was absent."""
    owners: tuple[tuple[str, str, str, str], ...] = ()
    """(manager, operation, apiVersion, subresource) of those that owned the field."""

    def is_of(self, restore: str) -> bool:
        """Whether this attempt, or an earlier one of the same restore, left the mark."""
        name, _, attempt = restore.rpartition("#")
        its_name, _, its_attempt = self.restore.rpartition("#")
        if name != its_name or not (attempt.isdecimal() and its_attempt.isdecimal()):
            return self.restore == restore
        return int(its_attempt) <= int(attempt)


def mark_of(manifest: Manifest) -> Mark | None:
    """Read the mark; None when there is none that can be read."""
    text = annotations_of(manifest).get(ANNOTATION)
    if not text:
        return None
    try:
        said = json.loads(text)
        owners = tuple((str(a), str(b), str(c), str(d)) for a, b, c, d in said.get("owners", ()))
        was = said["was"]
        restore = str(said["restore"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    wanted = bool if _name(manifest) == "suspend" else int
    return Mark(restore, was, owners) if was is None or type(was) is wanted else None


def is_held(manifest: Manifest) -> bool:
    """Whether the object stands still: suspended, or without replicas."""
    value = field(manifest, "spec", _name(manifest))
    return value is True if _name(manifest) == "suspend" else value == 0


def marked(manifest: Manifest, *, restore: str) -> Manifest:
    """The object as it is written to hold it back."""
    name = _name(manifest)
    said = {
        "restore": restore,
        "was": field(manifest, "spec", name),
        "owners": [list(owner) for owner in _owners(manifest, name)],
    }
    annotations = {**annotations_of(manifest), ANNOTATION: json.dumps(said, sort_keys=True)}
    return {
        **manifest,
        "metadata": {**manifest["metadata"], "annotations": annotations},
        "spec": {**manifest["spec"], name: True if name == "suspend" else 0},
    }


def unmarked(manifest: Manifest) -> Manifest:
    """The object without the mark and as it was; the same one when it has no mark. Nothing is changed in place."""
    if ANNOTATION not in annotations_of(manifest):
        return manifest
    mark = mark_of(manifest)
    metadata = {**manifest["metadata"]}
    kept = {k: v for k, v in annotations_of(manifest).items() if k != ANNOTATION}
    metadata["annotations"] = kept
    if not kept:
        del metadata["annotations"]
    freed = {**manifest, "metadata": metadata}
    if mark is None or not is_held(manifest):
        return freed
    name = _name(manifest)
    spec = {k: v for k, v in manifest["spec"].items() if k != name}
    if mark.was is not None:
        spec[name] = mark.was
    return {**freed, "spec": spec}


def with_owners_back(written: Manifest, mark: Mark) -> list[dict[str, Any]] | None:
    """The managedFields of a released object, the field back with its owners; None when it is not ours to give."""
    step = f"f:{_name(written)}"
    entries: list[dict[str, Any]] = []
    is_ours = False
    for entry in field(written, "metadata", "managedFields", default=[]):
        owned = field(entry, "fieldsV1", "f:spec", default={})
        is_status = entry.get("subresource") == "status"
        if entry.get("manager") != FIELD_MANAGER or is_status or step not in owned:
            entries.append(entry)
            continue
        is_ours = True
        rest = duplicate(entry)
        del rest["fieldsV1"]["f:spec"][step]
        if not rest["fieldsV1"]["f:spec"]:
            del rest["fieldsV1"]["f:spec"]
        if rest["fieldsV1"]:
            entries.append(rest)
    if not is_ours:
        return None
    for owner in mark.owners:
        _give(entries, owner, {"f:spec": {step: {}}})
    return entries or [{}]


def command_of(manifest: Manifest) -> str:
    """The kubectl command that puts an object back by hand."""
    key = ObjectKey.of(manifest)
    mark = mark_of(manifest)
    body: Manifest = {"metadata": {"annotations": {ANNOTATION: None}}}
    if mark is not None and is_held(manifest):
        body["spec"] = {_name(manifest): mark.was}
    kind = f"{key.kind}.{key.group}".lower()
    return (
        f"kubectl -n {key.namespace} patch {kind} {key.name} --type=merge "
        f"-p '{json.dumps(body, separators=(',', ':'))}'"
    )


def _name(manifest: Manifest) -> str:
    return "suspend" if manifest.get("kind") == "CronJob" else "replicas"


def _owners(manifest: Manifest, name: str) -> Iterator[tuple[str, str, str, str]]:
    for entry in entries_of(manifest):
        if f"f:{name}" in (entry["fieldsV1"].get("f:spec") or {}):
            yield _place(entry)


def _place(entry: dict[str, Any]) -> tuple[str, str, str, str]:
    return (
        str(entry.get("manager", "")),
        str(entry.get("operation", "")),
        str(entry.get("apiVersion", "")),
        str(entry.get("subresource", "")),
    )


def _give(
    entries: list[dict[str, Any]], owner: tuple[str, str, str, str], fields: dict[str, Any]
) -> None:
    """Give fields to a manager that is there, or comes back for them."""
    for index, entry in enumerate(entries):
        if _place(entry) == owner:
            entries[index] = {**entry, "fieldsV1": merge(entry.get("fieldsV1") or {}, fields)}
            return
    manager, operation, version, subresource = owner
    entries.append(
        {
            "manager": manager,
            "operation": operation,
            "apiVersion": version,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
            **({"subresource": subresource} if subresource else {}),
        }
    )
