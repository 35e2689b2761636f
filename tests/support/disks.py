"""A small disk of its own for a location: a tmpfs whose size, and whether it may be written, can be changed.

It needs the right to mount, so a test that is run by somebody else is skipped with the line that says so. What needs
no mount (a limit on the size of files, a folder of another user) stands beside it.
"""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A mounted file system at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, mebibytes: int) -> None:
        """Give it another size."""
        _mount("-o", f"remount,size={mebibytes}m", str(self.path))

    @contextmanager
    def read_only(self):
        """Nobody writes to it in here."""
        _mount("-o", "remount,ro", str(self.path))
        try:
            yield
        finally:
            _mount("-o", "remount,rw", str(self.path))

    def files(self) -> dict[str, int]:
        """Every file on it, temporary ones too, with its size."""
        return {
            str(one.relative_to(self.path)): one.stat().st_size
            for one in self.path.rglob("*")
            if one.is_file()
        }

    def fill(self) -> Path:
        """Take all the space that is left; give the file that has it."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError:
                    continue
        return ballast


@contextmanager
def small_disk(path: Path, *, mebibytes: int):
    """A disk of this size, mounted at `path` for a while."""
    path.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0 or _mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)):
        pytest.skip(
            "needs the right to mount a tmpfs: run as root, outside of a container without it"
        )
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def largest_file(size: int):
    """No file of this process grows beyond this size: the kernel says EFBIG, as a full disk says ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _mount(*argv: str) -> int:
    return subprocess.run(["mount", *argv], capture_output=True).returncode
