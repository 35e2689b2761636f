"""What goes with a live object when it is deleted, all of it, as the target is now.

The garbage collector takes what has owners and none of them left, and what that owns in turn. Beyond owner references
some kinds take others along: a Namespace all that is in it, a CRD all its objects, a StatefulSet its claims when its
retention policy says so, a ServiceAccount its tokens, a Service its Endpoints, a claim its volume when that is to be
reclaimed. A kind that cannot be read makes the answer unknown, and that is said.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from reconciler.cluster.port import ApiError, Cluster, Discovery, ResourceType
from reconciler.errors import ReconcilerError
from reconciler.objects import (
    Manifest,
    ObjectKey,
    annotations_of,
    name_of,
    owners_of,
    uid_of,
)
from reconciler.objects import field as field_of
from reconciler.restore.plan.objection import is_conversion_down

DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
_NEVER_OWNED = frozenset({("", "Event"), ("events.k8s.io", "Event")})
_READERS = 8


@dataclass
class Population:
    """The live objects among which a deletion spreads, by uid, and the kinds that could not be read."""

    objects: dict[str, tuple[ObjectKey, Manifest]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Kind → why."""

    def __post_init__(self) -> None:
        self._children: dict[str, list[str]] = defaultdict(list)

    def add(self, key: ObjectKey, manifest: Manifest) -> None:
        """Count an object in; one that two groups show counts once."""
        uid = uid_of(manifest)
        if not uid or uid in self.objects:
            return
        self.objects[uid] = key, manifest
        for owner in owners_of(manifest):
            self._children[str(owner.get("uid"))].append(uid)

    def swept_by(self, uid: str, *, gone: set[str]) -> set[str]:
        """The uids of all that goes with an object.

        Args:
            uid: the object that is deleted.
            gone: what is deleted besides; an object that all of these own goes too.
        """
        swept: set[str] = set()
        queue = [uid]
        while queue:
            parent = queue.pop()
            candidates = [
                child
                for child in self._children[parent]
                if self._is_orphan(child, {*gone, *swept, uid})
            ]
            candidates += self._taken_along(parent)
            for child in candidates:
                if child not in swept and child not in gone and child != uid:
                    swept.add(child)
                    queue.append(child)
        return swept

    def key(self, uid: str) -> ObjectKey:
        """The key of an object."""
        return self.objects[uid][0]

    def manifest(self, uid: str) -> Manifest:
        """An object."""
        return self.objects[uid][1]

    def _is_orphan(self, child: str, gone: set[str]) -> bool:
        return all(str(owner.get("uid")) in gone for owner in owners_of(self.objects[child][1]))

    def _taken_along(self, parent: str) -> Iterator[str]:
        if parent not in self.objects:
            return
        key, manifest = self.objects[parent]
        rule = _TAKES.get((key.group, key.kind))
        if rule is None:
            return
        for uid, (other, child) in self.objects.items():
            if rule(key, manifest, other, child):
                yield uid


def populate(
    cluster: Cluster,
    discovery: Discovery,
    roots: Sequence[tuple[ObjectKey, Manifest]],
) -> Population:
    """Read everything among which the deletion of `roots` can spread."""
    population = Population()
    for key, manifest in roots:
        population.add(key, manifest)
    kinds = [
        kind
        for kind in discovery.preferred()
        if {"list", "delete"} <= kind.verbs and (kind.group, kind.kind) not in _NEVER_OWNED
    ]
    spaces: set[str] = set()
    defined: set[ResourceType] = set()
    for key, manifest in roots:
        if (key.group, key.kind) == DEFINITION:
            defined.update(kind for kind in kinds if _defines(manifest, kind.group, kind.kind))
        else:
            # What a cluster-scoped object owns may be anywhere.
            is_space = (key.group, key.kind) == ("", "Namespace")
            spaces.add(key.name if is_space else key.namespace)
    custom = _read(cluster, population, [(kind, "") for kind in defined])
    spaces.update(key.namespace for key, _ in custom)
    if "" in spaces:
        jobs = [(kind, "") for kind in kinds]
    else:
        jobs = [(kind, space) for kind in kinds if kind.namespaced for space in spaces]
    for key, manifest in sorted(
        custom + _read(cluster, population, jobs), key=lambda pair: pair[0]
    ):
        population.add(key, manifest)
    _add_volumes(cluster, discovery, population)
    return population


