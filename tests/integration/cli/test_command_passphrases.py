"""A passphrase that is nowhere else is asked for at a terminal, and only there."""

from __future__ import annotations

import pytest

from tests.support.command import reconciler
from tests.support.terminal import at_terminal
from tests.support.world import PASSPHRASE

VERBS = [
    ("capture", "shop"),
    ("restore", "plan", "shop"),
    ("restore", "run", "shop", "--yes", "--reason", "r"),
    ("verify", "--all"),
    ("diff", "shop", "--live"),
    ("get", "locations"),
    ("run", "--once"),
]


@pytest.fixture
def unkept(hall):
    """The configuration takes the passphrase from a variable that is not set."""
    config = hall.world.config
    config.write_text(config.read_text().replace("{file: passphrase}", "{env: NOT_SET}"))
    hall.options = ("--config", str(config))
    return hall


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_it_is_asked_for_at_a_terminal(unkept, verb):
    """Each verb that opens a location asks once, and goes on with what was typed, which is not shown."""
    answer = at_terminal(*unkept.options, *verb, typed=PASSPHRASE)

    assert answer.code == 0, answer.out + answer.err
    assert answer.err.count("Passphrase of location primary:") == 1
    assert PASSPHRASE not in answer.out + answer.err


def test_a_wrong_one_is_not_asked_for_again(unkept):
    """A wrong answer is 12, after one question."""
    answer = at_terminal(*unkept.options, "restore", "plan", "shop", typed="quite another one")

    assert answer.code == 12
    assert answer.err.count("Passphrase of location primary:") == 1
    assert "opens none" in answer.err


def test_nobody_is_asked_without_a_terminal(unkept):
    """In a script it stays 12, with where it was looked for."""
    answer = reconciler(*unkept.options, "restore", "plan", "shop")

    assert answer.code == 12
    assert "$NOT_SET" in answer.err


def test_a_file_that_is_named_is_not_replaced_by_a_question(hall):
    """A passphrase file that is missing is a fault of the configuration, at a terminal too."""
    (hall.world.root / "passphrase").unlink()
    answer = at_terminal("--config", str(hall.world.config), "restore", "plan", "shop", typed="x")

    assert answer.code == 12
    assert "passphrases.primary.file" in answer.err
