"""Real object stores on loopback, each in a folder of the test's: MinIO, and VersityGW over a plain directory."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.store.s3 import Credentials
from tests.cluster.node.build import program

USER, PASSWORD = "a-key-for-tests", "a-secret-for-tests-0123456789"
READY_S = 30
ENVIRONMENT = {
    "MINIO_ROOT_USER": USER,
    "MINIO_ROOT_PASSWORD": PASSWORD,
    "MINIO_BROWSER": "off",
    "MINIO_UPDATE": "off",
    "ROOT_ACCESS_KEY": USER,
    "ROOT_SECRET_KEY": PASSWORD,
}


def missing(part: str) -> str:
    """How to get a server that is not built; empty when it is."""
    built = program(part).is_file()
    return "" if built else f"{part} is not built: `make cluster-build` (tests/cluster/README.md)"


@dataclass
class BucketServer:
    """A running server. To both of them a bucket is a folder of their drive."""

    part: str
    port: int
    data: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    host: str = "127.0.0.1"

    credentials = Credentials(USER, PASSWORD)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def url(self, bucket: str, prefix: str = "", *, endpoint: str = "") -> str:
        """The URL of a location."""
        place = f"s3://{bucket}/{prefix}".rstrip("/")
        return f"{place}?endpoint={endpoint or self.endpoint}&region=us-east-1"

    def make(self, bucket: str) -> None:
        """Make a bucket."""
        (self.data / bucket).mkdir()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        address = f"{self.host}:{self.port}"
        argv = {
            "minio": ["server", str(self.data), "--address", address],
            "versitygw": ["--port", address, "--region", "us-east-1", "posix", str(self.data)],
        }[self.part]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.data.parent), **ENVIRONMENT}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(program(self.part)), *argv],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + READY_S
        while not self._serves():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _serves(self) -> bool:
        """Whether it answers HTTP with anything but that it is not ready."""
        try:
            with socket.create_connection((self.host, self.port), timeout=2) as wire:
                wire.sendall(
                    b"GET /no-such-bucket HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                )
                status = wire.recv(64).split(b" ")
        except OSError:
            return False
        return len(status) > 1 and status[1].isdigit() and status[1] < b"500"


@contextmanager
def serving(part: str, folder: Path, *, host: str = "127.0.0.1") -> Iterator[BucketServer]:
    """A server with an empty drive, on loopback or the machine's end of a test cluster's network."""
    with socket.create_server((host, 0)) as listener:
        port = listener.getsockname()[1]
    data = folder / "drive"
    data.mkdir(parents=True)
    server = BucketServer(part, port, data, folder / f"{part}.log", host=host)
    server.start()
    try:
        yield server
    finally:
        server.stop()
