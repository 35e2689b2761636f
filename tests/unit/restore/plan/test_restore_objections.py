"""What a server's refusal means, which fields nobody can change, how much something is."""

from decimal import Decimal

import pytest

from reconciler.cluster.port import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from reconciler.objects import ObjectKey
from reconciler.restore.plan.amount import amount, written
from reconciler.restore.plan.compare import FieldChange
from reconciler.restore.plan.immutable import immutable_paths
from reconciler.restore.plan.objection import is_conversion_down, objection_of

POD = 'create Pod a/b: the API server answered 403 Forbidden: pods "b" is forbidden: '


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ForbiddenError(POD + 'violates PodSecurity "restricted:latest": x'), "PodSecurity"),
        (ForbiddenError(POD + "exceeded quota: q, requested: pods=1"), "QuotaExceeded"),
        (ForbiddenError(POD + "failed quota: q: must specify limits.cpu"), "QuotaExceeded"),
        (
            ForbiddenError(POD + "maximum cpu usage per Container is 1, but limit is 2"),
            "LimitRange",
        ),
        (ForbiddenError('admission webhook "a.b" denied the request: no'), "WebhookDenied"),
        (
            InvalidError("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"),
            "PolicyDenied",
        ),
        (
            InvalidError("spec.ports[0].nodePort: provided port is already allocated"),
            "AddressTaken",
        ),
        (InvalidError("metadata.annotations: Too long: may not be more than 262144"), "TooLarge"),
        (InvalidError("spec.replicas: Required value"), "Invalid"),
        (ForbiddenError("RBAC says no"), "Forbidden"),
    ],
)
def test_who_refused_is_read_from_the_words(error, reason):
    """Webhooks, policies, Pod Security, quotas and limits answer with the same few codes."""
    assert objection_of(error).reason == reason


def test_a_webhook_that_does_not_answer_is_named():
    """The server's 500 names it; a conversion webhook has no name."""
    down = UnavailableError(
        '500: failed calling webhook "a.example.org": failed to call webhook: x'
    )
    converting = UnavailableError(
        "500: conversion webhook for example.org/v1, Kind=Gear failed: Post"
    )

    assert objection_of(down).reason == "WebhookUnavailable"
    assert objection_of(down).webhook == "a.example.org"
    assert objection_of(converting).reason == "WebhookUnavailable"
    assert is_conversion_down(converting)
    assert not is_conversion_down(down)


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("the API server answered 503"),
        InvalidError('admission webhook "a" does not support dry run'),
        NotFoundError("namespaces shop not found"),
        ConflictError("it changed"),
    ],
)
def test_an_answer_that_is_about_something_else_is_no_objection(error):
    """Then the write decides."""
    assert objection_of(error) is None


@pytest.mark.parametrize(
    ("kind", "group", "path", "closed"),
    [
        ("StatefulSet", "apps", "spec.volumeClaimTemplates", True),
        ("StatefulSet", "apps", "spec.serviceName", True),
        ("StatefulSet", "apps", "spec.replicas", False),
        ("StatefulSet", "apps", "spec.template.spec.containers[a].image", False),
        ("Deployment", "apps", "spec.selector.matchLabels.app", True),
        ("Deployment", "apps", "spec.selectors", False),
        ("Job", "batch", "spec.template.spec.containers[a].image", True),
        ("Job", "batch", "spec.suspend", False),
        ("Service", "", "spec.clusterIP", True),
        ("Service", "", "spec.type", False),
        ("PersistentVolumeClaim", "", "spec.storageClassName", True),
        ("PersistentVolumeClaim", "", "spec.resources.requests.storage", False),
        ("StorageClass", "storage.k8s.io", "parameters.x", True),
        ("RoleBinding", "rbac.authorization.k8s.io", "roleRef.name", True),
        ("RoleBinding", "rbac.authorization.k8s.io", "subjects", False),
        ("Secret", "", "type", True),
        ("ConfigMap", "", "data.a", False),
    ],
)
def test_fields_that_nobody_can_change_are_known(kind, group, path, closed):
    """So that a plan can say it where the server cannot be asked."""
    change = FieldChange(path, 1, 2)

    found = immutable_paths(ObjectKey(group, kind, "shop", "x"), {}, [change])
    assert found == ([path] if closed else [])


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_an_immutable_one_is_closed(kind):
    """Data of what was made immutable cannot change, labels can."""
    changes = [FieldChange('data["a.b"]', 1, 2), FieldChange("metadata.labels.x", 1, 2)]

    key = ObjectKey("", kind, "shop", "x")
    assert immutable_paths(key, {"immutable": True}, changes) == ['data["a.b"]']
    assert immutable_paths(key, {}, changes) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"),
        ("500m", "0.5"),
        ("1.5Gi", "1610612736"),
        ("1Ki", "1024"),
        ("2k", "2000"),
        ("1e3", "1000"),
        ("12E", "12000000000000000000"),
        (".5", "0.5"),
        (3, "3"),
        ("", "0"),
        ("junk", "0"),
    ],
)
def test_quantities_are_read_exactly(text, value):
    """Binary and decimal suffixes, exponents, and what is none."""
    assert amount(text) == Decimal(value)


def test_sums_are_written_like_what_they_are_compared_with():
    """Bytes in binary units, everything else as a number."""
    assert written(Decimal(1024**3 * 3) / 2, "4Gi") == "1.5Gi"
    assert written(Decimal(512), "4Gi") == "512"
    assert written(Decimal("2.50"), "4") == "2.5"
    assert written(Decimal(200), "300") == "200"
