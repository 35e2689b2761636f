"""A bare clone against a real bare repository."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from reconciler.errors import UsageError
from reconciler.git.clone import (
    BareClone,
    BlobTooLargeError,
    CloneWriteError,
    DamagedCloneError,
    RefMovedError,
)
from reconciler.git.pack import Draft
from reconciler.git.remote import RemoteUnreachableError
from tests.support.gitremote import FlakyRemote, GitRemote, fsck, git
from tests.support.ledgers import START


@pytest.fixture
def remote(tmp_path):
    return GitRemote(tmp_path / "remote.git")


@pytest.fixture
def clone(tmp_path, remote):
    return BareClone(tmp_path / "clone.git", url=remote.url)


def draft(message="change", **edits):
    return Draft(
        message=message,
        edits={k.replace("__", "/"): v for k, v in edits.items()},
        at=START,
        author="A",
        email="a@example.org",
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.org/x.git",
        "ssh://git@host/x",
        "git@host:x.git",
        "/srv/x.git",
        "file://host/x",
    ],
)
def test_other_transports_are_refused(tmp_path, url):
    """What is no file:// URL is refused, never tried."""
    with pytest.raises(UsageError, match="not supported by this version"):
        BareClone(tmp_path / "c.git", url=url)


def test_fetch_of_an_absent_branch(clone, remote):
    """A branch that is not there is no error, and one that vanished is not remembered as there."""
    assert clone.fetch("main") is None
    tip = remote.commit({"a.yaml": "1"})
    assert clone.fetch("main") == tip
    git(remote.path, "update-ref", "-d", "refs/heads/main")
    assert clone.fetch("main") is None


def test_fetch_sees_every_push(clone, remote):
    """Each fetch looks at the remote anew: no list of branches is kept from the fetch before."""
    for number in range(3):
        tip = remote.commit({"a.yaml": str(number)})
        assert clone.fetch("main") == tip
        assert clone.blob(clone.lookup(tip, "a.yaml").id, max_bytes=10) == str(number).encode()


def test_remote_away(clone, remote):
    """While the remote is away, what was fetched stays readable."""
    tip = remote.commit({"a.yaml": "1"})
    clone.fetch("main")
    remote.hide()
    with pytest.raises(RemoteUnreachableError):
        clone.fetch("main")
    assert clone.lookup(tip, "a.yaml") is not None
    remote.show()
    assert clone.fetch("main") == tip


def test_reading_a_tree(clone, remote):
    """Files are found by path, with links and submodules told apart; folders are descended."""
    remote.commit({"a/b/c.yaml": "c", "a/d.yaml": "d", "e.yaml": "e"})
    tip = remote.commit({"a/b/c.yaml": "changed", "a/d.yaml": None, "f/g.yaml": "g"})
    clone.fetch("main")

    assert [path for path, _ in clone.walk(tip)] == ["e.yaml", "a/b/c.yaml", "f/g.yaml"]
    assert [path for path, _ in clone.walk(tip, under="a")] == ["a/b/c.yaml"]
    assert clone.lookup(tip, "a/nothing") is None
    assert clone.lookup(tip, "e.yaml/below") is None
    changes = {c.path: (c.before is None, c.after is None) for c in clone.changes(tip)}
    assert changes == {
        "a/b/c.yaml": (False, False),
        "a/d.yaml": (False, True),
        "f/g.yaml": (True, False),
    }


def test_a_large_blob_is_measured_first(clone, remote):
    """A blob beyond the bound is refused by its header."""
    tip = remote.commit({"big": "x" * 1000})
    clone.fetch("main")
    entry = clone.lookup(tip, "big")
    assert clone.size(entry.id) == 1000
    with pytest.raises(BlobTooLargeError, match="1000 bytes"):
        clone.blob(entry.id, max_bytes=999)


