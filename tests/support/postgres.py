"""A real PostgreSQL server of this machine, in a directory of its own, under a user that it accepts."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HOW_TO_GET_IT = "needs PostgreSQL: apt-get install postgresql (only initdb and postgres are used)"


def find_binaries() -> Path:
    """Where initdb is; skips the test with the line that says how to get it, and fails in CI."""
    places = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True
    )
    on_path = shutil.which("initdb")
    found = [
        p
        for p in [*places, *([Path(on_path).parent] if on_path else [])]
        if (p / "initdb").exists()
    ]
    if found:
        return found[0]
    if os.environ.get("CI") == "true":
        pytest.fail(HOW_TO_GET_IT)
    pytest.skip(HOW_TO_GET_IT)


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `env` is what a container of it would have."""

    env: dict[str, str]
    user: int | None

    def run(
        self, command: list[str], *, data: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command as an exec into the server's container would."""
        return subprocess.run(
            command,
            env=self.env,
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
            **_as(self.user),
        )

    def sql(self, text: str, *, database: str = "shop") -> list[list[str]]:
        """Run SQL and give the rows; any error fails the test."""
        done = self.run(
            ["psql", "-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database],
            data=text.encode(),
        )
        assert done.returncode == 0, done.stderr.decode()
        return [line.split("\t") for line in done.stdout.decode().splitlines()]


def _as(user: int | None) -> dict[str, object]:
    return (
        {}
        if user is None
        else {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}
    )


def _user() -> int | None:
    """PostgreSQL refuses root: its own user when there is one, else nobody."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise AssertionError("no user to run PostgreSQL as")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server with the superuser `shop` and the database `shop`; stop it and remove it afterwards."""
    binaries, user, port = find_binaries(), _user(), _free_port()
    root = Path(tempfile.mkdtemp(prefix="reconciler-postgres-"))
    if user is not None:
        os.chown(root, user, pwd.getpwuid(user).pw_gid)
    env = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(root),
        "LC_ALL": "C",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "POSTGRES_USER": "shop",
        "POSTGRES_DB": "shop",
    }
    server = PostgresServer(env, user)
    data = str(root / "data")
    done = server.run(
        ["initdb", "-D", data, "-U", "shop", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    )
    assert done.returncode == 0, done.stderr.decode()
    options = [
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
        "-c",
        "fsync=off",
    ]
    process = subprocess.Popen(
        ["postgres", "-D", data, "-p", str(port), *options],
        env=env,
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **_as(user),
    )
    try:
        deadline = time.monotonic() + 30
        while (
            server.run(["psql", "-XAtqU", "shop", "-d", "postgres", "-c", "select 1"]).returncode
            != 0
        ):
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        assert server.run(["createdb", "-U", "shop", "shop"]).returncode == 0
        env["PGUSER"] = "shop"
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(root, ignore_errors=True)
