"""The command that fills a claim, run by this machine's own shells and tars."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from reconciler.restore.execute.filling import SCRIPT
from reconciler.restore.execute.tar import tar_of
from reconciler.store.port import TreeEntry


def archive():
    """A directory with two files."""
    entries = [TreeEntry("sub", "directory", 0o755, 0, 0, 0)]
    for name, data in (("a", b"hello"), ("sub/b", bytes(range(256)) * 1000)):
        entry = TreeEntry(
            name, "file", 0o644, 0, 0, 0, size_bytes=len(data), content=lambda d=data: [d]
        )
        entries.append(entry)
    return b"".join(tar_of(entries))


def fill(folder, *, tools=None, sent=None):
    """Run the script on a folder; how it ended, and what it left of its input."""
    env = {"PATH": str(tools)} if tools else None
    # What the command leaves is what the shell around it can still read.
    around = (
        'script=$1 folder=$2; sh -c "$script" sh "$folder"; code=$?; /usr/bin/wc -c; exit $code'
    )
    return subprocess.run(
        ["/bin/sh", "-c", around, "sh", SCRIPT, str(folder)],
        input=archive() if sent is None else sent,
        capture_output=True,
        check=False,
        env=env,
    )


def found(folder):
    """The files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


@pytest.fixture
def folder(tmp_path):
    """A claim with old files, and the file system's own folder."""
    path = tmp_path / "claim"
    (path / "lost+found").mkdir(parents=True)
    (path / "lost+found" / "#1").write_bytes(b"orphan")
    (path / ".old").write_bytes(b"old")
    (path / "sub").write_bytes(b"was a file")
    return path


def boxed(tmp_path, *tools):
    """A PATH of busybox's tools; `dash` is the machine's, because a busybox shell may know its tools without a PATH."""
    busybox, dash = shutil.which("busybox"), shutil.which("dash")
    if busybox is None or dash is None:
        pytest.skip("needs busybox and dash (Debian: apt-get install busybox-static dash)")
    path = tmp_path / "tools"
    path.mkdir()
    for tool in tools:
        if tool == "dash":
            (path / "sh").symlink_to(dash)
        else:
            (path / tool).symlink_to(busybox)
    return path


WANTED = {"a": b"hello", "sub/b": bytes(range(256)) * 1000, "lost+found/#1": b"orphan"}


def test_a_claim_becomes_what_was_sent(folder):
    """What was there goes, hidden files too; `lost+found` is the file system's."""
    done = fill(folder)

    assert (done.returncode, found(folder)) == (0, WANTED)
    assert done.stdout.strip() == b"0"


def test_busybox_does_the_same(folder, tmp_path):
    """Its sh, find, rm and tar are enough."""
    done = fill(folder, tools=boxed(tmp_path, "sh", "tar", "find", "rm"))

    assert (done.returncode, found(folder)) == (0, WANTED)


def test_a_tar_that_stops_at_the_archives_end_leaves_nothing(folder, tmp_path):
    """Zeros behind the end mark are read away: input that a command leaves counts as lost."""
    tools = boxed(tmp_path, "dash", "find", "rm")
    lazy = tools / "tar"
    lazy.write_text('#!/bin/sh\n[ "$1" = --version ] || exec /usr/bin/head -c 512 >/dev/null\n')
    lazy.chmod(0o755)

    done = fill(folder, tools=tools, sent=bytes(512 + 9216))

    assert (done.returncode, done.stdout.strip()) == (0, b"0")


@pytest.mark.parametrize("missing", ["tar", "find"])
def test_an_image_that_lacks_a_tool_says_which(folder, tmp_path, missing):
    """Nothing is cleared by an image that cannot fill."""
    tools = boxed(tmp_path, "dash", *({"tar", "find", "rm"} - {missing}))

    done = fill(folder, tools=tools)

    assert (done.returncode, done.stderr) == (127, f"this image has no {missing}\n".encode())
    assert found(folder)[".old"] == b"old"


def test_an_archive_that_is_cut_fails(folder):
    """tar's own exit code comes through."""
    assert fill(folder, sent=archive()[:100_000]).returncode != 0
