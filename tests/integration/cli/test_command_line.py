"""The command line without a cluster: start, lint, schemas, keys, and how it fails."""

from __future__ import annotations

import json
import sys

import pytest

from reconciler.cli.main import VERBS
from tests.support.command import reconciler
from tests.support.world import git


def test_help_names_every_verb_and_loads_none():
    """`--help` lists all verbs; heavy libraries are not loaded for it."""
    import subprocess

    probe = (
        "import sys; from reconciler.cli.main import invoke; invoke(['--help']);"
        "heavy = {'kubernetes', 'pygit2', 'celpy', 'pydantic', 'cryptography', 'starlette', 'rich'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    made = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)

    assert made.returncode == 0, made.stderr
    assert all(f"  {verb} " in made.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb):
    """Each verb loads and explains itself."""
    answer = reconciler(verb, "--help")

    assert answer.code == 0, answer.err
    assert "Usage: reconciler" in answer.out


def test_completion_offers_verbs():
    """Shell completion completes verbs without loading them, and its script can be printed."""
    answer = reconciler(
        _RECONCILER_COMPLETE="bash_complete", COMP_WORDS="reconciler re", COMP_CWORD="1"
    )
    script = reconciler("completion", "bash")

    assert answer.out.split() == ["plain,restore"]
    assert "_RECONCILER_COMPLETE=bash_complete" in script.out


def test_init_makes_a_repository_that_lints_clean(tmp_path):
    """What `init` writes has no fault, and a second `init` overwrites nothing."""
    made = reconciler("init", str(tmp_path / "policies"), "--cluster", "town")
    linted = reconciler("lint", str(tmp_path / "policies"))
    again = reconciler("init", str(tmp_path / "policies"))

    assert made.code == 0, made.err
    assert "keys init" in made.err
    assert linted.code == 0, linted.out
    assert linted.out == ""
    assert (tmp_path / "reconciler.yaml").read_text().startswith("# The operator's configuration")
    assert again.code == 2
    assert "exists" in again.err


def test_lint_names_file_line_column_and_field(tmp_path):
    """Every fault is told at once with its place, as text and as JSON, and the exit code is 1."""
    bad = tmp_path / "gold.yaml"
    bad.write_text(
        "apiVersion: backup.reconciler.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: gold}\n"
        "spec:\n  schedul: {cron: '0 * * * *'}\n  priority: high\n  drill: {}\n"
        "  locations: [{name: nowhere, retention: {daily: 7}}]\n"
    )

    answer = reconciler("lint", str(tmp_path))
    found = json.loads(reconciler("lint", str(tmp_path), "-o", "json").out)

    assert answer.code == 1
    assert "gold.yaml:5:3: spec.schedul" in answer.out
    assert "gold.yaml:6:13: spec.priority" in answer.out
    assert "not supported by this version" in answer.out
    assert "next:" in answer.err
    assert {item["line"] for item in found["items"]} >= {5, 6, 7}


def test_schema_is_draft_07():
    """`schema KIND` prints JSON Schema draft-07; an unknown kind is wrong usage."""
    schema = json.loads(reconciler("schema", "backuppolicy").out)
    unknown = reconciler("schema", "Blob")

    assert "draft-07" in schema["$schema"]
    assert unknown.code == 2
    assert "next:" in unknown.err


def test_no_configuration_says_what_to_do(tmp_path):
    """Without configuration a verb says where it looked and what to type next."""
    answer = reconciler("get", "points", cwd=tmp_path, RECONCILER_CONFIG="")

    assert answer.code == 2
    assert "reconciler.yaml" in answer.err
    assert "reconciler init" in answer.err


def test_configuration_faults_have_places(tmp_path):
    """A faulty configuration is refused with line and field, also what is not built yet."""
    path = tmp_path / "reconciler.yaml"
    path.write_text(
        "cluster: {name: town}\nsources: [{name: a, url: 'https://example.org/x.git'}]\n"
        "ledger: {url: 'file:///nowhere'}\nnotifications: {}\nconcurrency: many\n"
    )

    answer = reconciler("--config", str(path), "get", "points")

    assert answer.code == 1
    assert "reconciler.yaml:2" in answer.err
    assert "not supported by this version" in answer.err
    assert "reconciler.yaml:5:14: concurrency" in answer.err


class TestKeys:
    """Making a location ready, and its passphrases."""

    def test_life_of_a_location(self, tmp_path):
        """init, list, add and remove work; the last passphrase stays; a wrong one has exit code 12."""
        url = (tmp_path / "location").as_uri()
        first, second = "the first passphrase", "the second passphrase"
        (tmp_path / "second").write_text(second + "\n")

        assert reconciler("keys", "init", "--location", url, RECONCILER_PASSPHRASE=first).code == 0
        again = reconciler("keys", "init", "--location", url, RECONCILER_PASSPHRASE=first)
        wrong = reconciler(
            "get", "points", "--location", url, RECONCILER_PASSPHRASE="not the passphrase"
        )
        added = reconciler(
            *("keys", "add", "--location", url, "--new-passphrase-file", str(tmp_path / "second")),
            RECONCILER_PASSPHRASE=first,
        )
        opened = reconciler("get", "points", "--location", url, RECONCILER_PASSPHRASE=second)
        keys = reconciler("keys", "list", "--location", url).out.splitlines()

        assert again.code == 4
        assert wrong.code == 12
        assert added.code == 0, added.err
        assert opened.code == 0, opened.err
        assert len(keys) == 2
        assert all(
            secret not in again.err + wrong.err + added.err + str(keys)
            for secret in (first, second)
        )

    def test_a_location_that_is_not_there(self, tmp_path):
        """A missing location has exit code 10 and says how to make one."""
        answer = reconciler(
            *("get", "points", "--location", (tmp_path / "nowhere").as_uri()),
            RECONCILER_PASSPHRASE="whatever it is",
        )

        assert answer.code == 10
        assert "keys init" in answer.err

    def test_no_passphrase(self, tmp_path):
        """Without passphrase and terminal the exit code is 12."""
        url = (tmp_path / "location").as_uri()
        answer = reconciler("keys", "init", "--location", url, RECONCILER_PASSPHRASE="")

        assert answer.code == 12
        assert "RECONCILER_PASSPHRASE" in answer.err


def test_wrong_usage_is_two():
    """click's own code for wrong usage is kept, and the message ends with help."""
    answer = reconciler("get", "everything")

    assert answer.code == 2
    assert "--help" in answer.err


def test_git_is_isolated(tmp_path):
    """The tests' own git reads nobody's configuration."""
    git("init", "-q", str(tmp_path / "r"))

    assert "user.name" not in git("config", "--list", cwd=tmp_path / "r")
