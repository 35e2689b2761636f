"""A server of endless exec streams in a process of its own, so that it can be cut off or stopped.

`python -m tests.support.exec_server ADDRESS` prints its port. Commands with stdin read for ever, all others
write for ever; pings are answered, and a command `true` ends at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.support.wire import Call, Wire

PING, PONG = 9, 10
_EVERY_S = 0.02
_BLOCK = b"\x01" + bytes(32 << 10)


def endless(call: Call) -> None:
    """Serve one command."""
    call.upgrade()
    call.wire.settimeout(None)
    if "command=true" in call.path:
        call.success()
        return
    if "stdin=true" not in call.path:
        threading.Thread(target=_write, args=(call,), daemon=True).start()
    with contextlib.suppress(OSError):
        while True:
            opcode, payload = call.hear()
            if opcode == PING:
                call.frame(payload, opcode=PONG)


def _write(call: Call) -> None:
    with contextlib.suppress(OSError):
        while True:
            call.frame(_BLOCK)
            time.sleep(_EVERY_S)


@dataclass
class ExecServer:
    """A running server, and the network namespace that it runs in, if any."""

    url: str
    process: subprocess.Popen[str]
    namespace: str = ""

    def cut_off(self, hook: str) -> None:
        """Let a firewall drop what it receives (`input`) or sends (`output`): no RST, no FIN, no ICMP."""
        rules = (
            f"table inet cut {{ chain c {{ type filter hook {hook} priority 0; policy drop; }}; }}"
        )
        subprocess.run(
            ["ip", "netns", "exec", self.namespace, "nft", "-f", "-"],
            input=rules,
            text=True,
            check=True,
        )


@contextmanager
def served(address: str = "127.0.0.1", *, namespace: str = "") -> Iterator[ExecServer]:
    """A server process, in a network namespace when one is named."""
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    process = subprocess.Popen(
        [*inside, sys.executable, "-m", "tests.support.exec_server", address],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        yield ExecServer(f"http://{address}:{port}", process, namespace)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def walled_off() -> Iterator[ExecServer]:
    """A server in a network namespace of its own, reached over a veth pair; both go at the end."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nft"):
        pytest.skip(
            "cutting a peer off needs root, ip and nft: apt-get install iproute2 nftables, run as root"
        )
    number = os.getpid() % 16384
    name, near, far = f"cut-{number}", f"cut{number}a", f"cut{number}b"
    first = f"198.18.{number // 64}.{number % 64 * 4 + 1}"
    second = f"198.18.{number // 64}.{number % 64 * 4 + 2}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this machine allows no network namespaces: {made.stderr.strip()}")
    try:
        for words in (
            f"link add {near} type veth peer name {far} netns {name}",
            f"addr add {first}/30 dev {near}",
            f"link set {near} up",
            f"-n {name} addr add {second}/30 dev {far}",
            f"-n {name} link set {far} up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        with served(second, namespace=name) as server:
            yield server
    finally:
        # The namespace outlives its name as long as a socket in it does; the pair must not.
        subprocess.run(["ip", "link", "del", near], check=False)
        subprocess.run(["ip", "netns", "del", name], check=True)


def main() -> None:
    """Listen until killed."""
    server = Wire(endless, listener=socket.create_server((sys.argv[1], 0)))
    print(server.listener.getsockname()[1], flush=True)
    server.accept()


if __name__ == "__main__":
    main()
