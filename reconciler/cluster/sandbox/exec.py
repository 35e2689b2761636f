"""Commands in containers over WebSocket: `v5.channel.k8s.io`, and before Kubernetes 1.30 only `v4.channel.k8s.io`.

The first byte of a message is its channel: 0 stdin, 1 stdout, 2 stderr, 3 the Status at the end; in v5 the message
FF 00 closes stdin. One read is under way per stream and is sent before the next, so that a slow client slows
the command and a slow command the client.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL, PIPE, Process

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from reconciler.cluster.sandbox.container import Container
from reconciler.cluster.sandbox.faults import Fault
from reconciler.cluster.sandbox.pods import Pods
from reconciler.cluster.sandbox.state import Entry, encode
from reconciler.cluster.sandbox.status import StatusError, not_built
from reconciler.objects import Manifest

_CHUNK_BYTES = 256 * 1024
_PIPE_BYTES = 1024 * 1024
_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_V5_SINCE_MINOR = 30
_TRUE = ("true", "1")


class Exec:
    """One command and its socket."""

    def __init__(self, pods: Pods, socket: WebSocket, faults: dict[str, Fault]) -> None:
        self.pods, self.socket, self.faults = pods, socket, faults
        self._carried = 0
        self._half_close: bytes | None = None

    async def run(self, entry: Entry) -> None:
        """Serve the socket from its opening to its end; raises a StatusError before it opens one."""
        query = self.socket.query_params
        if not self.pods.processes:
            raise not_built("exec without processes; start it with processes=True or --processes")
        if query.get("tty") in _TRUE:
            raise not_built("exec with a terminal")
        is_new = int(self.pods.api.catalog.profile.minor) >= _V5_SINCE_MINOR
        spoken = [
            each for each in self.socket.scope["subprotocols"] if each in (_V5, _V4)[not is_new :]
        ]
        container = self.pods.container(entry, query.get("container", ""))
        if not spoken:
            await self.socket.send_denial_response(Response(status_code=403))
            return
        self._half_close = b"\xff\x00" if spoken[0] == _V5 else None
        await self.socket.accept(subprotocol=spoken[0])
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self.socket.send_bytes(b"\x01")
            stdin = PIPE if query.get("stdin") in _TRUE else DEVNULL
            status = await self._command(entry, container, stdin)
            while "exec-hang" in self.faults:
                await self.socket.receive_bytes()
            if "exec-no-status" not in self.faults:
                await self.socket.send_bytes(b"\x03" + encode(status))
            await self.socket.close(1000)

    async def _command(self, entry: Entry, container: Container, stdin: int) -> Manifest:
        words = self.socket.query_params.getlist("command")
        sizes = {"limit": _PIPE_BYTES, "pipesize": _PIPE_BYTES}
        try:
            process = await container.start(words, out=PIPE, stdin=stdin, **sizes)
        except OSError as exc:
            why = f"Internal error occurred: exec failed: {exc.strerror}: {words[0]}"
            return StatusError(500, why).body
        listener = asyncio.create_task(self._listen(entry, process.stdin))
        carriers = asyncio.create_task(self._carry(entry, process))
        try:
            await asyncio.wait([listener, carriers], return_when=asyncio.FIRST_COMPLETED)
            if not carriers.done():
                raise WebSocketDisconnect
            code = carriers.result()
        finally:
            listener.cancel()
            carriers.cancel()
            await container.kill(process)
            await asyncio.gather(listener, carriers, return_exceptions=True)
        code = 128 - code if code < 0 else code
        if code == 0 or self.faults.keys() & {"exec-cut-stdin", "exec-cut-stdout"}:
            return {"metadata": {}, "status": "Success"}
        body = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode"}
        causes = [{"reason": "ExitCode", "message": str(code)}]
        message = f"command terminated with exit code {code}"
        return body | {"message": message, "details": {"causes": causes}}

    async def _carry(self, entry: Entry, process: Process) -> int:
        streams = ((process.stdout, 1), (process.stderr, 2))
        pumps = [asyncio.create_task(self._pump(entry, *each)) for each in streams]
        if "exec-early-eof" in self.faults and process.stdin:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if not process.stdin.is_closing():
                process.stdin.transport.abort()
        await asyncio.gather(*pumps)
        return await process.wait()

    def _left(self, action: str) -> float:
        return self.faults[action].value if action in self.faults else float("inf")

    async def _pump(self, entry: Entry, stream: asyncio.StreamReader | None, channel: int) -> None:
        assert stream is not None
        left = self._left("exec-cut-stdout") if channel == 1 else float("inf")
        while chunk := await stream.read(_CHUNK_BYTES):
            if len(chunk) > left:
                chunk = chunk[: int(left)]
            left -= len(chunk)
            if chunk:
                await self.socket.send_bytes(bytes([channel]) + chunk)
            self._count(entry, len(chunk))

    async def _listen(self, entry: Entry, stdin: asyncio.StreamWriter | None) -> None:
        """Take what the client sends until it goes away, which is when this returns."""
        left = self._left("exec-cut-stdin")
        with contextlib.suppress(WebSocketDisconnect, KeyError):
            while True:
                message = await self.socket.receive_bytes()
                if stdin is None or stdin.is_closing():
                    continue
                if message == self._half_close:
                    stdin.close()
                elif message[:1] == b"\x00":
                    part = message[1 : 1 + int(min(left, len(message)))]
                    with contextlib.suppress(ConnectionError):
                        stdin.write(part)
                        await stdin.drain()
                    left -= len(part)
                    if left <= 0:
                        stdin.close()
                    self._count(entry, len(part))

    def _count(self, entry: Entry, size: int) -> None:
        self._carried += size
        enough = self._carried >= self._left("exec-kill-pod")
        if enough and self.pods.api.state.by_uid.get(entry.uid):
            row = self.pods.api.row("pods")
            self.pods.api.delete(row, *entry.key, {"gracePeriodSeconds": 0})
