"""The image: the same tree gives the same digest, and it holds what movers and shells need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.cluster.node.images import PRODUCT, product_archive
from tests.cluster.node.layout import ROOT


@pytest.fixture(autouse=True)
def built():
    if not product_archive().exists():
        pytest.skip("the image is not built of this tree: `make cluster-build`")


@pytest.fixture
def folder():
    """A folder of its own: an unpacked image is too much for what pytest keeps of its runs."""
    with tempfile.TemporaryDirectory(prefix="brc-image-") as made:
        yield Path(made)


def index(path):
    with tarfile.open(path) as archive:
        return json.load(archive.extractfile("index.json"))


def test_the_same_tree_gives_the_same_image(folder):
    """Built again from nothing but the packages, in another place, it has the digest that it had."""
    cache = folder / "cache/backup-reconciler/image"
    cache.mkdir(parents=True)
    built = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    (cache / "packages").symlink_to(os.path.join(built, "backup-reconciler/image/packages"))
    made = folder / "image.tar"
    argv = [sys.executable, str(ROOT / "deploy/image/build.py"), "--name", PRODUCT]
    done = subprocess.run(
        [*argv, "--output", str(made)],
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert index(made) == index(product_archive())


def test_the_image_runs_as_nobody(folder):
    """Its user is not root, and it starts the reconciler."""
    with tarfile.open(product_archive()) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        config = json.load(archive.extractfile(manifest["Config"]))["config"]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                files.extractall(folder, filter="tar")
    assert config["User"] == "65532:65532"
    folder.chmod(0o755)
    argv = ["chroot", "--userspec=65532:65532", str(folder), *config["Entrypoint"]]
    done = subprocess.run([*argv, "--version"], capture_output=True, text=True)
    assert (done.returncode, "reconciler" in done.stdout) == (0, True), done.stderr
    shell = "tar --version && echo x | tee /dev/null | sha256sum && find / -maxdepth 1"
    done = subprocess.run(["chroot", str(folder), "sh", "-c", shell], capture_output=True)
    assert done.returncode == 0, done.stderr
