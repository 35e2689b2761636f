"""Commands say why something is not there: a key, a location or a file, never "no such point"."""

from __future__ import annotations

import pytest

from tests.support.command import reconciler


def no_passphrase(hall):
    """The passphrase's file is gone."""
    (hall.world.root / "passphrase").unlink()


def wrong_passphrase(hall):
    """The passphrase's file holds another one."""
    (hall.world.root / "passphrase").write_text("quite another one")


def no_location(hall):
    """The location's directory is gone."""
    (hall.world.root / "location").rename(hall.world.root / "elsewhere")


CLOSED = [
    (no_passphrase, 12, "read passphrase of primary"),
    (wrong_passphrase, 12, "the passphrase opens none"),
    (no_location, 10, "open location"),
]


class TestALocationThatDoesNotOpen:
    """It is the cause that is told, with its own exit code."""

    @pytest.mark.parametrize(("close", "code", "cause"), CLOSED)
    def test_a_plan_names_the_cause(self, hall, close, code, cause):
        """`restore plan` says why the location does not open, and does not call the point missing."""
        close(hall)
        answer = hall("restore", "plan", "shop")

        assert answer.code == code, answer.err
        assert cause in answer.err
        assert "not in" not in answer.err

    @pytest.mark.parametrize(("close", "code", "cause"), CLOSED)
    def test_a_merged_restore_names_the_cause(self, hall, close, code, cause):
        """A merged Restore is refused with that cause, is not accepted, and runs once the location opens."""
        root = hall.world.root
        passphrase = (root / "passphrase").read_text()
        hall.world.edit("shop", "c1", "spoiled")
        hall.world.ask_restore("shop")
        close(hall)
        answer = hall("run", "--once")
        (root / "passphrase").write_text(passphrase)
        if (root / "elsewhere").exists():
            (root / "elsewhere").rename(root / "location")
        mended = hall("run", "--once")

        told = [line for line in answer.out.splitlines() if "restore back" in line]
        assert answer.code != 0
        assert len(told) == 1
        assert cause in told[0]
        assert "✔ restore back" in mended.out

    @pytest.mark.parametrize(("close", "code", "cause"), CLOSED)
    def test_a_pass_says_it_although_nothing_is_due(self, hall, close, code, cause):
        """`run --once` names the location and the cause, with a code that is not 0, when nothing is due."""
        assert hall("run", "--once").code == 0
        close(hall)
        answer = hall("run", "--once")

        assert answer.code == 6
        assert "✗ location primary: " in answer.err
        assert cause in answer.err
        assert "next:" in answer.err


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_file_that_is_not_there(hall, verb):
    """A name that can only be a file's is not read as a point."""
    answer = hall("restore", verb, "restores/nothere.yaml")

    assert answer.code == 2
    assert "read restores/nothere.yaml: no such file" in answer.err


@pytest.mark.parametrize(
    "argv",
    [
        ("restore", "plan", "shop"),
        ("restore", "new", "shop", "--reason", "r"),
        ("restore", "run", "shop", "--yes", "--reason", "r"),
    ],
)
@pytest.mark.parametrize("name", ["Bad_ns", "", "x" * 64])
def test_a_target_that_can_be_no_namespace(hall, argv, name):
    """It is told of `--to`, in words, before anything is looked at."""
    answer = hall(*argv, "--to", name)

    assert answer.code == 2
    assert f"read --to {name!r}: not a name of a namespace" in answer.err


@pytest.mark.parametrize(
    "argv",
    [
        ("get", "points"),
        ("verify", "--all"),
        ("keys", "add", "--new-passphrase-file", "new"),
        ("keys", "remove", "0" * 16),
    ],
)
def test_a_location_that_is_nowhere_is_told_before_a_passphrase_is_asked_for(tmp_path, argv):
    """Without any passphrase at hand: 10 and where it looked, not 12."""
    (tmp_path / "new").write_text("a new passphrase")
    argv = [str(tmp_path / word) if word == "new" else word for word in argv]
    answer = reconciler(
        *argv, "--location", (tmp_path / "nowhere").as_uri(), RECONCILER_PASSPHRASE=""
    )

    assert answer.code == 10
    assert "nowhere" in answer.err


class TestADamagedKey:
    """One damaged key file does not hide the others."""

    @pytest.fixture
    def two(self, hall):
        """A location with two keys, of which the first was made by the world."""
        root = hall.world.root
        (root / "second").write_text("the second passphrase")
        options = ("--location", (root / "location").as_uri())
        key = ("--passphrase-file", str(root / "passphrase"))
        added = hall("keys", "add", *options, *key, "--new-passphrase-file", str(root / "second"))
        assert added.code == 0, added.err
        hall.keys = lambda verb, *argv: hall("keys", verb, *options, *argv)
        hall.files = sorted((root / "location/keys").iterdir(), key=lambda one: one.stat().st_mtime)
        return hall

    def test_it_is_named_beside_the_sound_one(self, two):
        """`keys list` lists both, says which is damaged, and ends with 0 because another opens."""
        first, second = two.files
        flip(first)
        answer = two.keys("list")
        lines = answer.out.splitlines()

        assert answer.code == 0, answer.err
        assert [line.split()[0] for line in lines] == [second.name, first.name]
        assert "DAMAGED" in lines[1]
        assert f"keys/{first.name}" in answer.err

    def test_it_can_be_removed(self, two):
        """The damaged one is removed with the passphrase of the sound one; the last sound one stays."""
        first, second = two.files
        flip(first)
        key = ("--passphrase-file", str(two.world.root / "second"))

        assert two.keys("remove", second.name, *key).code == 4
        assert two.keys("remove", first.name, *key).code == 0
        assert two.keys("list").out.split()[0] == second.name

    def test_none_is_sound(self, two):
        """With every key damaged they are listed all the same, and the end is 1."""
        for file in two.files:
            flip(file)
        answer = two.keys("list")

        assert answer.code == 1
        assert answer.out.count("DAMAGED") == 2


def flip(path):
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(bytes(data))
