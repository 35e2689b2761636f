"""Custom resources: those of cert-manager and the Gateway API, and one that is held by a finalizer.

The definitions that these projects ship are read from Go's module cache. A cluster that has them already is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.applications.kinds import Application
from tests.cluster.applications.workloads import config_map
from tests.cluster.node.build import MISSING, BuildError, module_folders
from tests.cluster.outpost import MARK, Outpost

CERTIFICATES = """\
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: own}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: letters}
spec:
  acme:
    server: https://acme.example/directory
    email: certificates@example.com
    privateKeySecretRef: {name: letters-account}
    solvers:
      - selector: {dnsZones: [example.com]}
        dns01: {webhook: {groupName: acme.example, solverName: none, config: {n: 1, y: "yes"}}}
      - http01: {ingress: {ingressClassName: none}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: web}
spec:
  secretName: web-tls
  duration: 2160h
  renewBeforePercentage: 30
  dnsNames: [shop.example.com]
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, key encipherment, server auth]
  issuerRef: {name: letters, kind: Issuer, group: cert-manager.io}
---
apiVersion: acme.cert-manager.io/v1
kind: Order
metadata: {name: web-1}
spec:
  request: UkVRVUVTVA==
  issuerRef: {name: letters, kind: Issuer}
  dnsNames: [shop.example.com]
"""
HOLD = "brc.example/hold"
GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
spec:
  gatewayClassName: CLASS
  listeners:
    - name: https
      port: 443
      protocol: HTTPS
      hostname: "*.example.com"
      tls: {certificateRefs: [{name: front-tls}]}
      allowedRoutes: {namespaces: {from: Same}}
    - {name: http, port: 80, protocol: HTTP}
---
apiVersion: v1
kind: Secret
metadata: {name: front-tls}
type: kubernetes.io/tls
data: {tls.crt: "", tls.key: ""}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: front, sectionName: https}]
  hostnames: [shop.example.com]
  rules:
    - name: pages
      matches: [{path: {value: /pages}}, {headers: [{name: x-beta, value: "1"}]}]
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: x-from, value: gateway}], remove: [x-secret]}
      backendRefs: [{name: web, port: 80, weight: 9}, {name: canary, port: 80, weight: 1}]
    - timeouts: {request: 10s}
      backendRefs: [{name: web, port: 80}]
"""


def shipped(module: str, folder: str, *, group: str) -> Iterator[dict[str, Any]]:
    """The CRDs that a Go module carries in a folder."""
    try:
        where = Path(module_folders("definitions")[module]) / folder
    except BuildError as error:
        if str(error) != MISSING:
            raise
        pytest.skip(MISSING)
    for path in sorted(where.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document["kind"] == "CustomResourceDefinition":
                assert document["spec"]["group"].endswith(group)
                yield document


def establish(outpost: Outpost, definitions: list[dict[str, Any]]) -> None:
    """Install definitions as ours; never over somebody's own."""
    names = {one["metadata"]["name"] for one in definitions}
    there = {item["metadata"]["name"] for item in outpost.kubectl.get("crds")["items"]}
    if names & there:
        pytest.skip(f"the cluster has its own {sorted(names & there)[0]}")
    for one in definitions:
        one["metadata"].setdefault("labels", {})[MARK] = outpost.mark
    outpost.kubectl.create(definitions)
    outpost.kubectl(
        *("wait", "--for=condition=Established", *(f"crd/{name}" for name in sorted(names))),
        "--timeout=60s",
    )


def drop_definitions(outpost: Outpost, _namespace: str) -> None:
    """Delete the test's CRDs."""
    outpost.kubectl("delete", "crd", "-l", f"{MARK}={outpost.mark}", "--ignore-not-found")


def deploy_certificates(outpost: Outpost, namespace: str) -> None:
    """Issuers, a Certificate and an Order that somebody else's controller made."""
    module = "github.com/cert-manager/cert-manager"
    establish(outpost, list(shipped(module, "deploy/crds", group="cert-manager.io")))
    outpost.kubectl.apply(CERTIFICATES, "-n", namespace)


def change_certificates(outpost: Outpost, namespace: str) -> None:
    """One more name."""
    patch = '[{"op":"add","path":"/spec/dnsNames/-","value":"www.example.com"}]'
    outpost.kubectl("patch", "certificate", "web", "-n", namespace, "--type=json", "-p", patch)


def deploy_gateway(outpost: Outpost, namespace: str) -> None:
    """A Gateway of a class of the cluster, and a route."""
    module = "sigs.k8s.io/gateway-api"
    folder = "config/crd/standard"
    establish(outpost, list(shipped(module, folder, group="gateway.networking.k8s.io")))
    outpost.kubectl.apply(GATEWAY.replace("CLASS", namespace), "-n", namespace)


def change_gateway(outpost: Outpost, namespace: str) -> None:
    """The canary gets nothing any more."""
    patch = '[{"op":"remove","path":"/spec/rules/0/backendRefs/1"}]'
    outpost.kubectl("patch", "httproute", "web", "-n", namespace, "--type=json", "-p", patch)


def destroy(outpost: Outpost, namespace: str) -> None:
    """The namespace and the definitions are lost."""
    outpost.destroy(namespace)
    drop_definitions(outpost, namespace)


def held_kind(outpost: Outpost) -> tuple[str, str]:
    """The plural and the group of a custom resource that is this test's own."""
    return "anchors", f"g{outpost.mark}.brc.example"


def definition(outpost: Outpost) -> dict[str, Any]:
    """Its definition; no controller knows it."""
    plural, group = held_kind(outpost)
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "depth": {"type": "integer", "default": 3},
                    "note": {"type": "string"},
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "labels": {MARK: outpost.mark}},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": "Anchor", "listKind": "AnchorList"},
            "versions": [version],
        },
    }


