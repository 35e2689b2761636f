"""Tells whether an object is still what the plan was decided from, just before it is written."""

from __future__ import annotations

from reconciler.errors import RefusedError
from reconciler.objects import Manifest, uid_of
from reconciler.restore.plan.compare import differences, replacement_for
from reconciler.restore.plan.entry import Entry, state_of


class DriftedError(RefusedError):
    """An object is no longer what the plan was made from."""


def drift_of(entry: Entry, there: Manifest, *, resolved: Manifest) -> tuple[str, bool]:
    """Compare a live object with what the plan was made from.

    Args:
        entry: the plan's entry.
        there: the live object.
        resolved: the entry's object with the uids of owners that exist by now.

    Returns:
        what drifted (empty when nothing did), and whether the object is as captured already.
    """
    assert entry.desired is not None
    if entry.is_swept and uid_of(there) == entry.live_uid:
        # It goes with its owner whatever it says, so it is not as captured for long.
        return "", False
    wanted = replacement_for(entry.desired, there, is_scaled=entry.is_scaled)
    diff = tuple(differences(there, wanted))
    now = replacement_for(resolved, there, is_scaled=entry.is_scaled)
    if not diff or not differences(there, now):
        return "", True
    if uid_of(there) != entry.live_uid:
        word = "it was made again" if entry.live_uid else "it appeared"
        return f"{word} since the plan was made", False
    if state_of(entry, diff) != entry.state:
        paths = ", ".join(change.path for change in diff)
        return f"it changed since the plan was made; it differs now in {paths}"[:256], False
    return "", False
