"""A part of a tree."""

from __future__ import annotations

import pytest

from reconciler.mover.part import PathNotFoundError, part_of
from reconciler.store.port import TreeEntry


def entry(path, type="file", link="", mode=0o644):
    content = (lambda: [path.encode()]) if type == "file" else None
    return TreeEntry(path, type, mode, 0, 0, 0, link=link, content=content)


TREE = [
    entry(".", "directory"),
    entry("a", "directory"),
    entry("a-b"),
    entry("a/b", "directory"),
    entry("a/b/c"),
    entry("a/x"),
    entry("z"),
    entry("a/b/near", "hardlink", link="a/b/c"),
    entry("a/b/far", "hardlink", link="z"),
]


def paths(*wanted):
    return [(one.path, one.type) for one in part_of(lambda: TREE, wanted)]


def test_a_folder_comes_with_what_leads_to_it():
    """Its parents, itself and what is in it; nothing that only begins with the same letters."""
    assert paths("a/b/") == [
        ("a", "directory"),
        ("a/b", "directory"),
        ("a/b/c", "file"),
        ("a/b/near", "hardlink"),
        ("a/b/far", "file"),
    ]


def test_a_link_to_a_file_outside_becomes_a_file():
    """With the bytes of what it links to."""
    far = next(one for one in part_of(lambda: TREE, ["a/b"]) if one.path == "a/b/far")
    assert b"".join(far.content()) == b"z"


def test_everything():
    """Without a path, or with the top."""
    assert len(paths()) == len(paths("./")) == len(TREE)


def test_a_path_that_is_not_there():
    """Is named."""
    with pytest.raises(PathNotFoundError, match="a/y"):
        paths("a", "a/y")
