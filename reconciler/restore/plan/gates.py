"""Live webhooks that a server must ask before it writes, and that do not answer.

A webhook with `failurePolicy: Fail` whose Service has no ready endpoint refuses every object that its rules match;
so does the conversion webhook of a CRD for objects written in another version than the stored one. `Gates` finds
which objects of a plan that concerns. A webhook that the same restore brings up first is no obstacle: the
objects then wait for its workload. Match conditions are not evaluated, and the plan says that it does not know.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.cluster.port import ApiError, Cluster, Discovery, ResourceType
from reconciler.errors import TransientError
from reconciler.objects import Manifest, ObjectKey, labels_of, name_of, namespace_of
from reconciler.objects import field as field_of

ADMISSION = "admissionregistration.k8s.io"
_CONFIGURATIONS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
_POLICIES = ("ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicyBinding")
_BUILT_IN = frozenset(
    f"{name}.k8s.io"
    for name in (
        "admissionregistration",
        "apiextensions",
        "apiregistration",
        "authentication",
        "authorization",
        "certificates",
        "coordination",
        "discovery",
        "events",
        "flowcontrol.apiserver",
        "internal.apiserver",
        "networking",
        "node",
        "rbac.authorization",
        "resource",
        "scheduling",
        "storage",
        "storagemigration",
    )
)
_NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Gate:
    """A webhook that does not answer."""

    configuration: ObjectKey
    name: str
    service: ObjectKey
    hook: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The webhook as configured; empty for the conversion of a CRD."""
    is_paused: bool = False
    """It answers now, and will not: the restore pauses the pods behind it."""

    @property
    def is_conditional(self) -> bool:
        """Whether it leaves objects out by expressions, which are not evaluated."""
        return bool(self.hook.get("matchConditions"))

    def __str__(self) -> str:
        """`webhook a.example.com of ValidatingWebhookConfiguration a`."""
        kind = f"{self.configuration.kind} {self.configuration.name}"
        if not self.hook:
            return f"the conversion webhook of {kind}"
        return f"webhook {self.name} of {kind}"


@dataclass(frozen=True)
class Asked:
    """What a server would ask a webhook about: an object, how it is written, in which namespace."""

    kind: ResourceType
    manifest: Manifest
    operation: str
    """CREATE, UPDATE or DELETE."""
    namespace_labels: Mapping[str, str] | None
    """None for objects outside namespaces."""
    live: Manifest | None = None


@dataclass(frozen=True)
class Gates:
    """The webhooks of the target that do not answer, and what else stands in the way of writes."""

    closed: tuple[Gate, ...] = ()
    conversions: Mapping[tuple[str, str], tuple[Gate, str]] = field(default_factory=dict)
    """(group, kind) → the CRD's webhook, and the version that is stored."""
    policies: tuple[str, ...] = ()
    """Admission policies that are bound; the dry run asks them."""
    unknown: str = ""
    """Why not all of it could be read."""

    def in_the_way_of(self, asked: Asked) -> list[Gate]:
        """Which webhooks would be asked about a write, and so refuse it."""
        found = [gate for gate in self.closed if matches(gate, asked)]
        conversion = self.conversions.get((asked.kind.group, asked.kind.kind))
        is_written = asked.operation != "DELETE"
        if conversion is not None and is_written and asked.kind.version != conversion[1]:
            found.append(conversion[0])
        return found

    def named(self, webhook: str) -> Gate | None:
        """The closed webhook of a name, which a server's refusal gives."""
        return next((gate for gate in self.closed if gate.name == webhook), None)


def read_gates(
    cluster: Cluster,
    discovery: Discovery,
    *,
    kinds: Iterable[ResourceType],
    paused: Sequence[Manifest] = (),
) -> Gates:
    """Read the target's webhooks and admission policies.

    Args:
        cluster: the target.
        discovery: what it serves.
        kinds: those that the plan writes; the CRDs of custom ones are looked at.
        paused: workloads that are scaled to zero before anything is written.
    """
    services = _Services(cluster, discovery, paused)
    closed: list[Gate] = []
    policies: list[str] = []
    try:
        for kind in _CONFIGURATIONS:
            for manifest in _all(cluster, discovery, kind):
                closed += _closed_hooks(manifest, services)
        for kind in _POLICIES:
            for manifest in _all(cluster, discovery, kind):
                name = field_of(manifest, "spec", "policyName", default="")
                policies.append(f"{kind.removesuffix('Binding')} {name}")
        conversions = dict(_closed_conversions(cluster, discovery, kinds, services))
    except ApiError as error:
        return Gates(tuple(closed), policies=tuple(dict.fromkeys(policies)), unknown=error.message)
    return Gates(tuple(closed), conversions, tuple(dict.fromkeys(policies)), services.unknown)


def matches(gate: Gate, asked: Asked) -> bool:
    """Whether a webhook's rules and selectors take in a write; its match conditions aside."""
    hook = gate.hook
    # A server never asks webhooks about their own configuration, so that it cannot be locked out.
    if asked.kind.group == ADMISSION:
        return False
    is_exact = hook.get("matchPolicy") == "Exact"
    if not any(_rule_matches(rule, asked, is_exact=is_exact) for rule in hook.get("rules") or []):
        return False
    labels = asked.namespace_labels
    if labels is not None and not selects(hook.get("namespaceSelector"), labels):
        return False
    selector = hook.get("objectSelector")
    forms = [asked.manifest, *([asked.live] if asked.live is not None else [])]
    return any(selects(selector, labels_of(form)) for form in forms)


