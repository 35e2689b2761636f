"""The least that the program must be allowed to do, and a question to the server whether it is.

Captures read every kind, restores write every kind, contents move by exec, and a Lease per restore attempt
keeps it single. The question is a SelfSubjectAccessReview per verb: a wildcard is allowed only to who was granted one.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.cluster.port import Cluster, NotFoundError, NotServedError, ResourceType
from reconciler.objects import FIELD_MANAGER, Manifest, field


@dataclass(frozen=True)
class Rule:
    """Verbs on one resource; `*` stands for all groups or all resources."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    is_local: bool = False
    """Needed in the namespace for Leases only, not everywhere."""


RULES: tuple[Rule, ...] = (
    Rule("*", "*", ("get", "list", "watch"), "capture objects"),
    Rule("*", "*", ("create", "update", "patch", "delete"), "restore objects"),
    Rule("", "pods/exec", ("get", "create"), "move contents of volumes and data services"),
    Rule(
        "snapshot.storage.k8s.io",
        "volumesnapshots",
        ("create", "patch", "delete"),
        "read volumes as of one instant",
    ),
    Rule("batch", "jobs", ("create", "delete"), "run data movers", is_local=True),
    Rule(
        "coordination.k8s.io",
        "leases",
        ("get", "create", "update", "patch", "delete"),
        "act once, by one process",
        is_local=True,
    ),
)

_REVIEWS = ResourceType(
    group="authorization.k8s.io",
    version="v1",
    kind="SelfSubjectAccessReview",
    plural="selfsubjectaccessreviews",
    namespaced=False,
    verbs=frozenset(("create",)),
)


def check_permissions(cluster: Cluster, rules: Sequence[Rule], namespace: str) -> list[str] | None:
    """Name what is missing, as `list *.* (capture objects)`; None when the server reviews no access.

    Args:
        cluster: asked as who we are there.
        rules: what is needed.
        namespace: where Leases are kept.
    """
    missing = []
    for rule in rules:
        for verb in rule.verbs:
            place = namespace if rule.is_local else ""
            try:
                answer = cluster.create(
                    _REVIEWS, _review(rule, verb, namespace=place), manager=FIELD_MANAGER
                )
            except (NotServedError, NotFoundError):
                return None
            if not field(answer, "status", "allowed", default=False):
                group = f".{rule.group}" if rule.group else ""
                where = f" in {place}" if place else ""
                missing.append(f"{verb} {rule.resource}{group}{where} ({rule.why})")
    return missing


def policy_rules(rules: Sequence[Rule] = RULES) -> list[Manifest]:
    """Write the rules as those of a ClusterRole."""
    return [
        {"apiGroups": [rule.group], "resources": [rule.resource], "verbs": list(rule.verbs)}
        for rule in rules
    ]


def _review(rule: Rule, verb: str, *, namespace: str) -> Manifest:
    resource, _, subresource = rule.resource.partition("/")
    attributes = {
        "group": rule.group,
        "resource": resource,
        "subresource": subresource,
        "verb": verb,
        "namespace": namespace,
    }
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}},
    }
