"""What a captured object loses before it is written back, as a table of small functions.

Fields that a server sets, allocates or computes are left out, so that the new server sets its own; what a
person wrote stays. Two questions decide for allocated fields (addresses, ports): does a field manager own
the field, or does the last-applied annotation name it? Then it was asked for, and it stays.

Owner references and managedFields are taken off here and given back by the executor, because both need
what only exists after the write (new uids, the object itself). The rules follow the Kubernetes API
conventions and the behaviour of the built-in controllers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from reconciler.objects import (
    Manifest,
    ObjectKey,
    annotations_of,
    duplicate,
    field,
    labels_of,
)

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_SERVER_METADATA = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
    "ownerReferences",
)
_SERVER_FINALIZERS = frozenset(
    {
        "foregroundDeletion",
        "orphan",
        "kubernetes.io/pvc-protection",
        "kubernetes.io/pv-protection",
        "service.kubernetes.io/load-balancer-cleanup",
        "batch.kubernetes.io/job-tracking",
    }
)
_BIND_ANNOTATIONS = (
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
)
_JOB_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")
_AUTOSCALING_ANNOTATIONS = (
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/current-metrics",
)
_TOKEN_VOLUME = re.compile(r"^kube-api-access-[a-z0-9]+$|-token-[a-z0-9]{5}$")

Rule = Callable[[Manifest, Manifest], None]
"""Edits the first argument in place; the second is the object as captured."""


def strip(captured: Manifest) -> Manifest:
    """Make the object that will be written from the one that was captured.

    The argument is not changed. Works on live objects too, which gives both sides the same form.
    """
    desired = duplicate(captured)
    _strip_metadata(desired)
    desired.pop("status", None)
    key = ObjectKey.of(captured)
    for groups, rule in RULES.get(key.kind, ()):
        if key.group in groups:
            rule(desired, captured)
    return desired


def refusal_of(captured: Manifest) -> tuple[str, str] | None:
    """Say (reason, message) for an object that is never written back; None for all others."""
    key = ObjectKey.of(captured)
    for groups, kind, is_owned, reason, message in NEVER_RESTORED:
        if key.kind == kind and key.group in groups and is_owned(captured):
            return reason, message
    return None


def _strip_metadata(desired: Manifest) -> None:
    metadata = desired.get("metadata") or {}
    for name in _SERVER_METADATA:
        metadata.pop(name, None)
    kept = [f for f in metadata.get("finalizers") or [] if f not in _SERVER_FINALIZERS]
    _put(metadata, "finalizers", kept)


def _put(parent: dict[str, Any], key: str, value: Any) -> None:
    """Set a field, or remove it when there is nothing to say."""
    if value:
        parent[key] = value
    else:
        parent.pop(key, None)


def _drop_keys(manifest: Manifest, path: tuple[str, ...], names: Iterable[str]) -> None:
    """Remove keys of a map, and the map when nothing is left of it."""
    parent = field(manifest, *path[:-1]) if len(path) > 1 else manifest
    if not isinstance(parent, dict) or not isinstance(parent.get(path[-1]), dict):
        return
    dropped = set(names)
    _put(parent, path[-1], {k: v for k, v in parent[path[-1]].items() if k not in dropped})


def _without(items: Any, is_dropped: Callable[[dict[str, Any]], bool]) -> list[Any]:
    return [item for item in items or [] if not is_dropped(item)]


def strip_pod(desired: Manifest, _captured: Manifest) -> None:
    """A bare Pod loses its node, the priority computed from its class, and injected token volumes."""
    spec = desired.get("spec") or {}
    for name in ("nodeName", "priority", "preemptionPolicy", "ephemeralContainers"):
        spec.pop(name, None)
    injected = {
        volume["name"]
        for volume in spec.get("volumes") or []
        if _TOKEN_VOLUME.search(volume.get("name", ""))
        and ("projected" in volume or "secret" in volume)
    }
    _put(spec, "volumes", _without(spec.get("volumes"), lambda v: v.get("name") in injected))
    for part in ("containers", "initContainers"):
        for container in spec.get(part) or []:
            mounts = _without(container.get("volumeMounts"), lambda m: m.get("name") in injected)
            _put(container, "volumeMounts", mounts)


def strip_job(desired: Manifest, _captured: Manifest) -> None:
    """A Job loses the generated selector and the labels that carry its old uid."""
    spec = desired.get("spec") or {}
    _drop_keys(desired, ("metadata", "labels"), _JOB_LABELS)
    if not spec.get("manualSelector"):
        spec.pop("selector", None)
        _drop_keys(desired, ("spec", "template", "metadata", "labels"), _JOB_LABELS)


def strip_deployment(desired: Manifest, _captured: Manifest) -> None:
    """A Deployment loses the revision that its controller counts."""
    _drop_keys(desired, ("metadata", "annotations"), ("deployment.kubernetes.io/revision",))


def strip_daemon_set(desired: Manifest, _captured: Manifest) -> None:
    """A DaemonSet loses the generation that its controller counts."""
    _drop_keys(desired, ("metadata", "annotations"), ("deprecated.daemonset.template.generation",))


def strip_autoscaler(desired: Manifest, _captured: Manifest) -> None:
    """An autoscaler in the old version loses the status that it kept in annotations."""
    _drop_keys(desired, ("metadata", "annotations"), _AUTOSCALING_ANNOTATIONS)


def strip_service(desired: Manifest, captured: Manifest) -> None:
    """A Service loses allocated addresses and node ports; headless and asked-for ones stay."""
    spec = desired.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return
    applied = _last_applied(captured)
    headless = spec.get("clusterIP") == "None"
    if not headless and not _is_asked_for(captured, applied, "clusterIP"):
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)
    # Families are those of the cluster unless somebody chose them; another cluster may lack one.
    for name in ("healthCheckNodePort", "ipFamilies", "ipFamilyPolicy"):
        if not _is_asked_for(captured, applied, name):
            spec.pop(name, None)
    explicit = explicit_node_ports(captured)
    for port in spec.get("ports") or []:
        if (port.get("port"), port.get("protocol", "TCP")) not in explicit:
            port.pop("nodePort", None)


def strip_endpoints(desired: Manifest, _captured: Manifest) -> None:
    """Endpoints made by hand keep the names of what they point at, not its old uids."""
    listed = [*(desired.get("endpoints") or [])]
    for subset in desired.get("subsets") or []:
        listed += [*(subset.get("addresses") or []), *(subset.get("notReadyAddresses") or [])]
    for endpoint in listed:
        _drop_keys(endpoint, ("targetRef",), ("uid", "resourceVersion"))


def strip_cluster_role(desired: Manifest, _captured: Manifest) -> None:
    """A ClusterRole that aggregates loses the rules that a controller collected for it."""
    if desired.get("aggregationRule"):
        desired.pop("rules", None)


def _last_applied(manifest: Manifest) -> Manifest:
    text = field(manifest, "metadata", "annotations", LAST_APPLIED, default="")
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _managers_own(manifest: Manifest) -> Iterable[dict[str, Any]]:
    """What each manager of the main resource owns under `spec`."""
    for entry in field(manifest, "metadata", "managedFields", default=[]):
        owned = field(entry, "fieldsV1", "f:spec")
        if not entry.get("subresource") and isinstance(owned, dict):
            yield owned


def _is_asked_for(captured: Manifest, applied: Manifest, name: str) -> bool:
    if field(applied, "spec", name) is not None:
        return True
    return any(f"f:{name}" in owned for owned in _managers_own(captured))


def explicit_node_ports(captured: Manifest) -> set[tuple[Any, str]]:
    """The (port, protocol) of a Service whose node ports somebody asked for, whatever was allocated."""
    applied = _last_applied(captured)
    explicit = {
        (port.get("port"), port.get("protocol", "TCP"))
        for port in field(applied, "spec", "ports", default=[])
        if port.get("nodePort")
    }
    for owned in _managers_own(captured):
        for item, inside in (owned.get("f:ports") or {}).items():
            if item.startswith("k:") and isinstance(inside, dict) and "f:nodePort" in inside:
                key = json.loads(item[2:])
                explicit.add((key.get("port"), key.get("protocol", "TCP")))
    return explicit


def strip_claim(desired: Manifest, _captured: Manifest) -> None:
    """A claim loses its volume and the marks of binding, and is filled by us instead of its source."""
    _drop_keys(desired, ("metadata", "annotations"), _BIND_ANNOTATIONS)
    _drop_keys(desired, ("spec",), ("volumeName", "dataSource", "dataSourceRef"))


def strip_volume(desired: Manifest, _captured: Manifest) -> None:
    """A PersistentVolume keeps the name of its claim, not its uid."""
    _drop_keys(desired, ("spec", "claimRef"), ("uid", "resourceVersion"))
    _drop_keys(desired, ("metadata", "annotations"), _BIND_ANNOTATIONS)


def strip_service_account(desired: Manifest, captured: Manifest) -> None:
    """A ServiceAccount loses the token Secrets that were generated for it."""
    name = field(captured, "metadata", "name", default="")

    def is_generated(reference: dict[str, Any]) -> bool:
        return str(reference.get("name", "")).startswith((f"{name}-token-", f"{name}-dockercfg-"))

    for part in ("secrets", "imagePullSecrets"):
        _put(desired, part, _without(desired.get(part), is_generated))


def strip_token_secret(desired: Manifest, _captured: Manifest) -> None:
    """A service-account token asked for by hand is emptied, so that the new cluster fills it."""
    if desired.get("type") != "kubernetes.io/service-account-token":
        return
    _drop_keys(desired, ("data",), ("token", "ca.crt", "namespace"))
    _drop_keys(desired, ("metadata", "annotations"), ("kubernetes.io/service-account.uid",))


def strip_namespace(desired: Manifest, _captured: Manifest) -> None:
    """A Namespace loses its finalizers and the label that repeats its name."""
    _drop_keys(desired, ("spec",), ("finalizers",))
    _drop_keys(desired, ("metadata", "labels"), ("kubernetes.io/metadata.name",))


def strip_definition(desired: Manifest, _captured: Manifest) -> None:
    """A CRD loses `preserveUnknownFields: true`, which v1 refuses; each schema says it instead."""
    spec = desired.get("spec") or {}
    if spec.pop("preserveUnknownFields", False) is not True:
        return
    for version in spec.get("versions") or []:
        schema = field(version, "schema", "openAPIV3Schema")
        if isinstance(schema, dict):
            schema["x-kubernetes-preserve-unknown-fields"] = True


_CORE = frozenset({""})
_APPS = frozenset({"apps", "extensions"})

RULES: dict[str, tuple[tuple[frozenset[str], Rule], ...]] = {
    "Pod": ((_CORE, strip_pod),),
    "Job": ((frozenset({"batch"}), strip_job),),
    "Deployment": ((_APPS, strip_deployment),),
    "DaemonSet": ((_APPS, strip_daemon_set),),
    "HorizontalPodAutoscaler": ((frozenset({"autoscaling"}), strip_autoscaler),),
    "Service": ((_CORE, strip_service),),
    "Endpoints": ((_CORE, strip_endpoints),),
    "EndpointSlice": ((frozenset({"discovery.k8s.io"}), strip_endpoints),),
    "ClusterRole": ((frozenset({"rbac.authorization.k8s.io"}), strip_cluster_role),),
    "PersistentVolumeClaim": ((_CORE, strip_claim),),
    "PersistentVolume": ((_CORE, strip_volume),),
    "ServiceAccount": ((_CORE, strip_service_account),),
    "Secret": ((_CORE, strip_token_secret),),
    "Namespace": ((_CORE, strip_namespace),),
    "CustomResourceDefinition": ((frozenset({"apiextensions.k8s.io"}), strip_definition),),
}
"""Kind → (groups, rule). A kind without a rule loses only what every object loses."""


def _is_generated_token(secret: Manifest) -> bool:
    account = str(
        field(secret, "metadata", "annotations", "kubernetes.io/service-account.name", default="")
    )
    name = str(field(secret, "metadata", "name", default=""))
    is_token = str(secret.get("type")) == "kubernetes.io/service-account-token"
    return is_token and bool(re.fullmatch(re.escape(account) + r"-token-[a-z0-9]{5}", name))


NEVER_RESTORED: tuple[tuple[frozenset[str], str, Callable[[Manifest], bool], str, str], ...] = (
    (
        frozenset({"apiregistration.k8s.io"}),
        "APIService",
        lambda m: bool(labels_of(m).get("kube-aggregator.kubernetes.io/automanaged")),
        "AutoRegistered",
        "the API server registers it by itself",
    ),
    (
        _CORE,
        "Pod",
        lambda m: "kubernetes.io/config.mirror" in annotations_of(m),
        "MirrorPod",
        "a node mirrors it from a file of its own",
    ),
    (
        _CORE,
        "Secret",
        _is_generated_token,
        "GeneratedToken",
        "the cluster generates tokens of service accounts",
    ),
    (
        _CORE,
        "ConfigMap",
        lambda m: field(m, "metadata", "name") in {"kube-root-ca.crt", "openshift-service-ca.crt"},
        "ClusterOwned",
        "the cluster publishes its own certificate authority",
    ),
)
