"""API migration: brings an object to a version that the target serves.

The target's discovery decides. A captured version that is served stays as it is; otherwise known conversions are
followed, the fewest steps first, until a served version is reached. A version that is merely served in the same
group is not enough: whether fields mean the same there must be known. `status` is the server's and not converted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from reconciler.cluster.port import Discovery, ResourceType
from reconciler.kinds.transformset import Migrate
from reconciler.objects import Manifest, group_of, join_api_version, metadata_of, version_of
from reconciler.transform.change import Change, Dismissed, Verdict
from reconciler.transform.conversions import CONVERSIONS, NO_SUCCESSOR, Conversion, ConversionError
from reconciler.transform.fields import items_of

BY = "migrate"
_VERBS = frozenset(("create", "delete", "get", "list", "patch", "update", "watch"))


def migrate(manifest: Manifest, *, discovery: Discovery, settings: Migrate) -> list[Change]:
    """Convert an object in place.

    Raises:
        Dismissed: no known conversion reaches a served version; `settings.on_unknown` says what it means.
    """
    captured = str(manifest.get("apiVersion", ""))
    group, version, kind = group_of(captured), version_of(captured), str(manifest.get("kind", ""))
    if discovery.find(group, kind, version) is not None:
        return []
    steps = _way(group, version, kind, discovery)
    if not steps:
        raise _dismissal(captured, kind, discovery, settings)
    changes: list[Change] = []
    for step in steps:
        before = str(manifest["apiVersion"])
        after = join_api_version(step.group, step.version)
        try:
            lines = step.rewrite(manifest) if step.rewrite else []
        except ConversionError as error:
            raise Dismissed(
                "fail", reason="CannotConvert", message=f"{before} {kind}: {error.message}"
            ) from None
        manifest["apiVersion"] = after
        changes += [Change(BY, f"{before} → {after}"), *(Change(BY, line) for line in lines)]
    return changes + _drop_managed_fields(manifest, kind, discovery)


def extend_discovery(discovery: Discovery, definitions: Iterable[Manifest]) -> Discovery:
    """Add what CustomResourceDefinitions that are restored first will serve; what is served already wins."""
    added: list[ResourceType] = []
    for definition in definitions:
        spec = definition.get("spec") or {}
        names = spec.get("names") or {}
        versions = [v.get("name") for v in items_of(spec.get("versions")) if v.get("served")]
        for version in versions or [spec.get("version")]:
            group, kind = spec.get("group"), names.get("kind")
            if group and kind and version and discovery.find(group, kind) is None:
                added.append(
                    ResourceType(
                        group=group,
                        version=version,
                        kind=kind,
                        plural=names.get("plural") or kind.lower() + "s",
                        namespaced=spec.get("scope") != "Cluster",
                        verbs=_VERBS,
                    )
                )
    return replace(discovery, types=discovery.types + tuple(added))


def _way(group: str, version: str, kind: str, discovery: Discovery) -> list[Conversion]:
    """The shortest chain of conversions to a served version; empty when there is none."""
    queue: deque[tuple[tuple[str, str], list[Conversion]]] = deque([((group, version), [])])
    seen = {(group, version)}
    while queue:
        (at_group, at_version), steps = queue.popleft()
        for step in CONVERSIONS.get((at_group, at_version, kind), []):
            place = (step.group, step.version)
            if place in seen:
                continue
            if discovery.find(step.group, kind, step.version) is not None:
                return [*steps, step]
            seen.add(place)
            queue.append((place, [*steps, step]))
    return []


def _dismissal(captured: str, kind: str, discovery: Discovery, settings: Migrate) -> Dismissed:
    group = group_of(captured)
    what = f"{captured} {kind}"
    if captured in discovery.faults:
        return Dismissed(
            "fail",
            reason="DiscoveryFailed",
            message=f"{what}: the target cannot say what it serves",
        )
    verdict: Verdict = "skip" if settings.on_unknown == "Skip" else "fail"
    if (group, kind) in NO_SUCCESSOR:
        message = f"{what}: has no successor; {NO_SUCCESSOR[group, kind]}"
        return Dismissed(verdict, reason="NoSuccessor", message=message)
    versions = discovery.versions(group, kind)
    if not versions:
        return Dismissed(
            verdict, reason="NotServed", message=f"{what}: the target does not serve it"
        )
    served = ", ".join(versions)
    message = f"{what}: no known conversion to what the target serves ({served})"
    return Dismissed(verdict, reason="UnknownConversion", message=message)


def _drop_managed_fields(manifest: Manifest, kind: str, discovery: Discovery) -> list[Change]:
    metadata = metadata_of(manifest)
    entries = list(items_of(metadata.get("managedFields")))
    gone: dict[str, int] = {}
    kept = []
    for entry in entries:
        version = str(entry.get("apiVersion", ""))
        if discovery.find(group_of(version), kind, version_of(version)) is None:
            gone[version] = gone.get(version, 0) + 1
        else:
            kept.append(entry)
    if not gone:
        return []
    if kept:
        metadata["managedFields"] = kept
    else:
        del metadata["managedFields"]
    return [
        Change(BY, f"metadata.managedFields: dropped {count} entries of {version}")
        for version, count in sorted(gone.items())
    ]
