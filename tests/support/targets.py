"""Targets of a restore, described by what they serve."""

from __future__ import annotations

from reconciler.cluster.port import Discovery, ResourceType
from reconciler.objects import group_of, version_of


def serving(*types: str, faults: dict[str, str] | None = None) -> Discovery:
    """Discovery from `apps/v1 Deployment deployments`; cluster-scoped with a trailing `*`."""
    made = []
    for text in types:
        api_version, kind, *plural = text.removesuffix("*").split()
        made.append(
            ResourceType(
                group=group_of(api_version),
                version=version_of(api_version),
                kind=kind,
                plural=plural[0] if plural else kind.lower() + "s",
                namespaced=not text.endswith("*"),
                verbs=frozenset(("create", "list", "get")),
            )
        )
    return Discovery(server_version="v1.36.0", types=tuple(made), faults=faults or {})
