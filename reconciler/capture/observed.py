"""What is remembered of an object that was seen: its identity, a little metadata, its projection.

A listed manifest is projected and encoded at once and then dropped, so that a whole cluster fits in the
memory of its projections. What needs more of an object decodes the projection again (some microseconds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from sys import intern
from types import MappingProxyType
from typing import Any

import msgspec

from reconciler.objects import (
    LABEL_EXCLUDE,
    Manifest,
    ObjectKey,
    canonical,
    group_of,
    project,
    version_of,
)

_NO_LABELS: Mapping[str, str] = MappingProxyType({})
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Owner:
    """One owner reference."""

    group: str
    kind: str
    name: str
    uid: str
    is_controller: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """One object as it was listed. `projection` is the canonical JSON of `objects.project`."""

    key: ObjectKey
    version: str
    uid: str
    resource_version: str
    labels: Mapping[str, str]
    owners: tuple[Owner, ...]
    is_excluded: bool
    """It carries `backup.reconciler.dev/exclude: "true"`, as a label or an annotation."""
    is_deleting: bool
    state: str
    """What only the status says: `Finished` for Jobs, the phase of claims and Namespaces."""
    projection: bytes

    def manifest(self) -> Manifest:
        """Decode the projection: a fresh manifest at every call, without status."""
        manifest: Manifest = _decode(self.projection)
        return manifest

    @property
    def controller(self) -> Owner | None:
        """The owner that controls it."""
        return next((owner for owner in self.owners if owner.is_controller), None)


def remember(manifest: Manifest) -> Observed:
    """Keep what is needed of a listed manifest."""
    metadata: dict[str, Any] = manifest.get("metadata") or {}
    labels = _labels(metadata.get("labels"))
    annotations = metadata.get("annotations") or _NO_LABELS
    named = ObjectKey.of(manifest)
    # A cluster has few namespaces, kinds and labels, and each of its objects would hold its own copies of their names.
    key = ObjectKey(intern(named.group), intern(named.kind), intern(named.namespace), named.name)
    reader = _STATES.get((key.group, key.kind))
    return Observed(
        key=key,
        version=intern(version_of(manifest.get("apiVersion", ""))),
        uid=metadata.get("uid") or "",
        resource_version=metadata.get("resourceVersion") or "",
        labels=labels,
        owners=tuple(map(_owner, metadata.get("ownerReferences") or ())),
        is_excluded="true" in (labels.get(LABEL_EXCLUDE), annotations.get(LABEL_EXCLUDE)),
        is_deleting=bool(metadata.get("deletionTimestamp")),
        state=reader(manifest) if reader else "",
        projection=canonical(project(manifest)),
    )


def recall(projection: bytes) -> Observed:
    """An object of an earlier point, from its projection: without a resource version, and without state."""
    return remember(_decode(projection))


def _labels(labels: Mapping[str, str] | None) -> Mapping[str, str]:
    return {intern(name): intern(value) for name, value in labels.items()} if labels else _NO_LABELS


def _owner(reference: Mapping[str, Any]) -> Owner:
    return Owner(
        group=intern(group_of(reference.get("apiVersion", ""))),
        kind=intern(reference.get("kind", "")),
        name=reference.get("name", ""),
        uid=reference.get("uid", ""),
        is_controller=bool(reference.get("controller")),
    )


def _phase(manifest: Manifest) -> str:
    return str((manifest.get("status") or {}).get("phase") or "")


def _job_state(manifest: Manifest) -> str:
    for condition in (manifest.get("status") or {}).get("conditions") or ():
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return "Finished"
    return ""


_STATES: dict[tuple[str, str], Callable[[Manifest], str]] = {
    ("batch", "Job"): _job_state,
    ("", "PersistentVolumeClaim"): _phase,
    ("", "Namespace"): _phase,
}
