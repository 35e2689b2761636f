"""The image: the same tree gives the same digest, and it holds what movers and shells need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile

import pytest

from tests.cluster.node.images import PRODUCT, product_archive
from tests.cluster.node.layout import ROOT


@pytest.fixture(autouse=True)
def built():
    if not product_archive().exists():
        pytest.skip("the image is not built of this tree: `make cluster-build`")


def index(path):
    with tarfile.open(path) as archive:
        return json.load(archive.extractfile("index.json"))


def test_the_same_tree_gives_the_same_image(tmp_path):
    """Built again from nothing but the packages, in another place, it has the digest that it had."""
    cache = tmp_path / "cache/backup-reconciler/image"
    cache.mkdir(parents=True)
    built = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    (cache / "packages").symlink_to(os.path.join(built, "backup-reconciler/image/packages"))
    made = tmp_path / "image.tar"
    argv = [sys.executable, str(ROOT / "deploy/image/build.py"), "--name", PRODUCT]
    done = subprocess.run(
        [*argv, "--output", str(made)],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert index(made) == index(product_archive())


def test_the_image_runs_as_nobody(tmp_path):
    """Its user is not root, and it starts the reconciler."""
    with tarfile.open(product_archive()) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        config = json.load(archive.extractfile(manifest["Config"]))["config"]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                files.extractall(tmp_path, filter="tar")
    assert config["User"] == "65532:65532"
    tmp_path.chmod(0o755)
    argv = ["chroot", "--userspec=65532:65532", str(tmp_path), *config["Entrypoint"]]
    done = subprocess.run([*argv, "--version"], capture_output=True, text=True)
    assert (done.returncode, "reconciler" in done.stdout) == (0, True), done.stderr
    shell = "tar --version && echo x | tee /dev/null | sha256sum && find / -maxdepth 1"
    done = subprocess.run(["chroot", str(tmp_path), "sh", "-c", shell], capture_output=True)
    assert done.returncode == 0, done.stderr
