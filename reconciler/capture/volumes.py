"""Volumes as file trees: what to do with each claim, and how its files are read.

Files are read by `tar` inside a running pod that mounts the claim, at the mount that shows all of it; where no such
pod has a shell and tar, by a short-lived pod that mounts nothing else. The archive is parsed while it arrives. After
the archive the far side says how tar ended: files that changed while they were read are noted, files that could not
be read make the volume `Failed`, and what was read of it is kept all the same. Nothing freezes the files: such a tree
is as of no single instant, unless no pod had the claim mounted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal

from reconciler.blueprint import streams
from reconciler.blueprint.pods import is_ready
from reconciler.blueprint.stop import StoppedError, check_stop
from reconciler.capture.copies import Copies
from reconciler.capture.observed import Observed
from reconciler.capture.services import TRIES, Reach, Service, failed
from reconciler.capture.tarstream import ArchiveError, TarReader
from reconciler.cel import CelError, compile_expression
from reconciler.clock import format_instant
from reconciler.cluster import claimpod
from reconciler.cluster.port import ExecTarget, NotFoundError, NotServedError
from reconciler.errors import ReconcilerError, TransientError
from reconciler.kinds.policy import VolumeRule
from reconciler.kinds.record import Outcome
from reconciler.objects import (
    LABEL_MANAGED,
    Manifest,
    annotations_of,
    field,
    labels_of,
    metadata_of,
    name_of,
)
from reconciler.store.port import Content, Root, Session
from reconciler.volumes.ours import Claim

READ_TIMEOUT = timedelta(hours=12)
POD_TIMEOUT_S = 300

# The far side keeps a shell alive, sends the archive to the real stdout and says last how tar ended. What tar
# complains about is only counted here: its last lines come along, and file names in them go no further.
SCRIPT = r"""
for tool in tar tail; do
  command -v $tool >/dev/null 2>&1 || { echo "this image has no $tool" >&2; exit 127; }
done
exec 3>&1
kind=plain flags=
case $(tar --version 2>/dev/null) in
  *GNU*)
    kind=gnu
    flags="--format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --xattrs --one-file-system"
    ;;
esac
# A small busybox has no --exclude; what it sends of lost+found the reader leaves out.
case $(tar --help 2>&1) in *--exclude*) flags="$flags --exclude=./lost+found" ;; esac
notes=$( { LC_ALL=C tar -C "$1" $flags -cf - . >&3; echo "exit=$?" >&2; } 2>&1 | tail -c 4096 )
printf 'reconciler-tar %s\n%s\n' "$kind" "$notes"
"""

_TRAILER = re.compile(rb"\Areconciler-tar (gnu|plain)\n(.*?)\n?exit=(\d+)\n\Z", re.DOTALL)
_SUFFIXES = {
    "": 1,
    "m": Decimal("0.001"),
    **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]{0,2})")


@dataclass(frozen=True)
class Mount:
    """Where a running container sees all of a claim."""

    target: ExecTarget
    path: str
    is_ready: bool


@dataclass(frozen=True)
class Mounts:
    """Which pods of a namespace use which claims, read when contents are due."""

    whole: dict[str, list[Mount]]
    used: frozenset[str]
    """Claims that a pod uses that has not ended, whether its files can be read there or not."""


def quantity(text: str) -> int:
    """Read a Kubernetes quantity such as `10Gi` as a whole number; 0 when it is none."""
    match = _QUANTITY.fullmatch(text)
    if not match or match.group(2) not in _SUFFIXES:
        return 0
    try:
        return int(Decimal(match.group(1)) * _SUFFIXES[match.group(2)])
    except InvalidOperation:
        return 0


Action = Literal["auto", "snapshot", "files", "skip"]


@dataclass(frozen=True)
class Wanted:
    """A claim whose contents belong into the point, and how the policy wants them read."""

    claim: Observed
    action: Action


class VolumeRules:
    """A policy's rules for volumes, compiled once. One that fails on a volume does not match it."""

    def __init__(self, rules: Sequence[VolumeRule]) -> None:
        self._rules = [(compile_expression(r.where, variables=("volume",)), r) for r in rules]

    def action(self, claim: Manifest, notes: list[Outcome]) -> Action:
        """What the first rule that matches a claim says; expressions that fail go to `notes`."""
        for index, (program, rule) in enumerate(self._rules):
            try:
                if program.test({"volume": describe(claim)}):
                    return rule.action
            except CelError as error:
                notes.append(
                    Outcome(
                        item=f"policy/capture.volumes[{index}]",
                        result="Skipped",
                        reason="RuleFailed",
                        message=f"on claim {name_of(claim)}: {error.message}"[:256],
                    )
                )
        return "auto"


