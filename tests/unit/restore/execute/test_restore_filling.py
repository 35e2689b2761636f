"""Who may write the files of a volume where nobody may give files away."""

from __future__ import annotations

import pytest

from reconciler.restore.execute.filling import NOBODY, only_owner
from reconciler.store.port import TreeEntry


def entry(name, uid, gid):
    """A folder of somebody."""
    return TreeEntry(name, "directory", 0o755, uid, gid, 0)


@pytest.mark.parametrize(
    ("entries", "owner"),
    [
        ([], NOBODY),
        ([entry("a", 7, 8), entry("a/b", 7, 8)], (7, 8)),
        ([entry("a", 7, 8), entry("b", 7, 9)], None),
        ([entry("a", 7, 8), entry("b", 6, 8)], None),
        ([entry("a", 0, 0)], (0, 0)),
    ],
)
def test_the_one_owner_of_a_tree(entries, owner):
    """One user with one group owns every file, or nobody does; an empty tree is anybody's."""
    assert only_owner(entries) == owner
