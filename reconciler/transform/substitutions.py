"""Storage classes and image registries that are called otherwise in the target.

Both are found by the name of their field, wherever it is in the spec, so in custom resources too: `storageClassName`,
and `image` (a reference, or an image volume's `reference`). The longest prefix of a registry wins; a prefix ends
at `/`, `:` or `@`. References without a registry also match as `docker.io/…`, which is what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.objects import Manifest, metadata_of
from reconciler.transform.change import Change

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_OPAQUE = ("Secret", "ConfigMap", "CustomResourceDefinition")


def map_storage_classes(manifest: Manifest, classes: Mapping[str, str]) -> list[Change]:
    """Rename storage classes, in place. `*` stands for every named class that has no entry of its own."""

    def choose(key: str, value: Any) -> str | None:
        if key != "storageClassName" or not isinstance(value, str) or not value:
            return None
        return classes.get(value, classes.get("*"))

    changes = _substitute(manifest, choose, by="storageClasses")
    annotations = metadata_of(manifest).get("annotations") or {}
    old = annotations.get(_CLASS_ANNOTATION)
    new = choose("storageClassName", old)
    if new is not None and new != old:
        annotations[_CLASS_ANNOTATION] = new
        what = f"metadata.annotations[{_CLASS_ANNOTATION}]: {old} → {new}"
        changes.append(Change("storageClasses", what))
    return changes


def map_registries(manifest: Manifest, registries: Mapping[str, str]) -> list[Change]:
    """Rewrite the beginnings of image references, in place."""
    by_length = sorted(registries, key=len, reverse=True)

    def choose(key: str, value: Any) -> str | None:
        if key not in ("image", "image.reference") or not isinstance(value, str):
            return None
        for reference in (value, _in_full(value)):
            for prefix in by_length:
                if reference.startswith(prefix) and _ends_well(prefix, reference):
                    return registries[prefix] + reference[len(prefix) :]
        return None

    return _substitute(manifest, choose, by="registries")


def _ends_well(prefix: str, reference: str) -> bool:
    rest = reference[len(prefix) :]
    return not rest or prefix.endswith(("/", ":", "@")) or rest[0] in "/:@"


def _in_full(reference: str) -> str:
    host, slash, _ = reference.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return reference
    return f"docker.io/{reference}" if slash else f"docker.io/library/{reference}"


def _substitute(
    manifest: Manifest, choose: Callable[[str, Any], str | None], *, by: str
) -> list[Change]:
    if manifest.get("kind") in _OPAQUE:
        return []
    changes: list[Change] = []

    def walk(value: Any, path: str, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                place = f"{path}.{name}" if path else name
                full = "image.reference" if (key, name) == ("image", "reference") else name
                new = choose(full, inner)
                if new is not None and new != inner:
                    value[name] = new
                    changes.append(Change(by, f"{place}: {inner} → {new}"))
                walk(inner, place, name)
        elif isinstance(value, list):
            for n, inner in enumerate(value):
                walk(inner, f"{path}[{n}]", key)

    for section, body in manifest.items():
        if section not in ("metadata", "status"):
            walk(body, section, section)
    return changes