def describe(claim: Manifest) -> Manifest:
    """What volume rules see of a claim."""
    spec = claim.get("spec") or {}
    requested = field(spec, "resources", "requests", "storage", default="0")
    return {
        "name": name_of(claim),
        "namespace": metadata_of(claim).get("namespace", ""),
        "storageClass": spec.get("storageClassName") or "",
        "capacityBytes": quantity(str(requested)),
        "accessModes": spec.get("accessModes") or [],
        "labels": metadata_of(claim).get("labels") or {},
        "annotations": annotations_of(claim),
    }


def sort_claims(
    claims: Iterable[Observed], *, rules: VolumeRules, services: Sequence[Service]
) -> tuple[list[Wanted], list[Outcome]]:
    """Decide which claims are read; the others' outcomes say why not."""
    wanted: list[Wanted] = []
    outcomes: list[Outcome] = []
    for claim in claims:
        manifest, item = claim.manifest(), f"volume/{claim.key.name}"
        spec = manifest.get("spec") or {}
        service = next((s for s in services if s.covers(claim.key.name)), None)
        action = rules.action(manifest, outcomes)
        if action == "skip":
            outcomes.append(Outcome(item=item, result="Skipped", reason="SkippedByPolicy"))
        elif service is not None:
            name = service.blueprint.metadata.name
            message = f"artifacts of blueprint {name} stand for it"
            outcomes.append(
                Outcome(item=item, result="Skipped", reason="CoveredByBlueprint", message=message)
            )
        elif claim.state == "Lost":
            outcomes.append(
                _fail(item, "VolumeLost", "the volume that the claim is bound to is gone")
            )
        elif claim.state != "Bound" and not spec.get("volumeName"):
            outcomes.append(Outcome(item=item, result="Skipped", reason="NotBound"))
        elif spec.get("volumeMode") == "Block":
            message = "block volumes are not supported by this version"
            outcomes.append(_fail(item, "NotSupported", message))
        else:
            wanted.append(Wanted(claim, action))
    return wanted, outcomes


def is_device(claim: Observed) -> bool:
    """Whether a claim is a raw block device."""
    return bool(field(claim.manifest(), "spec", "volumeMode") == "Block")


def _fail(item: str, reason: str, message: str) -> Outcome:
    return Outcome(item=item, result="Failed", reason=reason, message=message)


def find_mounts(reach: Reach, namespace: str) -> Mounts:
    """Look at the pods that run now, but for our own: one that a dead process left behind is replaced, not used."""
    kind = reach.discovery.find("", "Pod")
    if kind is None:
        raise NotServedError("find pods: the server does not serve them")
    whole: dict[str, list[Mount]] = {}
    used: set[str] = set()
    for page in reach.cluster.pages(kind, namespace=namespace):
        for pod in page.items:
            phase = field(pod, "status", "phase")
            if phase in ("Succeeded", "Failed") or LABEL_MANAGED in labels_of(pod):
                continue
            claims = _claims_of(pod)
            used.update(claims.values())
            if phase == "Running" and not metadata_of(pod).get("deletionTimestamp"):
                for claim, mount in _mounts(pod, claims):
                    whole.setdefault(claim, []).append(mount)
    for mounts in whole.values():
        mounts.sort(key=lambda m: (not m.is_ready, m.target.pod, m.target.container))
    return Mounts(whole, frozenset(used))


def _claims_of(pod: Manifest) -> dict[str, str]:
    """Volume name → claim name."""
    claims = {}
    for volume in field(pod, "spec", "volumes", default=()):
        if claim := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            claims[volume["name"]] = claim
        elif "ephemeral" in volume:
            claims[volume["name"]] = f"{name_of(pod)}-{volume['name']}"
    return claims


def _mounts(pod: Manifest, claims: dict[str, str]) -> Iterator[tuple[str, Mount]]:
    for container in field(pod, "spec", "containers", default=()):
        target = ExecTarget(
            namespace=metadata_of(pod).get("namespace", ""),
            pod=name_of(pod),
            container=container.get("name", ""),
        )
        for mount in container.get("volumeMounts") or ():
            is_part = mount.get("subPath") or mount.get("subPathExpr")
            if mount.get("name") in claims and not is_part:
                yield claims[mount["name"]], Mount(target, mount["mountPath"], is_ready(pod))


