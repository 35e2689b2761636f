"""Movers: a Job in our namespace mounts a claim there, and moves its contents into locations or out of one.

The Job's pod has no token and no Secret. It waits for its order, which is handed over through the stdin of a command in
it and kept in memory; a pod that takes the place of one that died gets it again. Where it stands is read from a file in
it, what came of it from its termination message, so that nothing is lost when whoever asked was away.

How many run at once is bounded here for the cluster and for each storage class. For each node the scheduler holds the
bound: every mover has one of N places, and no two of the same place may be on one node.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from reconciler.blueprint import streams
from reconciler.blueprint.stop import check_stop
from reconciler.cluster.port import Cluster, Discovery, ExecTarget, NotFoundError, ResourceType
from reconciler.errors import ReconcilerError, TerminalError, TransientError
from reconciler.mover.order import Order, Status, decode_status, encode
from reconciler.objects import FIELD_MANAGER, Manifest, name_of, uid_of
from reconciler.objects import field as field_of
from reconciler.volumes.ours import Claim, kind_of, labels, metadata, new_name, remove

FILES_PATH = "/volume"
DEVICE_PATH = "/dev/volume"
LABEL_PLACE = "backup.reconciler.dev/mover-place"
_WORK = "/run/mover"
_RESULT = "/dev/termination-log"
_CONTAINER = "mover"
_TRIES = 3
_HAND_OVER = f"umask 077; cat > {_WORK}/.order && mv {_WORK}/.order {_WORK}/order"
_STARTS_S = 600.0
_POLL_S = 0.5
_ASK_EVERY_S = 2.0
_EXIT_FAILED = 6
_ENDS_S = 3
log = structlog.get_logger(__name__)

Told = Callable[[Status], None]


class MoverFailedError(TransientError):
    """A mover did not come to an end: its pod could not run, or died more often than it was started again."""


class MoverNotStartedError(TransientError):
    """A mover's pod does not run, with the reason that the cluster gives."""


@dataclass(frozen=True)
class MoverSettings:
    """How movers run."""

    image: str
    namespace: str
    per_cluster: int = 8
    per_node: int = 2
    per_storage_class: Mapping[str, int] = field(default_factory=dict)
    service_account: str = ""
    pull_secrets: tuple[str, ...] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    time_limit: timedelta = timedelta(hours=24)


@dataclass(frozen=True)
class Mount:
    """A claim in our namespace, and how a mover mounts it."""

    claim: Claim
    is_device: bool = False
    read_only: bool = False
    node: str = ""
    """Only there; anywhere that the claim allows when empty."""
    storage_class: str = ""
    stands_for: Claim | None = None
    """The application's claim that the work is for."""


class Movers:
    """Runs movers, a bounded number at a time. Safe to share between threads."""

    def __init__(self, cluster: Cluster, discovery: Discovery, settings: MoverSettings) -> None:
        self._cluster = cluster
        self._discovery = discovery
        self.settings = settings
        self._all = threading.BoundedSemaphore(settings.per_cluster)
        self._classes = {
            name: threading.BoundedSemaphore(count)
            for name, count in settings.per_storage_class.items()
        }
        self._lock = threading.Lock()
        self._places: Counter[int] = Counter(dict.fromkeys(range(settings.per_node), 0))

    def run(
        self,
        order: Order,
        mount: Mount,
        *,
        stop: threading.Event | None,
        told: Told = lambda _: None,
    ) -> Status:
        """Carry an order out beside a claim; return how it ended.

        Raises:
            MoverFailedError: no mover came to its end.
            StoppedError: `stop` was set.
            ReconcilerError: the API server refuses the Job.
        """
        with ExitStack() as bounds:
            bounds.enter_context(_turn(self._all, stop))
            if mount.storage_class in self._classes:
                bounds.enter_context(_turn(self._classes[mount.storage_class], stop))
            place = bounds.enter_context(self._place())
            return self._run(order, mount, place, stop=stop, told=told)

    def _run(
        self, order: Order, mount: Mount, place: int, *, stop: threading.Event | None, told: Told
    ) -> Status:
        jobs = kind_of(self._discovery, "batch", "Job")
        manifest = job_of(mount, place, self.settings)
        name = name_of(manifest)
        self._cluster.create(jobs, manifest, manager=FIELD_MANAGER)
        try:
            return _Watched(
                self._cluster, self._discovery, self.settings, name=name, order=order
            ).follow(stop=stop, told=told)
        finally:
            try:
                self._remove(jobs, name)
            except ReconcilerError as error:
                log.warning("left behind", kind="Job", name=name, why=error.message)

    def _remove(self, jobs: ResourceType, name: str) -> None:
        """Delete a Job and wait until its pods are gone: a claim that is mounted cannot go."""
        namespace = self.settings.namespace
        remove(self._cluster, jobs, name, namespace=namespace, propagation="Background")
        pods = kind_of(self._discovery, "", "Pod")
        for pod in _pods_of(self._cluster, pods, namespace=namespace, job=name):
            remove(self._cluster, pods, name_of(pod), namespace=namespace)

    @contextmanager
    def _place(self) -> Iterator[int]:
        with self._lock:
            place = min(self._places, key=lambda one: (self._places[one], one))
            self._places[place] += 1
        try:
            yield place
        finally:
            with self._lock:
                self._places[place] -= 1


