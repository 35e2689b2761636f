"""`restore run FILE` with several sources: the request is that of the source that the file belongs to."""

from __future__ import annotations

import shutil

import pytest

from tests.support.passes import view_of
from tests.support.world import git


class Team:
    """A second source with a checkout of its own, and a Restore in it that is not merged yet."""

    def __init__(self, hall):
        root = hall.world.root
        self.hall = hall
        self.tree = root / "team"
        git("init", "-q", "--bare", "-b", "main", str(root / "team.git"))
        git("clone", "-q", str(root / "team.git"), str(self.tree))
        git("checkout", "-q", "-B", "main", cwd=self.tree)
        (self.tree / "README.md").write_text("ours")
        self.push("start")
        config = hall.world.config
        source = f'  - {{name: team, url: "{(root / "team.git").as_uri()}"}}\n'
        config.write_text(config.read_text().replace("ledger:", f"{source}ledger:"))
        printed = hall(
            *("restore", "new", "shop/_/latest", "--reason", "INC-1", "--name", "inc-1"),
            *("--on-conflict", "update"),
        )
        self.file = self.tree / "restores" / "inc-1.yaml"
        self.file.parent.mkdir()
        self.file.write_text(printed.out)

    def push(self, message):
        """Merge what is in the checkout."""
        git("add", "-A", cwd=self.tree)
        git("commit", "-q", "-m", message, cwd=self.tree)
        git("push", "-q", "origin", "main", cwd=self.tree)


@pytest.fixture
def team(hall):
    """Two sources; the one that was configured last has the Restore."""
    return Team(hall)


def sources(hall):
    """The sources of the attempts that the ledger knows."""
    return [key.source for key in view_of(hall.world).restores()]


def test_the_checkout_says_the_source(team):
    """By hand out of the checkout, then merged: it runs once, under the source that it is of."""
    run = team.hall("restore", "run", str(team.file))
    team.hall.world.edit("shop", "c1", "changed after")
    team.push("restore")
    report = team.hall.world.run_pass()

    assert run.code == 0, run.err
    assert sources(team.hall) == ["team"]
    assert report.restored == []
    assert team.hall.world.data("shop")["ConfigMap/c1"]["value"] == "changed after"


def test_the_manifest_in_force_says_the_source(team):
    """Merged and carried out by the daemon; a copy of the file elsewhere is the same request."""
    team.push("restore")
    report = team.hall.world.run_pass()
    copy = team.hall.world.root / "copy.yaml"
    shutil.copy(team.file, copy)
    again = team.hall("restore", "run", str(copy))

    assert [line.phase for line in report.restored] == ["Succeeded"]
    assert again.code == 0
    assert "raise the attempt" in again.err
    assert sources(team.hall) == ["team"]


def test_a_file_that_is_nowhere_needs_the_source(team):
    """A file outside of all checkouts, merged nowhere: 2, naming the sources; `--source` settles it."""
    loose = team.hall.world.root / "loose.yaml"
    shutil.move(team.file, loose)
    asked = team.hall("restore", "run", str(loose))
    wrong = team.hall("restore", "run", str(loose), "--source", "nobody")
    before = sources(team.hall)
    run = team.hall("restore", "run", str(loose), "--source", "team")

    assert (asked.code, wrong.code) == (2, 2)
    assert "policies, team" in asked.err
    assert "--source" in asked.err
    assert before == []
    assert run.code == 0, run.err
    assert sources(team.hall) == ["team"]


def test_two_sources_in_one_repository_differ_by_folder(team):
    """Where two sources read folders of one repository, the folder that the file is in decides."""
    config = team.hall.world.config
    text = config.read_text()
    url = f'{{name: team, url: "{(team.hall.world.root / "team.git").as_uri()}"'
    config.write_text(
        text.replace(f"{url}}}", f"{url}, paths: [restores]}}\n  - {url}, paths: [more]}}").replace(
            "name: team", "name: crew", 1
        )
    )
    (team.tree / "more").mkdir()
    (team.tree / "more" / "README.md").write_text("theirs")
    team.push("restore")

    assert team.hall("restore", "run", str(team.file)).code == 0
    assert sources(team.hall) == ["crew"]
