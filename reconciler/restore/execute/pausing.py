"""Holds back what would fight a restore, and lets it go again.

Suspending a CronJob or scaling a workload to zero, and the mark that says how it was, are one write, guarded by the
version that was read. What a restore has marked it releases at its end, however it ends; one that died is resumed and
then releases it; of one that is not resumed, `reconciler doctor` lists what is left. A released CronJob is first told
that its runs up to now are done; a field that somebody else has changed meanwhile stays as they made it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from typing import Protocol

import structlog

from reconciler.clock import SystemClock
from reconciler.cluster.port import (
    ApiError,
    Cluster,
    ConflictError,
    Discovery,
    ForbiddenError,
    NotFoundError,
    ResourceType,
)
from reconciler.cluster.waiting import Hear, wait_for
from reconciler.errors import ReconcilerError, RefusedError, TransientError
from reconciler.objects import FIELD_MANAGER, Manifest, ObjectKey, field, labels_of, name_of, uid_of
from reconciler.restore.execute.tally import OutcomeResult
from reconciler.restore.plan.gates import selects
from reconciler.restore.plan.mark import (
    PAUSABLE,
    Mark,
    command_of,
    is_held,
    mark_of,
    marked,
    unmarked,
    with_owners_back,
)
from reconciler.restore.plan.pause import Pause
from reconciler.restore.plan.selfacting import done_until

_ATTEMPTS = 5
_NAP_S = 0.1

log = structlog.get_logger(__name__)


class PausedElsewhereError(RefusedError):
    """Another restore holds the same object back."""


class Told(Protocol):
    """Is told how it ended for something that is held back."""

    def __call__(self, item: str, result: OutcomeResult, reason: str, message: str = "") -> None:
        """Write it down."""
        ...


@dataclass
class Pausing:
    """Holds back what one attempt of a restore names."""

    cluster: Cluster
    kind_of: Callable[[ObjectKey], ResourceType]
    restore: str
    """The title of the attempt."""
    stop: threading.Event
    gone_s: float
    """How long the pods of a workload may take to go, in seconds."""
    hear: Hear
    tell: Told
    _failed: set[str] = dataclass_field(default_factory=set)

    def hold(self, pauses: Sequence[Pause]) -> bool:
        """Hold everything back; False when a workload that was named could not be: then nothing may be written."""
        scaled: list[tuple[Pause, Manifest]] = []
        is_still = True
        for pause in pauses:
            if self.stop.is_set():
                return False
            try:
                there = self._change(pause.key, self._hold)
                if there is not None and pause.replicas is not None:
                    scaled.append((pause, there))
            except ReconcilerError as error:
                self._fail(pause, "NotPaused", error.message)
                is_still &= pause.replicas is None
        for pause, there in scaled if is_still else ():
            problem = wait_for(
                partial(self._pods_of, there),
                timeout_s=self.gone_s,
                stop=self.stop,
                what=f"{pause.key} to stop",
                hear=self.hear,
            )
            if problem and not self.stop.is_set():
                self._fail(pause, "StillRunning", problem)
                is_still = False
        return is_still and not self.stop.is_set()

    def release(self, pauses: Sequence[Pause]) -> None:
        """Put everything back that this attempt holds; what cannot be is told, with the command that does it."""
        for pause in pauses:
            try:
                self._release(pause)
            except ReconcilerError as error:
                log.error("not released", object=str(pause.key), reason=error.reason)
                message = f"see `reconciler doctor`: {error.message}"
                self._fail(pause, "NotReleased", message)

    def _fail(self, pause: Pause, reason: str, message: str) -> None:
        self._failed.add(pause.item)
        self.tell(pause.item, "Failed", reason, message)

    def _hold(self, there: Manifest) -> Manifest | None:
        mark = mark_of(there)
        if mark is not None and not mark.is_of(self.restore):
            raise PausedElsewhereError(
                f"pause {ObjectKey.of(there)}: restore {mark.restore} holds it back",
                hint="let that one end, or see `reconciler doctor`",
            )
        if mark is not None or is_held(there):
            return None
        log.info("held back", object=str(ObjectKey.of(there)), restore=self.restore)
        return marked(there, restore=self.restore)

    def _release(self, pause: Pause) -> None:
        kind = self.kind_of(pause.key)
        there = self.cluster.get(kind, pause.key.name, namespace=pause.key.namespace)
        mark = mark_of(there) if there is not None else None
        if there is None or mark is None or not mark.is_of(self.restore):
            return
        note = ""
        is_changed = not is_held(there)
        if pause.replicas is None and not is_changed and not mark.was:
            _, note = end_runs(self.cluster, kind, there)
        released = self._change(pause.key, lambda now: unmarked(now) if mark_of(now) else None)
        if released is not None:
            give_owners_back(self.cluster, kind, released, mark)
        log.info("released", object=str(pause.key), restore=self.restore)
        if is_changed:
            note = "somebody changed it meanwhile, and it is left so"
        if note and pause.item not in self._failed:
            self.tell(pause.item, "Skipped", "ChangedMeanwhile" if is_changed else "Released", note)

    def _change(
        self, key: ObjectKey, form: Callable[[Manifest], Manifest | None]
    ) -> Manifest | None:
        """Write an object in another form; gives it as it is then, None when it is gone."""
        kind = self.kind_of(key)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                there = self.cluster.get(kind, key.name, namespace=key.namespace)
                wanted = form(there) if there is not None else None
                if wanted is None:
                    return there
                return self.cluster.replace(kind, wanted, manager=FIELD_MANAGER)
            except NotFoundError:
                return None
            except (ConflictError, TransientError):
                if attempt == _ATTEMPTS or self.stop.wait(_NAP_S * attempt):
                    raise
        raise AssertionError("the loop returns or raises")

    def _pods_of(self, workload: Manifest) -> str:
        """Which pods of a workload still run, and whether somebody scaled it up again."""
        key = ObjectKey.of(workload)
        try:
            there = self.cluster.get(self.kind_of(key), key.name, namespace=key.namespace)
            if there is None:
                return ""
            selector = field(there, "spec", "selector", default={})
            pods = [
                name_of(pod)
                for page in self.cluster.pages(
                    self.kind_of(ObjectKey("", "Pod", key.namespace, "")), namespace=key.namespace
                )
                for pod in page.items
                if selector
                and selects(selector, labels_of(pod))
                and field(pod, "status", "phase") not in ("Succeeded", "Failed")
            ]
        except ReconcilerError as error:
            return error.message
        if not is_held(there):
            return f"somebody set its replicas to {field(there, 'spec', 'replicas')} again"
        return f"{', '.join(pods[:3])} still runs" if pods else ""


def end_runs(cluster: Cluster, kind: ResourceType, there: Manifest) -> tuple[Manifest, str]:
    """Tell a live CronJob that its runs up to now are done; gives it as it is then, and a warning if it cannot be."""
    body = {"metadata": {"uid": uid_of(there)}, **done_until(SystemClock().now())}
    try:
        held = cluster.patch(
            kind,
            name_of(there),
            body,
            namespace=field(there, "metadata", "namespace", default=""),
            manager=FIELD_MANAGER,
            subresource="status",
        )
    except (ForbiddenError, NotFoundError) as error:
        return there, f"a run that it missed may be caught up: {error.message}"[:256]
    return held, ""


def give_owners_back(cluster: Cluster, kind: ResourceType, written: Manifest, mark: Mark) -> str:
    """Give a field that we wrote back to the managers that owned it; a failure of that is told, and is no failure."""
    entries = with_owners_back(written, mark)
    if entries is None:
        return ""
    try:
        cluster.patch(
            kind,
            name_of(written),
            {"metadata": {"uid": uid_of(written), "managedFields": entries}},
            namespace=field(written, "metadata", "namespace", default=""),
            manager=FIELD_MANAGER,
        )
    except (ApiError, TransientError) as error:
        log.warning("field owners not given back", object=name_of(written), reason=error.reason)
        return f"field owners were not given back: {error.message}"[:256]
    return ""


@dataclass(frozen=True)
class HeldBack:
    """Something that a restore holds back, and the command that puts it back by hand."""

    key: ObjectKey
    mark: Mark
    command: str


def held_back(cluster: Cluster, discovery: Discovery) -> Iterator[HeldBack]:
    """All that restores hold back in a cluster now."""
    for group, name in PAUSABLE:
        kind = discovery.find(group, name)
        for page in cluster.pages(kind) if kind is not None else ():
            for there in page.items:
                mark = mark_of(there)
                if mark is not None:
                    yield HeldBack(ObjectKey.of(there), mark, command_of(there))


def release_left(cluster: Cluster, discovery: Discovery, *, restore: str) -> None:
    """Release what an attempt that is not carried on left held back.

    Raises:
        ReconcilerError: something could not be.
    """
    problems: list[str] = []

    def told(item: str, result: OutcomeResult, reason: str, message: str = "") -> None:
        if result == "Failed":
            problems.append(f"{item}: {reason}: {message}")

    def kind_of(key: ObjectKey) -> ResourceType:
        kind = discovery.find(key.group, key.kind)
        assert kind is not None, "it was listed"
        return kind

    pausing = Pausing(
        cluster,
        kind_of=kind_of,
        restore=restore,
        stop=threading.Event(),
        gone_s=0,
        hear=lambda _what, _problem: None,
        tell=told,
    )
    pausing.release(
        [
            Pause(one.key, replicas=None if one.key.kind == "CronJob" else int(one.mark.was or 0))
            for one in held_back(cluster, discovery)
            if one.mark.is_of(restore)
        ]
    )
    if problems:
        raise TransientError(problems[0][:500], reason="NotReleased")