def deploy_held(outpost: Outpost, namespace: str) -> None:
    """A custom resource and a ConfigMap, each with a finalizer that nobody takes off."""
    _, group = held_kind(outpost)
    anchor = {
        "apiVersion": f"{group}/v1",
        "kind": "Anchor",
        "metadata": {"name": "heavy", "finalizers": [HOLD]},
        "spec": {"note": "ten tons"},
    }
    establish(outpost, [definition(outpost)])
    outpost.kubectl.apply([anchor], "-n", namespace)
    outpost.kubectl.apply(
        [config_map("chain", metadata={"finalizers": [HOLD]}, links="7")], "-n", namespace
    )


def release(outpost: Outpost, namespace: str) -> None:
    """Take the finalizers off, as somebody must whose controller is away."""
    plural, group = held_kind(outpost)
    for kind in (f"{plural}.{group}", "configmaps"):
        known = outpost.kubectl("api-resources", "-o", "name").split()
        if kind not in known:
            continue
        for item in outpost.kubectl.get(kind, "-n", namespace)["items"]:
            if HOLD in item["metadata"].get("finalizers", []):
                patch = '{"metadata":{"finalizers":null}}'
                name = item["metadata"]["name"]
                outpost.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", patch)


def destroy_held(outpost: Outpost, namespace: str) -> None:
    """The namespace and the definition go, once the finalizers are off."""
    outpost.kubectl("delete", "namespace", namespace, "--wait=false")
    release(outpost, namespace)
    outpost.destroy(namespace)
    drop_definitions(outpost, namespace)


def clean_held(outpost: Outpost, namespace: str) -> None:
    """Nothing may be left that cannot go."""
    release(outpost, namespace)
    drop_definitions(outpost, namespace)


def is_held(outpost: Outpost, namespace: str) -> None:
    """The custom resource does not go when it is deleted."""
    plural, group = held_kind(outpost)
    where = (f"{plural}.{group}", "heavy", "-n", namespace)
    outpost.kubectl("delete", *where, "--wait=false")
    assert outpost.kubectl.get(*where)["metadata"]["deletionTimestamp"]


CERTIFIED = Application(
    "certified",
    deploy=deploy_certificates,
    change=change_certificates,
    destroy=destroy,
    clean=drop_definitions,
)
ROUTED = Application(
    "routed",
    deploy=deploy_gateway,
    change=change_gateway,
    destroy=destroy,
    clean=drop_definitions,
)
HELD = Application(
    "held", deploy=deploy_held, destroy=destroy_held, clean=clean_held, works=is_held
)