def test_ancestry(clone, remote):
    """Ancestry and the first-parent range are those of Git."""
    one, two, three = (remote.commit({"a": str(n)}) for n in range(3))
    clone.fetch("main")
    assert clone.is_ancestor(one, three)
    assert clone.is_ancestor(two, two)
    assert not clone.is_ancestor(three, one)
    assert clone.between(one, three) == [two, three]
    assert clone.between(None, three) == [one, two, three]
    assert [c.id for c in clone.history(three)] == [three, two, one]


def test_a_batch_is_one_pack(clone):
    """Many commits make one pack and its index, no loose object, and git finds them sound."""
    made = clone.write([draft(a__b=b"1"), draft(a__c=b"2"), draft(a__b=None)], parent=None)
    clone.move("main", made[-1], expected=None)

    packs = list((clone.path / "objects" / "pack").iterdir())
    assert sorted(p.suffix for p in packs) == [".idx", ".pack"]
    assert git(clone.path, "count-objects").startswith("0 objects")
    assert [path for path, _ in clone.walk(made[-1])] == ["a/c"]
    fsck(clone.path)


def test_only_touched_paths_are_written(clone):
    """A commit rewrites the trees along its path and no other: 5 objects for a file three folders deep."""
    (base,) = clone.write([draft(**{f"d{n}__e__f": b"x" for n in range(200)})], parent=None)
    clone.move("main", base, expected=None)
    (tip,) = clone.write([draft(d7__e__new=b"y")], parent=base)
    new = git(clone.path, "rev-list", "--objects", tip, f"^{base}").splitlines()
    assert len(new) == 5


def test_removing_everything(clone):
    """A tree may become empty."""
    made = clone.write([draft(a=b"1"), draft(a=None)], parent=None)
    clone.move("main", made[-1], expected=None)
    assert list(clone.walk(made[-1])) == []
    fsck(clone.path)


def test_a_file_becomes_a_folder(clone):
    """A path that was a file can be a folder in the next commit, and the other way round."""
    made = clone.write([draft(a=b"1"), draft(a__b=b"2"), draft(a=b"3")], parent=None)
    clone.move("main", made[-1], expected=None)
    assert [[path for path, _ in clone.walk(c)] for c in made] == [["a"], ["a/b"], ["a"]]
    fsck(clone.path)


def test_move_compares_and_swaps(clone):
    """A ref that is elsewhere than expected is not moved."""
    one, two = clone.write([draft(a=b"1"), draft(a=b"2")], parent=None)
    clone.move("main", one, expected=None)
    with pytest.raises(RefMovedError):
        clone.move("main", two, expected=None)
    with pytest.raises(RefMovedError):
        clone.move("main", two, expected=two)
    assert clone.tip("main") == one
    clone.move("main", two, expected=one)
    assert clone.tip("main") == two


def test_a_locked_ref_is_tried_again(clone, monkeypatch):
    """A lock that another program holds for a moment only delays."""
    one, two = clone.write([draft(a=b"1"), draft(a=b"2")], parent=None)
    clone.move("main", one, expected=None)
    lock = clone.path / "refs" / "heads" / "main.lock"
    lock.touch()
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            lock.unlink()

    monkeypatch.setattr("reconciler.git.clone.time.sleep", pause)
    clone.move("main", two, expected=one)
    assert (clone.tip("main"), len(pauses)) == (two, 3)


def test_push_and_what_it_says(clone, remote):
    """Accepted, refused and lost pushes are told apart, and a hook's words come through."""
    one, two = clone.write([draft(a=b"1"), draft(a=b"2")], parent=None)
    assert clone.push(one, ref="b", expected=None).status == "accepted"
    assert remote.tip("b") == one

    remote.hook('echo "Protected: ask the platform team" >&2\nexit 1\n')
    refused = clone.push(two, ref="b", expected=one)
    assert (refused.status, refused.message) == ("rejected", "Protected: ask the platform team")
    assert remote.tip("b") == one

    remote.unhook()
    assert clone.push(two, ref="b", expected=None).status == "lost"
    assert clone.push(two, ref="b", expected=one).status == "accepted"
    fsck(remote.path)


