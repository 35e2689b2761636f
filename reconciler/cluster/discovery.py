"""Ask an API server what it serves: aggregated discovery, else group by group.

Aggregated discovery (Kubernetes 1.26 and newer) answers with everything in two requests. Older servers ignore
the Accept header and answer with lists of groups; then each group/version is asked by itself. A group/version
whose server is broken is a fault with its reason, and its types are left out: what a stale answer says
about them may be wrong.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#discovery-endpoints
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.cluster.connection import Connection
from reconciler.cluster.port import (
    Discovery,
    ForbiddenError,
    NotFoundError,
    NotServedError,
    ResourceType,
    UnavailableError,
)
from reconciler.objects import join_api_version

_SUBJECT = "discover what is served"
_ACCEPT = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,"
    "application/json"
)


def discover(connection: Connection) -> Discovery:
    """Read version and served types."""
    version = connection.read("/version", subject="read the server's version")
    types: list[ResourceType] = []
    faults: dict[str, str] = {}
    for root in ("/api", "/apis"):
        document = connection.read(root, subject=_SUBJECT, accept=_ACCEPT)
        if document.get("kind") == "APIGroupDiscoveryList":
            types += _read_aggregated(document, faults)
        else:
            types += _ask_each(connection, root, document, faults)
    return Discovery(
        server_version=str(version.get("gitVersion") or ""), types=tuple(types), faults=faults
    )


def _read_aggregated(document: dict[str, Any], faults: dict[str, str]) -> Iterator[ResourceType]:
    for group in document.get("items") or []:
        name = (group.get("metadata") or {}).get("name") or ""
        for entry in group.get("versions") or []:
            version = entry["version"]
            if entry.get("freshness") == "Stale":
                faults[join_api_version(name, version)] = "its server does not answer (stale)"
                continue
            for resource in entry.get("resources") or []:
                kind = (resource.get("responseKind") or {}).get("kind")
                if kind:
                    yield ResourceType(
                        group=name,
                        version=version,
                        kind=kind,
                        plural=resource["resource"],
                        namespaced=resource.get("scope") == "Namespaced",
                        verbs=frozenset(resource.get("verbs") or ()),
                    )


def _ask_each(
    connection: Connection, root: str, document: dict[str, Any], faults: dict[str, str]
) -> Iterator[ResourceType]:
    for group, version in _group_versions(document):
        api_version = join_api_version(group, version)
        try:
            listed = connection.read(f"{root}/{api_version}", subject=_SUBJECT, attempts=2)
        except (UnavailableError, ForbiddenError, NotFoundError, NotServedError) as error:
            faults[api_version] = error.message
            continue
        for resource in listed.get("resources") or []:
            if "/" not in resource["name"]:
                yield ResourceType(
                    group=group,
                    version=version,
                    kind=resource["kind"],
                    plural=resource["name"],
                    namespaced=bool(resource.get("namespaced")),
                    verbs=frozenset(resource.get("verbs") or ()),
                )


def _group_versions(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if document.get("kind") == "APIVersions":
        yield from (("", version) for version in document.get("versions") or [])
        return
    for group in document.get("groups") or []:
        preferred = (group.get("preferredVersion") or {}).get("version")
        versions = [entry["version"] for entry in group.get("versions") or []]
        for version in sorted(versions, key=lambda found: found != preferred):
            yield group["name"], version
