"""CustomResourceDefinition from apiextensions.k8s.io/v1beta1: what was said once is said for each version."""

from __future__ import annotations

import copy
from typing import Any

from reconciler.objects import Manifest
from reconciler.transform.fields import Lines, items_of, map_of

_PRESERVE = "x-kubernetes-preserve-unknown-fields"


def from_v1beta1(manifest: Manifest) -> Lines:
    """Rewrite `spec`. Whether each schema is structural, only the server can say."""
    spec = map_of(manifest, "spec")
    lines: Lines = []
    _versions(spec, lines)
    _per_version(spec, lines)
    _schemas(spec, lines)
    _conversion(spec, lines)
    if not spec.get("scope"):
        spec["scope"] = "Namespaced"
        lines.append("spec.scope: wrote the old default Namespaced")
    return lines


def _versions(spec: dict[str, Any], lines: Lines) -> None:
    name = spec.pop("version", None)
    if not spec.get("versions") and name:
        spec["versions"] = [{"name": name, "served": True, "storage": True}]
        lines.append("spec.version: moved to spec.versions")


def _per_version(spec: dict[str, Any], lines: Lines) -> None:
    shared = {
        "schema": spec.pop("validation", None),
        "subresources": spec.pop("subresources", None),
        "additionalPrinterColumns": spec.pop("additionalPrinterColumns", None),
    }
    for field, value in shared.items():
        if value is None:
            continue
        for version in items_of(spec.get("versions")):
            version.setdefault(field, copy.deepcopy(value))
        lines.append(f"spec.{'validation' if field == 'schema' else field}: moved to each version")
    for version in items_of(spec.get("versions")):
        for column in items_of(version.get("additionalPrinterColumns")):
            if "JSONPath" in column:
                column["jsonPath"] = column.pop("JSONPath")


def _schemas(spec: dict[str, Any], lines: Lines) -> None:
    preserve = spec.pop("preserveUnknownFields", None)
    for version in items_of(spec.get("versions")):
        schema = map_of(map_of(version, "schema"), "openAPIV3Schema")
        known = bool(schema)
        schema.setdefault("type", "object")
        if preserve is not False or not known:
            schema.setdefault(_PRESERVE, True)
    if preserve is not False:
        lines.append(f"spec.preserveUnknownFields: became {_PRESERVE} in each schema")


def _conversion(spec: dict[str, Any], lines: Lines) -> None:
    conversion = spec.get("conversion")
    if not isinstance(conversion, dict) or conversion.get("strategy") != "Webhook":
        return
    webhook = map_of(conversion, "webhook")
    client = conversion.pop("webhookClientConfig", None)
    reviews = conversion.pop("conversionReviewVersions", None)
    if client is not None:
        webhook.setdefault("clientConfig", client)
        lines.append("spec.conversion.webhookClientConfig: moved under webhook")
    webhook.setdefault("conversionReviewVersions", reviews or ["v1beta1"])