def test_an_update_hook_may_refuse(clone, remote):
    """A hook for one branch is heard like one for all."""
    (one,) = clone.write([draft(a=b"1")], parent=None)
    remote.hook("echo not on my watch; exit 1\n", name="update")
    result = clone.push(one, ref="b", expected=None)
    assert result.status == "rejected"
    assert result.message.startswith("not on my watch")


def test_hooks_text_is_cleaned_and_bounded(clone, remote):
    """A hook's escape sequences and floods do not reach the terminal."""
    (one,) = clone.write([draft(a=b"1")], parent=None)
    remote.hook(
        "printf '\\033[31mred\\033[0m\\a\\n' >&2; head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1\n"
    )
    message = clone.push(one, ref="b", expected=None).message
    assert message.startswith("red\nxxx")
    assert len(message) <= 4000


def test_post_receive_runs_and_is_waited_for(clone, remote, tmp_path):
    """The remote's own machinery (mirrors, CI) sees our pushes."""
    (one,) = clone.write([draft(a=b"1")], parent=None)
    remote.hook(f"cat > {tmp_path}/told\n", name="post-receive")
    assert clone.push(one, ref="b", expected=None).status == "accepted"
    assert one in (tmp_path / "told").read_text()


def test_a_hook_that_hangs_is_cut_off(tmp_path, remote):
    """A push ends in bounded time, with its hook; nobody then knows whether it went through."""
    from reconciler.git.remote import DirectoryRemote

    clone = BareClone(tmp_path / "c.git", url=remote.url, remote=DirectoryRemote(timeout_s=0.5))
    (one,) = clone.write([draft(a=b"1")], parent=None)
    remote.hook(f"echo $$ > {tmp_path}/pid\nexec sleep 600\n")
    result = clone.push(one, ref="b", expected=None)
    assert (result.status, result.message) == ("unreachable", "no answer within 0.5 s")
    pid = int((tmp_path / "pid").read_text())
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    assert not state.strip() or state.startswith("Z")


def test_push_to_a_remote_that_is_away(clone, remote):
    """A push to nowhere says so."""
    (one,) = clone.write([draft(a=b"1")], parent=None)
    remote.hide()
    result = clone.push(one, ref="b", expected=None)
    assert result.status == "unreachable"
    assert "remote.git" in result.message


def test_a_push_sends_only_what_is_missing(clone, remote):
    """The second push of a long history carries one commit, three trees or files."""
    base = clone.write([draft(**{f"a{n}": b"x" * 100}) for n in range(100)], parent=None)
    clone.push(base[-1], ref="b", expected=None)
    before = {p.name for p in (remote.path / "objects").rglob("*") if p.is_file()}
    (tip,) = clone.write([draft(new=b"y")], parent=base[-1])
    clone.push(tip, ref="b", expected=base[-1])
    new = {p.name for p in (remote.path / "objects").rglob("*") if p.is_file()} - before
    assert len(new) == 3


def test_two_writers_never_lose_a_commit(tmp_path, remote):
    """When another push lands between the look and the write, ours is lost and theirs stays."""
    one, two = (
        BareClone(tmp_path / "1.git", url=remote.url),
        BareClone(tmp_path / "2.git", url=remote.url),
    )
    (base,) = one.write([draft(a=b"0")], parent=None)
    one.push(base, ref="b", expected=None)
    two.fetch("b")
    (mine,) = one.write([draft(a=b"1")], parent=base)
    (theirs,) = two.write([draft(a=b"2")], parent=base)
    # The hook of the first push makes the second one land in its middle.
    two.push(theirs, ref="side", expected=None)
    remote.hook(
        f'while read o n r; do [ "$n" = {mine} ] && env -u GIT_QUARANTINE_PATH git update-ref refs/heads/b {theirs}; done; exit 0\n'
    )
    assert one.push(mine, ref="b", expected=base).status == "lost"
    assert remote.tip("b") == theirs


