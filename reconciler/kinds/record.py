"""Records: what the program writes to the ledger, and nobody else.

Every record is a manifest with the digest of the record before it on the same branch (`previous`) and its
place in the row (`sequence`); both are assigned when it is committed, and again after a lost race. Times are
UTC. Lists are bounded, so that a record stays below 64 KiB; the full lists are in the store's point object.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from reconciler.kinds.model import Instant, Kind, Model

Phase = Literal["Succeeded", "Partial", "Failed"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

OUTCOMES_MAX = 100
RECORD_BYTES_MAX = 64 * 1024


class Chain(Model):
    """A record's place in its branch."""

    sequence: Annotated[int, Field(ge=1)]
    """1 for the first record of the branch, then one more for each."""
    previous: Digest | None = None
    """SHA-256 of the previous record's file; absent for the first."""


class Outcome(Model):
    """How it ended for one object, volume or data service."""

    item: str
    """`group/Kind/namespace/name` of an object, `volume/<claim>`, `content/<artifact>`, `kind/<plural.group>`,
    `pause/<object>` of something that a restore held back."""
    result: Literal["Succeeded", "Skipped", "Failed"]
    """`Skipped` is by intent and does not make a capture partial; `Failed` does."""
    reason: str
    """A CamelCase word."""
    message: str = ""
    """One line, no secrets, at most 256 characters."""


class PolicyRef(Model):
    """Which form of which policy was in force."""

    source: str
    """The source's name in the operator's configuration."""
    path: str
    """The file."""
    name: str
    """`name` or `namespace/name`."""
    revision: str
    """The commit."""
    blob: str
    """The Git blob id of the file."""


class LocationRef(Model):
    """Where one copy of a point is."""

    name: str
    """The Location."""
    domain: str
    """The deduplication domain: the uid of the cluster."""
    digest: Digest
    """SHA-256 of the point object as it lies in the store."""
    added_bytes: int
    """What this point added to the location, shared packs counted once."""


class Artifact(Model):
    """A content that a point holds besides objects."""

    name: str
    """`volume/<claim>` or `content/<blueprint>/<workload>/<artifact>`."""
    form: Literal["stream", "tree"]
    """A run of bytes, or a file tree."""
    size_bytes: int
    """Its full size."""
    items: int = 1
    """Files in a tree."""
    consistent_at: Instant | None = None
    """The instant that the content is as of, where that is known."""
    digest: str = ""
    """SHA-256 of a stream's bytes; of a tree, the keyed digest of its listing."""


class VersionRange(Model):
    """The resourceVersions between which a kind was read."""

    since: str
    """At the start."""
    upto: str
    """At the end."""


class RestorePointSpec(Model):
    """What was captured. The same value, with the full list of outcomes, is in the store's point object."""

    chain: Chain | None = None
    """Its place in the branch; absent in the store."""
    cluster: str
    """The cluster's name."""
    cluster_uid: str
    """The cluster's uid."""
    application: str
    """`namespace/name`; `_` is the whole namespace."""
    slot: str
    """The scheduled instant, as `20261123T110000Z`: the point's name."""
    manual: bool = False
    """Made by hand: outside calendar and buckets."""
    scheduled_for: Instant
    """The slot as an instant."""
    captured_at: Instant
    """When the objects were read."""
    finished_at: Instant
    """When the content was durable."""
    policy: PolicyRef | None = None
    """The policy; absent when captured by hand without one."""
    phase: Phase
    """Succeeded: every selected thing was captured."""
    locations: list[LocationRef] = Field(default_factory=list)
    """Where the copies are; empty in the store."""
    objects: int
    """Objects captured."""
    kinds: dict[str, int] = Field(default_factory=dict)
    """Objects by `Kind.group`, the 100 most frequent."""
    full_bytes: int
    """Size of all contents and objects before deduplication and compression."""
    artifacts: list[Artifact] = Field(default_factory=list)
    """Contents besides objects."""
    outcomes: list[Outcome] = Field(default_factory=list)
    """Everything that is not Succeeded; in the ledger at most 100, failures first."""
    outcome_counts: dict[str, int] = Field(default_factory=dict)
    """`Result/Reason` → how many."""
    versions: dict[str, VersionRange] = Field(default_factory=dict)
    """Kind → the versions between which it was read."""
    server_version: str = ""
    """The API server's version."""
    missed_slots: int = 0
    """Slots that passed before this one without a capture."""
    attempt: int = 1
    """1, or more when earlier attempts at this slot failed."""


