"""Archives as they arrive."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile

import pytest

from reconciler.capture.tarstream import ArchiveError, TarReader, clean_path


def read(data, *, piece=1000):
    """Every entry with its bytes, and the reader."""
    reader = TarReader(data[at : at + piece] for at in range(0, len(data), piece))
    return [
        (entry, b"".join(entry.content()) if entry.content else None) for entry in reader
    ], reader


def archive(*members, form=tarfile.PAX_FORMAT, **options):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **options) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("piece", [1, 511, 512, 1 << 20])
def test_every_format_reads_the_same(form, piece):
    """Names, sizes, modes, owners, times and links come out as they went in, however the bytes are cut."""
    long = (
        "/".join(["directory"] * 12) + "/file"
        if form == tarfile.USTAR_FORMAT
        else "d" * 180 + "/" + "f" * 150
    )
    data = archive(
        member("./", type=tarfile.DIRTYPE, mode=0o755),
        member("./a", b"x" * 1500, mode=0o640, uid=1001, gid=1002, mtime=1_700_000_000),
        member("./b", type=tarfile.SYMTYPE, linkname="../outside"),
        member("./c", type=tarfile.LNKTYPE, linkname="./a"),
        member("./p", type=tarfile.FIFOTYPE),
        member("./n", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        member(long, b"deep"),
        member("empty"),
        form=form,
    )
    entries, reader = read(data, piece=piece)
    found = {entry.path: (entry, content) for entry, content in entries}

    assert found["."][0].type == "directory"
    assert found["."][0].mode == 0o755
    entry, content = found["a"]
    assert (entry.type, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.size_bytes) == (
        "file",
        0o640,
        1001,
        1002,
        1_700_000_000 * 10**9,
        1500,
    )
    assert content == b"x" * 1500
    assert (found["b"][0].type, found["b"][0].link) == ("symlink", "../outside")
    assert (found["c"][0].type, found["c"][0].link) == ("hardlink", "a")
    assert found["p"][0].type == "fifo"
    assert (found["n"][0].type, found["n"][0].device) == ("character", (1, 3))
    assert found[long][1] == b"deep"
    assert (found["empty"][0].type, found["empty"][1]) == ("file", b"")
    assert reader.is_done
    assert reader.trailer == b""


def test_pax_headers_carry_what_old_ones_cannot():
    """Times to the nanosecond, extended attributes, undecodable names and sizes beyond octal fields."""
    headers = {
        "mtime": "1700000000.123456789",
        "SCHILY.xattr.user.note": "hello",
        "uid": str(2**33),
    }
    info, data = member("name-\udcff", b"abc", pax_headers=headers)
    ((entry, content),), _ = read(archive((info, data), encoding="utf-8", errors="surrogateescape"))

    assert (entry.path, content) == ("name-\udcff", b"abc")
    assert entry.mtime_ns == 1_700_000_000_123_456_789
    assert entry.xattrs == {"user.note": b"hello"}
    assert entry.uid == 2**33


def test_what_follows_the_archive_is_kept():
    """The bytes after the padding are the trailer."""
    _, reader = read(archive(member("a", b"1")) + b"reconciler-tar gnu\nexit=0\n")

    assert reader.trailer == b"reconciler-tar gnu\nexit=0\n"


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 1024, 1500, 2047])
def test_an_archive_that_ends_early_is_an_error(cut):
    """Wherever the stream stops before the end mark, it is never taken for a whole archive."""
    with pytest.raises(ArchiveError):
        read(archive(member("a", b"x" * 600), member("b", b"y"))[:cut])


@pytest.mark.parametrize("place", [0, 124, 148, 1024])
def test_a_damaged_header_is_an_error(place):
    """A flipped byte in a header is noticed by its checksum, also in the middle of the archive."""
    data = bytearray(archive(member("a", b"x" * 100), member("b", b"y")))
    data[place] ^= 0x55

    with pytest.raises(ArchiveError):
        read(bytes(data))


def test_paths_do_not_leave_the_tree():
    """`..` is refused in names and hard links; leading slashes and dots are taken off."""
    assert [clean_path(p) for p in ("./a//b/", "/etc", ".", "")] == ["a/b", "etc", ".", "."]
    with pytest.raises(ArchiveError):
        read(archive(member("../a", b"")))
    with pytest.raises(ArchiveError):
        read(archive(member("a", type=tarfile.LNKTYPE, linkname="../../etc/passwd")))


def test_sparse_and_unknown_entries_are_refused():
    """What is not understood is an error, not a file with other bytes."""
    with pytest.raises(ArchiveError):
        read(archive(member("a", b"", type=b"V")))
    with pytest.raises(ArchiveError):
        read(archive(member("a", b"1", pax_headers={"GNU.sparse.major": "1"})))


@pytest.mark.parametrize(
    "command",
    [
        ["tar", "--format=posix", "-cf", "-", "."],
        ["tar", "--format=gnu", "-cf", "-", "."],
        ["tar", "--format=v7", "-cf", "-", "."],
        ["busybox", "tar", "-cf", "-", "."],
    ],
    ids=["posix", "gnu", "v7", "busybox"],
)
def test_archives_of_real_programs(command, tmp_path):
    """What tar programs write on this machine reads back as the files are."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"apt-get install {command[0]}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "big").write_bytes(os.urandom(70_000))
    (tmp_path / "small").write_bytes(b"hello")
    os.link(tmp_path / "small", tmp_path / "twin")
    (tmp_path / "link").symlink_to("sub/big")
    entries, _ = read(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout)
    found = {entry.path: (entry, content) for entry, content in entries}

    assert set(found) == {".", "sub", "sub/big", "small", "twin", "link"}
    assert found["sub/big"][1] == (tmp_path / "sub" / "big").read_bytes()
    assert {found["small"][1], found["twin"][1]} == {b"hello", None}
    assert sorted(found[n][0].type for n in ("small", "twin")) == ["file", "hardlink"]
    assert found["link"][0].link == "sub/big"
    assert found["small"][0].uid == os.getuid()
