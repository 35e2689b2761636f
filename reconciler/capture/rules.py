"""What is left out of a capture, and why: a table of small questions about one object.

Only children of built-in controllers are left out, since those make them again from what is kept; objects made by
other controllers stay. Secrets, ConfigMaps and claims stay whoever made them, but for the two that every
namespace is given by the server (default tokens, `kube-root-ca.crt`). The first question that says yes decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from reconciler.capture.names import matches_any
from reconciler.capture.observed import Observed
from reconciler.cel import compile_expression
from reconciler.cel.error import CelError
from reconciler.kinds.policy import Capture, ObjectRule
from reconciler.kinds.record import Outcome
from reconciler.objects import LABEL_MANAGED, Manifest, annotations_of, field

Reason = Literal[
    "",
    "OwnObject",
    "MadeByServer",
    "OwnedByController",
    "DefaultToken",
    "LeaderElection",
    "Finished",
    "BeingDeleted",
    "ExcludedByLabel",
    "ExcludedByPolicy",
    "NotIncluded",
]
NAMED: frozenset[Reason] = frozenset({"BeingDeleted", "ExcludedByLabel", "ExcludedByPolicy"})
"""Reasons that each object is named for in the outcomes; the others are only counted."""

_WORKLOADS = {
    ("apps", "ReplicaSet"),
    ("extensions", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("extensions", "DaemonSet"),
    ("", "ReplicationController"),
    ("batch", "Job"),
    ("", "Node"),
}
_CHILDREN: dict[tuple[str, str], set[tuple[str, str]]] = {
    ("apps", "ReplicaSet"): {("apps", "Deployment"), ("extensions", "Deployment")},
    ("extensions", "ReplicaSet"): {("apps", "Deployment"), ("extensions", "Deployment")},
    ("apps", "ControllerRevision"): {
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("extensions", "DaemonSet"),
    },
    ("", "Pod"): _WORKLOADS,
    ("batch", "Job"): {("batch", "CronJob")},
}
"""Child → the built-in controllers that make it again."""

_SLICE_MANAGERS = {
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
}
_TOKEN_TYPE = "kubernetes.io/service-account-token"  # noqa: S105  the name of a type
_TOKEN_SUFFIX = re.compile(r"-token-[a-z0-9]{5}$")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What the questions need to know of the other objects in the namespace."""

    selecting_services: frozenset[str]
    """Names of the Services with a selector."""

    @classmethod
    def of(cls, members: Sequence[Observed]) -> Neighbours:
        """Look at a namespace."""
        services = (m for m in members if m.key.kind == "Service" and not m.key.group)
        return cls(
            frozenset(m.key.name for m in services if field(m.manifest(), "spec", "selector"))
        )


def reason_to_leave(seen: Observed, neighbours: Neighbours) -> Reason:
    """Why an object is left out whatever a policy says; empty when it stays."""
    for question, reason in _QUESTIONS:
        if question(seen, neighbours):
            return reason
    return ""


def _is_own(seen: Observed, _: Neighbours) -> bool:
    return LABEL_MANAGED in seen.labels


def _is_made_by_server(seen: Observed, _: Neighbours) -> bool:
    key = seen.key
    if key.kind == "ConfigMap" and not key.group:
        return key.name == "kube-root-ca.crt"
    is_endpoint = key.kind in ("Service", "Endpoints", "EndpointSlice")
    return is_endpoint and (key.namespace, key.name) == ("default", "kubernetes")


def _is_child(seen: Observed, neighbours: Neighbours) -> bool:
    key = seen.key
    parents = _CHILDREN.get((key.group, key.kind))
    if parents:
        owner = seen.controller
        return owner is not None and (owner.group, owner.kind) in parents
    if key.kind == "EndpointSlice" and key.group == "discovery.k8s.io":
        service = seen.labels.get("kubernetes.io/service-name", "")
        manager = seen.labels.get("endpointslice.kubernetes.io/managed-by", "")
        return manager in _SLICE_MANAGERS or service in neighbours.selecting_services
    if key.kind == "Endpoints" and not key.group:
        return key.name in neighbours.selecting_services
    return False


def _is_default_token(seen: Observed, _: Neighbours) -> bool:
    if seen.key.kind != "Secret" or seen.key.group or not _TOKEN_SUFFIX.search(seen.key.name):
        return False
    manifest = seen.manifest()
    account = annotations_of(manifest).get("kubernetes.io/service-account.name", "")
    made_name = _TOKEN_SUFFIX.sub("", seen.key.name)
    return manifest.get("type") == _TOKEN_TYPE and account == made_name


