"""Sandboxes for tests, and a plain HTTP client that knows nothing of Kubernetes clients."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3
import websocket

from reconciler.cluster.sandbox import Sandbox


class Http:
    """Raw requests to a sandbox; `call` returns the status and the decoded body."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.pool = urllib3.PoolManager(maxsize=16, retries=False)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        token: str | None = None,
        **headers: str,
    ) -> tuple[int, Any]:
        """One request."""
        given = {
            "Authorization": f"Bearer {self.sandbox.token if token is None else token}",
            "Content-Type": kind,
        }
        given |= {k.replace("_", "-"): v for k, v in headers.items()}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.pool.request(method, self.sandbox.url + path, body=data, headers=given)
        try:
            return answer.status, json.loads(answer.data)
        except ValueError:
            return answer.status, answer.data

    def get(self, path: str) -> Any:
        """A body that must be there."""
        status, body = self.call("GET", path)
        assert status == 200, body
        return body

    def post(self, path: str, body: Any) -> Any:
        """A body that must be created."""
        status, answer = self.call("POST", path, body)
        assert status == 201, answer
        return answer

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """The events of a watch, to its end."""
        headers = {"Authorization": f"Bearer {self.sandbox.token}"}
        answer = self.pool.request(
            "GET", self.sandbox.url + path, headers=headers, preload_content=False
        )
        try:
            for line in answer:
                yield json.loads(line)
        finally:
            answer.close()

    def close(self) -> None:
        """Close all connections."""
        self.pool.clear()


class Shell:
    """A command in a pod over WebSocket; a context manager."""

    def __init__(
        self,
        sandbox: Sandbox,
        pod: str,
        command: list[str],
        *,
        stdin: bool = False,
        tty: bool = False,
        container: str = "",
        protocol: str = "v5.channel.k8s.io",
    ) -> None:
        words = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
        words += [(k, "true") for k, on in (("stdin", stdin), ("tty", tty)) if on]
        words += [("container", container)] if container else []
        url = f"{sandbox.url.replace('http', 'ws')}/api/v1/namespaces/default/pods/{pod}/exec?{urlencode(words)}"
        headers = [f"Authorization: Bearer {sandbox.token}"]
        self.socket = websocket.create_connection(
            url, subprotocols=[protocol], header=headers, timeout=30
        )
        self.out, self.err = bytearray(), bytearray()
        self.first: bytes | None = None
        self.status: dict[str, Any] | None = None
        self.close_code = 0

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.shutdown()

    @classmethod
    def refused(cls, sandbox: Sandbox, **how: Any) -> int:
        """The status code of an exec that is refused before the socket opens."""
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            cls(sandbox, how.pop("pod"), ["true"], **how)
        return caught.value.status_code

    def send(self, chunk: bytes) -> None:
        """Write to stdin."""
        self.socket.send_binary(b"\0" + chunk)

    def close_stdin(self) -> None:
        """Half-close."""
        self.socket.send_binary(b"\xff\x00")

    def _receive(self) -> bool:
        code, data = self.socket.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            self.close_code = int.from_bytes(data[:2], "big")
            return False
        self.first = data if self.first is None else self.first
        if data[0] == 3:
            self.status = json.loads(data[1:])
        else:
            {1: self.out, 2: self.err}[data[0]].extend(data[1:])
        return True

    def read_some(self, size: int) -> int:
        """Read until `size` bytes of stdout have come."""
        while len(self.out) < size and self._receive():
            pass
        return len(self.out)

    def finish(self) -> tuple[bytes, bytes, int]:
        """Read to the end: stdout, stderr and the exit code (-1 without one)."""
        while self._receive():
            pass
        code = 0 if self.status and self.status["status"] == "Success" else -1
        for cause in (self.status or {}).get("details", {}).get("causes", []):
            code = int(cause["message"])
        return bytes(self.out), bytes(self.err), code


def eventually(check: Callable[[], Any], *, within_s: float = 20) -> Any:
    """Ask again until the answer is true; return it."""
    deadline = time.monotonic() + within_s
    while not (answer := check()):
        assert time.monotonic() < deadline, f"not true within {within_s} s: {check.__qualname__}"
        time.sleep(0.02)
    return answer


def open_directory() -> Path:
    """A fresh directory that other users can reach: containers may run as another user (pytest's own are 0700)."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-", dir="/var/tmp" if os.geteuid() == 0 else None))
    path.chmod(0o755)
    return path


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox whose pods are Running at once and run nothing."""
    with Sandbox(tmp_path / "sandbox", name="sandbox") as running:
        yield running


@pytest.fixture
def live_sandbox() -> Iterator[Sandbox]:
    """A sandbox that runs the commands of pods."""
    directory = open_directory()
    try:
        with Sandbox(directory, name="live", processes=True) as running:
            yield running
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[Http]:
    """A client of `sandbox`."""
    client = Http(sandbox)
    yield client
    client.close()


@pytest.fixture
def live_http(live_sandbox: Sandbox) -> Iterator[Http]:
    """A client of `live_sandbox`."""
    client = Http(live_sandbox)
    yield client
    client.close()