class RestorePoint(Kind):
    """A state that one can go back to."""

    kind: Literal["RestorePoint"] = "RestorePoint"
    """Always `RestorePoint`."""
    spec: RestorePointSpec
    """What was captured."""


class CaptureFailureSpec(Model):
    """A capture that produced no restore point."""

    chain: Chain | None = None
    """Its place in the branch."""
    cluster: str
    """The cluster's name."""
    application: str
    """`namespace/name`."""
    slot: str
    """The slot that the capture was for."""
    attempt: Annotated[int, Field(ge=1)]
    """The number of the attempt."""
    failed_at: Instant
    """When."""
    reason: str
    """A CamelCase word."""
    message: str
    """One line, no secrets."""
    policy: PolicyRef | None = None
    """The policy."""


class CaptureFailure(Kind):
    """A capture that produced no restore point."""

    kind: Literal["CaptureFailure"] = "CaptureFailure"
    """Always `CaptureFailure`."""
    spec: CaptureFailureSpec
    """What happened."""


class PausedObject(Model):
    """Something that stands still while a restore goes on."""

    object: str
    """`group/Kind/namespace/name`."""
    replicas: int | None = None
    """How many replicas it had; absent for a CronJob, which is suspended."""


class Aftermath(Model):
    """An object that was not as a restore had left it when it was looked at again."""

    object: str
    """`group/Kind/namespace/name`."""
    what: Literal["changed", "removed"]
    """`removed` is gone."""
    fields: list[str] = Field(default_factory=list)
    """The paths of the fields that differ, at most 20; never a value."""
    managers: list[str] = Field(default_factory=list)
    """The field managers that wrote them, as far as the object says so."""
    message: str = ""
    """One line: what is known of the cause."""


class RestoreRecordSpec(Model):
    """A Restore that was accepted, how it ended, or what became of it right after."""

    chain: Chain | None = None
    """Its place in the branch."""
    stage: Literal["accepted", "finished", "watched"]
    """`accepted` is pushed before the first write; `finished` says how it ended; `watched` what others changed of it
    in the minutes after."""
    cluster: str
    """The target cluster's name."""
    cluster_uid: str
    """The target cluster's uid."""
    source: str
    """The source that asked; `cli` for a restore from the command line."""
    namespace: str = ""
    """The Restore's namespace; empty for the platform's."""
    name: str
    """The Restore's name."""
    attempt: int
    """The Restore's attempt."""
    spec_digest: Digest
    """SHA-256 of the written spec, as canonical JSON."""
    revision: str = ""
    """The commit that asked."""
    point: str
    """The resolved point: `cluster/namespace/application/slot`."""
    point_digest: str = ""
    """The digest of the point."""
    plan_digest: str = ""
    """The digest of the plan that was accepted."""
    mode: Literal["Run", "Plan"] = "Run"
    """What was asked for."""
    reason: str
    """Why, as the request says."""
    accepted_at: Instant
    """When it was accepted."""
    finished_at: Instant | None = None
    """When it ended."""
    watched_at: Instant | None = None
    """When it was looked at again."""
    phase: Literal["Succeeded", "Partial", "Failed", "Refused", "Cancelled"] | None = None
    """How it ended."""
    verdicts: dict[str, int] = Field(default_factory=dict)
    """Verdict → number of objects."""
    outcomes: list[Outcome] = Field(default_factory=list)
    """At most 100 of what did not succeed."""
    aftermath: list[Aftermath] = Field(default_factory=list)
    """What was changed or removed after it, at most 100."""
    message: str = ""
    """One line."""
    plan: list[dict[str, Any]] = Field(default_factory=list)
    """For `mode: Plan`, the entries (at most 500): object, verdict, reason, changed fields."""
    pauses: list[PausedObject] = Field(default_factory=list)
    """What is held back while it goes on, at most 100: workloads with their replicas, then CronJobs."""
    break_glass: bool = False
    """Run without Git."""


