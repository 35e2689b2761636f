"""Where the demo's story is told: on the embedded sandbox, or on a cluster of the user's.

The story is the same; what differs is how containers run, which ports they listen on, how a page is fetched, and
where the legacy application lived: a real cluster of today cannot serve the old API versions, so there it comes from
a sandbox that stands for an older cluster, and moves to the real one.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SANDBOX_WEB_IMAGE = "python:3.12-slim"
SANDBOX_DATABASE_IMAGE = "postgres:15"
REAL_DATABASE_USER = 999
"""The number of `postgres` in Debian's official image."""


@dataclass(frozen=True)
class Runtime:
    """How the applications' containers run."""

    database_image: str
    database_user: int | None
    """Whom the database runs as; None: as the sandbox does."""
    web_image: str
    serve: Callable[[str, int], list[str]]
    """Folder and port → the command of a web server."""


@dataclass(frozen=True)
class Ports:
    """Ports that the workloads listen on."""

    database: int
    shop: int
    wiki: int
    portal: int


@dataclass(frozen=True)
class Real:
    """A cluster of the user's."""

    context: str
    kubeconfig: Path | None
    database_image: str
    tools_image: str
    """Has sh, httpd, nc, tar, sha256sum, tee, wc: busybox."""


@dataclass(frozen=True)
class Setting:
    """The place of one telling."""

    real: Real | None
    runtime: Runtime
    ports: Ports

    @property
    def helper_image(self) -> str | None:
        """The image of fillers, where the default will not do."""
        return self.real.tools_image if self.real else None


def sandbox_setting() -> Setting:
    """On the embedded sandbox, on free ports of this machine."""
    runtime = Runtime(
        database_image=SANDBOX_DATABASE_IMAGE,
        database_user=database_user(),
        web_image=SANDBOX_WEB_IMAGE,
        serve=lambda folder, port: [
            *("python3", "-m", "http.server", "--bind", "127.0.0.1"),
            *("--directory", folder, str(port)),
        ],
    )
    return Setting(real=None, runtime=runtime, ports=Ports(*free_ports(4)))


def real_setting(real: Real) -> Setting:
    """On a real cluster, where every pod has ports of its own."""
    runtime = Runtime(
        database_image=real.database_image,
        database_user=REAL_DATABASE_USER,
        web_image=real.tools_image,
        serve=lambda folder, port: ["httpd", "-f", "-p", str(port), "-h", folder],
    )
    return Setting(real=real, runtime=runtime, ports=Ports(5432, 8080, 8080, 8080))


def legacy_runtime(setting: Setting) -> Runtime:
    """How the legacy application runs: the same command must do on the sandbox and where it moves to."""
    if setting.real is None:
        return setting.runtime
    return Runtime(
        database_image=setting.runtime.database_image,
        database_user=None,
        web_image=setting.real.tools_image,
        serve=lambda folder, _port: ["sh", "-c", f"cd {folder} && while :; do sleep 1; done"],
    )


def database_user() -> int | None:
    """The uid that the database runs as: nobody's business unless we are root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        return 65534


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
