"""Identity of Kubernetes objects, and the few ways in which manifests are read everywhere.

A manifest is plain JSON (`Manifest`). An object's identity over time and versions is its `ObjectKey`:
group, kind, namespace, name; the version is not part of it. `project` gives the part of a manifest that
a restore point keeps and compares: no status, no counters of the server, no times inside managedFields.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import msgspec

Manifest = dict[str, Any]

LABEL_EXCLUDE = "backup.reconciler.dev/exclude"
LABEL_MANAGED = "backup.reconciler.dev/managed-by"
FIELD_MANAGER = "backup-reconciler"

_SERVER_METADATA = ("resourceVersion", "generation", "selfLink")
_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, order=True, slots=True)
class ObjectKey:
    """Names one object whatever version it is read at. `namespace` is empty for cluster-scoped ones."""

    group: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> ObjectKey:
        """Take the key of a manifest."""
        metadata = manifest.get("metadata") or {}
        return cls(
            group=group_of(manifest.get("apiVersion", "")),
            kind=manifest.get("kind", ""),
            namespace=metadata.get("namespace") or "",
            name=metadata.get("name") or "",
        )

    @classmethod
    def parse(cls, text: str) -> ObjectKey:
        """Read what `path` wrote.

        Raises:
            ValueError: it has not four parts.
        """
        group, kind, namespace, name = text.split("/", 3)
        return cls(group, kind, namespace, name)

    @property
    def path(self) -> str:
        """`group/Kind/namespace/name`, the sorted key of tables; group and namespace may be empty."""
        return f"{self.group}/{self.kind}/{self.namespace}/{self.name}"

    def __str__(self) -> str:
        """`Deployment.apps shop/web`, as people write it."""
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        return f"{kind} {self.namespace}/{self.name}" if self.namespace else f"{kind} {self.name}"


def group_of(api_version: str) -> str:
    """`apps/v1` → `apps`; `v1` → empty."""
    return api_version.rpartition("/")[0]


def version_of(api_version: str) -> str:
    """`apps/v1` → `v1`."""
    return api_version.rpartition("/")[2]


def join_api_version(group: str, version: str) -> str:
    """The reverse of `group_of` and `version_of`."""
    return f"{group}/{version}" if group else version


def metadata_of(manifest: Manifest) -> dict[str, Any]:
    """The metadata, never None; changes to it stay in the manifest."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        metadata = manifest["metadata"] = {}
    return metadata


def name_of(manifest: Manifest) -> str:
    """The name, empty when it has none."""
    return (manifest.get("metadata") or {}).get("name") or ""


def namespace_of(manifest: Manifest) -> str:
    """The namespace, empty for cluster-scoped objects."""
    return (manifest.get("metadata") or {}).get("namespace") or ""


def uid_of(manifest: Manifest) -> str:
    """The uid, empty when it was never written to a server."""
    return (manifest.get("metadata") or {}).get("uid") or ""


def labels_of(manifest: Manifest) -> dict[str, str]:
    """The labels, never None; a fresh dict when there are none."""
    return (manifest.get("metadata") or {}).get("labels") or {}


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """The annotations, never None; a fresh dict when there are none."""
    return (manifest.get("metadata") or {}).get("annotations") or {}


def owners_of(manifest: Manifest) -> list[dict[str, Any]]:
    """The owner references."""
    return (manifest.get("metadata") or {}).get("ownerReferences") or []


def field(manifest: Manifest, *path: str | int, default: Any = None) -> Any:
    """Follow `path` through maps and lists; `default` when anything on the way is absent, or null.

    Servers write null for what is not set yet, such as the conditions of a CRD that was just made.
    """
    value: Any = manifest
    for step in path:
        match value, step:
            case dict(), str() if step in value:
                value = value[step]
            case list(), int() if -len(value) <= step < len(value):
                value = value[step]
            case _:
                return default
    return default if value is None else value


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return _encoder.encode(value)


def project(manifest: Manifest) -> Manifest:
    """The part of a live object that a restore point keeps and compares; the argument is not changed.

    Left out: `status`, `resourceVersion`, `generation`, `selfLink`, managedFields entries of the status
    subresource, and the times inside the others. Everything else stays, uid and managedFields included.
    """
    kept = {key: value for key, value in manifest.items() if key != "status"}
    metadata = {k: v for k, v in (kept.get("metadata") or {}).items() if k not in _SERVER_METADATA}
    managed = metadata.get("managedFields")
    if managed:
        metadata["managedFields"] = [
            {key: value for key, value in entry.items() if key != "time"}
            for entry in managed
            if entry.get("subresource") != "status"
        ]
    kept["metadata"] = metadata
    return kept


def duplicate(manifest: Manifest) -> Manifest:
    """A deep copy that can be changed freely."""
    return copy.deepcopy(manifest)


def pod_spec_of(manifest: Manifest) -> dict[str, Any] | None:
    """The pod spec inside a Pod, a workload's template or a CronJob; None for other kinds.

    Works for any kind with `spec.template.spec.containers`, so for custom workloads too.
    """
    if manifest.get("kind") == "Pod" and manifest.get("apiVersion") == "v1":
        spec = manifest.get("spec")
    elif manifest.get("kind") == "CronJob":
        spec = field(manifest, "spec", "jobTemplate", "spec", "template", "spec")
    else:
        spec = field(manifest, "spec", "template", "spec")
    return spec if isinstance(spec, dict) and "containers" in spec else None
