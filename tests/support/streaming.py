"""Containers of a sandbox that streams run in, and clients that speak one protocol."""

from __future__ import annotations

import shutil
import uuid
from contextlib import contextmanager
from datetime import timedelta

import pytest

from reconciler.cluster.kubernetes import connect
from reconciler.cluster.port import ExecTarget
from tests.support.clusters import is_ready, pod_spec, sandbox_cluster
from tests.support.sandbox import eventually

SOON = timedelta(seconds=20)
CONTENT = bytes(range(253)) * 2000
V4 = "v4.channel.k8s.io"
SHELLS = {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
DASH_WITH_BUSYBOX = ["dash", "busybox"]
TOOLS = ("tee", "dd", "sha256sum", "cat", "head", "sleep", "printf", "true", "false", "test")


@pytest.fixture(scope="module")
def running():
    """A sandbox that runs commands."""
    with sandbox_cluster() as (sandbox, cluster):
        yield sandbox, cluster, cluster.discover()


@pytest.fixture(autouse=True)
def no_faults(running):
    """Each test sets its own faults."""
    running[0].faults.clear()


@pytest.fixture(scope="module")
def target(running):
    """A container with whatever this machine has."""
    return started(running, "plain", pod_spec())


def started(running, name, spec):
    """A running pod."""
    _, cluster, discovery = running
    kind = discovery.find("", "Pod")
    metadata = {"name": name, "namespace": "default"}
    cluster.create(
        kind, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, manager="t"
    )
    eventually(lambda: is_ready(cluster.get(kind, name, namespace="default")))
    return ExecTarget("default", name)


def boxed(folder, shell, tools=("sh", *TOOLS)):
    """A PATH with these tools, in which `sh` is `shell`; with busybox every tool is busybox's own.

    A busybox shell may run its own tools without finding them in PATH: what is lacking is shown with `dash`.
    """
    folder.mkdir(mode=0o755)
    program = shutil.which(shell[0])
    for name in {shell[0], shell[-1]} - {"sh"}:
        if shutil.which(name) is None:
            pytest.skip(f"needs {name} in PATH (Debian: apt-get install {name})")
    for tool in tools:
        is_busybox = "busybox" in shell and tool != "sh"
        source = program if tool == "sh" else shutil.which("busybox" if is_busybox else tool)
        if source:
            (folder / tool).symlink_to(source)
    return str(folder)


@contextmanager
def speaking(sandbox, protocol, **how):
    """A client that asks for this protocol alone; any when it is empty."""
    config = sandbox.write_kubeconfig(sandbox.directory / f"kubeconfig-{uuid.uuid4().hex}")
    with connect(
        name="sandbox", kubeconfig=config, exec_protocols=[protocol] if protocol else [], **how
    ) as cluster:
        yield cluster
