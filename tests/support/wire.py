"""A server of few lines that says exactly the bytes a test wants: HTTP answers, watches, WebSockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.cluster.kubernetes import KubernetesCluster, connect


@dataclass
class Call:
    """One request, and the open connection to answer it on."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    wire: socket.socket

    def raw(self, *parts: bytes) -> None:
        """Say these bytes."""
        self.wire.sendall(b"".join(parts))

    def answer(self, code: int, body: Any, **headers: str) -> None:
        """A whole JSON answer."""
        text = json.dumps(body).encode()
        lines = [
            f"HTTP/1.1 {code} X",
            f"Content-Length: {len(text)}",
            "Content-Type: application/json",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.raw("\r\n".join(lines).encode(), b"\r\n\r\n", text)

    def stream(self, *lines: bytes) -> None:
        """The start of a chunked answer."""
        self.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in lines:
            self.raw(f"{len(line):x}\r\n".encode(), line, b"\r\n")

    def upgrade(self, protocol: str = "v5.channel.k8s.io") -> None:
        """Accept a WebSocket."""
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Accept: {accept}", f"Sec-WebSocket-Protocol: {protocol}", "", ""]
        self.raw("\r\n".join(lines).encode())

    def frame(self, payload: bytes, *, opcode: int = 2, last: bool = True) -> None:
        """One unmasked frame."""
        size = len(payload)
        head = bytes([(0x80 if last else 0) | opcode])
        head += (
            bytes([size])
            if size < 126
            else b"\x7e" + struct.pack("!H", size)
            if size < 65536
            else b"\x7f" + struct.pack("!Q", size)
        )
        self.raw(head + payload)

    def success(self) -> None:
        """The status of a command that ended well, and a close frame."""
        self.frame(b'\x03{"metadata":{},"status":"Success"}')
        self.frame(b"\x03\xe8", opcode=8)

    def hear(self) -> tuple[int, bytes]:
        """The next frame of the client, unmasked."""
        first, second = self._exactly(2)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", self._exactly(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", self._exactly(8))[0]
        mask = self._exactly(4)
        payload = self._exactly(size)
        return first & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))

    def drop(self) -> None:
        """Cut the connection."""
        self.wire.shutdown(socket.SHUT_RDWR)

    def until_gone(self) -> None:
        """Read until the client closes."""
        with contextlib.suppress(OSError):
            while self.wire.recv(65536):
                pass

    def _exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            piece = self.wire.recv(size - len(got))
            if not piece:
                raise ConnectionError("the client is gone")
            got += piece
        return got


@dataclass
class Wire:
    """A listening server; `calls` are the requests so far."""

    handler: Callable[[Call], None]
    context: ssl.SSLContext | None = None
    calls: list[Call] = field(default_factory=list)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    threads: list[threading.Thread] = field(default_factory=list)
    open: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http{'s' if self.context else ''}://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> None:
        """Serve until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self.listener.accept()
                self.open.append(wire)
                thread = threading.Thread(target=self.serve, args=(wire,), daemon=True)
                self.threads.append(thread)
                thread.start()

    def serve(self, wire: socket.socket) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(OSError):
            if self.context:
                wire = self.context.wrap_socket(wire, server_side=True)
                self.open.append(wire)
            wire.settimeout(20)
            with wire, wire.makefile("rb") as lines:
                while start := lines.readline():
                    method, path, _ = start.decode().split()
                    headers = {}
                    while (line := lines.readline().decode().strip()) != "":
                        name, _, value = line.partition(":")
                        headers[name.lower()] = value.strip()
                    body = lines.read(int(headers.get("content-length", 0)))
                    call = Call(method, path, headers, body, wire)
                    self.calls.append(call)
                    self.handler(call)
                    if "upgrade" in headers:
                        return

    def close(self) -> None:
        """Stop listening and drop every connection."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for wire in self.open:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()
        for thread in self.threads:
            thread.join(10)


@contextmanager
def serving(
    handler: Callable[[Call], None], *, context: ssl.SSLContext | None = None
) -> Iterator[Wire]:
    """A server that answers with `handler`."""
    server = Wire(handler, context)
    accepting = threading.Thread(target=server.accept, daemon=True)
    accepting.start()
    try:
        yield server
    finally:
        server.close()
        accepting.join(10)


def kubeconfig(path: Path, url: str, *, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    """A kubeconfig with one context."""
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [{"name": "main", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "main", "user": user or {"token": "very-secret-token"}}],
        "contexts": [{"name": "main", "context": {"cluster": "main", "user": "main"}}],
    }
    path.write_text(json.dumps(body))
    return path


@contextmanager
def connected(
    handler: Callable[[Call], None], tmp_path: Path, **how: Any
) -> Iterator[tuple[Wire, KubernetesCluster]]:
    """A server, and the adapter connected to it."""
    with serving(handler) as server:
        with connect(
            name="wire", kubeconfig=kubeconfig(tmp_path / "kubeconfig", server.url), **how
        ) as cluster:
            yield server, cluster
