"""A real object store: MinIO on loopback, in a folder of the test's."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.store.s3 import Credentials
from tests.cluster.node.build import program

USER, PASSWORD = "minio-for-tests", "a-key-for-tests-0123456789"
READY_S = 30
MISSING = "MinIO is not built: `make cluster-build` builds it (tests/cluster/README.md)"


@dataclass
class Minio:
    """A running server."""

    port: int
    data: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    credentials = Credentials(USER, PASSWORD)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, bucket: str, prefix: str = "", *, endpoint: str = "") -> str:
        """The URL of a location."""
        place = f"s3://{bucket}/{prefix}".rstrip("/")
        return f"{place}?endpoint={endpoint or self.endpoint}&region=us-east-1"

    def make(self, bucket: str) -> None:
        """Make a bucket: to MinIO it is a folder of its drive."""
        (self.data / bucket).mkdir()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.data),
            "MINIO_ROOT_USER": USER,
            "MINIO_ROOT_PASSWORD": PASSWORD,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        argv = [str(program("minio")), "server", str(self.data)]
        argv += ["--address", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
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
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=2) as answer:
                return answer.status == 200
        return False


@contextmanager
def serving(folder: Path) -> Iterator[Minio]:
    """A server with an empty drive."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    data = folder / "drive"
    data.mkdir(parents=True)
    minio = Minio(port, data, folder / "minio.log")
    minio.start()
    try:
        yield minio
    finally:
        minio.stop()
