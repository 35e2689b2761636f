"""A small read-only server for `/healthz`, `/readyz` and `/metrics`, bound to localhost unless told otherwise.

`/healthz` answers 200 while the process lives and its passes go on; `/readyz` answers 200 once a pass has
read the sources, the ledger and the cluster, and 503 with the reason while the newest pass could not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from reconciler.daemon.metrics import Metrics
from reconciler.errors import UsageError


@dataclass(frozen=True)
class Health:
    """What the probes answer."""

    alive: bool
    ready: bool
    message: str


class HealthServer:
    """Serves probes and metrics from a thread; a context manager."""

    def __init__(
        self, *, host: str, port: int, metrics: Metrics, health: Callable[[], Health]
    ) -> None:
        handler = _handler(metrics, health)
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise UsageError(
                f"listen on {host}:{port}: {error.strerror}",
                hint="set another health.port in the configuration",
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="health",
            daemon=True,
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(metrics: Metrics, health: Callable[[], Health]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "reconciler"
        sys_version = ""
        timeout = 10

        def do_GET(self) -> None:
            state = health()
            match self.path.partition("?")[0]:
                case "/healthz":
                    self._answer(200 if state.alive else 503, state.message)
                case "/readyz":
                    self._answer(200 if state.ready else 503, state.message)
                case "/metrics":
                    self._send(
                        200, metrics.exposition(), "text/plain; version=0.0.4; charset=utf-8"
                    )
                case _:
                    self._answer(404, "not found")

        def _answer(self, status: int, text: str) -> None:
            self._send(status, (text + "\n").encode(), "text/plain; charset=utf-8")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Probes come every few seconds: they are not worth a line each."""

    return Handler
