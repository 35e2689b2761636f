"""Known ways from an API version to a newer one of the same thing: a table of small functions.

Source: the Kubernetes deprecation guide, releases 1.16 to 1.32, and the lifecycle notes of kubent and pluto where
they agree with it. A function changes the manifest in place and says each change in one line; apiVersion itself
is changed by the caller. Where a default differs between the versions, the old one is written out, so that the
object goes on meaning what it meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reconciler.errors import TerminalError
from reconciler.objects import Manifest
from reconciler.transform import crd, hpa, workloads
from reconciler.transform.fields import Lines, items_of, map_of

Rewrite = Callable[[Manifest], Lines]


class ConversionError(TerminalError):
    """A conversion is known, but this object has something that the newer version cannot say."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """One step from a version of a kind to another; `rewrite` is None for a plain change of apiVersion."""

    group: str
    version: str
    rewrite: Rewrite | None = None


def ingress(manifest: Manifest) -> Lines:
    """Ingress: backends nest, every path has a type."""
    lines: Lines = []
    spec = map_of(manifest, "spec")
    if "backend" in spec:
        spec["defaultBackend"] = _backend(spec.pop("backend"))
        lines.append("spec.backend: moved to spec.defaultBackend")
    for r, rule in enumerate(items_of(spec.get("rules"))):
        for p, path in enumerate(items_of((rule.get("http") or {}).get("paths"))):
            where = f"spec.rules[{r}].http.paths[{p}]"
            if "serviceName" in (path.get("backend") or {}):
                path["backend"] = _backend(path["backend"])
                lines.append(f"{where}.backend: nested under service")
            if not path.get("pathType"):
                path["pathType"] = "ImplementationSpecific"
                lines.append(f"{where}.pathType: added ImplementationSpecific")
    return lines


def _backend(backend: Manifest) -> Manifest:
    if not isinstance(backend, dict) or "serviceName" not in backend:
        return backend
    rest = {k: v for k, v in backend.items() if k not in ("serviceName", "servicePort")}
    port = backend.get("servicePort")
    service: Manifest = {"name": backend["serviceName"]}
    if port is not None:
        service["port"] = {"name": port} if isinstance(port, str) else {"number": port}
    return {**rest, "service": service}


def disruption_budget(manifest: Manifest) -> Lines:
    """PodDisruptionBudget: an empty selector selected nothing, and would now select every pod."""
    spec = map_of(manifest, "spec")
    selector = spec.get("selector")
    if selector is not None and not any((selector or {}).values()):
        del spec["selector"]
        return ["spec.selector: dropped the empty selector, which now would select every pod"]
    return []


def webhooks(manifest: Manifest) -> Lines:
    """Webhook configurations: what was a default is required or defaults differently."""
    lines: Lines = []
    hooks = list(items_of(manifest.get("webhooks")))
    names = [hook.get("name") for hook in hooks]
    if len(set(names)) < len(names):
        raise ConversionError("two webhooks have the same name, which v1 refuses")
    old = {"failurePolicy": "Ignore", "matchPolicy": "Exact", "timeoutSeconds": 30}
    for n, hook in enumerate(hooks):
        for field, value in old.items():
            if hook.get(field) is None:
                hook[field] = value
                lines.append(f"webhooks[{n}].{field}: wrote the old default {value}")
        if not hook.get("admissionReviewVersions"):
            hook["admissionReviewVersions"] = ["v1beta1"]
            lines.append(f"webhooks[{n}].admissionReviewVersions: wrote the old default v1beta1")
        if hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            hook["sideEffects"] = "NoneOnDryRun"
            lines.append(
                f"webhooks[{n}].sideEffects: NoneOnDryRun, the nearest that v1 knows; check the webhook"
            )
    return lines


_TOPOLOGY = {"kubernetes.io/hostname": "nodeName", "topology.kubernetes.io/zone": "zone"}


def endpoint_slice(manifest: Manifest) -> Lines:
    """EndpointSlice: topology becomes nodeName and zone; the rest has no successor."""
    lines: Lines = []
    for n, endpoint in enumerate(items_of(manifest.get("endpoints"))):
        topology = endpoint.pop("topology", None) or {}
        for label, field in _TOPOLOGY.items():
            if topology.get(label):
                endpoint.setdefault(field, topology[label])
                lines.append(f"endpoints[{n}].topology: {label} moved to {field}")
        rest = sorted(set(topology) - set(_TOPOLOGY))
        if rest:
            lines.append(f"endpoints[{n}].topology: dropped {', '.join(rest)}")
    return lines


def signing_request(manifest: Manifest) -> Lines:
    """CertificateSigningRequest: signer and usages must be given, and the legacy signer is gone."""
    spec = map_of(manifest, "spec")
    signer = spec.get("signerName") or "kubernetes.io/legacy-unknown"
    if signer == "kubernetes.io/legacy-unknown" or not spec.get("usages"):
        raise ConversionError("v1 needs a signerName other than legacy-unknown, and usages")
    return []


def priority_level(manifest: Manifest) -> Lines:
    """PriorityLevelConfiguration: one field has a new name."""
    limited = map_of(manifest, "spec").get("limited")
    if isinstance(limited, dict) and "assuredConcurrencyShares" in limited:
        limited["nominalConcurrencyShares"] = limited.pop("assuredConcurrencyShares")
        return ["spec.limited.assuredConcurrencyShares: renamed to nominalConcurrencyShares"]
    return []


_Key = tuple[str, str, str]
_RBAC = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
_STORAGE = ("StorageClass", "CSIDriver", "CSINode", "VolumeAttachment", "CSIStorageCapacity")
_SNAPSHOT = ("VolumeSnapshot", "VolumeSnapshotClass", "VolumeSnapshotContent")
_POLICIES = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
_REVIEWS = ("SelfSubjectAccessReview", "SelfSubjectRulesReview")


def _bumps(
    group: str, versions: Iterable[str], kinds: Iterable[str]
) -> dict[_Key, list[Conversion]]:
    """Every version in the row can become each later one."""
    row = list(versions)
    return {
        (group, version, kind): [Conversion(group, later) for later in reversed(row[n + 1 :])]
        for n, version in enumerate(row[:-1])
        for kind in kinds
    }


CONVERSIONS: dict[_Key, list[Conversion]] = {
    **_bumps("admissionregistration.k8s.io", ("v1alpha1", "v1beta1", "v1"), _POLICIES),
    **_bumps("apiregistration.k8s.io", ("v1beta1", "v1"), ("APIService",)),
    **_bumps("authentication.k8s.io", ("v1beta1", "v1"), ("TokenReview",)),
    **_bumps("authorization.k8s.io", ("v1beta1", "v1"), _REVIEWS),
    **_bumps("autoscaling", ("v2beta2", "v2"), ("HorizontalPodAutoscaler",)),
    **_bumps("batch", ("v1beta1", "v1"), ("CronJob",)),
    **_bumps("coordination.k8s.io", ("v1beta1", "v1"), ("Lease",)),
    **_bumps("networking.k8s.io", ("v1beta1", "v1"), ("IngressClass",)),
    **_bumps("node.k8s.io", ("v1beta1", "v1"), ("RuntimeClass",)),
    **_bumps("rbac.authorization.k8s.io", ("v1beta1", "v1"), _RBAC),
    **_bumps("scheduling.k8s.io", ("v1alpha1", "v1beta1", "v1"), ("PriorityClass",)),
    **_bumps("snapshot.storage.k8s.io", ("v1beta1", "v1"), _SNAPSHOT),
    **_bumps("storage.k8s.io", ("v1beta1", "v1"), _STORAGE),
    **_bumps("storage.k8s.io", ("v1alpha1", "v1beta1", "v1"), ("VolumeAttributesClass",)),
    **_bumps(
        "flowcontrol.apiserver.k8s.io", ("v1beta1", "v1beta2", "v1beta3", "v1"), ("FlowSchema",)
    ),
    ("flowcontrol.apiserver.k8s.io", "v1beta1", "PriorityLevelConfiguration"): [
        Conversion("flowcontrol.apiserver.k8s.io", "v1", priority_level),
        Conversion("flowcontrol.apiserver.k8s.io", "v1beta3", priority_level),
        Conversion("flowcontrol.apiserver.k8s.io", "v1beta2"),
    ],
    ("flowcontrol.apiserver.k8s.io", "v1beta2", "PriorityLevelConfiguration"): [
        Conversion("flowcontrol.apiserver.k8s.io", "v1", priority_level),
        Conversion("flowcontrol.apiserver.k8s.io", "v1beta3", priority_level),
    ],
    ("flowcontrol.apiserver.k8s.io", "v1beta3", "PriorityLevelConfiguration"): [
        Conversion("flowcontrol.apiserver.k8s.io", "v1"),
    ],
    ("extensions", "v1beta1", "NetworkPolicy"): [Conversion("networking.k8s.io", "v1")],
    ("extensions", "v1beta1", "Ingress"): [
        Conversion("networking.k8s.io", "v1", ingress),
        Conversion("networking.k8s.io", "v1beta1"),
    ],
    ("networking.k8s.io", "v1beta1", "Ingress"): [
        Conversion("networking.k8s.io", "v1", ingress),
    ],
    ("policy", "v1beta1", "PodDisruptionBudget"): [Conversion("policy", "v1", disruption_budget)],
    ("autoscaling", "v2beta1", "HorizontalPodAutoscaler"): [
        Conversion("autoscaling", "v2", hpa.from_v2beta1),
        Conversion("autoscaling", "v2beta2", hpa.from_v2beta1),
    ],
    ("apiextensions.k8s.io", "v1beta1", "CustomResourceDefinition"): [
        Conversion("apiextensions.k8s.io", "v1", crd.from_v1beta1),
    ],
    ("admissionregistration.k8s.io", "v1beta1", "MutatingWebhookConfiguration"): [
        Conversion("admissionregistration.k8s.io", "v1", webhooks),
    ],
    ("admissionregistration.k8s.io", "v1beta1", "ValidatingWebhookConfiguration"): [
        Conversion("admissionregistration.k8s.io", "v1", webhooks),
    ],
    ("certificates.k8s.io", "v1beta1", "CertificateSigningRequest"): [
        Conversion("certificates.k8s.io", "v1", signing_request),
    ],
    ("discovery.k8s.io", "v1beta1", "EndpointSlice"): [
        Conversion("discovery.k8s.io", "v1", endpoint_slice),
    ],
    ("extensions", "v1beta1", "Deployment"): [
        Conversion("apps", "v1", workloads.deployment_from_extensions)
    ],
    ("apps", "v1beta1", "Deployment"): [Conversion("apps", "v1", workloads.deployment_from_beta1)],
    ("apps", "v1beta2", "Deployment"): [Conversion("apps", "v1", workloads.selector)],
    ("extensions", "v1beta1", "DaemonSet"): [
        Conversion("apps", "v1", workloads.daemon_set_from_extensions)
    ],
    ("apps", "v1beta2", "DaemonSet"): [Conversion("apps", "v1", workloads.daemon_set)],
    ("apps", "v1beta1", "StatefulSet"): [
        Conversion("apps", "v1", workloads.stateful_set_from_beta1)
    ],
    ("apps", "v1beta2", "StatefulSet"): [Conversion("apps", "v1", workloads.selector)],
    ("extensions", "v1beta1", "ReplicaSet"): [Conversion("apps", "v1", workloads.selector)],
    ("apps", "v1beta1", "ReplicaSet"): [Conversion("apps", "v1", workloads.selector)],
    ("apps", "v1beta2", "ReplicaSet"): [Conversion("apps", "v1", workloads.selector)],
}

NO_SUCCESSOR: dict[tuple[str, str], str] = {
    (
        "extensions",
        "PodSecurityPolicy",
    ): "Pod Security Admission labels on the Namespace replace it",
    ("policy", "PodSecurityPolicy"): "Pod Security Admission labels on the Namespace replace it",
}
"""(group, kind) of what has no newer form → what a person does instead."""
