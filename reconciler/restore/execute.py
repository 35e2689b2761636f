"""Carries a plan out: level by level, contents in their places, readiness at the end.

    levels 0…5 → claims are filled → services → data services → Ready → their contents → all other levels
    → everything Ready → what acts by itself (autoscalers, CronJobs)

Objects of one level are written by a few threads. What fails takes along what needs it and nothing else.
Every object and every content ends with an outcome. Carrying the same plan out again after a crash finds
what is there as captured and goes on; a content is cleared before it is loaded, so it is never doubled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import structlog

from reconciler.cluster.port import (
    Cluster,
    Discovery,
    NotServedError,
    ResourceType,
)
from reconciler.errors import ReconcilerError, TerminalError, TransientError
from reconciler.kinds.record import Outcome
from reconciler.objects import (
    LABEL_MANAGED,
    Manifest,
    ObjectKey,
    labels_of,
    name_of,
    owners_of,
    version_of,
)
from reconciler.objects import field as field_of
from reconciler.restore.contents import VOLUME, early_deletions
from reconciler.restore.entry import WRITES, ContentEntry, Entry, Plan
from reconciler.restore.filling import Contents
from reconciler.restore.order import Level, claims_of, is_workload
from reconciler.restore.ready import (
    claim_problem,
    definition_problem,
    event_cause,
    first_cause,
    wait_for,
    workload_problem,
)
from reconciler.restore.standing import Patience, await_standing
from reconciler.restore.write import Writer, Written

WRITERS = 8
NOT_READY = "NotReady"
FILLERS = 4
T = TypeVar("T")
OutcomeResult = Literal["Succeeded", "Skipped", "Failed"]
Phase = Literal["Succeeded", "Partial", "Failed", "Cancelled", "Stopped"]

log = structlog.get_logger(__name__)


class ServiceNotReadyError(TerminalError):
    """A data service did not become Ready, so nothing can be loaded into it."""


@dataclass(frozen=True)
class Bounds:
    """How long may be waited, in seconds."""

    definitions_s: float = 60
    claims_s: float = 120
    gone_s: float = 120
    ready_s: float = 600
    settle_s: float = 1.5
    """How long a workload that is Ready is watched before it is believed."""
    relapse_s: float = 60
    """How long one that was Ready and is not any more may take to come back."""


@dataclass(frozen=True)
class Result:
    """How carrying out a plan ended. `Stopped` is not an end: the attempt is resumed later."""

    phase: Phase
    outcomes: tuple[Outcome, ...]
    message: str = ""


@dataclass
class Execution:
    """One run of a plan."""

    plan: Plan
    cluster: Cluster
    discovery: Discovery
    contents: Contents
    stop: threading.Event
    is_wanted: Callable[[], bool] = lambda: True
    """Asked before each object; False when the request was withdrawn."""
    done: Collection[str] = ()
    """Contents that an earlier run of this attempt has loaded."""
    on_done: Callable[[str], None] = lambda _: None
    """Told the name of each content that is loaded, before anything that needs it is written."""
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: dict[str, Outcome] = {}
        self._failed: dict[ObjectKey, str] = {}
        self._withdrawn = False
        self._uids: dict[ObjectKey, str] = {
            entry.target: entry.live_uid
            for entry in self.plan.entries
            if entry.live_uid and entry.verdict != "recreate"
        }
        self._pending: dict[ObjectKey, tuple[Entry, Written]] = {}
        self._entries = {entry.target: entry for entry in self.plan.entries}
        self._writer = Writer(
            self.cluster, uids=self._uids, stop=self.stop, gone_s=self.bounds.gone_s
        )

    def run(self) -> Result:
        """Carry the plan out, as far as it can be."""
        for level in Level:
            if self._is_halted():
                break
            if level == Level.SERVICES:
                self._fill_claims()
            if level == Level.SELF_ACTING:
                self._wait_until_ready()
            entries = [e for e in self._entries.values() if e.level == level]
            self._each(self._carry_out, entries)
            self._after(level)
            self._adopt()
        return self._result()

    def _is_halted(self) -> bool:
        if not self._withdrawn and not self.is_wanted():
            self._withdrawn = True
        return self._withdrawn or self.stop.is_set()

    def _each(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            for done in [pool.submit(work, item) for item in items]:
                done.result()

    def _carry_out(self, entry: Entry) -> None:
        if self._is_halted():
            return
        match entry.verdict:
            case "skip":
                self._end(entry.target.path, "Skipped", entry.reason, entry.message)
            case "blocked" if entry.live_uid:
                # What is live can still be leant on by others.
                self._end(entry.target.path, "Failed", entry.reason, entry.message)
            case "blocked":
                self._fail(entry.target, entry.reason, entry.message)
            case "unchanged":
                self._end(entry.target.path, "Succeeded", entry.reason)
            case _:
                self._write(entry)

    def _write(self, entry: Entry) -> None:
        # What is there and not Ready can be leant on: an autoscaler must not be missing because of it.
        missing = next(
            (need for need in entry.needs if self._failed.get(need, NOT_READY) != NOT_READY), None
        )
        if missing is not None:
            self._fail(entry.target, "NeedFailed", f"{missing}: {self._failed[missing]}")
            return
        try:
            written = self._writer.write(entry, self._kind(entry.target, entry))
        except ReconcilerError as error:
            self._fail(entry.target, error.reason, error.message)
            return
        with self._lock:
            self._uids[entry.target] = written.uid
            if written.pending:
                self._pending[entry.target] = (entry, written)
        self._end(entry.target.path, "Succeeded", written.reason, written.message)

    def _kind(self, key: ObjectKey, entry: Entry | None = None) -> ResourceType:
        version = None
        if entry is not None and entry.desired is not None:
            version = version_of(entry.desired["apiVersion"])
        kind = self.discovery.find(key.group, key.kind, version)
        if kind is None:
            raise NotServedError(f"write {key}: the target does not serve it")
        return kind

    def _live(self, key: ObjectKey) -> Manifest | None:
        return self.cluster.get(self._kind(key), key.name, namespace=key.namespace)

    def _problem(self, key: ObjectKey, judge: Callable[[Manifest | None], str]) -> str:
        """What `judge` says of the live object; an unanswered question is a problem too."""
        try:
            return judge(self._live(key))
        except ReconcilerError as error:
            return error.message

    def _adopt(self) -> None:
        """Give references to owners that exist by now."""
        for key, (entry, written) in list(self._pending.items()):
            try:
                if not self._writer.adopt(entry, self._kind(key, entry), written):
                    continue
            except ReconcilerError as error:
                message = f"owner reference not set: {error.message}"
                self._end(key.path, "Succeeded", written.reason, message)
            del self._pending[key]

    def _after(self, level: Level) -> None:
        if self._is_halted():
            return
        match level:
            case Level.DEFINITIONS:
                self._each(self._await_definition, self._written(level))
            case Level.CLAIMS:
                self._each(self._await_claim, self._written(level))
            case Level.DATA_SERVICES:
                self._load_services()

    def _written(self, level: Level) -> list[Entry]:
        return [
            entry
            for entry in self._entries.values()
            if entry.level == level and entry.verdict in WRITES and entry.target not in self._failed
        ]

    def _await_definition(self, entry: Entry) -> None:
        def check() -> str:
            problem = self._problem(entry.target, definition_problem)
            if problem:
                return problem
            spec = (entry.desired or {}).get("spec") or {}
            names = spec.get("names") or {}
            try:
                found = self.cluster.discover()
            except TransientError as error:
                return error.message
            if found.find(spec.get("group", ""), names.get("kind", "")) is None:
                return "it is not served yet"
            with self._lock:
                self.discovery = found
            return ""

        problem = wait_for(check, timeout_s=self.bounds.definitions_s, stop=self.stop)
        if problem:
            self._fail(entry.target, "NotEstablished", problem)

    def _await_claim(self, entry: Entry) -> None:
        if self._binds_late(entry):
            return
        problem = wait_for(
            lambda: self._problem(entry.target, claim_problem),
            timeout_s=self.bounds.claims_s,
            stop=self.stop,
        )
        if problem:
            self._fail(entry.target, "NotBound", problem)

    def _binds_late(self, entry: Entry) -> bool:
        """Whether a claim is bound only when a pod mounts it (or its class cannot be asked)."""
        name = field_of(entry.desired or {}, "spec", "storageClassName")
        if name == "":
            return False
        try:
            kind = self._kind(ObjectKey("storage.k8s.io", "StorageClass", "", name or ""))
            if name is None:
                return True
            found = self.cluster.get(kind, name)
        except ReconcilerError:
            return True
        return found is None or found.get("volumeBindingMode") == "WaitForFirstConsumer"

    def _wait_until_ready(self) -> None:
        workloads = [
            entry
            for entry in self._entries.values()
            if is_workload(entry.target)
            and entry.target not in self._failed
            and entry.verdict in {*WRITES, "unchanged"}
        ]
        problems = await_standing(
            [entry.target for entry in workloads],
            cluster=self.cluster,
            kind_of=self._kind,
            patience=Patience(
                ready_s=self.bounds.ready_s,
                settle_s=self.bounds.settle_s,
                relapse_s=self.bounds.relapse_s,
            ),
            stop=self.stop,
        )
        if self.stop.is_set():
            return
        for entry in workloads:
            problem = problems.get(entry.target)
            if problem:
                cause = self._cause(entry)
                self._fail(entry.target, NOT_READY, f"{problem}; {cause}" if cause else problem)

    def _cause(self, entry: Entry) -> str:
        try:
            kind = self._kind(ObjectKey("", "Pod", "", ""))
            pods = [
                pod
                for page in self.cluster.pages(kind, namespace=entry.target.namespace)
                for pod in page.items
                if name_of(pod) == entry.target.name
                or any(
                    str(owner.get("name", "")).startswith(entry.target.name)
                    for owner in owners_of(pod)
                )
            ]
            cause = first_cause(pods)
            if cause:
                return cause
            kind = self._kind(ObjectKey("", "Event", "", ""))
            events = [
                event
                for page in self.cluster.pages(kind, namespace=entry.target.namespace)
                for event in page.items
            ]
        except ReconcilerError:
            return ""
        return event_cause(events, entry.target.name)

    def _fill_claims(self) -> None:
        """Fill claims, after workloads that are to be made again have let go of them."""
        for entry in early_deletions(self.plan.entries, self.plan.contents):
            if self._is_halted():
                return
            try:
                self._writer.delete(entry, self._kind(entry.target, entry))
            except ReconcilerError as error:
                self._fail(entry.target, error.reason, error.message)
                self._entries[entry.target] = replace(
                    entry, verdict="blocked", reason=error.reason, message=error.message
                )
                continue
            self._entries[entry.target] = replace(entry, verdict="create", live_uid="", diff=())
        volumes = [entry for entry in self.plan.contents if entry.name.startswith(VOLUME)]
        with ThreadPoolExecutor(FILLERS) as pool:
            for done in [pool.submit(self._fill, entry) for entry in volumes]:
                done.result()

    def _fill(self, content: ContentEntry) -> None:
        if not self._is_due(content):
            return
        problem = wait_for(
            lambda: self._users_of(content.into), timeout_s=self._letting_go_s(), stop=self.stop
        )
        if problem:
            self._fail_content(content, "VolumeInUse", problem)
            return
        try:
            self.contents.fill(content.content, content.into, stop=self.stop)
            self._loaded(content, "Filled")
        except ReconcilerError as error:
            self._fail_content(content, error.reason, error.message)

    def _letting_go_s(self) -> float:
        is_recreating = any(entry.verdict == "recreate" for entry in self.plan.entries)
        return self.bounds.gone_s if is_recreating else 0

    def _users_of(self, claim: ObjectKey) -> str:
        """Which pods mount a claim, our own fillers aside."""
        try:
            kind = self._kind(ObjectKey("", "Pod", "", ""))
            users = [
                name_of(pod)
                for page in self.cluster.pages(kind, namespace=claim.namespace)
                for pod in page.items
                if claim.name in claims_of(pod)
                and LABEL_MANAGED not in labels_of(pod)
                and field_of(pod, "status", "phase") not in ("Succeeded", "Failed")
            ]
        except ReconcilerError as error:
            return error.message
        return f"mounted by {', '.join(users[:3])}" if users else ""

    def _load_services(self) -> None:
        groups: dict[tuple[ObjectKey, str], list[ContentEntry]] = {}
        for content in self.plan.contents:
            if not content.name.startswith(VOLUME) and self._is_due(content):
                blueprint = content.name.split("/")[1]
                groups.setdefault((content.into, blueprint), []).append(content)
        with ThreadPoolExecutor(FILLERS) as pool:
            for done in [
                pool.submit(self._load, into, group) for (into, _), group in groups.items()
            ]:
                done.result()

    def _load(self, into: ObjectKey, group: list[ContentEntry]) -> None:
        problem = wait_for(
            lambda: self._problem(into, workload_problem),
            timeout_s=self.bounds.ready_s,
            stop=self.stop,
        )
        try:
            workload = self._live(into)
            if problem or workload is None:
                raise ServiceNotReadyError(f"load {into}: {problem or 'it is gone'}")
            how = self.contents.load([c.content for c in group], workload, stop=self.stop)
            for content in group:
                self._loaded(content, how)
        except ReconcilerError as error:
            for content in group:
                self._fail_content(content, error.reason, error.message)

    def _is_due(self, content: ContentEntry) -> bool:
        """Whether a content is to be loaded now; ends it when it is not."""
        if self._is_halted():
            return False
        if content.name in self.done:
            self._end(content.name, "Succeeded", "LoadedBefore")
        elif content.verdict == "skip":
            self._end(content.name, "Skipped", content.reason, content.message)
        elif content.verdict == "blocked":
            self._end(content.name, "Failed", content.reason, content.message)
        elif content.into in self._failed:
            self._fail_content(
                content, "NeedFailed", f"{content.into}: {self._failed[content.into]}"
            )
        else:
            return True
        return False

    def _loaded(self, content: ContentEntry, how: str) -> None:
        self.on_done(content.name)
        self._end(content.name, "Succeeded", how)

    def _fail_content(self, content: ContentEntry, reason: str, message: str) -> None:
        self._end(content.name, "Failed", reason, message)
        with self._lock:
            # A workload must not start on an empty volume and take it for a new one.
            self._failed.setdefault(content.into, f"its content failed: {reason}")

    def _end(self, item: str, result: OutcomeResult, reason: str, message: str = "") -> None:
        line = " ".join(message.split())
        with self._lock:
            self._outcomes[item] = Outcome(
                item=item, result=result, reason=reason, message=line[:256]
            )

    def _fail(self, key: ObjectKey, reason: str, message: str) -> None:
        if self.stop.is_set():
            return
        log.warning("object failed", object=str(key), reason=reason)
        with self._lock:
            self._failed[key] = reason
        self._end(key.path, "Failed", reason, message)

    def _result(self) -> Result:
        outcomes = self._outcomes
        if self._withdrawn:
            for item in self._items():
                if item not in outcomes:
                    self._end(item, "Skipped", "Cancelled")
            return Result("Cancelled", self._sorted(), "the request was withdrawn")
        if self.stop.is_set():
            return Result("Stopped", self._sorted(), "asked to stop")
        for item in self._items():
            if item not in outcomes:
                self._end(item, "Failed", "NotReached")
        results = {outcome.result for outcome in outcomes.values()}
        if "Failed" not in results:
            return Result("Succeeded", self._sorted())
        failed = next(outcome for outcome in self._sorted() if outcome.result == "Failed")
        message = f"{failed.item}: {failed.reason}: {failed.message}"[:256]
        return Result("Partial" if "Succeeded" in results else "Failed", self._sorted(), message)

    def _items(self) -> list[str]:
        objects = [entry.target.path for entry in self.plan.entries]
        return [*objects, *(content.name for content in self.plan.contents)]

    def _sorted(self) -> tuple[Outcome, ...]:
        order = {item: index for index, item in enumerate(self._items())}
        return tuple(sorted(self._outcomes.values(), key=lambda o: order.get(o.item, len(order))))
