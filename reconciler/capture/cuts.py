"""Volumes read as of one instant: snapshots are cut while services are held still, and read when those go on.

A claim of which no snapshot can be had is read live, and its outcome says so. A policy that asks for a snapshot gets
one or a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from reconciler.blueprint.stop import StoppedError
from reconciler.capture.observed import Observed
from reconciler.capture.services import Reach, failed
from reconciler.capture.volumes import Wanted, is_device
from reconciler.errors import ReconcilerError
from reconciler.kinds.record import Outcome
from reconciler.objects import ObjectKey
from reconciler.volumes.ours import Claim
from reconciler.volumes.snapshots import Cut, NoSnapshotError, Snapshot

AT_ONCE = 8
log = structlog.get_logger(__name__)


@dataclass
class Cuts:
    """The snapshots of one capture; `end` takes them away again."""

    reach: Reach
    cuts: dict[ObjectKey, Cut] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    refused: set[ObjectKey] = field(default_factory=set)
    """Claims that are not to be read in any other way."""
    _begun: list[Snapshot] = field(default_factory=list)

    def cut(self, claims: Sequence[Wanted]) -> None:
        """Cut a snapshot of every claim that can have one, and wait until all are cut.

        Raises:
            StoppedError: `stop` was set.
        """
        volumes = self.reach.volumes
        tried = [one for one in claims if one.action != "files"]
        if volumes is None or not volumes.snapshots.are_served:
            for one in tried:
                if one.action == "snapshot" or is_device(one.claim):
                    why = "no snapshots: this cluster does not serve them, or no namespace for them is configured"
                    self._refuse(one.claim, "SnapshotsNotServed", why)
            return
        with ThreadPoolExecutor(AT_ONCE, "snapshot") as pool:
            for one, result in zip(tried, pool.map(self._try, tried), strict=True):
                if isinstance(result, StoppedError):
                    raise result
                if isinstance(result, Cut):
                    self.cuts[one.claim.key] = result
                elif one.action == "snapshot" or is_device(one.claim):
                    self.refused.add(one.claim.key)
                    self.outcomes.append(failed(_item(one.claim), result))
                elif not isinstance(result, NoSnapshotError):
                    self.outcomes.append(_note(one.claim, result))

    def _try(self, wanted: Wanted) -> Cut | ReconcilerError:
        volumes = self.reach.volumes
        assert volumes is not None
        claim = wanted.claim
        try:
            snapshot = volumes.snapshots.begin(
                Claim(claim.key.namespace, claim.key.name), claim.manifest()
            )
            self._begun.append(snapshot)
            return volumes.snapshots.await_cut(snapshot, stop=self.reach.stop)
        except ReconcilerError as error:
            return error

    def end(self) -> None:
        """Take the snapshots away; what cannot be is said, and found again by `doctor`."""
        volumes = self.reach.volumes
        if volumes is None or not self._begun:
            return
        with ThreadPoolExecutor(AT_ONCE, "snapshot") as pool:
            list(pool.map(self._end, self._begun))
        self._begun.clear()

    def _end(self, snapshot: Snapshot) -> None:
        assert self.reach.volumes is not None
        try:
            self.reach.volumes.snapshots.end(snapshot)
        except ReconcilerError as error:
            log.warning(
                "left behind",
                kind="VolumeSnapshot",
                namespace=snapshot.claim.namespace,
                name=snapshot.name,
                why=error.message,
            )

    def _refuse(self, claim: Observed, reason: str, message: str) -> None:
        self.refused.add(claim.key)
        self.outcomes.append(
            Outcome(item=_item(claim), result="Failed", reason=reason, message=message)
        )


def _item(claim: Observed) -> str:
    return f"volume/{claim.key.name}"


def _note(claim: Observed, error: ReconcilerError) -> Outcome:
    return Outcome(
        item=_item(claim),
        result="Skipped",
        reason="ReadWithoutSnapshot",
        message=f"read while in use, because {error.message}"[:256],
    )
