"""Builds the programs of a test cluster from Go modules, once each, into the cache.

A part is a folder of `tests/cluster/parts` with a `go.mod`: a program of our own, or one that the file names as
its `tool`. A built program carries the digest of what it was made from in its name, so a changed part is
built again and an interrupted build goes on where Go's own cache stands.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.node.layout import PARTS, cache_folder

COMPONENTS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
NODE_PARTS = ("kubernetes", "etcd", "coredns", "pause")
FETCHED_PARTS = ("definitions",)
"""Parts of which nothing is built: files of their modules are read (`module_folders`)."""
ALL_PARTS = tuple(sorted({path.parent.name for path in PARTS.glob("*/go.mod")} - {*FETCHED_PARTS}))
IN_IMAGES = ("operator", "pause")
"""Parts that run in containers, where no C library may be."""
MISSING = "Go is not installed: the test cluster is built with it (https://go.dev/doc/install)"


class BuildError(Exception):
    """A part could not be built."""


def program(part: str) -> Path:
    """Where a built part is, whether or not it has been built."""
    return cache_folder() / "bin" / f"{part}-{_digest(part)}"


def component(name: str) -> Path:
    """One of Kubernetes' components: the shared program under the name that chooses it."""
    return program("kubernetes").parent / f"{program('kubernetes').name}.d" / name


def build(parts: Sequence[str] = ALL_PARTS) -> None:
    """Build what is missing, one after the other: each build keeps all cores busy."""
    with _alone():
        for part in parts:
            _build(part)
    for part in FETCHED_PARTS:
        module_folders(part)


def module_folders(part: str) -> dict[str, str]:
    """Fetch the modules that a part requires; where Go keeps the files of each."""
    if shutil.which("go") is None:
        raise BuildError(MISSING)
    environment = os.environ | {"GOFLAGS": "-mod=readonly"}
    argv = ["go", "mod", "download", "-json"]
    done = subprocess.run(
        argv, cwd=PARTS / part, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"fetch {part}: {done.stderr.strip() or done.stdout.strip()}")
    # One JSON document after the other, without the commas of a list.
    documents = json.loads("[" + re.sub(r"\}\s*\{", "},{", done.stdout) + "]")
    return {module["Path"]: module["Dir"] for module in documents}


def _build(part: str) -> None:
    made = program(part)
    if not made.exists():
        if shutil.which("go") is None:
            raise BuildError(MISSING)
        made.parent.mkdir(parents=True, exist_ok=True)
        print(f"building {part} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        # -trimpath everywhere: another flag would have Go compile everything a second time.
        argv = ["go", "build", "-trimpath", "-ldflags", " ".join(_linked(part)), "-o"]
        argv += [f"{made}.new", *_packages(part)]
        environment = os.environ | {"GOFLAGS": "-buildvcs=false -mod=readonly"}
        if part in IN_IMAGES:
            environment["CGO_ENABLED"] = "0"
        done = subprocess.run(argv, cwd=PARTS / part, env=environment, check=False)
        if done.returncode:
            raise BuildError(f"build {part}: go build ended with {done.returncode}")
        Path(f"{made}.new").rename(made)
        print(f"built {part} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    for old in made.parent.glob(f"{part}-*"):
        if not old.name.startswith(made.name):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    if part == "kubernetes":
        component("x").parent.mkdir(exist_ok=True)
        for name in COMPONENTS:
            if not component(name).is_symlink():
                component(name).symlink_to(made)


def _packages(part: str) -> list[str]:
    """The package to build: the folder's own program, else the tool that its go.mod names."""
    if (PARTS / part / "main.go").exists():
        return ["."]
    return re.findall(r"^tool (\S+)$", (PARTS / part / "go.mod").read_text(), re.MULTILINE)


def _linked(part: str) -> Iterator[str]:
    yield from ("-s", "-w")
    if part == "kubernetes":
        # Without them the server calls itself v0.0.0-master, and clients that read versions break.
        version = kubernetes_version()
        major, minor, _ = version.lstrip("v").split(".")
        where = "k8s.io/component-base/version"
        yield f"-X {where}.gitVersion={version} -X {where}.gitMajor={major}"
        yield f"-X {where}.gitMinor={minor} -X {where}.gitTreeState=clean"


def kubernetes_version() -> str:
    """The version that is built, as in its go.mod."""
    text = (PARTS / "kubernetes" / "go.mod").read_text()
    return re.search(r"k8s\.io/kubernetes (v\S+)", text)[1]


def _digest(part: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((PARTS / part).rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _alone() -> Iterator[None]:
    """One build at a time: a second one waits, and then finds everything there."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