def test_a_damaged_clone_is_replaced(clone, remote):
    """A clone that lost objects says so, and the next fetch puts a sound one in its place."""
    tip = remote.commit({"a/b": "1"})
    clone.fetch("main")
    shutil.rmtree(clone.path / "objects" / "pack")
    (clone.path / "objects" / "pack").mkdir()
    fresh = BareClone(clone.path, url=remote.url)
    with pytest.raises(DamagedCloneError):
        fresh.commit(tip)
    assert fresh.fetch("main") == tip
    assert fresh.lookup(tip, "a/b") is not None
    assert (clone.path.parent / "clone.git.broken-1").is_dir()
    fsck(clone.path)


def test_a_damaged_clone_stays_while_the_remote_is_away(clone, remote):
    """Nothing is thrown away before its replacement is here."""
    remote.commit({"a": "1"})
    clone.fetch("main")
    shutil.rmtree(clone.path / "objects" / "pack")
    fresh = BareClone(clone.path, url=remote.url)
    remote.hide()
    with pytest.raises(RemoteUnreachableError):
        fresh.fetch("main")
    assert not list(clone.path.parent.glob("*.broken-*"))
    assert fresh.tip("refs/remotes/origin/main") is not None


def test_rubbish_where_a_clone_should_be(tmp_path, remote):
    """A directory that is no repository is moved aside; at most three are kept."""
    path = tmp_path / "c.git"
    for _ in range(5):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        (path / "HEAD").write_text("rubbish")
        (path / "file").write_text("rubbish")
        BareClone(path, url=remote.url)
    assert sorted(p.name for p in tmp_path.glob("c.git.broken-*")) == [
        f"c.git.broken-{n}" for n in (3, 4, 5)
    ]


def test_many_packs_are_put_together(clone):
    """More than fifty packs become few; nothing is lost, and refs are not packed."""
    parent = None
    for number in range(52):
        (parent,) = clone.write([draft(**{f"a{number}": b"x"})], parent=parent)
    clone.move("main", parent, expected=None)
    assert clone.tidy()
    assert len(list((clone.path / "objects" / "pack").glob("*.pack"))) < 10
    assert not (clone.path / "packed-refs").exists()
    assert len(clone.between(None, parent)) == 52
    (after,) = clone.write([draft(last=b"x")], parent=parent)
    clone.move("main", after, expected=parent)
    fsck(clone.path)
    assert not clone.tidy()


def test_without_the_git_program_housekeeping_is_left_out(clone, monkeypatch):
    """No git: nothing is put together, and everything goes on."""
    parent = None
    for number in range(51):
        (parent,) = clone.write([draft(a=str(number).encode())], parent=parent)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not clone.tidy()
    assert clone.commit(parent).message == "change"


def test_an_unwritable_clone_says_so(tmp_path, remote):
    """A work directory that cannot be made is a failure with its path, not a crash."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CloneWriteError, match="file/c.git"):
        BareClone(tmp_path / "file" / "c.git", url=remote.url)


def test_names_that_are_no_text(clone, remote):
    """A file whose name is no UTF-8 is listed, and damages nothing."""
    stream = b'commit refs/heads/main\ncommitter D <d@e> 1 +0000\ndata 1\nx\nM 100644 inline "bad\\377.yaml"\ndata 1\nx\n'
    git(remote.path, "fast-import", "--quiet", data=stream)
    tip = clone.fetch("main")
    assert len(list(clone.walk(tip))) == 1


def test_a_flaky_fetch_leaves_a_sound_clone(tmp_path, remote):
    """A failing transport is no reason to throw the clone away."""
    flaky = FlakyRemote()
    clone = BareClone(tmp_path / "c.git", url=remote.url, remote=flaky)
    remote.commit({"a": "1"})
    clone.fetch("main")
    flaky.fail_fetch = True
    with pytest.raises(RemoteUnreachableError):
        clone.fetch("main")
    assert not list(tmp_path.glob("*.broken-*"))
