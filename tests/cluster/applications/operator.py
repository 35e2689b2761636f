"""An operator whose own Deployment serves the conversion and validating webhooks of its definition.

It makes a Secret with a random key and a claim for each Widget. Both webhooks refuse everything while it is down
(`failurePolicy: Fail`), which is when a restore needs them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler.clock import SystemClock
from tests.cluster.applications.kinds import Application
from tests.cluster.outpost import KubectlError, Outpost, until

IMAGE = os.environ.get("RECONCILER_TEST_OPERATOR", "operator:1")
CERTIFICATE_DAYS = 2


def group_of(namespace: str) -> str:
    """The API group of a namespace's Widgets: a definition is the whole cluster's."""
    return f"{namespace}.example.org"


def definition_of(namespace: str) -> str:
    """The name of the definition."""
    return f"widgets.{group_of(namespace)}"


def deploy(outpost: Outpost, namespace: str) -> None:
    """The operator, then its definition and webhook, then two Widgets, one of the old version."""
    key, certificate = _certificate(f"operator.{namespace}.svc")
    outpost.kubectl.apply(_operator(namespace, key, certificate), "-n", namespace)
    outpost.ready(namespace)
    outpost.kubectl.apply(_served(namespace, certificate))
    until(lambda: make(outpost, namespace, "first", color="red"))
    until(lambda: make(outpost, namespace, "second", version="v1beta1", colour="green"))
    until(lambda: len(state(outpost, namespace)) == 2)
    until(lambda: len(_claims(outpost, namespace)) == 2)


def make(outpost: Outpost, namespace: str, name: str, *, version: str = "v1", **spec: Any) -> bool:
    """Make a Widget; False while the server does not take it."""
    manifest = {
        "apiVersion": f"{group_of(namespace)}/{version}",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": spec,
    }
    try:
        outpost.kubectl.create([manifest], "-n", namespace)
    except KubectlError as error:
        return "AlreadyExists" in str(error)
    return True


def paint(outpost: Outpost, namespace: str, color: str) -> None:
    """Change a Widget."""
    body = json.dumps({"spec": {"color": color}})
    kind = f"widgets.v1.{group_of(namespace)}"
    outpost.kubectl("patch", kind, "first", "-n", namespace, "--type=merge", "-p", body)


def state(outpost: Outpost, namespace: str) -> dict[str, str]:
    """The keys that the operator made: another operator's would be others."""
    secrets = outpost.kubectl.get("secrets", "-n", namespace)["items"]
    return {
        item["metadata"]["name"]: item["data"]["key"]
        for item in secrets
        if item["metadata"]["name"].endswith("-key")
    }


def works(outpost: Outpost, namespace: str) -> None:
    """Both webhooks answer, and the operator owns what it made."""
    kind = f"widgets.v1beta1.{group_of(namespace)}"
    until(lambda: outpost.kubectl.get(kind, "second", "-n", namespace)["spec"]["colour"])
    try:
        manifest = {
            "apiVersion": f"{group_of(namespace)}/v1",
            "kind": "Widget",
            "metadata": {"name": "plain"},
            "spec": {},
        }
        outpost.kubectl.create([manifest], "-n", namespace)
    except KubectlError as error:
        assert "a Widget needs a color" in str(error)
    else:
        raise AssertionError("the validating webhook was not asked")
    kind = f"widgets.v1.{group_of(namespace)}"
    for name in ("first", "second"):
        uid = outpost.kubectl.get(kind, name, "-n", namespace)["metadata"]["uid"]
        for made in (f"secret/{name}-key", f"persistentvolumeclaim/{name}-data"):
            owners = outpost.kubectl.get(made, "-n", namespace)["metadata"]["ownerReferences"]
            assert [owner["uid"] for owner in owners] == [uid], made


def destroy(outpost: Outpost, namespace: str) -> None:
    """The webhook first: nothing of the namespace could go while it refuses."""
    clean(outpost, namespace)
    outpost.destroy(namespace)


def clean(outpost: Outpost, namespace: str) -> None:
    """What is outside of the namespace; without its webhooks everything else can go."""
    gone = ("--ignore-not-found", "--timeout=60s")
    outpost.kubectl("delete", "validatingwebhookconfiguration", f"widgets-{namespace}", *gone)
    outpost.kubectl("delete", "customresourcedefinition", definition_of(namespace), *gone)


def _claims(outpost: Outpost, namespace: str) -> list[Any]:
    found: list[Any] = outpost.kubectl.get("persistentvolumeclaims", "-n", namespace)["items"]
    return found


def _operator(namespace: str, key: str, certificate: str) -> Iterator[dict[str, Any]]:
    group = group_of(namespace)
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}}
    made = ["secrets", "persistentvolumeclaims"]
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "operator"},
        "rules": [
            {"apiGroups": [""], "resources": made, "verbs": ["create"]},
            {"apiGroups": [group], "resources": ["widgets"], "verbs": ["list"]},
            # To own something for good it must be allowed to finalize the owner.
            {"apiGroups": [group], "resources": ["widgets/finalizers"], "verbs": ["update"]},
        ],
    }
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "operator"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "operator",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
    }
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "operator-tls"},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    }
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "operator"},
        "spec": {
            "selector": {"app": "operator"},
            "ports": [{"port": 443, "targetPort": 8443}],
        },
    }
    yield _deployment(namespace, group)


def _deployment(namespace: str, group: str) -> dict[str, Any]:
    env = [{"name": "GROUP", "value": group}, {"name": "NAMESPACE", "value": namespace}]
    probe = {"httpGet": {"path": "/ready", "port": 8443, "scheme": "HTTPS"}, "periodSeconds": 1}
    main = {
        "name": "main",
        "image": IMAGE,
        "env": env,
        "readinessProbe": probe,
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    spec = {
        "serviceAccountName": "operator",
        "terminationGracePeriodSeconds": 1,
        "containers": [main],
        "volumes": [{"name": "tls", "secret": {"secretName": "operator-tls"}}],
    }
    labels = {"app": "operator"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "operator"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _served(namespace: str, certificate: str) -> Iterator[dict[str, Any]]:
    group = group_of(namespace)
    bundle = base64.b64encode(certificate.encode()).decode()

    def client(path: str) -> dict[str, Any]:
        service = {"name": "operator", "namespace": namespace, "path": path, "port": 443}
        return {"service": service, "caBundle": bundle}

    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == "v1",
            "schema": {"openAPIV3Schema": schema},
        }
        for name in ("v1", "v1beta1")
    ]
    yield {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": definition_of(namespace)},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "plural": "widgets",
                "singular": "widget",
                "kind": "Widget",
                "listKind": "WidgetList",
            },
            "versions": versions,
            "conversion": {
                "strategy": "Webhook",
                "webhook": {
                    "clientConfig": client("/convert"),
                    "conversionReviewVersions": ["v1"],
                },
            },
        },
    }
    yield {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"widgets-{namespace}"},
        "webhooks": [
            {
                "name": definition_of(namespace),
                "clientConfig": client("/validate"),
                "rules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": ["*"],
                        "resources": ["widgets"],
                        "operations": ["CREATE", "UPDATE"],
                    }
                ],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "timeoutSeconds": 3,
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


def _certificate(host: str) -> tuple[str, str]:
    """A key and a certificate that signs itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "operator")])
    now = SystemClock().now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), made.public_bytes(pem).decode()


OPERATED = Application(
    "operator",
    deploy,
    change=lambda outpost, namespace: paint(outpost, namespace, "blue"),
    state=state,
    works=works,
    destroy=destroy,
    clean=clean,
)
