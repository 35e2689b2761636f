"""What the README quotes of files that ship is what they hold."""

from __future__ import annotations

import yaml

from reconciler.cli.starter import write_starter
from tests.support.excerpts import blocks


def test_the_policy_is_the_starters(tmp_path):
    """The policy of the README is the one that `reconciler init` writes."""
    write_starter(tmp_path, cluster="main", location_url="file:///srv/backups")
    (quoted,) = [yaml.safe_load("\n".join(lines)) for lines in blocks("yaml")]

    assert quoted == yaml.safe_load((tmp_path / "policies/gold.yaml").read_text())
