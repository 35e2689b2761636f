"""The port to a Kubernetes API: what the rest of the house may ask of a cluster, and how it fails.

Every adapter keeps the same rules, held to by `tests/contract/cluster`:

- Manifests in and out are plain JSON. Nothing is cached: what is returned was just read.
- A missing object is `None` from `get` and `NotFoundError` from writes and deletes.
- 401 → `UnauthorizedError`, 403 → `ForbiddenError`, 409 with reason AlreadyExists → `AlreadyExistsError`,
  409 else (a quota that changed during a create, too) → `ConflictError`, 410 or an expired continue token →
  `ExpiredError`, 400/413/415/422 → `InvalidError`, 405/501 → `NotServedError`, 429, 500–504, 408, connection
  faults and timeouts → `UnavailableError` (with `retry_after_s` when the server said so). The adapter
  itself repeats only reads, and those only after 429 and 5xx, a bounded number of times; writes are never
  repeated here, because a lost answer does not say what happened.
- A kind that is not served is `NotServedError` everywhere, so that it is never taken for an absent object.
- Messages carry the server's `message`, cut to 256 characters, and only when the body is a `Status`; never
  a body of an object, which may be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from reconciler.errors import TerminalError, TransientError
from reconciler.objects import Manifest, join_api_version

Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One served resource: where it is, what it is called, what may be done with it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str]

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return join_api_version(self.group, self.version)

    def __str__(self) -> str:
        """`deployments.apps/v1`."""
        return f"{self.plural}.{self.group}/{self.version}" if self.group else self.plural


@dataclass(frozen=True)
class Discovery:
    """What a server serves at one moment. `types` holds every served version, in the server's order of
    preference within a group; `faults` the group/versions that failed (a broken aggregated API), with why.
    """

    server_version: str
    types: tuple[ResourceType, ...]
    faults: dict[str, str] = field(default_factory=dict)

    def find(self, group: str, kind: str, version: str | None = None) -> ResourceType | None:
        """The type of a kind: at `version`, or as the server prefers it."""
        for entry in self.types:
            if entry.group == group and entry.kind == kind and version in (None, entry.version):
                return entry
        return None

    def versions(self, group: str, kind: str) -> list[str]:
        """The served versions of a kind, preferred first."""
        return [t.version for t in self.types if t.group == group and t.kind == kind]

    def preferred(self) -> list[ResourceType]:
        """Each (group, kind) once, at the version that the server prefers."""
        seen: dict[tuple[str, str], ResourceType] = {}
        for entry in self.types:
            seen.setdefault((entry.group, entry.kind), entry)
        return list(seen.values())


@dataclass(frozen=True)
class Page:
    """One page of a list. `items` carry apiVersion and kind; `resource_version` is the list's.

    An item may be decoded when it is asked for, and anew each time: keep it rather than ask twice.
    """

    items: Sequence[Manifest]
    resource_version: str
    continue_token: str
    size_bytes: int = 0
    """What was read for it."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a list of one item says of all: the newest version of anything, and how many objects there are."""

    resource_version: str
    count: int | None
    """None where the server does not say."""


