"""The operator's configuration: one strict file, read at start, never part of Git.

Found as `--config`, `$RECONCILER_CONFIG`, then `./reconciler.yaml`. Relative paths in it are relative to
the file. Passphrases are named by where they come from (a file or an environment variable), never written in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from reconciler.errors import FindingsError, KeyRejectedError, UsageError
from reconciler.kinds.loader import load_model
from reconciler.kinds.model import DNS_LABEL, Model, Name, Planned, Span
from reconciler.store.s3 import Credentials

ENVIRONMENT = "RECONCILER_CONFIG"
PASSPHRASE = "RECONCILER_PASSPHRASE"  # noqa: S105 - the name of the variable
DEFAULT_NAME = "reconciler.yaml"
CONFIG_BYTES_MAX = 256 * 1024


def _remote(value: str) -> str:
    if value.startswith(("https://", "http://", "ssh://", "git://", "git@")):
        raise PydanticCustomError(
            "url", "remotes other than file:// are not supported by this version"
        )
    if not value.startswith("file:///"):
        raise PydanticCustomError("url", "expected file:///absolute/path")
    return value


GitUrl = Annotated[str, AfterValidator(_remote)]


class ClusterSettings(Model):
    """How the cluster is reached."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=63)]
    """What the cluster is called in Git."""
    kubeconfig: str | None = None
    """A kubeconfig file; `$KUBECONFIG` or the usual place by default."""
    context: str | None = None
    """A context in it; its current one by default."""
    in_cluster: bool = False
    """Use the service account of the pod that this runs in."""


class SourceEntry(Model):
    """A policy repository."""

    name: Name
    """What the source is called in records."""
    url: GitUrl
    """`file:///path`."""
    ref: str = "main"
    """The branch."""
    paths: list[str] = Field(default_factory=lambda: [""])
    """Folders to read; the whole repository by default."""
    kinds: list[str] | None = None
    """The kinds it may define; every kind by default."""
    namespaces: list[str] | None = None
    """The namespaces it is confined to (a tenant's source); none by default: a platform source."""
    trust: Planned
    service_account: Planned


class LedgerEntry(Model):
    """Where records go."""

    url: GitUrl
    """`file:///path`; may be the policy repository."""


class Source(Model):
    """Where a secret text comes from."""

    file: str | None = None
    """A file, such as one of a mounted Secret; its last line break is not part of the text."""
    env: str | None = None
    """An environment variable."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise PydanticCustomError("source", "expected either file or env")
        return self


class CredentialsSource(Model):
    """Where the access key of a bucket comes from."""

    access_key_id: Source
    """Its name."""
    secret_access_key: Source
    """The key."""
    session_token: Source | None = None
    """Its token, if it is a temporary one."""


class Listen(Model):
    """Where health and metrics are served."""

    host: str = "127.0.0.1"
    """An address of this machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0 takes any free port."""


class BreakerSettings(Model):
    """The most that retention may retire in one pass."""

    max_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of an application's points."""
    max_points: Annotated[int, Field(ge=1)] = 50
    """Of all points."""


class PruneSettings(Model):
    """When content may go."""

    min_age: Span = timedelta(days=1)
    """A retired point's root stays at least this long."""
    grace: Span = timedelta(hours=24)
    """Content that nothing refers to stays at least this long."""


class WatchSettings(Model):
    """How the daemon follows objects between captures."""

    enabled: bool = True
    """Follow kinds by watches; without, every capture lists all."""
    proof: Span = timedelta(hours=6)
    """How often each watch is compared with a list."""


class MoverEntry(Model):
    """Jobs that move the contents of volumes inside the cluster; without them contents pass through the daemon."""

    image: Annotated[str, Field(min_length=1, max_length=512)]
    """The image of this program (`make image`)."""
    per_cluster: Annotated[int, Field(ge=1, le=256)] = 8
    """How many run at the same time."""
    per_node: Annotated[int, Field(ge=1, le=32)] = 2
    """How many of them on one node."""
    per_storage_class: dict[str, Annotated[int, Field(ge=1, le=256)]] = Field(default_factory=dict)
    """How many of them on volumes of one storage class."""
    service_account: str = ""
    """Account of their pods, for locations whose keys come from the platform; else they get no token."""
    image_pull_secrets: list[str] = Field(default_factory=list)
    """Secrets in their namespace for the image's registry."""
    requests: dict[str, str] = Field(default_factory=lambda: {"cpu": "100m", "memory": "256Mi"})
    """Resources that each asks for."""
    limits: dict[str, str] = Field(default_factory=lambda: {"memory": "1Gi"})
    """Resources that each is limited to."""
    time_limit: Span = timedelta(hours=24)
    """How long one may take."""


class VolumeSettings(Model):
    """How the contents of volumes are read and written."""

    namespace: Annotated[str, Field(pattern=DNS_LABEL, max_length=63)] | None = None
    """Where movers and claims of snapshots are; `leaseNamespace` by default."""
    snapshots: bool = True
    """Read volumes from CSI snapshots where there can be some."""
    movers: MoverEntry | None = None
    """Jobs that move contents, to and from locations in a bucket."""


