"""The target as it is now: the live objects that a plan is compared with.

A kind is listed in its namespace where many of its objects are wanted, and read one by one otherwise, a few
at a time side by side. A kind that cannot be read does not stop the plan: its entries are blocked and say
why; so does one whose conversion webhook is dead. Faults that may pass are raised, since a plan made from half a
view would be wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from reconciler.cluster.port import ApiError, Cluster, Discovery, NotFoundError, ResourceType
from reconciler.errors import ReconcilerError, TransientError
from reconciler.objects import Manifest, ObjectKey
from reconciler.objects import field as field_of
from reconciler.restore.plan.extras import NEVER_TOLD
from reconciler.restore.plan.mark import unmarked
from reconciler.restore.plan.objection import (
    UNAVAILABLE,
    WebhookUnavailableError,
    is_conversion_down,
)
from reconciler.restore.plan.order import claims_of

READERS = 8
_SINGLE_READS_MAX = 4
_PASSES = 3


@dataclass
class Live:
    """What was read: objects by key, and kinds that could not be read with why.

    What a restore holds back is here as it would be without that; `held` has the objects as they are.
    """

    objects: dict[ObjectKey, Manifest] = field(default_factory=dict)
    unreadable: dict[ResourceType, ReconcilerError] = field(default_factory=dict)
    held: dict[ObjectKey, Manifest] = field(default_factory=dict)

    def put(self, manifest: Manifest) -> None:
        """Take in an object that was read."""
        key, free = ObjectKey.of(manifest), unmarked(manifest)
        self.objects[key] = free
        if free is not manifest:
            self.held[key] = manifest

    def get(self, key: ObjectKey) -> Manifest | None:
        """A live object."""
        return self.objects.get(key)

    def of_kind(self, group: str, kind: str, namespace: str) -> Iterable[Manifest]:
        """The live objects of a kind in a namespace, as far as they were listed."""
        for key, manifest in self.objects.items():
            if (key.group, key.kind, key.namespace) == (group, kind, namespace):
                yield manifest

    def raw_of(self, group: str, kind: str, namespace: str) -> Iterable[Manifest]:
        """The same, as they are while a restore holds them back."""
        for manifest in self.of_kind(group, kind, namespace):
            yield self.held.get(ObjectKey.of(manifest), manifest)

    def users_of(self, claim: str, namespace: str) -> list[Manifest]:
        """Pods that mount a claim and have not ended."""
        return [
            pod
            for pod in self.of_kind("", "Pod", namespace)
            if claim in claims_of(pod)
            and field_of(pod, "status", "phase") not in ("Succeeded", "Failed")
        ]

    def scaled(self, namespace: str) -> set[tuple[str, str]]:
        """(kind, name) of the workloads whose replicas an autoscaler owns."""
        return {
            target
            for scaler in self.of_kind("autoscaling", "HorizontalPodAutoscaler", namespace)
            if (target := target_of(scaler))
        }


def target_of(scaler: Manifest) -> tuple[str, str] | None:
    """(kind, name) of what an autoscaler scales."""
    reference = field_of(scaler, "spec", "scaleTargetRef", default={})
    return (reference["kind"], reference["name"]) if "kind" in reference else None


def read_live(
    cluster: Cluster,
    *,
    wanted: Mapping[ObjectKey, ResourceType],
    listed: Iterable[tuple[ResourceType, str]] = (),
) -> Live:
    """Read the live objects of `wanted`, and all of the kinds and namespaces in `listed`."""
    live = Live()
    groups: dict[tuple[ResourceType, str], set[ObjectKey]] = defaultdict(set)
    for key, kind in wanted.items():
        groups[kind, key.namespace].add(key)
    whole = set(listed)
    jobs: list[Callable[[], None]] = []
    for kind, namespace in whole | groups.keys():
        keys = groups.get((kind, namespace), set())
        is_listed = (kind, namespace) in whole or len(keys) > _SINGLE_READS_MAX
        if namespace and is_listed:
            jobs.append(_lister(cluster, live, kind, namespace))
        else:
            jobs.extend(_getter(cluster, live, kind, key) for key in keys)
    with ThreadPoolExecutor(READERS) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
    return live


def listable(discovery: Discovery) -> list[ResourceType]:
    """The namespaced kinds that a person or a controller can create and list."""
    return [
        kind
        for kind in discovery.preferred()
        if kind.namespaced
        and {"list", "create"} <= kind.verbs
        and (kind.group, kind.kind) not in NEVER_TOLD
    ]


def _lister(cluster: Cluster, live: Live, kind: ResourceType, namespace: str) -> Callable[[], None]:
    def work() -> None:
        for attempt in range(1, _PASSES + 1):
            try:
                found = [
                    item for page in cluster.pages(kind, namespace=namespace) for item in page.items
                ]
            except NotFoundError:
                return
            except ApiError as error:
                live.unreadable[kind] = error
                return
            except TransientError as error:
                if is_conversion_down(error):
                    live.unreadable[kind] = _unconverted(error)
                    return
                if attempt == _PASSES:
                    raise
                continue
            for item in found:
                live.put(item)
            return

    return work


def _getter(cluster: Cluster, live: Live, kind: ResourceType, key: ObjectKey) -> Callable[[], None]:
    def work() -> None:
        try:
            found = cluster.get(kind, key.name, namespace=key.namespace)
        except ApiError as error:
            live.unreadable[kind] = error
            return
        except TransientError as error:
            if not is_conversion_down(error):
                raise
            live.unreadable[kind] = _unconverted(error)
            return
        if found is not None:
            live.put(found)

    return work


def _unconverted(error: TransientError) -> WebhookUnavailableError:
    """A kind whose stored objects only a webhook can turn into what is asked for."""
    return WebhookUnavailableError(
        error.message,
        hint="bring up the pods of the CRD's conversion webhook, then restore again",
        reason=UNAVAILABLE,
    )
