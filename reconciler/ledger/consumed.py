"""Which attempt of a Restore was used last: nothing at or below it may begin any more.

Attempts only rise. One that was passed over (refused by a guard, say) is dead once a higher one was accepted, or
lowering `spec.attempt`, or reverting the commit that raised it, would run the restore a second time.
"""

from __future__ import annotations

from reconciler.errors import RefusedError
from reconciler.ledger.layout import RestoreKey
from reconciler.ledger.view import LedgerView


class SupersededError(RefusedError):
    """A higher attempt of the same Restore was accepted."""


def refuse_superseded(view: LedgerView, key: RestoreKey, *, cluster_uid: str) -> None:
    """Make sure that no higher attempt of this Restore was used on this cluster.

    Raises:
        SupersededError: one was.
    """
    used = [
        attempt
        for attempt, state in view.attempts(key).items()
        for record in (state.accepted or state.finished,)
        if record is not None and record.spec.cluster_uid == cluster_uid
    ]
    newest = max(used, default=0)
    if newest > key.attempt:
        place = "/".join(part for part in (key.source, key.namespace, key.name) if part)
        raise SupersededError(
            f"restore {place}: attempt {key.attempt} is below attempt {newest}, which was used already",
            hint=f"raise spec.attempt to {newest + 1} to run it again",
            reason="AttemptSuperseded",
        )
