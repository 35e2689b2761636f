"""What is asked for: a Restore manifest or a command line, and the restore point that it means.

A request's identity is (cluster uid, source, namespace, name, attempt): never a path or a commit, so that
renaming a file or picking a commit again asks for nothing new. `latest` and `@TIME` are resolved once, when
the request is accepted; the record then carries the resolved name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.clock import format_slot, parse_instant
from reconciler.errors import ReconcilerError, RefusedError, TerminalError
from reconciler.kinds.request import RestoreSpec
from reconciler.kinds.transformset import TransformSet
from reconciler.objects import canonical
from reconciler.store.port import ObjectMissingError, Point, PointName, Store

_ADDED_LATER = ("recreate", "runningJobs", "pause")


class NoSuchPointError(TerminalError):
    """The restore point that a request names is in no location."""


@dataclass(frozen=True)
class RestoreRequest:
    """A restore that somebody asked for.

    `transforms` are the TransformSets that `spec.transforms` names, in that order, as the source has them.
    """

    source: str
    namespace: str
    name: str
    attempt: int
    spec: RestoreSpec
    revision: str = ""
    break_glass: bool = False
    transforms: tuple[TransformSet, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Those that its source is confined to; empty for a platform source."""

    @property
    def digest(self) -> str:
        """SHA-256 of the written spec as canonical JSON, in hex."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_defaults=False)
        for name in _ADDED_LATER:
            # What earlier versions accepted keeps its digest: it is consumed, not edited.
            if not spec[name]:
                del spec[name]
        return hashlib.sha256(canonical(spec)).hexdigest()

    @property
    def title(self) -> str:
        """`source/namespace/name#attempt`, for messages and leases."""
        return title_of(self.source, self.namespace, self.name, self.attempt)

    @property
    def target_namespace(self) -> str:
        """The namespace that is restored into."""
        return self.spec.to.namespace or self.spec.from_.point.partition("/")[0]


def title_of(source: str, namespace: str, name: str, attempt: int) -> str:
    """What an attempt is called in messages, leases and marks."""
    place = f"{namespace}/{name}" if namespace else name
    return f"{source}/{place}#{attempt}"


@dataclass(frozen=True)
class FoundPoint:
    """A restore point with where it was found."""

    name: PointName
    point: Point
    digest: str
    store: Store
    location: str

    @property
    def cluster(self) -> str:
        """The name of the cluster that it was captured from."""
        return str(self.point.record.get("cluster") or self.name.domain)

    @property
    def title(self) -> str:
        """`cluster/namespace/application/slot`, as records name it."""
        return f"{self.cluster}/{self.name.path}"


def find_point(
    request: RestoreRequest,
    *,
    stores: Sequence[tuple[str, Store]],
    cluster: str,
    cluster_uid: str,
    resolved: str = "",
    closed: Mapping[str, ReconcilerError] | None = None,
) -> FoundPoint:
    """Find the restore point that a request means.

    Args:
        request: what is asked for.
        stores: locations in the order in which they are looked through, by name.
        cluster: the name of the cluster that restores.
        cluster_uid: its uid, which is the domain of its own points.
        resolved: the point that an earlier acceptance recorded; it wins over the request's.
        closed: locations that do not open, and why: one of them may hold the point.

    Raises:
        NoSuchPointError: no location has it.
        ReconcilerError: none that opens has it, and this is why another does not open.
        RefusedError: it is not the point that the request's digest names.
    """
    wanted = request.spec.from_
    origin, text = wanted.cluster or cluster, wanted.point
    if resolved:
        origin, _, text = resolved.partition("/")
    namespace, application, slot = text.split("/")
    for location, store in stores:
        if wanted.location not in (None, location):
            continue
        for domain in _domains(store, origin, own=(cluster, cluster_uid)):
            name = _resolve(store, PointName(domain, namespace, application, slot))
            if name is None:
                continue
            try:
                point, digest = store.point(name)
            except ObjectMissingError:
                continue
            if wanted.digest not in (None, digest):
                raise RefusedError(
                    f"restore {name.path}: the point in {location} has another digest than asked for",
                    hint="compare the digest in the request with the point's record in the ledger",
                    reason="DigestDiffers",
                )
            return FoundPoint(name, point, digest, store, location)
    for location, error in (closed or {}).items():
        if wanted.location in (None, location):
            raise error
    looked = ", ".join(location for location, _ in stores) or "no location"
    raise NoSuchPointError(
        f"find restore point {origin}/{text}: not in {looked}",
        hint="see `reconciler get points`",
    )


def _domains(store: Store, origin: str, *, own: tuple[str, str]) -> list[str]:
    """The domains of a cluster that is named by its name or uid."""
    if origin in own:
        return [own[1]]
    newest: dict[str, PointName] = {}
    for name in store.points():
        newest[name.domain] = name
    if origin in newest:
        return [origin]
    return [
        domain
        for domain, name in newest.items()
        if store.point(name)[0].record.get("cluster") == origin
    ]


def _resolve(store: Store, asked: PointName) -> PointName | None:
    """Turn `latest` and `@TIME` into the newest slot that they allow; None when there is none."""
    if asked.slot == "latest":
        upto = None
    elif asked.slot.startswith("@"):
        upto = format_slot(parse_instant(asked.slot[1:]))
    else:
        return PointName(
            asked.domain, asked.namespace, asked.application, format_slot(parse_instant(asked.slot))
        )
    slots = [
        name
        for name in store.points(asked.domain)
        if (name.namespace, name.application) == (asked.namespace, asked.application)
        and (upto is None or name.slot <= upto)
    ]
    return max(slots, key=lambda name: name.slot, default=None)
