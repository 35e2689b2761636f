"""Conversions of workloads from `extensions` and the betas of `apps` to `apps/v1`.

`spec.selector` became required (it was taken from the template's labels), and several defaults changed.
"""

from __future__ import annotations

from typing import Any

from reconciler.objects import Manifest, field
from reconciler.transform.fields import Lines, map_of

_NEVER = 2_147_483_647
"""The largest int32, which the old API had for "no limit"."""


def selector(manifest: Manifest) -> Lines:
    """Write out the selector that was taken from the template."""
    spec = map_of(manifest, "spec")
    labels = field(spec, "template", "metadata", "labels", default={})
    if not any((spec.get("selector") or {}).values()) and labels:
        spec["selector"] = {"matchLabels": dict(labels)}
        return ["spec.selector: added, from the labels of the template"]
    return []


def deployment_from_extensions(manifest: Manifest) -> Lines:
    """Deployment of extensions/v1beta1."""
    return [
        *_drop(manifest, "rollbackTo"),
        *selector(manifest),
        *_old_default(manifest, "progressDeadlineSeconds", _NEVER),
        *_old_default(manifest, "revisionHistoryLimit", _NEVER),
        *_old_surge(manifest),
    ]


def deployment_from_beta1(manifest: Manifest) -> Lines:
    """Deployment of apps/v1beta1."""
    return [
        *_drop(manifest, "rollbackTo"),
        *selector(manifest),
        *_old_default(manifest, "revisionHistoryLimit", 2),
    ]


def daemon_set(manifest: Manifest) -> Lines:
    """DaemonSet of apps/v1beta2."""
    return [*_drop(manifest, "templateGeneration"), *selector(manifest)]


def daemon_set_from_extensions(manifest: Manifest) -> Lines:
    """DaemonSet of extensions/v1beta1, whose default was to wait for pods to be deleted."""
    return [*daemon_set(manifest), *_old_default(manifest, "updateStrategy", {"type": "OnDelete"})]


def stateful_set_from_beta1(manifest: Manifest) -> Lines:
    """StatefulSet of apps/v1beta1, whose default was to wait for pods to be deleted."""
    return [*selector(manifest), *_old_default(manifest, "updateStrategy", {"type": "OnDelete"})]


def _drop(manifest: Manifest, name: str) -> Lines:
    spec = map_of(manifest, "spec")
    if name not in spec:
        return []
    del spec[name]
    return [f"spec.{name}: dropped, it no longer exists"]


def _old_default(manifest: Manifest, name: str, value: Any) -> Lines:
    spec = map_of(manifest, "spec")
    if spec.get(name):
        return []
    if spec.get(name) == 0:
        return []
    spec[name] = value
    shown = value["type"] if isinstance(value, dict) else value
    return [f"spec.{name}: wrote the old default {shown}"]


def _old_surge(manifest: Manifest) -> Lines:
    strategy = map_of(map_of(manifest, "spec"), "strategy")
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return []
    strategy["type"] = "RollingUpdate"
    rolling = map_of(strategy, "rollingUpdate")
    lines: Lines = []
    for name in ("maxSurge", "maxUnavailable"):
        if rolling.get(name) is None:
            rolling[name] = 1
            lines.append(f"spec.strategy.rollingUpdate.{name}: wrote the old default 1")
    return lines
