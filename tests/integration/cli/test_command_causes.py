"""Commands say why something is not there: a key, a location or a file, never "no such point"."""

from __future__ import annotations

import pytest


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
