"""A short-lived pod that mounts one claim, so that its files can be read or written by exec streams.

It has no account token, no privileges beyond those that reading and owning files needs, sleeps, and
is removed whatever happens; removal waits until it is gone, because a claim may be mounted once only. Where the
claim is mounted already the pod goes to the same node. Where only pods of the `restricted` standard are admitted
it runs as the one user who owns all files, if there is one. Its name comes from the claim: what an earlier
process left behind is found by name (and by label, for `reconciler doctor`) and replaced. A process tells
its own pods from such leftovers by a word that it draws at its start; `activeDeadlineSeconds` ends what nobody removes.

Waiting is by the machine's own clock, because pods start in real time whatever clock the daemon runs on.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from reconciler.clock import Clock, format_instant
from reconciler.cluster.port import (
    AlreadyExistsError,
    Cluster,
    Discovery,
    ExecTarget,
    ForbiddenError,
    NotFoundError,
    NotServedError,
    ResourceType,
    UnavailableError,
)
from reconciler.errors import ReconcilerError, TerminalError, TransientError
from reconciler.objects import (
    FIELD_MANAGER,
    LABEL_EXCLUDE,
    LABEL_MANAGED,
    Manifest,
    annotations_of,
    field,
    name_of,
    namespace_of,
    uid_of,
)

MOUNT_PATH = "/reconciler/claim"
CONTAINER = "mount"
LABEL_PURPOSE = "backup.reconciler.dev/purpose"
ACTIVE_DEADLINE_S = 24 * 3600
_SELECTOR = f"{LABEL_MANAGED}={FIELD_MANAGER},{LABEL_PURPOSE}=claim"
_ANNOTATION_PROCESS = "backup.reconciler.dev/process"
_ANNOTATION_STARTED = "backup.reconciler.dev/started-at"
_PROCESS = secrets.token_hex(8)
_SLEEP = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"
_POLL_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_REMOVAL_S = 60.0
_NOT_ADMITTED = "violates PodSecurity"
_NEVER_STARTS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
_NO_PROGRAM = "executable file not found"
_log = structlog.get_logger(__name__)


class ClaimPodError(TransientError):
    """The pod did not become ready, or did not go away, in time."""


class ClaimPodRefusedError(TerminalError):
    """The pod can never run as it is, or another one of this process holds the claim."""


@contextmanager
def claim_pod(
    cluster: Cluster,
    discovery: Discovery,
    *,
    namespace: str,
    claim: str,
    image: str,
    clock: Clock,
    timeout_s: float,
    read_only: bool = False,
    owner: Callable[[], tuple[int, int] | None] = lambda: None,
) -> Iterator[ExecTarget]:
    """Yield where commands can run with the claim at `MOUNT_PATH`; remove the pod on the way out.

    Args:
        cluster: where the claim is.
        discovery: what it serves.
        namespace: of the claim, and of the pod.
        claim: a claim with a file system; a raw block device is refused.
        image: has sh, sleep, tee, dd, sha256sum, and tar; its default user must be able to read the files.
        clock: dates the pod.
        timeout_s: how long to wait until it is Ready.
        read_only: mount it so.
        owner: user and group of all its files, None when they have several or it is not known; asked only when
            the namespace refuses a pod that may own files to others.

    Raises:
        NotFoundError: no such claim.
        ClaimPodError: not Ready in time, with the reason; or not gone in time.
        ClaimPodRefusedError: it can never become Ready, or the namespace admits no pod that can do the work.
    """
    pods = _type(discovery, "Pod")
    _check_claim(cluster, discovery, namespace=namespace, claim=claim)
    name = f"reconciler-claim-{hashlib.sha256(claim.encode()).hexdigest()[:16]}"
    node = _node_of(cluster, pods, namespace=namespace, claim=claim)
    manifest = _manifest(name, namespace, claim=claim, image=image, node=node, read_only=read_only)
    manifest["metadata"]["annotations"] = {
        _ANNOTATION_PROCESS: _PROCESS,
        _ANNOTATION_STARTED: format_instant(clock.now()),
    }
    try:
        uid = _create(cluster, pods, manifest)
    except ForbiddenError as error:
        if _NOT_ADMITTED not in error.message:
            raise
        _restrict(manifest, owner())
        uid = _create(cluster, pods, manifest)
    try:
        _await_ready(cluster, pods, manifest, uid=uid, timeout_s=timeout_s)
        yield ExecTarget(namespace=namespace, pod=name, container=CONTAINER)
    except BaseException:
        try:
            _remove(cluster, pods, namespace=namespace, name=name, uid=uid)
        except ReconcilerError as error:
            _log.warning("claim pod left behind", namespace=namespace, pod=name, why=error.message)
        raise
    _remove(cluster, pods, namespace=namespace, name=name, uid=uid)


def list_leftover_pods(cluster: Cluster, discovery: Discovery, namespace: str = "") -> list[str]:
    """Name the claim pods (`namespace/name`) that another process made and did not remove."""
    return [
        f"{namespace_of(pod)}/{name_of(pod)}" for pod in _leftovers(cluster, discovery, namespace)
    ]


def remove_leftover_pods(cluster: Cluster, discovery: Discovery, namespace: str) -> list[str]:
    """Remove what `list_leftover_pods` finds; only for the process that holds the leader's Lease."""
    removed = []
    for pod in _leftovers(cluster, discovery, namespace):
        place, name = namespace_of(pod), name_of(pod)
        _remove(cluster, _type(discovery, "Pod"), namespace=place, name=name, uid=uid_of(pod))
        removed.append(f"{place}/{name}")
    return removed


