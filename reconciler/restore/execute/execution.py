"""Carries a plan out: the steps of its graph, each when what it comes after has ended.

    what would fight the restore is held back
    → levels up to claims → claims are filled → services → data services → Ready → their contents → all other levels
    → everything Ready → what acts by itself (autoscalers, CronJobs)
    → what was held back is released

is what the graph comes to when nothing needs anything of a later level (`wiring`). A few threads write, others
wait. What fails takes along what needs it and nothing else.
Every object and every content ends with an outcome. Carrying the same plan out again after a crash finds
what is there as captured and goes on; a content is cleared before it is loaded, so it is never doubled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import structlog

from reconciler.cluster.port import Cluster, Discovery, NotServedError, ResourceType
from reconciler.cluster.waiting import wait_for
from reconciler.errors import ReconcilerError, TerminalError, TransientError
from reconciler.objects import LABEL_MANAGED, Manifest, ObjectKey, labels_of, name_of, version_of
from reconciler.objects import field as field_of
from reconciler.restore.execute.cause import cause_of
from reconciler.restore.execute.filling import Contents
from reconciler.restore.execute.pausing import Pausing
from reconciler.restore.execute.progress import Progress, Waits, Watch, watched_by_nobody
from reconciler.restore.execute.ready import (
    claim_problem,
    definition_problem,
    workload_problem,
)
from reconciler.restore.execute.standing import Patience, await_standing
from reconciler.restore.execute.tally import NOT_READY, Result, Tally
from reconciler.restore.execute.walk import walk
from reconciler.restore.execute.wiring import Node, wire
from reconciler.restore.execute.write import Writer, Written
from reconciler.restore.plan.contents import early_deletions
from reconciler.restore.plan.entry import WRITES, ContentEntry, Entry, Plan
from reconciler.restore.plan.order import claims_of, is_workload

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


@dataclass
class Execution:
    """One run of a plan."""

    plan: Plan
    cluster: Cluster
    discovery: Discovery
    contents: Contents
    stop: threading.Event
    restore: str = ""
    """The title of the attempt, which marks what it holds back."""
    is_wanted: Callable[[], bool] = lambda: True
    """Asked before each object; False when the request was withdrawn."""
    done: Collection[str] = ()
    """Contents that an earlier run of this attempt has loaded."""
    on_done: Callable[[str], None] = lambda _: None
    """Told the name of each content that is loaded, before anything that needs it is written."""
    bounds: Bounds = field(default_factory=Bounds)
    watch: Watch = watched_by_nobody
    """Told how far it is and what it waits for, whenever that changes."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._waits = Waits(self._tell)
        self._tally = Tally(self.plan, stop=self.stop, changed=self._tell)
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
        nodes, left_out = wire(self.plan)
        for step, need in left_out:
            log.warning("needs go round in a circle", step=step, left_out=need)
        pauses = () if self._is_halted() else self.plan.pauses
        pausing = self._pausing()
        if pausing.hold(pauses):
            walk(nodes, self._act)
        if not self.stop.is_set():
            # One that is stopped is resumed, and holds back until then what would meet half of its work.
            pausing.release(self.plan.pauses)
        return self._tally.result(is_withdrawn=self._withdrawn)

    def _pausing(self) -> Pausing:
        return Pausing(
            self.cluster,
            kind_of=self._kind,
            restore=self.restore,
            stop=self.stop,
            gone_s=self.bounds.gone_s,
            hear=self._waits,
            tell=self._tally.end,
        )

    def _act(self, node: Node) -> None:
        if self._is_halted():
            return
        match node.act:
            case "level":
                self._adopt()
            case "standing":
                self._wait_until_ready()
            case "release":
                self._release_claims()
            case "fill":
                self._fill(node.contents[0])
            case "load":
                assert node.key is not None
                self._load(node.key, [each for each in node.contents if self._is_due(each)])
            case _:
                assert node.key is not None
                self._act_on(node, self._entries[node.key])

    def _act_on(self, node: Node, entry: Entry) -> None:
        if node.act == "write":
            self._carry_out(entry)
        elif self._tally.failure_of(entry.target):
            return
        elif node.act == "ready":
            self._await_ready(entry)
        elif entry.target.kind == "PersistentVolumeClaim":
            self._await_claim(entry)
        else:
            self._await_definition(entry)

    def _tell(self) -> None:
        with self._telling:  # so that what is told never goes back
            done, total = self._tally.counts
            self.watch(Progress(done, total, self._waits.lines()))

    def _is_halted(self) -> bool:
        if not self._withdrawn and not self.is_wanted():
            self._withdrawn = True
        return self._withdrawn or self.stop.is_set()

    def _carry_out(self, entry: Entry) -> None:
        match entry.verdict:
            case "skip":
                self._tally.end(entry.target.path, "Skipped", entry.reason, entry.message)
            case "blocked" if entry.live_uid:
                # What is live can still be leant on by others.
                self._tally.end(entry.target.path, "Failed", entry.reason, entry.message)
            case "blocked":
                self._fail(entry.target, entry.reason, entry.message)
            case "unchanged":
                self._tally.end(entry.target.path, "Succeeded", entry.reason)
            case _:
                self._write(entry)

    def _write(self, entry: Entry) -> None:
        missing = next((need for need in entry.needs if self._tally.obstacle_of(need)), None)
        if missing is not None:
            self._fail(entry.target, "NeedFailed", f"{missing}: {self._tally.obstacle_of(missing)}")
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
        self._tally.end(entry.target.path, "Succeeded", written.reason, written.message)

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
                self._tally.end(key.path, "Succeeded", written.reason, message)
            del self._pending[key]

    def _await_ready(self, entry: Entry) -> None:
        """Wait for one workload, because others can be written only then; they are tried in any case."""
        problem = wait_for(
            lambda: self._problem(entry.target, workload_problem),
            timeout_s=self.bounds.ready_s,
            stop=self.stop,
            what=str(entry.target),
            hear=self._waits,
        )
        if problem and not self.stop.is_set():
            log.warning("went on without it", object=str(entry.target), problem=problem)

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

        problem = wait_for(
            check,
            timeout_s=self.bounds.definitions_s,
            stop=self.stop,
            what=str(entry.target),
            hear=self._waits,
        )
        if problem:
            self._fail(entry.target, "NotEstablished", problem)

    def _await_claim(self, entry: Entry) -> None:
        if self._binds_late(entry):
            return
        problem = wait_for(
            lambda: self._problem(entry.target, claim_problem),
            timeout_s=self.bounds.claims_s,
            stop=self.stop,
            what=str(entry.target),
            hear=self._waits,
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
            and not self._tally.failure_of(entry.target)
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
            hear=self._waits,
        )
        if self.stop.is_set():
            return
        for entry in workloads:
            problem = problems.get(entry.target)
            if problem:
                cause = cause_of(entry.target, cluster=self.cluster, kind_of=self._kind)
                self._fail(entry.target, NOT_READY, f"{problem}; {cause}" if cause else problem)

    def _release_claims(self) -> None:
        """Delete workloads that are to be made again and hold claims which are filled."""
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

    def _fill(self, content: ContentEntry) -> None:
        if not self._is_due(content):
            return
        problem = wait_for(
            lambda: self._users_of(content.into),
            timeout_s=self._letting_go_s(),
            stop=self.stop,
            what=str(content.into),
            hear=self._waits,
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

    def _load(self, into: ObjectKey, group: list[ContentEntry]) -> None:
        if not group:
            return
        problem = wait_for(
            lambda: self._problem(into, workload_problem),
            timeout_s=self.bounds.ready_s,
            stop=self.stop,
            what=str(into),
            hear=self._waits,
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
        failure = self._tally.failure_of(content.into)
        if content.name in self.done:
            self._tally.end(content.name, "Succeeded", "LoadedBefore")
        elif content.verdict == "skip":
            self._tally.end(content.name, "Skipped", content.reason, content.message)
        elif content.verdict == "blocked":
            self._tally.end(content.name, "Failed", content.reason, content.message)
        elif failure:
            self._fail_content(content, "NeedFailed", f"{content.into}: {failure}")
        else:
            return True
        return False

    def _loaded(self, content: ContentEntry, how: str) -> None:
        self.on_done(content.name)
        self._tally.end(content.name, "Succeeded", how)

    def _fail_content(self, content: ContentEntry, reason: str, message: str) -> None:
        self._tally.fail_content(content.name, content.into, reason, message)

    def _fail(self, key: ObjectKey, reason: str, message: str) -> None:
        self._tally.fail(key, reason, message)
