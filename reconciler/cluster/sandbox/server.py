"""A small Kubernetes API in one process, reached over HTTP on loopback with a bearer token.

Where it differs from a real server (what it does not do at all answers 501):

- No scheduler, admission, RBAC, schemas, pruning, field validation, Table or PartialObjectMetadata output.
- Between versions of a kind only apiVersion is rewritten; built-in defaults are few; quotas count nothing.
- managedFields and merges work from a table of merge keys, for custom resources too; apply never conflicts.
- Deletion in the foreground is done in the background; addresses of Services are not checked.
- Field selectors take any path. One node `sandbox`, a PV per claim at once, no other binding.
- Only Deployments and StatefulSets get pods: Deployments all of a new template at once, StatefulSets in order
  whatever their policies say; no ControllerRevisions.
- Pods without `processes` are Ready at once. With it their commands run as local processes without images,
  networks or limits; a mountPath in argv, command and env becomes the claim's directory; a container without
  a command sleeps; only exec readiness probes are run, at their period, and one failure counts.
- A pod with initContainers, envFrom, workingDir, subPath or a volume of another kind stays Pending and says so.
- What an exec leaves running is killed when it ends. A sandbox that is itself killed by SIGKILL leaves its
  containers' processes behind.
- kubectl sends no bearer token over plain HTTP, so the kubeconfig's server address carries it as a path.
- The log of changes holds 20,000 events; the newest 100 continue tokens are known.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Self

import uvicorn

from reconciler.clock import SystemClock
from reconciler.cluster.sandbox.api import Api
from reconciler.cluster.sandbox.catalog import RULES, Catalog, Row
from reconciler.cluster.sandbox.faults import Faults
from reconciler.cluster.sandbox.fields import Write
from reconciler.cluster.sandbox.front import Front
from reconciler.cluster.sandbox.lifecycle import Lifecycle
from reconciler.cluster.sandbox.pods import Pods
from reconciler.cluster.sandbox.state import State, encode
from reconciler.cluster.sandbox.workloads import Workloads
from reconciler.objects import Manifest


class Sandbox:
    """A running API server on its own thread; a context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        profile: str = "1.36",
        processes: bool = False,
        port: int = 0,
    ) -> None:
        self.directory, self.name, self.processes = Path(directory).resolve(), name, processes
        self.token, self.faults, self.url = secrets.token_urlsafe(24), Faults(), ""
        self._catalog, self._state, self._port = Catalog(profile), State(), port
        self._denied: set[tuple[str, str, str, str]] = set()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Listen and serve; returns when requests are answered.

        Raises:
            OSError: the port is taken.
        """
        # With the protocol named, asyncio switches Nagle's algorithm off: 40 ms per answer.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
        except OSError:
            listener.close()
            raise
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for part in ("volumes", "pods"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        started: Future[None] = Future()
        run = self._serve(listener, started)
        self._thread = threading.Thread(target=asyncio.run, args=(run,), daemon=True)
        self._thread.start()
        started.result()

    def stop(self) -> None:
        """End processes, watches and connections, and wait for them."""
        if self._thread and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join()

    async def _serve(self, listener: socket.socket, started: Future[None]) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        try:
            api = Api(self._catalog, self._state, SystemClock())
            Workloads(Lifecycle(api, self.directory))
            pods = Pods(api, self.directory, processes=self.processes)
            for manifest in RULES["seed"]:
                body = dict(manifest, metadata=dict(manifest["metadata"]))
                row = next(r for r in self._catalog.rows if r.kind == body["kind"])
                body["apiVersion"], namespace = row.api_version, body["metadata"].get("namespace")
                api.create(row, body, namespace or "", Write("kube-apiserver"))
            front = Front(api, pods, self.faults, token=self.token, denied=self._why_denied)
            config = uvicorn.Config(
                front,
                http="h11",
                ws="websockets-sansio",
                ws_ping_interval=None,
                ws_per_message_deflate=False,
                ws_max_size=64 * 1024 * 1024,
                lifespan="off",
                log_config=None,
                log_level="critical",
                timeout_keep_alive=3600,
                timeout_graceful_shutdown=5,
            )
            server = uvicorn.Server(config)
            config.load()
            server.lifespan = config.lifespan_class(config)
            await server.startup(sockets=[listener])
            await server.on_tick(0)
        except BaseException as error:  # noqa: BLE001  # the thread that waits in start() raises it
            started.set_exception(error)
            return
        started.set_result(None)
        await self._stopped.wait()
        await pods.close()
        front.close()
        await server.shutdown(sockets=[listener])

    def write_kubeconfig(self, path: Path) -> Path:
        """Write the kubeconfig, as kubectl reads it, readable by its owner only."""
        named = {"name": self.name}
        config: Manifest = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "clusters": [named | {"cluster": {"server": f"{self.url}/{self.token}"}}],
            "users": [named | {"user": {"token": self.token}}],
            "contexts": [named | {"context": {"cluster": self.name, "user": self.name}}],
        }
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_bytes(encode(config))
        return path

    def deny(self, verb: str, resource: str, *, group: str = "", namespace: str = "") -> None:
        """Answer 403 to `verb` (or `*`) on `resource` (or `resource/sub`), in one namespace or in all."""
        self._denied.add((verb, group, resource, namespace))

    def allow_all(self) -> None:
        """Take every deny rule back."""
        self._denied.clear()

    def _why_denied(self, verb: str, row: Row, namespace: str, sub: str) -> str | None:
        name = f"{row.plural}/{sub}".rstrip("/")
        places = {"", namespace}
        if not {(v, row.group, name, p) for v in (verb, "*") for p in places} & self._denied:
            return None
        why = f'User "sandbox" cannot {verb} resource "{name}" in API group "{row.group}"'
        return f'{why} in the namespace "{namespace}"' if namespace else why

    def compact(self) -> None:
        """Make all continue tokens and older resourceVersions expire: 410."""

        async def act() -> None:
            self._state.compact()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    def break_group(self, group: str, version: str) -> None:
        """Pretend an aggregated API whose server does not answer: stale in discovery, 503 on its own path."""
        self._catalog.stale.add(f"{group}/{version}")