def _leftovers(cluster: Cluster, discovery: Discovery, namespace: str) -> list[Manifest]:
    pages = cluster.pages(_type(discovery, "Pod"), namespace=namespace, label_selector=_SELECTOR)
    return [
        pod
        for page in pages
        for pod in page.items
        if annotations_of(pod).get(_ANNOTATION_PROCESS) != _PROCESS
    ]


def _type(discovery: Discovery, kind: str) -> ResourceType:
    found = discovery.find("", kind)
    if found is None:
        raise NotServedError(f"mount a claim: the server serves no {kind}")
    return found


def _check_claim(cluster: Cluster, discovery: Discovery, *, namespace: str, claim: str) -> None:
    claims = _type(discovery, "PersistentVolumeClaim")
    found = cluster.get(claims, claim, namespace=namespace)
    if found is None:
        raise NotFoundError(f"mount claim {namespace}/{claim}: there is none")
    if field(found, "spec", "volumeMode") == "Block":
        raise NotServedError(
            f"mount claim {namespace}/{claim}: not supported by this version: raw block devices"
        )


def _node_of(cluster: Cluster, pods: ResourceType, *, namespace: str, claim: str) -> str:
    """The node of a running pod that mounts the claim: a ReadWriteOnce volume can be nowhere else."""
    for page in cluster.pages(pods, namespace=namespace):
        for pod in page.items:
            volumes = field(pod, "spec", "volumes", default=[])
            names = [field(v, "persistentVolumeClaim", "claimName") for v in volumes]
            if claim in names and field(pod, "status", "phase") == "Running":
                return str(field(pod, "spec", "nodeName", default=""))
    return ""


def _manifest(
    name: str, namespace: str, *, claim: str, image: str, node: str, read_only: bool
) -> Manifest:
    spec: Manifest = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": ACTIVE_DEADLINE_S,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": ["sh", "-c", _SLEEP],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "privileged": False,
                    "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "volumeMounts": [{"name": "claim", "mountPath": MOUNT_PATH, "readOnly": read_only}],
            }
        ],
        "volumes": [
            {
                "name": "claim",
                "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only},
            }
        ],
    }
    if node:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        required = {"nodeSelectorTerms": [term]}
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
        }
        spec["tolerations"] = [{"operator": "Exists"}]
    labels = {LABEL_MANAGED: FIELD_MANAGER, LABEL_PURPOSE: "claim", LABEL_EXCLUDE: "true"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": spec,
    }


