"""Trees as tar streams, read back by the machine's tar."""

import os
import shutil
import subprocess

import pytest

from reconciler.restore.execute.tar import FileLengthError, tar_of
from reconciler.store.port import TreeEntry


def entry(path, type="file", *, data=b"", **rest):
    rest = {
        "mode": 0o755 if type == "directory" else 0o640,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "mtime_ns": 1_700_000_000_123_456_789,
    } | rest
    return TreeEntry(
        path=path,
        type=type,
        size_bytes=len(data),
        content=(lambda: [data]) if type == "file" else None,
        **rest,
    )


@pytest.mark.skipif(not shutil.which("tar"), reason="needs tar: install GNU tar or busybox")
def test_tar_reads_what_was_written(tmp_path):
    """Long names, links, odd bytes, empty files, modes and times to the nanosecond survive."""
    long = "/".join(["d" * 90] * 3) + "/" + "f" * 120
    odd = b"caf\xe9 \n x".decode("utf-8", "surrogateescape")
    entries = [
        entry(".", "directory", mode=0o750),
        entry("empty"),
        entry("big", data=b"x" * 1_000_001),
        entry(odd, data=b"odd"),
        *[entry("/".join(["d" * 90] * n), "directory") for n in (1, 2, 3)],
        entry(long, data=b"long"),
        entry("link", "symlink", link="big"),
        entry("hard", "hardlink", link="big"),
        entry("old", data=b"1", mtime_ns=1),
    ]
    subprocess.run(["tar", "-xpf", "-"], cwd=tmp_path, input=b"".join(tar_of(entries)), check=True)

    assert (tmp_path / "big").read_bytes() == b"x" * 1_000_001
    assert (tmp_path / long).read_bytes() == b"long"
    assert (tmp_path / odd).read_bytes() == b"odd"
    assert (tmp_path / "empty").read_bytes() == b""
    assert os.readlink(tmp_path / "link") == "big"
    assert (tmp_path / "hard").samefile(tmp_path / "big")
    assert (tmp_path / "big").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert (tmp_path / "old").stat().st_mtime_ns == 1
    assert (tmp_path / "big").stat().st_mode & 0o7777 == 0o640
    assert tmp_path.stat().st_mode & 0o7777 == 0o750


def test_a_file_of_another_length_is_an_error():
    """A stream that would be misread is never sent to its end."""
    short = TreeEntry(
        path="f",
        type="file",
        mode=0o600,
        uid=0,
        gid=0,
        mtime_ns=0,
        size_bytes=5,
        content=lambda: [b"1234"],
    )

    with pytest.raises(FileLengthError, match="4 bytes instead of 5"):
        list(tar_of([short]))