def is_bare_default_account(seen: Observed) -> bool:
    """Whether it is the ServiceAccount that every namespace is given, and nobody has added anything to it."""
    if seen.key.group or (seen.key.kind, seen.key.name) != ("ServiceAccount", "default"):
        return False
    manifest = seen.manifest()
    added = set(manifest) - {"apiVersion", "kind", "metadata", "secrets"}
    return not added and not seen.labels and not annotations_of(manifest)


def _is_leader_election(seen: Observed, _: Neighbours) -> bool:
    if seen.key.kind == "Lease" and seen.key.group == "coordination.k8s.io":
        spec = seen.manifest().get("spec") or {}
        return "holderIdentity" in spec or "leaseDurationSeconds" in spec
    if seen.key.kind == "Endpoints" and not seen.key.group:
        return _LEADER_ANNOTATION in annotations_of(seen.manifest())
    return False


_QUESTIONS: tuple[tuple[Callable[[Observed, Neighbours], bool], Reason], ...] = (
    (_is_own, "OwnObject"),
    (_is_made_by_server, "MadeByServer"),
    (_is_child, "OwnedByController"),
    (_is_default_token, "DefaultToken"),
    (_is_leader_election, "LeaderElection"),
    (lambda seen, _: seen.state == "Finished", "Finished"),
    (lambda seen, _: seen.is_excluded, "ExcludedByLabel"),
    (lambda seen, _: seen.is_deleting, "BeingDeleted"),
)


class ObjectFilter:
    """The include and exclude rules of a policy, compiled once.

    An expression that fails on an object never takes it out: the object is captured, and `outcomes` says so.
    """

    def __init__(self, capture: Capture) -> None:
        self._include = [_Clause(rule, f"include[{i}]") for i, rule in enumerate(capture.include)]
        self._exclude = [_Clause(rule, f"exclude[{i}]") for i, rule in enumerate(capture.exclude)]

    def reason_to_leave(self, seen: Observed) -> Reason:
        """Why the policy leaves an object out; empty when it stays."""
        if any(clause.matches(seen, when_failing=False) for clause in self._exclude):
            return "ExcludedByPolicy"
        if self._include and not any(
            clause.matches(seen, when_failing=True) for clause in self._include
        ):
            return "NotIncluded"
        return ""

    def outcomes(self) -> list[Outcome]:
        """One outcome for each rule whose expression failed on some objects."""
        return [
            Outcome(
                item=f"policy/capture.{clause.name}",
                result="Skipped",
                reason="RuleFailed",
                message=f"failed on {clause.failures} objects, which were captured: {clause.problem}"[
                    :256
                ],
            )
            for clause in (*self._include, *self._exclude)
            if clause.failures
        ]


class _Clause:
    def __init__(self, rule: ObjectRule, name: str) -> None:
        self.name = name
        self.failures = 0
        self.problem = ""
        self._rule = rule
        self._program = (
            compile_expression(rule.where, variables=("object",)) if rule.where else None
        )

    def matches(self, seen: Observed, *, when_failing: bool) -> bool:
        rule, key = self._rule, seen.key
        if (rule.groups and key.group not in rule.groups) or (
            rule.kinds and key.kind not in rule.kinds
        ):
            return False
        if rule.names and not matches_any(key.name, rule.names):
            return False
        if any(seen.labels.get(label) != value for label, value in rule.match_labels.items()):
            return False
        if self._program is None:
            return True
        try:
            return self._program.test({"object": without_secrets(seen.manifest())})
        except CelError as error:
            self.failures += 1
            self.problem = error.message
            return when_failing


def without_secrets(manifest: Manifest) -> Manifest:
    """Empty the values of a Secret, so that no expression can tell what they are; keys stay."""
    if manifest.get("kind") != "Secret" or manifest.get("apiVersion") != "v1":
        return manifest
    hidden = dict(manifest)
    for part in ("data", "stringData"):
        if isinstance(hidden.get(part), dict):
            hidden[part] = dict.fromkeys(hidden[part], "")
    annotations = annotations_of(manifest)
    if _LAST_APPLIED in annotations:
        kept = {k: v for k, v in annotations.items() if k != _LAST_APPLIED}
        hidden["metadata"] = {**manifest["metadata"], "annotations": kept}
    return hidden