class Settings(Model):
    """The operator's configuration."""

    cluster: ClusterSettings
    """The cluster."""
    sources: Annotated[list[SourceEntry], Field(min_length=1, max_length=64)]
    """Policy repositories."""
    ledger: LedgerEntry
    """Where records go."""
    work_directory: str = ".reconciler"
    """Clones and caches; can be lost at the cost of time."""
    passphrases: dict[str, Source] = Field(default_factory=dict)
    """Location → where its passphrase comes from; `$RECONCILER_PASSPHRASE` by default."""
    credentials: dict[str, CredentialsSource] = Field(default_factory=dict)
    """Location → where its access key comes from; by default the environment or the platform (`AWS_ACCESS_KEY_ID`, web
    identity, the role of the instance)."""
    lease_namespace: Annotated[str, Field(pattern=DNS_LABEL, max_length=63)] = "backup-reconciler"
    """Where leases of running restores are kept."""
    helper_image: str = "busybox:1.37"
    """Image of the short-lived pods that fill or read a volume."""
    poll: Span = timedelta(minutes=1)
    """How often sources are asked."""
    concurrency: Annotated[int, Field(ge=1, le=32)] = 4
    """Captures, or namespaces restored into, at the same time."""
    ready_timeout: Span = timedelta(minutes=10)
    """How long a restore waits for its workloads to be Ready."""
    watch_after: Span = timedelta(minutes=2)
    """How long after its end a restore's objects are looked at again, for what others changed or removed."""
    health: Listen = Field(default_factory=lambda: Listen.model_validate({}))
    """Health and metrics."""
    breaker: BreakerSettings = Field(default_factory=lambda: BreakerSettings.model_validate({}))
    """The most that retention may retire in one pass."""
    prune: PruneSettings = Field(default_factory=lambda: PruneSettings.model_validate({}))
    """When content may go."""
    watches: WatchSettings = Field(default_factory=lambda: WatchSettings.model_validate({}))
    """How the daemon follows objects between captures."""
    volumes: VolumeSettings = Field(default_factory=lambda: VolumeSettings.model_validate({}))
    """How the contents of volumes are read and written."""
    notifications: Planned

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise PydanticCustomError("sources", "two sources have the same name")
        return self


@dataclass(frozen=True)
class Configuration:
    """Settings and the folder that their relative paths start from."""

    settings: Settings
    directory: Path

    def resolve(self, path: str) -> Path:
        """A path of the file, absolute."""
        return (self.directory / path).absolute()

    @property
    def work_directory(self) -> Path:
        """Clones and caches."""
        return self.resolve(self.settings.work_directory)

    @property
    def kubeconfig(self) -> Path | None:
        """The kubeconfig that the file names."""
        path = self.settings.cluster.kubeconfig
        return self.resolve(path) if path else None


def find_configuration(given: Path | None) -> Path:
    """The file to read.

    Raises:
        UsageError: there is none.
    """
    path = given or Path(os.environ.get(ENVIRONMENT) or DEFAULT_NAME)
    if not path.is_file():
        raise UsageError(
            f"read configuration {path}: no such file",
            hint=f"name it with --config or ${ENVIRONMENT}, or write one with `reconciler init`",
        )
    return path


def load_configuration(given: Path | None = None) -> Configuration:
    """Read the operator's configuration.

    Raises:
        UsageError: there is no file.
        FindingsError: it has faults; the message lists them all with their places.
    """
    path = find_configuration(given)
    with path.open("rb") as file:
        data = file.read(CONFIG_BYTES_MAX + 1)
    settings, findings = load_model(Settings, path=str(path), data=data)
    if settings is None or findings:
        raise FindingsError("\n".join(str(finding) for finding in findings), hint="mend the file")
    return Configuration(settings=settings, directory=path.absolute().parent)


def passphrase(configuration: Configuration, location: str) -> str:
    """Fetch the passphrase of a location.

    Raises:
        KeyRejectedError: there is none where it should be.
    """
    entry = configuration.settings.passphrases.get(location)
    if entry is not None and entry.file is not None:
        return _text(
            configuration, entry, f"passphrase of {location}", field=f"passphrases.{location}"
        )
    variable = entry.env if entry is not None and entry.env is not None else PASSPHRASE
    value = os.environ.get(variable)
    if not value:
        raise KeyRejectedError(
            f"read passphrase of {location}: ${variable} is not set",
            hint=f"set ${variable}, or name a file under passphrases.{location}.file",
        )
    return value


def credentials(configuration: Configuration, location: str) -> Credentials | None:
    """Fetch the access key of a location; None when the configuration names none.

    Raises:
        KeyRejectedError: it is not where it should be.
    """
    entry = configuration.settings.credentials.get(location)
    if entry is None:
        return None

    def text(name: str, source: Source | None) -> str:
        if source is None:
            return ""
        where = f"credentials.{location}.{name}"
        return _text(configuration, source, f"access key of {location}", field=where)

    return Credentials(
        access_key_id=text("accessKeyId", entry.access_key_id),
        secret_access_key=text("secretAccessKey", entry.secret_access_key),
        session_token=text("sessionToken", entry.session_token),
    )


def _text(configuration: Configuration, source: Source, what: str, *, field: str) -> str:
    """The text of a source.

    Raises:
        KeyRejectedError: it is not there, or empty.
    """
    if source.file is None:
        value = os.environ.get(source.env or "")
        where, cause = f"${source.env}", "it is not set"
    else:
        try:
            value = configuration.resolve(source.file).read_text().removesuffix("\n")
        except OSError as error:
            raise KeyRejectedError(
                f"read {what}: {error.strerror}", hint=f"look at {field}.file"
            ) from error
        where, cause = source.file, "it is empty"
    if not value:
        raise KeyRejectedError(f"read {what}: {where}: {cause}", hint=f"look at {field}")
    return value