def read_volume(claim: Observed, *, reach: Reach, mounts: Mounts, copies: Copies) -> list[Outcome]:
    """Read a claim's files into every location; tried again once when the stream was cut.

    Raises:
        StoppedError: `stop` was set.
        ReconcilerError: the last location failed.
    """
    item = f"volume/{claim.key.name}"
    for attempt in range(1, TRIES + 1):
        check_stop(reach.stop)
        try:
            if attempt > 1:
                # A pod that died is the usual cause; its successor, or none, is what there is now.
                mounts = find_mounts(reach, claim.key.namespace)
            with copies.all_or_nothing():
                return _read_anywhere(claim, reach=reach, mounts=mounts, copies=copies)
        except StoppedError:
            raise
        except streams.CommandStoppedError as error:
            raise StoppedError(error.message) from error
        except ReconcilerError as error:
            if not copies.live:
                raise
            if not isinstance(error, TransientError) or attempt == TRIES:
                return [failed(item, error)]
    raise AssertionError("the loop returns or raises")


def _read_anywhere(
    claim: Observed, *, reach: Reach, mounts: Mounts, copies: Copies
) -> list[Outcome]:
    """Try the pods that mount the claim, then a pod made for it."""
    for mount in mounts.whole.get(claim.key.name, ()):
        try:
            return _read(claim, mount, reach=reach, mounts=mounts, copies=copies)
        except (streams.NoShellError, streams.CommandFailedError, NotFoundError):
            continue  # this image has no shell or no tar, or the pod is gone; another one may do
    with _pod_for(claim, reach) as mount:
        return _read(claim, mount, reach=reach, mounts=mounts, copies=copies)


@contextmanager
def _pod_for(claim: Observed, reach: Reach) -> Iterator[Mount]:
    with claimpod.claim_pod(
        reach.cluster,
        reach.discovery,
        namespace=claim.key.namespace,
        claim=claim.key.name,
        image=reach.helper_image,
        clock=reach.clock,
        timeout_s=POD_TIMEOUT_S,
        read_only=True,
    ) as target:
        yield Mount(target, claimpod.MOUNT_PATH, is_ready=True)


def read_by_pod(
    claim: Observed, mine: Claim, *, reach: Reach, copies: Copies, consistent_at: str
) -> list[Outcome]:
    """Read a claim of ours that holds what another held at an instant, as an archive through this process."""
    with claimpod.claim_pod(
        reach.cluster,
        reach.discovery,
        namespace=mine.namespace,
        claim=mine.name,
        image=reach.helper_image,
        clock=reach.clock,
        timeout_s=POD_TIMEOUT_S,
        read_only=True,
    ) as target:
        mount = Mount(target, claimpod.MOUNT_PATH, is_ready=True)
        return _read(claim, mount, reach=reach, copies=copies, consistent_at=consistent_at)


def _read(
    claim: Observed,
    mount: Mount,
    *,
    reach: Reach,
    copies: Copies,
    mounts: Mounts | None = None,
    consistent_at: str = "",
) -> list[Outcome]:
    started = format_instant(reach.clock.now())
    readers: list[TarReader] = []

    def write(session: Session, pieces: Iterator[bytes]) -> Root:
        reader = TarReader(pieces)
        readers.append(reader)
        # The volume's own top directory belongs to whoever mounts it; trees hold what is in it.
        return session.put_tree(entry for entry in reader if entry.path != ".")

    command = ["sh", "-c", SCRIPT, "sh", mount.path]
    pieces = streams.pull(
        reach.cluster, mount.target, command, timeout=READ_TIMEOUT, stop=reach.stop
    )
    roots = copies.put(pieces, write)
    name = f"volume/{claim.key.name}"
    outcomes = _judge(name, next(r.trailer for r in readers if r.is_done))
    if mounts is not None and claim.key.name not in mounts.used:
        consistent_at = started
    for location, root in roots.items():
        copies.contents[location].append(Content(name=name, root=root, consistent_at=consistent_at))
    return outcomes


def _judge(item: str, trailer: bytes) -> list[Outcome]:
    """Read how tar ended.

    Raises:
        ArchiveError: it does not say.
    """
    match = _TRAILER.match(trailer)
    if not match:
        raise ArchiveError("read archive: it ended without saying how")
    kind, complaints, code = match.group(1), match.group(2), int(match.group(3))
    outcomes = []
    if sockets := complaints.count(b"socket ignored"):
        message = f"{sockets} sockets hold no contents"
        outcomes.append(
            Outcome(item=item, result="Skipped", reason="SocketsIgnored", message=message)
        )
    if code and (kind != b"gnu" or code > 1):
        message = f"tar could not read some files (exit code {code})"
        outcomes.append(_fail(item, "FilesUnreadable", message))
    elif code:
        message = "files changed while they were read"
        outcomes.append(
            Outcome(item=item, result="Skipped", reason="FilesChanged", message=message)
        )
    return outcomes
