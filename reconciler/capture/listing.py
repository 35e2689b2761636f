"""One kind, read to its end, or the gap that it leaves.

A page that fails, or a continue token that expired, starts the list again from the beginning, a bounded number of
times. Bodies are projected, encoded and dropped as they arrive.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from reconciler.blueprint.stop import check_stop
from reconciler.capture.observed import Observed, remember
from reconciler.cluster.port import (
    ApiError,
    Cluster,
    ExpiredError,
    ForbiddenError,
    NotFoundError,
    NotServedError,
    ResourceType,
    UnauthorizedError,
    UnavailableError,
)
from reconciler.errors import ReconcilerError
from reconciler.kinds.record import VersionRange

TRIES = 3
PAGE = 200
"""Several pages are in memory at once, one for each kind that is being listed."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A kind, or a whole group/version, that could not be read to its end."""

    name: str
    """`secrets`, `widgets.example.com`, or `*.metrics.k8s.io/v1beta1` when discovery failed."""
    group: str
    kind: str
    """Empty for a whole group."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a kind, or none and why."""

    kind: ResourceType
    objects: list[Observed]
    versions: VersionRange | None = None
    """The versions between which it was read."""
    gap: Gap | None = None
    fault: ReconcilerError | None = None
    """What a later attempt may not meet again."""
    size_bytes: int = 0
    """What was read from the server for it."""


def name_of_kind(kind: ResourceType) -> str:
    """`deployments.apps`, `secrets`: how outcomes and version ranges name a kind."""
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def list_kind(
    cluster: Cluster,
    kind: ResourceType,
    *,
    namespace: str = "",
    stop: threading.Event | None = None,
) -> Listing:
    """List one kind; start again from the beginning when a page is lost or the token expired.

    Raises:
        UnauthorizedError: the credentials do not hold.
        StoppedError: `stop` was set.
    """
    last: ReconcilerError | None = None
    for _ in range(TRIES):
        try:
            return _list_once(cluster, kind, namespace=namespace, stop=stop)
        except (ExpiredError, UnavailableError) as error:
            last = error
        except UnauthorizedError:
            raise
        except (NotFoundError, NotServedError) as error:
            return Listing(kind, [], gap=_gap(kind, "NotServed", error))
        except ForbiddenError as error:
            return Listing(kind, [], gap=_gap(kind, "Forbidden", error))
        except ApiError as error:
            return Listing(kind, [], gap=_gap(kind, error.reason, error))
    assert last is not None
    return Listing(kind, [], gap=_gap(kind, last.reason, last), fault=last)


def _list_once(
    cluster: Cluster, kind: ResourceType, *, namespace: str, stop: threading.Event | None
) -> Listing:
    objects: list[Observed] = []
    first = upto = ""
    size_bytes = 0
    for page in cluster.pages(kind, namespace=namespace, page_size=PAGE):
        check_stop(stop)
        objects.extend(map(remember, page.items))
        size_bytes += page.size_bytes
        first = first or page.resource_version
        upto = page.resource_version or upto
    return Listing(kind, objects, VersionRange(since=first, upto=upto), size_bytes=size_bytes)


def _gap(kind: ResourceType, reason: str, error: ReconcilerError) -> Gap:
    return Gap(name_of_kind(kind), kind.group, kind.kind, reason, error.message[:256])