@dataclass(frozen=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK with its object. An ERROR event is raised, never returned."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Manifest
    size_bytes: int = 0
    """What was read for it."""


class Watch(Protocol):
    """An open watch: its events, until the server closes it or `close` does."""

    def __iter__(self) -> Iterator[WatchEvent]:
        """The same iterator at every call.

        Raises:
            ExpiredError: the version is too old, as a status or as an ERROR event after a 200.
        """
        ...

    def __next__(self) -> WatchEvent: ...

    def close(self) -> None:
        """End it, from any thread: whoever waits for an event sees the end."""
        ...


@dataclass(frozen=True, slots=True)
class ExecTarget:
    """A container to run commands in; its first one when `container` is empty."""

    namespace: str
    pod: str
    container: str = ""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command in a container ended. `stderr` is its last 64 KiB."""

    exit_code: int
    stderr: bytes


class ExecSession(Protocol):
    """A running command in a container, its streams open; a context manager that always closes them."""

    @property
    def half_closes(self) -> bool:
        """Whether `close_stdin` reaches the command; Kubernetes before 1.30 cannot tell it that its input has ended."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

    def close(self) -> None:
        """End the session now, from any thread; whoever waits in it gets ExecBrokenError."""
        ...

    def send(self, chunk: bytes) -> None:
        """Write to the command's stdin; blocks while the far side is slow.

        Raises:
            ExecBrokenError: the stream ended; the command may have died.
        """
        ...

    def close_stdin(self) -> None:
        """Half-close: the command reads end of file where the session `half_closes`, its output stays open."""
        ...

    def read(self) -> Iterator[bytes]:
        """Yield stdout in pieces of any size until the command ends.

        Raises:
            ExecBrokenError: the stream ended without the status that says how the command ended.
        """
        ...

    def read_now(self) -> bytes:
        """What of stdout has come and was not read yet; does not wait."""
        ...

    def probe_by(self, argv: Sequence[str]) -> None:
        """Name a command that ends with 0 while this one runs: it is started when the stream falls silent.

        Without one, any command that ends in the same container keeps a silent stream.
        """
        ...

    def result(self) -> ExecResult:
        """Wait for the end (reading stdout away) and say how it ended.

        Raises:
            ExecBrokenError: as `read`.
        """
        ...


class Cluster(Protocol):
    """A Kubernetes API. All methods may raise the errors of this module."""

    @property
    def name(self) -> str:
        """What the operator calls this cluster."""
        ...

    def uid(self) -> str:
        """The uid of the kube-system namespace, which stands for the cluster."""
        ...

    def discover(self) -> Discovery:
        """Ask what is served now."""
        ...

    def pages(
        self,
        kind: ResourceType,
        *,
        namespace: str = "",
        label_selector: str = "",
        page_size: int = 500,
    ) -> Iterator[Page]:
        """List in pages; all namespaces when `namespace` is empty.

        Raises:
            ExpiredError: the continue token expired between pages; start again.
        """
        ...

    def get(self, kind: ResourceType, name: str, *, namespace: str = "") -> Manifest | None:
        """Read one object; None when it is absent."""
        ...

    def create(
        self, kind: ResourceType, manifest: Manifest, *, manager: str, dry_run: bool = False
    ) -> Manifest:
        """POST an object that must be absent, under the field manager `manager`."""
        ...

    def replace(
        self, kind: ResourceType, manifest: Manifest, *, manager: str, dry_run: bool = False
    ) -> Manifest:
        """PUT an object; guarded by whichever of metadata.uid and metadata.resourceVersion it carries."""
        ...

    def patch(
        self,
        kind: ResourceType,
        name: str,
        body: Manifest | Sequence[Manifest],
        *,
        namespace: str = "",
        style: Literal["merge", "json", "apply"] = "merge",
        manager: str,
        force: bool = False,
        subresource: str = "",
    ) -> Manifest:
        """Patch an object: JSON merge patch, JSON patch or server-side apply."""
        ...

    def delete(
        self,
        kind: ResourceType,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        propagation: Propagation = "Background",
        grace_s: int | None = None,
    ) -> None:
        """Delete an object, only the one with `uid` when given (else ConflictError)."""
        ...

    def head(self, kind: ResourceType) -> Head:
        """Ask for one item's metadata: the version that a list would have now, and how long it would be.

        Consistent: everything that was written before is counted.
        """
        ...

    def watch(
        self,
        kind: ResourceType,
        *,
        resource_version: str,
        namespace: str = "",
        timeout_s: int = 300,
        silence_s: float | None = None,
    ) -> Watch:
        """Watch what changes since `resource_version`, bookmarks included, for at most `timeout_s`.

        A stream that says nothing for `silence_s`, or past its end by default, is UnavailableError.

        Raises:
            ExpiredError: the version is too old.
        """
        ...

    def execute(
        self, target: ExecTarget, argv: Sequence[str], *, stdin: bool = False
    ) -> ExecSession:
        """Start a command in a container.

        Raises:
            NotFoundError: no such pod or container.
            ForbiddenError: the verb that is missing on pods/exec is named.
            ExecBrokenError, UnavailableError: the stream could not be opened.
        """
        ...


class ApiError(TerminalError):
    """The API server refused."""


class UnauthorizedError(ApiError):
    """401: the credentials do not hold."""

    exit_code = 12


class ForbiddenError(ApiError):
    """403: RBAC says no."""


class NotFoundError(ApiError):
    """404 on something that must be there."""


class AlreadyExistsError(ApiError):
    """409 on create."""


class ConflictError(ApiError):
    """409 elsewhere: another uid or resourceVersion than expected, or a field conflict of apply."""


class InvalidError(ApiError):
    """400, 415, 422: the object is not acceptable to this server."""


class NotServedError(ApiError):
    """The kind is not served, or the server does not do this (501)."""


class ExpiredError(TransientError):
    """410: the resource version or continue token is too old; list again."""


class UnavailableError(TransientError):
    """429, 5xx, a timeout or a broken connection."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ExecBrokenError(TransientError):
    """An exec stream broke: no status frame, a dead pod, a lost connection."""
