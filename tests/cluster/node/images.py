"""Images of a test cluster, made from Debian's packages and our own programs; no registry is asked.

An image is a folder packed as a `docker save` archive (one layer), which `ctr images import` takes. Archives
are kept in the cache under a digest of what they are made from.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.node.build import program
from tests.cluster.node.layout import ROOT, cache_folder

REGISTRY = "docker.io/library"
DEBIAN = "bookworm"


@dataclass(frozen=True)
class Image:
    """An image: its name with tag, what fills its folder, and how a container of it starts."""

    name: str
    fill: Callable[[Path], None]
    made_from: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    environment: tuple[str, ...] = ("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",)
    exclude: tuple[str, ...] = field(default=())

    @property
    def archive(self) -> Path:
        """Where the packed image is, whether or not it was made."""
        described = json.dumps(
            [self.name, self.made_from, self.entrypoint, self.user, self.environment, self.exclude]
        )
        digest = hashlib.sha256(described.encode()).hexdigest()[:12]
        return cache_folder() / "images" / f"{self.name.replace(':', '-')}-{digest}.tar"


def _fill_pause(folder: Path) -> None:
    shutil.copy(program("pause"), folder / "pause")


def _fill_operator(folder: Path) -> None:
    shutil.copy(program("operator"), folder / "operator")


def _fill_busybox(folder: Path) -> None:
    busybox = shutil.which("busybox")
    if not busybox:
        raise FileNotFoundError("busybox: install Debian's busybox-static")
    binaries = folder / "bin"
    for name in ("bin", "etc", "root", "var", "dev", "proc", "sys"):
        (folder / name).mkdir()
    shutil.copy(busybox, binaries / "busybox")
    for applet in subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if applet != "busybox":
            (binaries / applet).symlink_to("busybox")
    (folder / "usr").mkdir()
    (folder / "usr/bin").symlink_to("../bin")
    _people(folder)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)


def _people(folder: Path) -> None:
    (folder / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
    )
    (folder / "etc/group").write_text("root:x:0:\nnobody:x:65534:\n")


def _fill_postgresql(folder: Path) -> None:
    """Debian with PostgreSQL, its binaries on the PATH."""
    argv = ["debootstrap", "--variant=minbase", "--include=postgresql,postgresql-client", DEBIAN]
    done = subprocess.run([*argv, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"debootstrap: {done.stdout[-2000:]}{done.stderr[-500:]}")
    # The numbers that the official image has, so that the same manifests run on both.
    for argv in (["groupmod", "-g", "999"], ["usermod", "-u", "999"]):
        subprocess.run(["chroot", str(folder), *argv, "postgres"], check=True)
    for binary in (folder / "usr/lib/postgresql").glob("*/bin/*"):
        link = folder / "usr/local/bin" / binary.name
        if not link.exists():
            link.symlink_to(Path("/") / binary.relative_to(folder))


IMAGES: tuple[Image, ...] = (
    Image("pause:1", _fill_pause, ("1",), entrypoint=("/pause",), user="65535:65535"),
    Image(
        "operator:1",
        _fill_operator,
        (program("operator").name,),
        entrypoint=("/operator",),
        user="65532:65532",
    ),
    Image("busybox:1.35", _fill_busybox, ("1",), environment=("PATH=/bin",)),
    Image(
        "postgresql:15",
        _fill_postgresql,
        ("2", DEBIAN),
        exclude=(
            "var/cache/apt",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
            "dev",
        ),
    ),
)


PRODUCT = f"{REGISTRY}/backup-reconciler:test"
"""The product's own image, as `make image` builds it."""
_PRODUCT_IS_MADE_OF = (
    "reconciler",
    "policies",
    "transforms",
    "blueprints",
    "requirements",
    "deploy/image",
)


def product_archive() -> Path:
    """Where the product's own image is, whether or not it was made."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    for folder in _PRODUCT_IS_MADE_OF:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return cache_folder() / "images" / f"product-{digest.hexdigest()[:12]}.tar"


def make_product() -> None:
    """Build the product's image, when the tree is not what it was built from."""
    archive = product_archive()
    if archive.exists():
        return
    print("making the product's image …", file=sys.stderr, flush=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, str(ROOT / "deploy/image/build.py"), "--name", PRODUCT]
    argv += ["--output", str(archive)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode and "serves no more" in done.stderr:
        print(done.stderr, file=sys.stderr, flush=True)
        argv.append("--any-version")
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"make image: {done.stderr[-3000:]}")
    for old in archive.parent.glob("product-*"):
        if old != archive:
            old.unlink()


def archives() -> list[Path]:
    """Every image's archive."""
    return [*(image.archive for image in IMAGES), product_archive()]


def make(images: Sequence[Image] = IMAGES) -> None:
    """Make the archives that are missing."""
    make_product()
    for image in images:
        if image.archive.exists():
            continue
        print(f"making image {image.name} …", file=sys.stderr, flush=True)
        image.archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="brc-image-") as folder:
            # A folder of its own, because debootstrap sets the mode of the root.
            root = Path(folder) / "root"
            root.mkdir(mode=0o755)
            image.fill(root)
            _pack(image, root)


def _pack(image: Image, root: Path) -> None:
    layer = io.BytesIO()
    unpacked = _layer(root, layer, exclude=image.exclude)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "config": {
            "Entrypoint": list(image.entrypoint) or None,
            "Env": list(image.environment),
            "User": image.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{unpacked}"]},
        "history": [{"created": "2020-01-01T00:00:00Z"}],
    }
    encoded = json.dumps(config, sort_keys=True).encode()
    name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [
        {
            "Config": name,
            "RepoTags": [f"{REGISTRY}/{image.name}"],
            "Layers": ["layer.tar"],
        }
    ]
    unfinished = image.archive.with_suffix(".new")
    with tarfile.open(unfinished, "w") as archive:
        for member, content in (
            ("manifest.json", json.dumps(manifest).encode()),
            (name, encoded),
            ("layer.tar", layer.getvalue()),
        ):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    unfinished.rename(image.archive)


def _layer(root: Path, into: io.BytesIO, *, exclude: Sequence[str]) -> str:
    """Pack the folder in a fixed order, and give the digest of the archive."""
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root).as_posix()
            if any(relative.startswith(f"{prefix}/") for prefix in exclude):
                continue
            entry = archive.gettarinfo(path, arcname=relative)
            if entry is None:
                continue
            entry.mtime = 0
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    return hashlib.sha256(into.getbuffer()).hexdigest()