@contextmanager
def _turn(bound: threading.BoundedSemaphore, stop: threading.Event | None) -> Iterator[None]:
    while not bound.acquire(timeout=_POLL_S):
        check_stop(stop)
    try:
        yield
    finally:
        bound.release()


class _Watched:
    """One Job, from its first pod to its end."""

    def __init__(
        self,
        cluster: Cluster,
        discovery: Discovery,
        settings: MoverSettings,
        *,
        name: str,
        order: Order,
    ) -> None:
        self._cluster = cluster
        self._jobs = kind_of(discovery, "batch", "Job")
        self._pods = kind_of(discovery, "", "Pod")
        self._settings = settings
        self._name = name
        self._order = order
        self._handed: set[str] = set()
        self._idle_since = time.monotonic()
        self._asked_at = 0.0

    def follow(self, *, stop: threading.Event | None, told: Told) -> Status:
        """Hand the order to each pod that comes, and wait for one to end."""
        stop = stop or threading.Event()
        why = "it was never seen"
        while True:
            check_stop(stop)
            try:
                ended, why = self._look(told, stop)
            except TransientError as error:
                ended, why = None, error.message
            if ended is not None:
                return ended
            if not self._handed and time.monotonic() - self._idle_since > _STARTS_S:
                raise MoverNotStartedError(
                    f"start mover {self._settings.namespace}/{self._name}: not running after {_STARTS_S:g} s: {why}",
                    hint=f"see `kubectl describe pod -n {self._settings.namespace} -l job-name={self._name}`",
                )
            stop.wait(_POLL_S)

    def _look(self, told: Told, stop: threading.Event) -> tuple[Status | None, str]:
        """What came of it, if anything, and what it waits for."""
        namespace = self._settings.namespace
        job = self._cluster.get(self._jobs, self._name, namespace=namespace)
        pods = list(_pods_of(self._cluster, self._pods, namespace=namespace, job=self._name))
        for pod in pods:
            if (status := _result_of(pod)) is not None and status.phase in ("done", "failed"):
                return status, ""
        if job is None:
            raise MoverFailedError(f"run mover {namespace}/{self._name}: somebody removed its Job")
        for condition in field_of(job, "status", "conditions", default=[]):
            if condition.get("type") == "Failed" and condition.get("status") == "True":
                raise MoverFailedError(
                    f"run mover {namespace}/{self._name}: {condition.get('reason')}: {condition.get('message', '')}"[
                        :256
                    ],
                    hint="is its memory limit too low, or its node gone?",
                )
        running = [pod for pod in pods if field_of(pod, "status", "phase") == "Running"]
        for pod in running:
            self._attend(pod, told, stop)
        why = next((_why(pod) for pod in pods), "no pod was made")
        return None, why

    def _attend(self, pod: Manifest, told: Told, stop: threading.Event) -> None:
        target = ExecTarget(self._settings.namespace, name_of(pod), _CONTAINER)
        if uid_of(pod) not in self._handed:
            streams.push(
                self._cluster,
                target,
                ["sh", "-c", _HAND_OVER],
                iter([encode(self._order)]),
                timeout=timedelta(seconds=60),
                stop=stop,
            )
            self._handed.add(uid_of(pod))
        elif time.monotonic() - self._asked_at >= _ASK_EVERY_S:
            self._asked_at = time.monotonic()
            try:
                said = streams.run(
                    self._cluster,
                    target,
                    ["cat", f"{_WORK}/status"],
                    timeout=timedelta(seconds=20),
                    stop=stop,
                )
                told(decode_status(said))
            except (ReconcilerError, ValueError) as error:
                # It may have ended in between; its end is read elsewhere.
                log.debug("mover did not say where it stands", name=self._name, why=str(error))