class RestoreRecord(Kind):
    """A restore that was accepted or finished, on the target cluster's branch."""

    kind: Literal["RestoreRecord"] = "RestoreRecord"
    """Always `RestoreRecord`."""
    spec: RestoreRecordSpec
    """What happened."""


class Retired(Model):
    """A restore point taken out of the list of live ones."""

    point: str
    """`namespace/application/slot`."""
    locations: list[str]
    """The locations it left."""
    digest: str
    """SHA-256 of its record."""
    reason: str
    """A CamelCase word: `BeyondRetention`."""


class RetirementRecordSpec(Model):
    """Points that retention took out of the list."""

    chain: Chain | None = None
    """Its place in the branch."""
    cluster: str
    """The cluster's name."""
    retired_at: Instant
    """When."""
    points: list[Retired]
    """Which, at most 200 in one record."""


class RetirementRecord(Kind):
    """Points that retention took out of the list of live ones; their content is untouched."""

    kind: Literal["RetirementRecord"] = "RetirementRecord"
    """Always `RetirementRecord`."""
    spec: RetirementRecordSpec
    """What was retired."""


class PruneRecordSpec(Model):
    """What prune freed."""

    chain: Chain | None = None
    """Its place in the branch."""
    cluster: str
    """The cluster's name."""
    location: str
    """The location."""
    pruned_at: Instant
    """When."""
    points_deleted: int
    """Roots deleted."""
    packs_deleted: int
    """Packs deleted."""
    freed_bytes: int
    """Bytes freed."""


class PruneRecord(Kind):
    """What prune freed."""

    kind: Literal["PruneRecord"] = "PruneRecord"
    """Always `PruneRecord`."""
    spec: PruneRecordSpec
    """What was freed."""


class AdoptedManifest(Model):
    """The form of a manifest that is in force."""

    path: str
    """The file."""
    identity: str
    """`Kind/namespace/name`."""
    blob: str
    """The Git blob id."""
    index: int = 0
    """Which document of the file."""
    stale: bool = False
    """The newest revision has a broken form of it, or dropped a hold; this earlier one stays in force."""


class AdoptionRecordSpec(Model):
    """Which desired state is in force."""

    chain: Chain | None = None
    """Its place in the branch."""
    cluster: str
    """The cluster's name."""
    source: str
    """The source."""
    url: str
    """Its URL, without credentials."""
    ref: str
    """Its ref."""
    revision: str
    """The newest commit taken in."""
    adopted_at: Instant
    """When."""
    manifests: list[AdoptedManifest]
    """What is in force."""
    faults: list[str] = Field(default_factory=list)
    """Faults of the newest revision, at most 50."""


class AdoptionRecord(Kind):
    """Which revision of a source is in force, manifest by manifest."""

    kind: Literal["AdoptionRecord"] = "AdoptionRecord"
    """Always `AdoptionRecord`."""
    spec: AdoptionRecordSpec
    """What is in force."""


Record = (
    RestorePoint | CaptureFailure | RestoreRecord | RetirementRecord | PruneRecord | AdoptionRecord
)
RECORD_KINDS: dict[str, type[Record]] = {
    "RestorePoint": RestorePoint,
    "CaptureFailure": CaptureFailure,
    "RestoreRecord": RestoreRecord,
    "RetirementRecord": RetirementRecord,
    "PruneRecord": PruneRecord,
    "AdoptionRecord": AdoptionRecord,
}
