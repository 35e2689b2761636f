"""The port on a real API server, or on the sandbox: plain JSON over the official client's connection pool.

`connect` loads a kubeconfig context or the pod's own account; heavy imports happen there. Paths, queries and
bodies follow https://kubernetes.io/docs/reference/using-api/api-concepts/.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote, urlsplit

import msgspec

from reconciler.cluster.answers import Items, ListText, OpenWatch, filled
from reconciler.cluster.port import (
    Discovery,
    ExecSession,
    ExecTarget,
    Head,
    InvalidError,
    NotFoundError,
    Page,
    Propagation,
    ResourceType,
)
from reconciler.errors import UsageError
from reconciler.objects import Manifest, name_of, namespace_of

if TYPE_CHECKING:
    from reconciler.cluster.connection import Connection

_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_NAMESPACES = ResourceType(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    namespaced=False,
    verbs=frozenset(),
)
_PODS = ResourceType(
    group="", version="v1", kind="Pod", plural="pods", namespaced=True, verbs=frozenset()
)
_PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
# Characters that JSON allows raw in a string and YAML refuses or folds away (YAML 1.1 §5.1, §5.4).
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def connect(
    *,
    name: str,
    kubeconfig: Path | None = None,
    context: str | None = None,
    in_cluster: bool = False,
    timeout_s: float = 30,
    sleep: Callable[[float], None] = time.sleep,
    exec_protocols: Sequence[str] = (),
    exec_ping_after_s: float | None = None,
) -> KubernetesCluster:
    """Make the port to the cluster that the operator calls `name`; nothing is sent yet.

    Args:
        name: stands in messages and records.
        kubeconfig: the file, else `KUBECONFIG` or `~/.kube/config`.
        context: one of the file's contexts, else its current one.
        in_cluster: use the account of the pod that this runs in; excludes the two above.
        timeout_s: how long to wait for a connection and for each piece of an answer.
        sleep: waits before a read is repeated.
        exec_protocols: ask for these alone when a command is started.
        exec_ping_after_s: the span of silence that `liveness` counts in, else its own.

    Raises:
        UsageError: the configuration is missing or cannot be used.
    """
    from kubernetes import client, config

    from reconciler.cluster.connection import Connection

    loader: Any = config  # its functions are not typed

    if in_cluster and (kubeconfig or context):
        raise UsageError(f"connect {name}: in_cluster excludes a kubeconfig and a context")
    configuration = client.Configuration()
    try:
        if in_cluster:
            loader.load_incluster_config(client_configuration=configuration)
        else:
            loader.load_kube_config(
                config_file=None if kubeconfig is None else str(kubeconfig),
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    # The loader lets through whatever YAML, base64 and file access raise, whose text may quote the file.
    except Exception as error:
        said = f": {error}" if isinstance(error, config.ConfigException) else ""
        raise UsageError(
            f"connect {name}: cannot load the configuration: {type(error).__name__}{said[:200]}",
            hint="see `kubectl config get-contexts`",
        ) from error
    if not urlsplit(configuration.host).hostname:
        raise UsageError(f"connect {name}: the context names no server")
    return KubernetesCluster(
        Connection(cluster=name, configuration=configuration, timeout_s=timeout_s, sleep=sleep),
        exec_protocols=exec_protocols,
        exec_ping_after_s=exec_ping_after_s,
    )


class KubernetesCluster:
    """`Cluster` over HTTP; safe to share between threads. Close it, or use it as a context manager."""

    def __init__(
        self,
        connection: Connection,
        *,
        exec_protocols: Sequence[str] = (),
        exec_ping_after_s: float | None = None,
    ) -> None:
        self._connection = connection
        self._exec_protocols = tuple(exec_protocols)
        self._exec_ping_after_s = exec_ping_after_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._connection.close()

    @property
    def name(self) -> str:
        """What the operator calls this cluster."""
        return self._connection.cluster

    def uid(self) -> str:
        """Read the uid of kube-system."""
        found = self.get(_NAMESPACES, "kube-system")
        if found is None:
            raise NotFoundError(f"identify {self.name}: it has no namespace kube-system")
        return str(found["metadata"]["uid"])

    def discover(self) -> Discovery:
        """Ask what is served now."""
        from reconciler.cluster.discovery import discover

        return discover(self._connection)

    def pages(
        self,
        kind: ResourceType,
        *,
        namespace: str = "",
        label_selector: str = "",
        page_size: int = 500,
    ) -> Iterator[Page]:
        """List in pages."""
        token = ""
        subject = _subject("list", kind, namespace)
        while True:
            query = [("limit", str(page_size))]
            query += [("labelSelector", label_selector)] if label_selector else []
            query += [("continue", token)] if token else []
            connection = self._connection
            body = connection.text(_path(kind, namespace), subject=subject, query=query)
            listed = connection.decoded(body, subject, ListText)
            token = listed.metadata.get("continue") or ""
            yield Page(
                items=Items(listed.items or [], kind, subject),
                resource_version=listed.metadata.get("resourceVersion") or "",
                continue_token=token,
                size_bytes=len(body),
            )
            if not token:
                return

    def head(self, kind: ResourceType) -> Head:
        """Ask for one item's metadata."""
        subject = _subject("list", kind, "")
        listed = self._connection.read(
            _path(kind, ""), subject=subject, query=[("limit", "1")], accept=_METADATA
        )
        metadata, items = listed.get("metadata") or {}, listed.get("items") or []
        remaining = metadata.get("remainingItemCount", None if metadata.get("continue") else 0)
        count = None if remaining is None else len(items) + int(remaining)
        return Head(resource_version=metadata.get("resourceVersion") or "", count=count)

    def get(self, kind: ResourceType, name: str, *, namespace: str = "") -> Manifest | None:
        """Read one object; None when it is absent."""
        try:
            found = self._connection.read(
                _path(kind, namespace, name), subject=_subject("get", kind, namespace, name)
            )
        except NotFoundError:
            return None
        return filled(found, kind)

    def create(
        self, kind: ResourceType, manifest: Manifest, *, manager: str, dry_run: bool = False
    ) -> Manifest:
        """POST an object that must be absent."""
        namespace = namespace_of(manifest)
        generated = (manifest.get("metadata") or {}).get("generateName") or ""
        subject = _subject("create", kind, namespace, name_of(manifest) or f"{generated}*")
        _check_place(kind, namespace, subject)
        made = self._connection.write(
            "POST",
            _path(kind, namespace),
            subject=subject,
            body=msgspec.json.encode(manifest),
            query=_write_query(manager, dry_run=dry_run),
        )
        return filled(made, kind)

    def replace(
        self, kind: ResourceType, manifest: Manifest, *, manager: str, dry_run: bool = False
    ) -> Manifest:
        """PUT an object, guarded by the uid and resourceVersion that it carries."""
        namespace, name = namespace_of(manifest), name_of(manifest)
        subject = _subject("replace", kind, namespace, name)
        _check_place(kind, namespace, subject, name=name)
        made = self._connection.write(
            "PUT",
            _path(kind, namespace, name),
            subject=subject,
            body=msgspec.json.encode(manifest),
            query=_write_query(manager, dry_run=dry_run),
        )
        return filled(made, kind)

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
        """Patch an object. `force` takes fields over from other managers, and is for `apply` alone."""
        subject = _subject("patch", kind, namespace, name)
        _check_place(kind, namespace, subject, name=name)
        if force and style != "apply":
            raise InvalidError(f"{subject}: only an apply can be forced")
        encoded = msgspec.json.encode(body)
        if style == "apply":
            encoded = _NOT_YAML.sub(
                lambda found: f"\\u{ord(found.group()):04x}", encoded.decode()
            ).encode()
        query = _write_query(manager) + ([("force", "true")] if force else [])
        made = self._connection.write(
            "PATCH",
            _path(kind, namespace, name, subresource),
            subject=subject,
            body=encoded,
            query=query,
            content_type=_PATCH_TYPES[style],
        )
        return filled(made, kind)

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
        """Delete an object."""
        subject = _subject("delete", kind, namespace, name)
        _check_place(kind, namespace, subject, name=name)
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        self._connection.write(
            "DELETE",
            _path(kind, namespace, name),
            subject=subject,
            body=msgspec.json.encode(options),
        )

    def watch(
        self,
        kind: ResourceType,
        *,
        resource_version: str,
        namespace: str = "",
        timeout_s: int = 300,
        silence_s: float | None = None,
    ) -> OpenWatch:
        """Open a watch; the answer's head has come when this returns."""
        subject = _subject("watch", kind, namespace)
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(timeout_s)),
        ]
        # A server may say nothing until its own time-out ends the watch; after that it is gone.
        longest_s = timeout_s + self._connection.timeout_s
        lines = self._connection.lines(
            _path(kind, namespace),
            subject=subject,
            query=query,
            silence_s=silence_s or longest_s,
            longest_s=2 * longest_s,
        )
        return OpenWatch(lines, kind=kind, subject=subject)

    def execute(
        self, target: ExecTarget, argv: Sequence[str], *, stdin: bool = False
    ) -> ExecSession:
        """Start a command in a container over a WebSocket of its own."""
        from reconciler.cluster.handshake import PROTOCOLS, open_channel
        from reconciler.cluster.liveness import PING_AFTER_S

        query = [("command", argument) for argument in argv]
        query += [("container", target.container)] if target.container else []
        query += [("stdout", "true"), ("stderr", "true")]
        query += [("stdin", "true")] if stdin else []
        return open_channel(
            self._connection,
            _path(_PODS, target.namespace, target.pod, "exec"),
            query=query,
            stdin=stdin,
            subject=f"run a command in {target.namespace}/{target.pod}",
            protocols=self._exec_protocols or PROTOCOLS,
            ping_after_s=self._exec_ping_after_s or PING_AFTER_S,
        )


def _path(kind: ResourceType, namespace: str, name: str = "", subresource: str = "") -> str:
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    if kind.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts += [kind.plural]
    parts += [name] if name else []
    parts += [subresource] if subresource else []
    return "".join("/" + quote(part, safe="") for part in parts)


def _subject(verb: str, kind: ResourceType, namespace: str, name: str = "") -> str:
    type_name = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    place = "/".join(part for part in (namespace, name) if part)
    return f"{verb} {type_name} {place}".rstrip()


def _check_place(kind: ResourceType, namespace: str, subject: str, *, name: str = "*") -> None:
    if not name:
        raise InvalidError(f"{subject}: it has no name")
    if kind.namespaced and not namespace:
        raise InvalidError(f"{subject}: it has no namespace")


def _write_query(manager: str, *, dry_run: bool = False) -> list[tuple[str, str]]:
    return [("fieldManager", manager)] + ([("dryRun", "All")] if dry_run else [])
