"""Where each record lies on a ledger branch.

    restore-points/<cluster>/<namespace>/<application>/YYYY/MM/<slot>.yaml     live points only
    restores/<cluster>/<source>/<namespace>/<name>/<attempt>/{accepted,finished,watched}.yaml
    records/<cluster>/YYYY/MM/<instant>-<Kind>-<digest>.yaml                    all else

`_` stands for a whole namespace as an application, and for the platform as the namespace of a restore.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from reconciler.clock import format_slot
from reconciler.errors import UsageError
from reconciler.kinds.record import (
    AdoptionRecord,
    CaptureFailure,
    PruneRecord,
    Record,
    RestorePoint,
    RestoreRecord,
    RetirementRecord,
)

WHOLE = "_"
_PART = re.compile(r"(?!\.+$)(?!\.git$)[A-Za-z0-9_.-]{1,253}", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class RestoreKey:
    """One attempt of one Restore on a target cluster; `namespace` is empty for the platform's."""

    source: str
    namespace: str
    name: str
    attempt: int


def branch_of(cluster: str) -> str:
    """The branch of a cluster's records."""
    return f"restore-points/{_part(cluster)}"


def application_path(application: str) -> str:
    """`shop` → `shop/_`; `shop/web` stays."""
    namespace, _, name = application.partition("/")
    return f"{_part(namespace)}/{_part(name or WHOLE)}"


def points_folder(cluster: str) -> str:
    """The folder of a cluster's live points."""
    return f"restore-points/{_part(cluster)}"


def point_path(cluster: str, application: str, slot: str) -> str:
    """The file of a live point."""
    month = f"{slot[:4]}/{slot[4:6]}"
    return f"{points_folder(cluster)}/{application_path(application)}/{month}/{_part(slot)}.yaml"


def restores_folder(cluster: str) -> str:
    """The folder of the restores into a cluster."""
    return f"restores/{_part(cluster)}"


def attempts_folder(cluster: str, key: RestoreKey) -> str:
    """The folder of all attempts of a restore."""
    parts = (key.source, key.namespace or WHOLE, key.name)
    return "/".join([restores_folder(cluster), *map(_part, parts)])


def restore_path(cluster: str, key: RestoreKey, stage: str) -> str:
    """The file of one stage of a restore."""
    return f"{attempts_folder(cluster, key)}/{key.attempt}/{_part(stage)}.yaml"


def records_folder(cluster: str) -> str:
    """The folder of all other records."""
    return f"records/{_part(cluster)}"


def record_path(cluster: str, *, at: datetime, kind: str, digest: str) -> str:
    """The file of a record that is neither a point nor a restore."""
    name = f"{format_slot(at)}-{kind}-{digest[:12]}.yaml"
    return f"{records_folder(cluster)}/{at:%Y}/{at:%m}/{name}"


def path_of(record: Record, *, digest: str) -> str:
    """The file of a record; `digest` is that of its contents without its place in the row."""
    spec = record.spec
    match record:
        case RestorePoint():
            return point_path(spec.cluster, record.spec.application, record.spec.slot)
        case RestoreRecord():
            return restore_path(spec.cluster, key_of(record), record.spec.stage)
    return record_path(spec.cluster, at=instant_of(record), kind=record.kind, digest=digest)


def is_named_by_digest(record: Record) -> bool:
    """Whether a record's file is named by its contents; others have a place of their own."""
    return not isinstance(record, RestorePoint | RestoreRecord)


def key_of(record: RestoreRecord) -> RestoreKey:
    """Which attempt a restore's record is of."""
    spec = record.spec
    return RestoreKey(spec.source, spec.namespace, spec.name, spec.attempt)


def instant_of(record: Record) -> datetime:
    """When what a record tells of happened."""
    match record:
        case RestorePoint():
            return record.spec.finished_at
        case CaptureFailure():
            return record.spec.failed_at
        case RestoreRecord():
            return record.spec.watched_at or record.spec.finished_at or record.spec.accepted_at
        case RetirementRecord():
            return record.spec.retired_at
        case PruneRecord():
            return record.spec.pruned_at
        case AdoptionRecord():
            return record.spec.adopted_at


def _part(name: str) -> str:
    """A name as one component of a path.

    Raises:
        UsageError: it is none: empty, with a slash, or one that could point elsewhere.
    """
    if not _PART.fullmatch(name):
        raise UsageError(
            f"find {name[:80]!r} in the ledger: this is no name",
            hint="names have letters, digits, `-`, `_` and `.`",
        )
    return name
