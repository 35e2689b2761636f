"""Fields of a live object that an update leaves to their owner, though the restore point says otherwise.

After an update an object is as captured, but for these: replicas that an autoscaler sets, addresses and marks that
the cluster gave, bundles that somebody injects, the size of a claim that was enlarged, finalizers, and what only a
known controller wrote, by managedFields of the live object. `keep` writes them into the replacement, `owner_of`
names their owner for the plan. Both look at nothing but the objects, so a plan and its execution agree.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.objects import Manifest, annotations_of, field, metadata_of
from reconciler.restore.plan.amount import amount
from reconciler.restore.plan.fieldset import Path, entries_of, follow, key_step, leaves

_INJECTED = (
    "cert-manager.io/inject-ca-from",
    "cert-manager.io/inject-ca-from-secret",
    "cert-manager.io/inject-apiserver-ca",
    "service.beta.openshift.io/inject-cabundle",
)
_MARKERS = frozenset(
    {
        "kube-controller-manager",
        "cloud-controller-manager",
        "kube-scheduler",
        "csi-provisioner",
        "csi-resizer",
        "snapshot-controller",
    }
)
"""Field managers of controllers that leave marks (annotations) on objects of others."""
_KEEPERS = frozenset({"cert-manager-certificates-issuing", "external-secrets"})
"""Field managers of controllers that keep what they wrote up to date. Names that anybody uses (`manager`,
`controller`) are in neither table."""
_BUNDLE = "f:caBundle"
_NOT_COPIED = frozenset({"f:status", "f:ownerReferences", "f:finalizers"})


@dataclass(frozen=True)
class Spared:
    """A field that an update does not touch, and whose it is."""

    path: str
    owner: str


def keep(replacement: Manifest, live: Manifest, *, is_scaled: bool) -> None:
    """Write what others own in `live` into the object that a replace will send."""
    scaled = field(live, "spec", "replicas") if is_scaled else None
    if scaled is not None and isinstance(replacement.get("spec"), dict):
        replacement["spec"]["replicas"] = scaled
    _keep_bundles(replacement, live)
    _keep_size(replacement, live)
    _keep_finalizers(replacement, live)
    for path in _controlled(live):
        _copy(replacement, live, path)


def owner_of(path: str, live: Manifest, *, is_scaled: bool) -> str:
    """Say whose a spared field is, from its path as a plan shows it."""
    kind = live.get("kind", "")
    if is_scaled and path == "spec.replicas":
        return "its autoscaler"
    if "caBundle" in path:
        return "who injects it"
    if path.startswith("metadata.finalizers"):
        return "the controller that waits for it"
    if kind == "PersistentVolumeClaim" and "storage" in path.rpartition(".")[2]:
        return "its volume, which cannot shrink"
    if kind == "ClusterRole" and path.startswith("rules"):
        return "its aggregation rule"
    if kind == "Service" and path.startswith("spec."):
        return "the cluster, which allocated it"
    return "its controller"


def _keep_bundles(replacement: Manifest, live: Manifest) -> None:
    """Keep caBundles of webhooks, CRDs and APIServices that somebody injects into the live object."""
    injected = set(_injected_bundles(live))
    is_asked_for = any(name in annotations_of(replacement) for name in _INJECTED)
    places: list[tuple[Path, Any, Any]] = [
        (
            ("f:spec", _BUNDLE),
            field(replacement, "spec"),
            field(live, "spec", "caBundle"),
        ),
        (
            ("f:spec", "f:conversion", "f:webhook", "f:clientConfig", _BUNDLE),
            field(replacement, "spec", "conversion", "webhook", "clientConfig"),
            field(live, "spec", "conversion", "webhook", "clientConfig", "caBundle"),
        ),
    ]
    hooks = {hook.get("name"): hook for hook in live.get("webhooks") or []}
    for hook in replacement.get("webhooks") or []:
        step = key_step(name=hook.get("name"))
        bundle = field(hooks.get(hook.get("name"), {}), "clientConfig", "caBundle")
        place: Path = ("f:webhooks", step, "f:clientConfig", _BUNDLE)
        places.append((place, hook.get("clientConfig"), bundle))
    for path, config, bundle in places:
        if bundle and isinstance(config, dict) and (is_asked_for or path in injected):
            config["caBundle"] = bundle


def _injected_bundles(live: Manifest) -> Iterator[Path]:
    """Bundles whose manager owns nothing else but marks: it injects, it did not write the object."""
    for entry in entries_of(live):
        paths = set(leaves(entry["fieldsV1"]))
        bundles = {path for path in paths if path[-1] == _BUNDLE}
        rest = {path for path in paths - bundles if path[0] not in ("f:metadata", "f:status")}
        if bundles and not rest:
            yield from bundles


def _keep_size(replacement: Manifest, live: Manifest) -> None:
    """Keep the size of a claim that has grown: a server refuses a smaller one."""
    if live.get("kind") != "PersistentVolumeClaim" or live.get("apiVersion") != "v1":
        return
    place = field(replacement, "spec", "resources", "requests")
    grown = field(live, "spec", "resources", "requests", "storage")
    if grown and isinstance(place, dict) and amount(grown) > amount(place.get("storage", "0")):
        place["storage"] = grown


def _keep_finalizers(replacement: Manifest, live: Manifest) -> None:
    """Keep finalizers: each is a promise to clean up, which an update must not break."""
    there = field(live, "metadata", "finalizers", default=[])
    wanted = field(replacement, "metadata", "finalizers", default=[])
    added = [name for name in there if name not in wanted]
    if added:
        metadata_of(replacement)["finalizers"] = [*wanted, *added]


def _controlled(live: Manifest) -> list[Path]:
    """The fields that known controllers own alone, those of subresources aside."""
    theirs: set[Path] = set()
    others: set[Path] = set()
    for entry in entries_of(live):
        paths = list(leaves(entry["fieldsV1"]))
        manager = "" if entry.get("subresource") else entry["manager"]
        if manager in _KEEPERS:
            theirs.update(paths)
        elif manager in _MARKERS:
            theirs.update(path for path in paths if path[1:2] == ("f:annotations",))
        else:
            others.update(paths)
    return sorted(path for path in theirs - others if not _NOT_COPIED.intersection(path[:2]))


def _copy(replacement: Any, live: Any, path: Path) -> None:
    """Take one field over; items of lists that the replacement lacks are not made for it."""
    for step in path[:-1]:
        there = follow(step, live)
        if there is None:
            return
        mine = follow(step, replacement)
        if mine is None:
            if not (step.startswith("f:") and isinstance(replacement, dict)):
                return
            if not isinstance(there[0], dict):
                return
            mine = (replacement.setdefault(step[2:], {}),)
        replacement, live = mine[0], there[0]
    found = follow(path[-1], live)
    if found is None:
        return
    if path[-1].startswith("f:") and isinstance(replacement, dict):
        replacement[path[-1][2:]] = copy.deepcopy(found[0])
    elif path[-1].startswith("v:") and isinstance(replacement, list):
        replacement += [found[0]] if found[0] not in replacement else []