def _read(
    cluster: Cluster, population: Population, jobs: Sequence[tuple[ResourceType, str]]
) -> list[tuple[ObjectKey, Manifest]]:
    """List kinds, each in a namespace or (empty) everywhere, a few at a time."""

    def read(job: tuple[ResourceType, str]) -> list[tuple[ObjectKey, Manifest]]:
        kind, space = job
        try:
            pages = list(cluster.pages(kind, namespace=space))
        except ReconcilerError as error:
            if not isinstance(error, ApiError) and not is_conversion_down(error):
                raise
            population.unreadable[str(kind)] = error.message
            return []
        return [(ObjectKey.of(item), item) for page in pages for item in page.items]

    with ThreadPoolExecutor(_READERS) as pool:
        return [found for some in pool.map(read, jobs) for found in some]


def _add_volumes(cluster: Cluster, discovery: Discovery, population: Population) -> None:
    """Count in the volumes of claims that would be deleted with their claims."""
    kind = discovery.find("", "PersistentVolume")
    if kind is None:
        return
    claims = [
        manifest
        for key, manifest in list(population.objects.values())
        if is_claim(key) and is_bound(manifest)
    ]
    for claim in claims:
        try:
            volume = cluster.get(kind, claim["spec"]["volumeName"])
        except ApiError as error:
            population.unreadable[str(kind)] = error.message
            return
        if volume is not None:
            population.add(ObjectKey.of(volume), volume)


def is_claim(key: ObjectKey) -> bool:
    """Whether an object is a PersistentVolumeClaim."""
    return (key.group, key.kind) == ("", "PersistentVolumeClaim")


def is_bound(claim: Manifest) -> bool:
    """Whether a claim has a volume."""
    return bool(field_of(claim, "spec", "volumeName"))


def _is_inside(key: ObjectKey, _: Manifest, other: ObjectKey, __: Manifest) -> bool:
    return other.namespace == key.name


def _is_defined(_: ObjectKey, definition: Manifest, other: ObjectKey, __: Manifest) -> bool:
    return _defines(definition, other.group, other.kind)


def _defines(definition: Manifest, group: str, kind: str) -> bool:
    """Whether a kind is the one that a CRD defines."""
    names = field_of(definition, "spec", "names", "kind")
    return (group, kind) == (field_of(definition, "spec", "group"), names)


def _is_claim_of_set(key: ObjectKey, owner: Manifest, other: ObjectKey, _: Manifest) -> bool:
    policy = field_of(owner, "spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted")
    if policy != "Delete" or not is_claim(other) or other.namespace != key.namespace:
        return False
    names = (
        name_of(template)
        for template in field_of(owner, "spec", "volumeClaimTemplates", default=[])
    )
    return any(
        other.name.startswith(prefix) and other.name.removeprefix(prefix).isdigit()
        for prefix in (f"{name}-{key.name}-" for name in names)
    )


def _is_token_of(key: ObjectKey, _: Manifest, other: ObjectKey, secret: Manifest) -> bool:
    account = annotations_of(secret).get("kubernetes.io/service-account.name")
    is_token = secret.get("type") == "kubernetes.io/service-account-token"
    return is_token and (other.namespace, account) == (key.namespace, key.name)


def _is_endpoint_of(key: ObjectKey, _: Manifest, other: ObjectKey, __: Manifest) -> bool:
    place = (other.group, other.kind, other.namespace, other.name)
    return place == ("", "Endpoints", key.namespace, key.name)


def _is_volume_of(_: ObjectKey, claim: Manifest, other: ObjectKey, volume: Manifest) -> bool:
    is_named = (other.kind, other.name) == (
        "PersistentVolume",
        field_of(claim, "spec", "volumeName"),
    )
    return is_named and field_of(volume, "spec", "persistentVolumeReclaimPolicy") == "Delete"


_TAKES: dict[tuple[str, str], Callable[[ObjectKey, Manifest, ObjectKey, Manifest], bool]] = {
    ("", "Namespace"): _is_inside,
    DEFINITION: _is_defined,
    ("apps", "StatefulSet"): _is_claim_of_set,
    ("", "ServiceAccount"): _is_token_of,
    ("", "Service"): _is_endpoint_of,
    ("", "PersistentVolumeClaim"): _is_volume_of,
}


def pods_using(
    claim: ObjectKey, objects: Iterable[tuple[ObjectKey, Manifest]]
) -> Iterator[Manifest]:
    """The pods that mount a claim and have not ended."""
    for key, pod in objects:
        if (key.group, key.kind, key.namespace) != ("", "Pod", claim.namespace):
            continue
        mounted = {
            field_of(volume, "persistentVolumeClaim", "claimName")
            for volume in field_of(pod, "spec", "volumes", default=[])
        }
        is_over = field_of(pod, "status", "phase") in ("Succeeded", "Failed")
        if claim.name in mounted and not is_over:
            yield pod