def _pods_of(
    cluster: Cluster, pods: ResourceType, *, namespace: str, job: str
) -> Iterator[Manifest]:
    try:
        for page in cluster.pages(pods, namespace=namespace, label_selector=f"job-name={job}"):
            yield from page.items
    except NotFoundError:
        return


def _result_of(pod: Manifest) -> Status | None:
    """What a container said when it ended, if it did."""
    for status in field_of(pod, "status", "containerStatuses", default=[]):
        message = field_of(status, "state", "terminated", "message")
        if status.get("name") == _CONTAINER and message:
            try:
                return decode_status(str(message).encode())
            except ValueError:
                return None
    return None


def _why(pod: Manifest) -> str:
    for status in field_of(pod, "status", "containerStatuses", default=[]):
        for state in ("waiting", "terminated"):
            if reason := field_of(status, "state", state, "reason"):
                return str(reason)
    for condition in field_of(pod, "status", "conditions", default=[]):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason"))[:200]
    return f"phase {field_of(pod, 'status', 'phase', default='unknown')}"


def judged(status: Status) -> None:
    """Raise what made a mover fail as a whole.

    Raises:
        TransientError, TerminalError: with the mover's reason.
    """
    fault = next(iter(status.faults.values()), None)
    if status.phase == "done" or fault is None:
        return
    family: type[ReconcilerError] = TransientError if fault.is_transient else TerminalError
    raise family(fault.message, reason=fault.reason)


def job_of(mount: Mount, place: int, settings: MoverSettings) -> Manifest:
    """The Job of one mover."""
    claim = mount.stands_for or mount.claim
    name = new_name("mover", claim)
    described = metadata("mover", claim, name=name, namespace=settings.namespace)
    pod_labels = {**labels("mover"), LABEL_PLACE: str(place), "sidecar.istio.io/inject": "false"}
    ignored: Manifest = {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    failed = {
        "action": "FailJob",
        "onExitCodes": {"containerName": _CONTAINER, "operator": "In", "values": [_EXIT_FAILED]},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": described,
        "spec": {
            "backoffLimit": _TRIES,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": int(settings.time_limit.total_seconds()),
            "podFailurePolicy": {"rules": [failed, ignored]},
            "template": {
                "metadata": {
                    "labels": pod_labels,
                    "annotations": {
                        "sidecar.istio.io/inject": "false",
                        "linkerd.io/inject": "disabled",
                    },
                },
                "spec": _pod_spec(mount, place, settings),
            },
        },
    }


def _pod_spec(mount: Mount, place: int, settings: MoverSettings) -> Manifest:
    """The pod: no token, three capabilities, nothing to write to but memory and the claim. Never with fsGroup."""
    apart = {
        "labelSelector": {"matchLabels": {**labels("mover"), LABEL_PLACE: str(place)}},
        "topologyKey": "kubernetes.io/hostname",
    }
    affinity: Manifest = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    }
    if mount.node:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [mount.node]}]}
        affinity["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
        }
    spec: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _ENDS_S,
        "automountServiceAccountToken": bool(settings.service_account),
        "enableServiceLinks": False,
        "affinity": affinity,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(mount, settings)],
        "volumes": [
            {
                "name": "volume",
                # Read-only in the container alone: a file system may have to mend its journal when it is mounted.
                "persistentVolumeClaim": {"claimName": mount.claim.name},
            },
            _memory("work"),
            _memory("tmp"),
        ],
    }
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    if settings.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    return spec


def _memory(name: str) -> Manifest:
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}


def _container(mount: Mount, settings: MoverSettings) -> Manifest:
    added = (
        ["DAC_OVERRIDE"]
        if mount.read_only
        else ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
    )
    container: Manifest = {
        "name": _CONTAINER,
        "image": settings.image,
        "command": ["python3", "-m", "reconciler.mover", _WORK, _RESULT],
        "terminationMessagePath": _RESULT,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": added},
        },
        "volumeMounts": [
            {"name": "work", "mountPath": _WORK},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the container
        ],
    }
    if settings.resources:
        container["resources"] = dict(settings.resources)
    if mount.is_device:
        container["volumeDevices"] = [{"name": "volume", "devicePath": DEVICE_PATH}]
    else:
        container["volumeMounts"].append(
            {"name": "volume", "mountPath": FILES_PATH, "readOnly": mount.read_only}
        )
    return container
