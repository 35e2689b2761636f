"""Which other objects an object names: a table of small functions, one for each kind.

Anything with a pod template is read by its pod spec, whatever its kind, so custom workloads count too.
References go within the object's namespace, or to cluster-scoped objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.objects import (
    Manifest,
    ObjectKey,
    annotations_of,
    field,
    group_of,
    name_of,
    namespace_of,
    pod_spec_of,
)

RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """A name of another object. `is_optional`: the one who names it works without."""

    key: ObjectKey
    is_optional: bool = False


def references(manifest: Manifest) -> Iterator[Reference]:
    """Yield what an object names; the same name may come more than once."""
    spec = pod_spec_of(manifest)
    if spec is not None:
        yield from pod_references(spec, namespace_of(manifest))
    reader = _BY_KIND.get((group_of(manifest.get("apiVersion", "")), manifest.get("kind", "")))
    if reader:
        yield from reader(manifest, namespace_of(manifest))


def pod_references(spec: Mapping[str, Any], namespace: str) -> Iterator[Reference]:
    """Yield what a pod spec names."""
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    # The default account is made by the server, so its absence is nobody's mistake.
    yield Reference(
        ObjectKey("", "ServiceAccount", namespace, account or "default"), is_optional=not account
    )
    for entry in spec.get("imagePullSecrets") or ():
        yield from _named("Secret", entry, namespace, is_optional=True)
    if name := spec.get("priorityClassName"):
        yield Reference(ObjectKey("scheduling.k8s.io", "PriorityClass", "", name))
    if name := spec.get("runtimeClassName"):
        yield Reference(ObjectKey("node.k8s.io", "RuntimeClass", "", name))
    for volume in spec.get("volumes") or ():
        yield from _volume(volume, namespace)
    for part in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(part) or ():
            yield from _environment(container, namespace)


def _named(
    kind: str, source: Any, namespace: str, *, field_name: str = "name", is_optional: bool = False
) -> Iterator[Reference]:
    if isinstance(source, Mapping) and (name := source.get(field_name)):
        yield Reference(
            ObjectKey("", kind, namespace, name), is_optional or bool(source.get("optional"))
        )


def _volume(volume: Mapping[str, Any], namespace: str) -> Iterator[Reference]:
    yield from _named("ConfigMap", volume.get("configMap"), namespace)
    yield from _named("Secret", volume.get("secret"), namespace, field_name="secretName")
    yield from _named(
        "PersistentVolumeClaim",
        volume.get("persistentVolumeClaim"),
        namespace,
        field_name="claimName",
    )
    for source in (volume.get("projected") or {}).get("sources") or ():
        config = source.get("configMap")
        if isinstance(config, Mapping) and config.get("name") != "kube-root-ca.crt":
            yield from _named("ConfigMap", config, namespace)
        yield from _named("Secret", source.get("secret"), namespace)
    for source in volume.values():
        if isinstance(source, Mapping):
            for part in ("secretRef", "nodePublishSecretRef"):
                yield from _named("Secret", source.get(part), namespace)
    template = field(dict(volume), "ephemeral", "volumeClaimTemplate", "spec", default={})
    yield from _storage_class(template)


def _environment(container: Mapping[str, Any], namespace: str) -> Iterator[Reference]:
    for entry in container.get("env") or ():
        source = entry.get("valueFrom") or {}
        yield from _named("ConfigMap", source.get("configMapKeyRef"), namespace)
        yield from _named("Secret", source.get("secretKeyRef"), namespace)
    for entry in container.get("envFrom") or ():
        yield from _named("ConfigMap", entry.get("configMapRef"), namespace)
        yield from _named("Secret", entry.get("secretRef"), namespace)


def _storage_class(claim_spec: Mapping[str, Any]) -> Iterator[Reference]:
    if name := claim_spec.get("storageClassName"):
        # A claim that names no existing class is legal: it binds to a hand-made volume of that class.
        yield Reference(ObjectKey("storage.k8s.io", "StorageClass", "", name), is_optional=True)


def _claim(manifest: Manifest, _: str) -> Iterator[Reference]:
    yield from _storage_class(manifest.get("spec") or {})


def _stateful_set(manifest: Manifest, _: str) -> Iterator[Reference]:
    for template in field(manifest, "spec", "volumeClaimTemplates", default=()):
        yield from _storage_class(template.get("spec") or {})


def _service_account(manifest: Manifest, namespace: str) -> Iterator[Reference]:
    for part in ("secrets", "imagePullSecrets"):
        for entry in manifest.get(part) or ():
            yield from _named("Secret", entry, namespace, is_optional=True)


def _ingress(manifest: Manifest, namespace: str) -> Iterator[Reference]:
    for entry in field(manifest, "spec", "tls", default=()):
        yield from _named("Secret", entry, namespace, field_name="secretName")
    explicit = field(manifest, "spec", "ingressClassName")
    named = explicit or annotations_of(manifest).get("kubernetes.io/ingress.class")
    if named:
        # The annotation may name a controller that has no IngressClass.
        yield Reference(
            ObjectKey("networking.k8s.io", "IngressClass", "", named), is_optional=not explicit
        )


def _gateway(manifest: Manifest, namespace: str) -> Iterator[Reference]:
    for listener in field(manifest, "spec", "listeners", default=()):
        for entry in field(listener, "tls", "certificateRefs", default=()):
            is_secret = entry.get("kind", "Secret") == "Secret" and not entry.get("group")
            if is_secret and entry.get("namespace", namespace) == namespace:
                yield from _named("Secret", entry, namespace)


def _role_binding(manifest: Manifest, namespace: str) -> Iterator[Reference]:
    role = manifest.get("roleRef") or {}
    if name := role.get("name"):
        scope = namespace if role.get("kind") == "Role" else ""
        yield Reference(ObjectKey(RBAC, role.get("kind", ""), scope, name))


_BY_KIND: dict[tuple[str, str], Callable[[Manifest, str], Iterator[Reference]]] = {
    ("", "PersistentVolumeClaim"): _claim,
    ("", "ServiceAccount"): _service_account,
    ("apps", "StatefulSet"): _stateful_set,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("extensions", "Ingress"): _ingress,
    ("gateway.networking.k8s.io", "Gateway"): _gateway,
    (RBAC, "RoleBinding"): _role_binding,
}


def is_claim_of(stateful_set: Manifest, claim: str, *, template: str | None = None) -> bool:
    """Whether a claim was made from a claim template of a StatefulSet: `<template>-<set>-<ordinal>`."""
    for entry in field(stateful_set, "spec", "volumeClaimTemplates", default=()):
        name = field(entry, "metadata", "name", default="")
        prefix = f"{name}-{name_of(stateful_set)}-"
        is_named = template in (None, name) and claim.startswith(prefix)
        if is_named and claim.removeprefix(prefix).isdigit():
            return True
    return False
