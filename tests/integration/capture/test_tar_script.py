"""The command that sends a volume's files, run by this machine's own shell and tar."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from reconciler.capture.tarstream import TarReader
from reconciler.capture.volumes import SCRIPT, _judge
from tests.support.unprivileged import open_folder


def send(folder, **options):
    """Run the script as a container would, and read what it sends."""
    done = subprocess.run(
        ["sh", "-c", SCRIPT, "sh", str(folder)], capture_output=True, check=True, **options
    )
    reader = TarReader(iter([done.stdout]))
    found = {entry.path: b"".join(entry.content()) if entry.content else None for entry in reader}
    return found, [(o.result, o.reason) for o in _judge("volume/a", reader.trailer)]


def test_files_come_with_owners_and_nanoseconds(tmp_path):
    """Names, contents and times to the nanosecond; `lost+found` is the file system's and stays behind."""
    (tmp_path / "a b").write_bytes(b"hello")
    (tmp_path / "lost+found").mkdir()
    os.utime(tmp_path / "a b", ns=(1, 1_700_000_000_123_456_789))
    done = subprocess.run(
        ["sh", "-c", SCRIPT, "sh", str(tmp_path)], capture_output=True, check=True
    )
    reader = TarReader(iter([done.stdout]))
    entries = {}
    for entry in reader:
        entries[entry.path] = entry
        for _ in entry.content() if entry.content else ():
            pass

    assert set(entries) == {".", "a b"}
    assert entries["a b"].mtime_ns == 1_700_000_000_123_456_789
    assert (entries["a b"].uid, entries["a b"].gid) == (os.getuid(), os.getgid())
    assert _judge("volume/a", reader.trailer) == []


@pytest.mark.skipif(shutil.which("busybox") is None, reason="apt-get install busybox-static")
def test_a_small_busybox_is_enough(tmp_path):
    """A busybox whose tar knows no `--exclude` sends the same files, and `lost+found` stays behind."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "tar", "tail"):
        (tools / name).symlink_to(shutil.which("busybox"))
    folder = tmp_path / "files"
    (folder / "lost+found").mkdir(parents=True)
    (folder / "lost+found" / "#1").write_bytes(b"orphan")
    (folder / "a").write_bytes(b"hello")

    assert send(folder, env={"PATH": str(tools)}) == ({".": None, "a": b"hello"}, [])


def test_sockets_are_told(tmp_path):
    """A socket holds no contents: it is left out, and that is said."""
    (tmp_path / "f").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert send(tmp_path) == ({".": None, "f": b"x"}, [("Skipped", "SocketsIgnored")])


@pytest.mark.skipif(os.geteuid() != 0, reason="run as root: another user reads the files")
def test_files_that_cannot_be_read_are_a_failure():
    """What can be read arrives, and the volume is not called whole."""
    with open_folder() as folder:
        (folder / "open").write_bytes(b"x")
        (folder / "closed").write_bytes(b"secret")
        (folder / "closed").chmod(0o600)

        found, outcomes = send(folder, user=65534, group=65534, extra_groups=[])

    assert found == {".": None, "open": b"x"}
    assert outcomes == [("Failed", "FilesUnreadable")]


def test_without_tar_nothing_is_sent(tmp_path):
    """An image without tar ends with the code that makes the reader look for another pod, and names it."""
    done = subprocess.run(
        ["/bin/sh", "-c", SCRIPT, "sh", str(tmp_path)],
        capture_output=True,
        check=False,
        env={"PATH": str(tmp_path)},
    )

    assert (done.returncode, done.stdout) == (127, b"")
    assert done.stderr == b"this image has no tar\n"


def test_a_folder_that_is_not_there_is_no_empty_volume(tmp_path):
    """tar's complaint makes it a failure, not an empty tree taken for whole."""
    done = subprocess.run(
        ["sh", "-c", SCRIPT, "sh", str(tmp_path / "gone")], capture_output=True, check=False
    )

    assert done.returncode != 0 or b"exit=2" in done.stdout
