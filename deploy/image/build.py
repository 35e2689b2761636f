"""Builds the image of the reconciler and its data movers, without an image registry, a container engine or root.

    python deploy/image/build.py [--name NAME:TAG] [--output FILE] [--any-version]
    python deploy/image/build.py --lock

Debian packages (the versions of `packages.lock`, checked by digest), the wheels of `requirements/runtime.txt` (checked
by digest) and this project are laid into three layers; order, times and owners are fixed, so the same commit gives the
same bytes. The archive is an OCI layout that `docker load`, `podman load`, `ctr images import` and `skopeo` read.
Debian takes versions off its servers when newer ones come: then the build says so, and `--lock` writes the present
ones down; `--any-version` takes them at once, and the digest is that of another image.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
LOCK = FOLDER / "packages.lock"
PYTHON = "python3.11"
SITE = f"usr/local/lib/{PYTHON}/dist-packages"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
USER = "65532:65532"
MERGED = ("bin", "sbin", "lib", "lib64")
LEFT_OUT = (
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/locale/",
    "usr/share/lintian/",
    "usr/share/info/",
)
WRAPPER = f"#!/usr/bin/{PYTHON}\nfrom reconciler.cli.main import main\nmain()\n"


class ImageError(Exception):
    """The image cannot be built; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """A Debian package of one version."""

    name: str
    version: str
    sha256: str


def _run(argv: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(
            f"{' '.join(argv[:3])} …: {done.stderr.strip()[-2000:] or done.stdout[-2000:]}"
        )
    return done.stdout


def cache_folder() -> Path:
    """Where downloads and finished layers are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "backup-reconciler" / "image"


def read_lock() -> list[Package]:
    """The packages as they are locked."""
    lines = [line.split() for line in LOCK.read_text().splitlines() if line and line[0] != "#"]
    return [Package(*line) for line in lines]


def present_packages() -> list[Package]:
    """The packages as Debian serves them now."""
    names = [n for n in (FOLDER / "packages.txt").read_text().split("\n") if n and n[0] != "#"]
    packages = []
    for name in names:
        shown = _run(["apt-cache", "show", "--no-all-versions", f"{name}:amd64"])
        fields = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line)
        if "SHA256" not in fields:
            raise ImageError(f"find package {name}: apt knows no download; run `apt-get update`")
        packages.append(Package(name, fields["Version"], fields["SHA256"]))
    return packages


def write_lock() -> None:
    """Write down what Debian serves now."""
    head = "# name version sha256 (amd64); written by `make image-lock`\n"
    LOCK.write_text(
        head + "".join(f"{p.name} {p.version} {p.sha256}\n" for p in present_packages())
    )


def fetch(package: Package) -> Path:
    """Download a package once.

    Raises:
        ImageError: it is not served any more, or is not what the lock says.
    """
    kept = cache_folder() / "packages" / f"{package.name}-{package.sha256[:16]}.deb"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            try:
                wanted = f"{package.name}:amd64={package.version}"
                _run(["apt-get", "download", "-qq", wanted], cwd=Path(folder))
            except ImageError as error:
                raise ImageError(
                    f"fetch {package.name} {package.version}: {error}\nrun `apt-get update`; a version that Debian "
                    "serves no more needs `make image-lock`, or --any-version for another image"
                ) from error
            (made,) = Path(folder).iterdir()
            shutil.move(made, kept)
    if hashlib.sha256(kept.read_bytes()).hexdigest() != package.sha256:
        kept.unlink()
        raise ImageError(f"fetch {package.name}: it is not what the lock says")
    return kept


def lay_debian(root: Path, packages: Iterable[Package]) -> None:
    """Unpack packages; no script of theirs is run."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        argv = ["dpkg-deb", "--fsys-tarfile", str(fetch(package))]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    _lay_member(root, archive, member)
        if process.returncode:
            raise ImageError(f"unpack {package.name}: dpkg-deb ended with {process.returncode}")
    certificates = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(path.read_text().rstrip() + "\n" for path in certificates))
    for name, text in (
        (
            "passwd",
            "root:x:0:0:root:/root:/bin/sh\nreconciler:x:65532:65532::/home/reconciler:/bin/sh\n",
        ),
        ("group", "root:x:0:\nreconciler:x:65532:\n"),
        ("localtime", ""),
    ):
        path = root / "etc" / name
        path.unlink(missing_ok=True)
        if text:
            path.write_text(text)
    for alias, target in (("sh", "dash"), ("python3", PYTHON)):
        link = root / "usr/bin" / alias
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    (root / "home/reconciler").mkdir(parents=True, exist_ok=True)