def _all(cluster: Cluster, discovery: Discovery, kind: str) -> Iterator[Manifest]:
    found = discovery.find(ADMISSION, kind)
    if found is not None and "list" in found.verbs:
        for page in cluster.pages(found):
            yield from page.items


def _closed_hooks(configuration: Manifest, services: _Services) -> Iterator[Gate]:
    key = ObjectKey(ADMISSION, configuration["kind"], "", name_of(configuration))
    for hook in configuration.get("webhooks") or []:
        service = _service_of(hook.get("clientConfig"))
        if hook.get("failurePolicy", "Fail") != "Fail" or service is None:
            continue
        if services.is_down(service):
            yield Gate(key, str(hook.get("name", "")), service, hook, services.is_paused(service))


def _closed_conversions(
    cluster: Cluster, discovery: Discovery, kinds: Iterable[ResourceType], services: _Services
) -> Iterator[tuple[tuple[str, str], tuple[Gate, str]]]:
    definitions = discovery.find("apiextensions.k8s.io", "CustomResourceDefinition")
    if definitions is None:
        return
    custom = {(k.group, k.kind, k.plural) for k in kinds if is_custom(k.group)}
    for group, kind, plural in sorted(custom):
        found = cluster.get(definitions, f"{plural}.{group}")
        service = _service_of(
            field_of(found or {}, "spec", "conversion", "webhook", "clientConfig")
        )
        if found is None or service is None or not services.is_down(service):
            continue
        stored = next(
            (
                v["name"]
                for v in field_of(found, "spec", "versions", default=[])
                if v.get("storage")
            ),
            "",
        )
        key = ObjectKey(definitions.group, definitions.kind, "", name_of(found))
        gate = Gate(key, key.name, service, is_paused=services.is_paused(service))
        yield (group, kind), (gate, stored)


def is_custom(group: str) -> bool:
    """Whether the objects of a group may be defined by a CRD."""
    return "." in group and group not in _BUILT_IN


def _service_of(config: Any) -> ObjectKey | None:
    service = (config or {}).get("service") or {}
    if not service.get("name"):
        return None
    return ObjectKey("", "Service", service.get("namespace", "default"), service["name"])


def _rule_matches(rule: Mapping[str, Any], asked: Asked, *, is_exact: bool) -> bool:
    operations = rule.get("operations") or []
    if not {"*", asked.operation} & set(operations):
        return False
    if not {"*", asked.kind.group} & set(rule.get("apiGroups") or []):
        return False
    # Under Equivalent, the default, a rule for one version is asked about all of them.
    if is_exact and not {"*", asked.kind.version} & set(rule.get("apiVersions") or []):
        return False
    scope = rule.get("scope", "*")
    if scope != "*" and (scope == "Namespaced") != asked.kind.namespaced:
        return False
    return bool(
        {"*", "*/*", asked.kind.plural, f"{asked.kind.plural}/*"} & set(rule.get("resources") or [])
    )


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes labels in; an absent or empty one takes in everything."""
    if not selector:
        return True
    wanted = (selector.get("matchLabels") or {}).items()
    if any(labels.get(key) != value for key, value in wanted):
        return False
    return all(_holds(term, labels) for term in selector.get("matchExpressions") or [])


def _holds(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = term.get("key", ""), term.get("values") or []
    match term.get("operator"):
        case "In":
            return labels.get(key) in values and key in labels
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return True


class _Services:
    """Asks which Services have a ready endpoint, each once."""

    def __init__(self, cluster: Cluster, discovery: Discovery, paused: Sequence[Manifest]) -> None:
        self._cluster = cluster
        self._services = discovery.find("", "Service")
        self._paused = paused
        self._slices = discovery.find("discovery.k8s.io", "EndpointSlice")
        self._endpoints = discovery.find("", "Endpoints")
        self._known: dict[ObjectKey, bool] = {}
        self.unknown = ""

    def is_down(self, service: ObjectKey) -> bool:
        """Whether a Service has no ready endpoint; one that cannot be asked about counts as up."""
        if service not in self._known:
            try:
                self._known[service] = self.is_paused(service) or not self._is_ready(service)
            except (ApiError, TransientError) as error:
                self.unknown = error.message
                self._known[service] = False
        return self._known[service]

    def is_paused(self, service: ObjectKey) -> bool:
        """Whether the pods behind a Service are those of a workload that is paused."""
        near = [
            labels_of(field_of(one, "spec", "template", default={}))
            for one in self._paused
            if namespace_of(one) == service.namespace
        ]
        if not near or self._services is None:
            return False
        found = self._cluster.get(self._services, service.name, namespace=service.namespace)
        selector = field_of(found or {}, "spec", "selector", default={})
        return bool(selector) and any(
            all(labels.get(name) == value for name, value in selector.items()) for labels in near
        )

    def _is_ready(self, service: ObjectKey) -> bool:
        if self._slices is None:
            found = None
            if self._endpoints is not None:
                found = self._cluster.get(
                    self._endpoints, service.name, namespace=service.namespace
                )
            return any(subset.get("addresses") for subset in (found or {}).get("subsets") or [])
        pages = self._cluster.pages(
            self._slices,
            namespace=service.namespace,
            label_selector=f"kubernetes.io/service-name={service.name}",
        )
        return any(
            field_of(endpoint, "conditions", "ready", default=True) is not False
            for page in pages
            for item in page.items
            for endpoint in item.get("endpoints") or []
        )


def namespace_labels(namespace: Manifest | None, name: str) -> dict[str, str]:
    """The labels that a namespace has, or will have."""
    return {**labels_of(namespace or {}), _NAME_LABEL: name}
