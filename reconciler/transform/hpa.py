"""HorizontalPodAutoscaler from autoscaling/v2beta1: each metric names its target in one form now."""

from __future__ import annotations

from typing import Any

from reconciler.objects import Manifest
from reconciler.transform.fields import Lines, items_of, map_of


def from_v2beta1(manifest: Manifest) -> Lines:
    """Rewrite `spec.metrics`."""
    lines: Lines = []
    for n, metric in enumerate(items_of(map_of(manifest, "spec").get("metrics"))):
        for source, rewrite in _SOURCES.items():
            old = metric.get(source)
            if isinstance(old, dict):
                metric[source] = rewrite(old)
                lines.append(f"spec.metrics[{n}].{source}: rewritten with metric and target")
    if "status" in manifest:
        del manifest["status"]
    return lines


def _target(old: Manifest, *, value: str = "", average: str = "", share: str = "") -> Manifest:
    if share and old.get(share) is not None:
        return {"type": "Utilization", "averageUtilization": old[share]}
    if average and old.get(average) is not None:
        return {"type": "AverageValue", "averageValue": old[average]}
    return {"type": "Value", "value": old.get(value)}


def _metric(old: Manifest, selector: str = "selector") -> Manifest:
    metric: dict[str, Any] = {"name": old.get("metricName")}
    if old.get(selector) is not None:
        metric["selector"] = old[selector]
    return metric


def _resource(old: Manifest) -> Manifest:
    target = _target(old, average="targetAverageValue", share="targetAverageUtilization")
    made: Manifest = {name: old[name] for name in ("name", "container") if name in old}
    return made | {"target": target}


def _pods(old: Manifest) -> Manifest:
    return {"metric": _metric(old), "target": _target(old, average="targetAverageValue")}


def _object(old: Manifest) -> Manifest:
    return {
        "describedObject": old.get("target"),
        "metric": _metric(old),
        "target": _target(old, value="targetValue", average="averageValue"),
    }


def _external(old: Manifest) -> Manifest:
    return {
        "metric": _metric(old, "metricSelector"),
        "target": _target(old, value="targetValue", average="targetAverageValue"),
    }


_SOURCES = {
    "resource": _resource,
    "containerResource": _resource,
    "pods": _pods,
    "object": _object,
    "external": _external,
}