def _restrict(manifest: Manifest, owner: tuple[int, int] | None) -> None:
    """Make the pod comply with the `restricted` standard: no capabilities, and a user that is not root."""
    if owner is None or owner[0] == 0:
        raise ClaimPodRefusedError(
            f"create pod {namespace_of(manifest)}/{name_of(manifest)}: the namespace admits only pods of the "
            "restricted standard, and root or more than one user owns the files",
            hint="label the namespace pod-security.kubernetes.io/enforce=baseline while this runs",
            reason="RestrictedNamespace",
        )
    user, group = owner
    spec = manifest["spec"]
    who = {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": group, "fsGroup": group}
    spec["securityContext"] = who
    spec["containers"][0]["securityContext"]["capabilities"] = {"drop": ["ALL"]}


def _create(cluster: Cluster, pods: ResourceType, manifest: Manifest) -> str:
    namespace, name = namespace_of(manifest), name_of(manifest)
    try:
        return uid_of(cluster.create(pods, manifest, manager=FIELD_MANAGER))
    except AlreadyExistsError:
        _replace_leftover(cluster, pods, namespace=namespace, name=name)
    except UnavailableError:
        # The answer was lost, the pod may exist: only this process has written this word into it.
        found = cluster.get(pods, name, namespace=namespace)
        if found is not None and annotations_of(found).get(_ANNOTATION_PROCESS) == _PROCESS:
            return uid_of(found)
        raise
    return uid_of(cluster.create(pods, manifest, manager=FIELD_MANAGER))


def _replace_leftover(cluster: Cluster, pods: ResourceType, *, namespace: str, name: str) -> None:
    found = cluster.get(pods, name, namespace=namespace)
    if found is None:
        return
    owner = annotations_of(found).get(_ANNOTATION_PROCESS)
    is_ending = field(found, "metadata", "deletionTimestamp") is not None
    if owner is None or (owner == _PROCESS and not is_ending):
        raise ClaimPodRefusedError(
            f"create pod {namespace}/{name}: "
            + (
                "this process uses the claim already"
                if owner
                else "somebody else's pod has its name"
            )
        )
    _remove(cluster, pods, namespace=namespace, name=name, uid=uid_of(found))


def _remove(cluster: Cluster, pods: ResourceType, *, namespace: str, name: str, uid: str) -> None:
    """Delete the pod and wait until it is gone."""
    ends_at = time.monotonic() + _REMOVAL_S
    for nap_s in _naps(ends_at):
        try:
            cluster.delete(pods, name, namespace=namespace, uid=uid, grace_s=1)
            break
        except NotFoundError:
            return
        except UnavailableError:
            threading.Event().wait(nap_s)
    for nap_s in _naps(ends_at):
        found = cluster.get(pods, name, namespace=namespace)
        if found is None or uid_of(found) != uid:
            return
        threading.Event().wait(nap_s)
    raise ClaimPodError(
        f"remove pod {namespace}/{name}: it is still there after {_REMOVAL_S:g} s",
        hint=f"see `kubectl describe pod -n {namespace} {name}`",
    )


def _await_ready(
    cluster: Cluster, pods: ResourceType, manifest: Manifest, *, uid: str, timeout_s: float
) -> None:
    namespace, name = namespace_of(manifest), name_of(manifest)
    subject = f"start pod {namespace}/{name}"
    why = "it was never seen"
    for nap_s in _naps(time.monotonic() + timeout_s):
        found = cluster.get(pods, name, namespace=namespace)
        if found is None or uid_of(found) != uid:
            raise ClaimPodError(f"{subject}: somebody removed it")
        conditions = {c["type"]: c for c in field(found, "status", "conditions", default=[])}
        if (conditions.get("Ready") or {}).get("status") == "True":
            return
        why = _why_waiting(found, conditions)
        if field(found, "status", "phase") in ("Failed", "Succeeded") or why in _NEVER_STARTS:
            raise _refused(subject, found, why)
        threading.Event().wait(nap_s)
    raise ClaimPodError(
        f"{subject}: not ready after {timeout_s:g} s: {why}",
        hint=f"see `kubectl describe pod -n {namespace} {name}`",
    )


def _refused(subject: str, pod: Manifest, why: str) -> ClaimPodRefusedError:
    """The error for a pod that can never run; an image without a shell is called that."""
    states = field(pod, "status", "containerStatuses", default=[])
    said = [str(field(each, "state", "terminated", "message", default="")) for each in states]
    if any(_NO_PROGRAM in text for text in said):
        return ClaimPodRefusedError(
            f"{subject}: {why}: its image has no sh",
            hint="name a helper image that has sh, sleep, tee, dd, sha256sum and tar",
            reason="NoShell",
        )
    return ClaimPodRefusedError(f"{subject}: {why}")


def _why_waiting(pod: Manifest, conditions: dict[str, Manifest]) -> str:
    for status in field(pod, "status", "containerStatuses", default=[]):
        for state in ("waiting", "terminated"):
            if reason := field(status, "state", state, "reason"):
                return str(reason)
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return str(scheduled.get("message") or scheduled.get("reason"))[:200]
    reason = field(pod, "status", "reason")
    return str(reason or f"phase {field(pod, 'status', 'phase', default='unknown')}")


def _naps(ends_at: float) -> Iterator[float]:
    """Spans to wait between looks, growing to a second, until `ends_at`; one look at least."""
    nap_s = iter(_POLL_S)
    while True:
        yield (longest := next(nap_s, _POLL_S[-1]))
        if time.monotonic() + longest > ends_at:
            return