def _lay_member(root: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    name = member.name.removeprefix("./").rstrip("/")
    head, _, rest = name.partition("/")
    if head in MERGED:
        name = f"usr/{name}" if rest else ""
    if not name or f"{name}/".startswith(LEFT_OUT):
        return
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        target.mkdir(exist_ok=True)
        return
    target.unlink(missing_ok=True)
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        source = member.linkname.removeprefix("./")
        head = source.partition("/")[0]
        os.link(root / (f"usr/{source}" if head in MERGED else source), target)
    elif member.isfile():
        content = archive.extractfile(member)
        assert content is not None
        target.write_bytes(content.read())
        target.chmod(member.mode & 0o755)


def lay_wheels(root: Path, wheels: Path) -> None:
    """Unpack the wheels that the product needs to run."""
    argv = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "-q",
        "download",
        "--no-deps",
    ]
    argv += ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp"]
    argv += [f"--platform=manylinux_2_{minor}_x86_64" for minor in (34, 28, 26, 17, 12, 5)]
    argv += ["--platform=manylinux2014_x86_64", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    argv += ["--require-hashes", "-r", str(ROOT / "requirements/runtime.txt"), "-d", str(wheels)]
    _run(argv)
    for wheel in sorted(wheels.glob("*.whl")):
        _lay_wheel(root, wheel)


def _lay_wheel(root: Path, wheel: Path) -> None:
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            head, _, rest = name.partition("/")
            if head.endswith(".data"):
                part, _, rest = rest.partition("/")
                if part not in ("purelib", "platlib"):
                    continue
                name_there = rest
            else:
                name_there = name
            target = root / SITE / name_there
            if name.endswith("/"):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def lay_project(root: Path) -> None:
    """Lay this project where Python finds it, and its command on the PATH."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "-q",
            "wheel",
            "--no-deps",
        ]
        _run([*argv, "--no-build-isolation", "-w", folder, str(ROOT)])
        (wheel,) = Path(folder).glob("*.whl")
        _lay_wheel(root, wheel)
    command = root / "usr/local/bin/reconciler"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(WRAPPER)
    command.chmod(0o755)


def compile_all(root: Path, below: Path, base: Path) -> None:
    """Compile modules with the image's own Python, so that the bytes depend on nothing here."""
    libraries = base / LIBRARIES
    argv = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    if not Path(argv[0]).exists():
        argv[0] = str(base / "usr/lib64/ld-linux-x86-64.so.2")
    argv += [str(base / "usr/bin" / PYTHON), "-S", "-B", "-m", "compileall", "-q", "-f"]
    argv += ["--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/", str(below)]
    environment = {"PYTHONHOME": str(base / "usr"), "PYTHONHASHSEED": "0", "PATH": ""}
    # Thousands of models that nothing imports are not worth their place; nor do templates and tests all compile.
    argv += ["-x", "kubernetes/client"]
    subprocess.run(argv, env=environment, capture_output=True, check=False)


def pack(root: Path, *, times: int) -> bytes:
    """A layer: names in order, owners and times fixed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            entry = archive.gettarinfo(path, arcname=name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = times
            if name == "home/reconciler":
                entry.uid = entry.gid = 65532
            if entry.islnk():
                # Which of two names comes first must not depend on the machine: both are files.
                entry.type, entry.size, entry.linkname = tarfile.REGTYPE, path.stat().st_size, ""
            if entry.isreg():
                entry.mode = 0o755 if entry.mode & 0o100 else 0o644
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                entry.mode = 0o777 if entry.issym() else 0o755
                archive.addfile(entry)
    return stream.getvalue()


def layers(*, any_version: bool) -> Iterator[bytes]:
    """The three layers; the first two are kept while what they are made of stays the same."""
    packages = present_packages() if any_version else read_lock()
    recipe = Path(__file__).read_bytes() + repr(packages).encode()
    wheels = recipe + (ROOT / "requirements/runtime.txt").read_bytes()
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        base, site, own = (Path(folder) / name for name in ("base", "site", "own"))
        for part in (base, site, own):
            part.mkdir()
        lay_debian(base, packages)
        kept = _kept("debian", recipe)
        if not kept.exists():
            compile_all(base, base / "usr/lib" / PYTHON, base)
            _keep(kept, pack(base, times=0))
        yield kept.read_bytes()
        kept = _kept("wheels", wheels)
        if not kept.exists():
            fetched = Path(folder) / "wheels"
            fetched.mkdir()
            lay_wheels(site, fetched)
            compile_all(site, site / SITE, base)
            _keep(kept, pack(site, times=0))
        yield kept.read_bytes()
        lay_project(own)
        compile_all(own, own / SITE, base)
        yield pack(own, times=0)


def _kept(name: str, made_of: bytes) -> Path:
    return cache_folder() / "layers" / f"{name}-{hashlib.sha256(made_of).hexdigest()[:16]}.tar"


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def build(output: Path, *, name: str, any_version: bool) -> str:
    """Write the image's archive; return its digest."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return f"sha256:{digest}"

    made = [(blob(layer), len(layer)) for layer in layers(any_version=any_version)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": USER,
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"],
            "Entrypoint": ["/usr/local/bin/reconciler"],
            "Cmd": ["run"],
            "WorkingDir": "/home/reconciler",
        },
        "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in made]},
        "history": [{"created_by": part} for part in ("debian", "wheels", "backup-reconciler")],
    }
    encoded = json.dumps(config, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _described(
            "application/vnd.oci.image.config.v1+json", blob(encoded), len(encoded)
        ),
        "layers": [_described("application/vnd.oci.image.layer.v1.tar", *layer) for layer in made],
    }
    text = json.dumps(manifest, sort_keys=True).encode()
    digest = blob(text)
    described = _described(manifest["mediaType"], digest, len(text))
    described["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    docker = [
        {
            "Config": _path(blob(encoded)),
            "RepoTags": [name],
            "Layers": [_path(layer) for layer, _ in made],
        }
    ]
    files = {
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [described]}).encode(),
        "manifest.json": json.dumps(docker).encode(),
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        **{f"blobs/sha256/{key}": data for key, data in blobs.items()},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".new")
    with tarfile.open(unfinished, "w") as archive:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    unfinished.replace(output)
    return digest


def _described(media: object, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media, "digest": digest, "size": size}


def _path(digest: str) -> str:
    return "blobs/sha256/" + digest.removeprefix("sha256:")


def main() -> int:
    """Build the image, or write the lock."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="docker.io/library/backup-reconciler:dev")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "image.tar")
    parser.add_argument("--any-version", action="store_true", help="take what Debian serves now")
    parser.add_argument("--lock", action="store_true", help="write packages.lock and end")
    arguments = parser.parse_args()
    os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800")
    try:
        if arguments.lock:
            write_lock()
            return 0
        digest = build(arguments.output, name=arguments.name, any_version=arguments.any_version)
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.name}@{digest}\n{arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
