"""What a request must satisfy by itself, whatever the cluster is like."""

from __future__ import annotations

from reconciler.errors import RefusedError
from reconciler.restore.plan.request import RestoreRequest


class NotAllowedError(RefusedError):
    """A guard keeps a request from being accepted."""


def check_request(request: RestoreRequest) -> None:
    """Check what a request says of itself.

    Raises:
        NotAllowedError: a tenant asks beyond its namespace, or a transform set is missing.
    """
    named = [entry.metadata.name for entry in request.transforms]
    if named != list(request.spec.transforms):
        missing = sorted(set(request.spec.transforms) - set(named))
        raise NotAllowedError(
            f"restore {request.title}: no TransformSet is called {', '.join(missing)}",
            reason="TransformMissing",
        )
    if not request.namespace:
        return
    for one in request.spec.pause:
        if one.namespace not in (request.namespace, *request.namespaces):
            raise NotAllowedError(
                f"restore {request.title}: it pauses {one.kind} {one.namespace}/{one.name}, "
                "in a namespace that its source is not confined to",
                hint="ask for it by the platform's repository",
                reason="NeedsGrant",
            )
    origin = request.spec.from_.point.split("/")[0]
    into = request.spec.to.namespace or origin
    if {origin, into} != {request.namespace}:
        raise NotAllowedError(
            f"restore {request.title}: a request of namespace {request.namespace} cannot reach another one",
            hint="grants are not supported by this version; ask the platform's repository for it",
            reason="NeedsGrant",
        )
