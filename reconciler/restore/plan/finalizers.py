"""Finalizers come back with their objects; one whose controller is nowhere to be seen is told.

An object with such a finalizer cannot be deleted until somebody removes it, and its namespace neither. Nothing
says which program serves a finalizer, so the guess is by its domain: a served API group, or one that the plan
brings, of the same domain.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.cluster.port import Discovery
from reconciler.objects import field
from reconciler.restore.plan.draft import Draft

_OF_KUBERNETES = ("kubernetes.io", "k8s.io")


def note_orphaned_finalizers(drafts: Iterable[Draft], discovery: Discovery) -> None:
    """Add a note to each object with a finalizer that nothing seems to serve.

    Args:
        drafts: those of the plan.
        discovery: what the target serves, with what the plan's CRDs will serve.
    """
    domains = {_domain(kind.group) for kind in discovery.types if "." in kind.group}
    for draft in drafts:
        if draft.desired is None or draft.ended is not None:
            continue
        for name in field(draft.desired, "metadata", "finalizers", default=[]):
            domain = _domain(str(name).partition("/")[0])
            if domain not in domains and domain not in _OF_KUBERNETES:
                draft.note(
                    f"finalizer {name} is kept; nothing served by the target looks like its controller, "
                    "and without one the object cannot be deleted"
                )


def _domain(name: str) -> str:
    return ".".join(name.split(".")[-2:])
