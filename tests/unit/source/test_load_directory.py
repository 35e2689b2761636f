"""Lint of a working tree: the same bounds and checks as a poll."""

from __future__ import annotations

import pytest

from reconciler.errors import UsageError
from reconciler.source.tree import load_directory, plain_path, printable
from tests.support.policyfiles import BROKEN_POLICY, location, policy
from tests.support.unprivileged import nobody, open_folder


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def test_a_sound_tree(tmp_path):
    """Everything is loaded, sorted by path, without findings."""
    write(
        tmp_path,
        {
            "b/shop.yaml": policy(),
            "a.yml": location(),
            "notes.txt": "x",
            ".ci/x.yaml": BROKEN_POLICY,
        },
    )
    manifests, findings = load_directory(tmp_path)
    assert [one.path for one in manifests] == ["a.yml", "b/shop.yaml"]
    assert findings == ()


def test_every_fault_at_once(tmp_path):
    """Faults of files and between files come together, with their places."""
    write(
        tmp_path,
        {
            "a.yaml": BROKEN_POLICY,
            "b.yaml": policy("b", locations="nowhere"),
            "c.yaml": policy("b"),
            "d.yaml": "x" * 300_000,
        },
    )
    (tmp_path / "link.yaml").symlink_to("/etc/passwd")
    write(tmp_path, {"nested/.git": "gitdir: x", "nested/x.yaml": BROKEN_POLICY})
    _, findings = load_directory(tmp_path)
    rules = {(one.path, one.rule) for one in findings}
    assert {
        ("b.yaml", "unknown-location"),
        ("c.yaml", "duplicate"),
        ("link.yaml", "symlink"),
        ("nested", "submodule"),
        ("d.yaml", "size"),
    } <= rules
    assert any(path == "a.yaml" for path, _ in rules)
    assert [one.path for one in findings] == sorted(one.path for one in findings)


def test_one_file(tmp_path):
    """A single file can be checked alone."""
    write(tmp_path, {"a.yaml": BROKEN_POLICY, "b.yaml": BROKEN_POLICY})
    _, findings = load_directory(tmp_path / "a.yaml")
    assert {one.path for one in findings} == {"a.yaml"}


def test_nothing_there(tmp_path):
    """A path that does not exist is a mistake of usage."""
    with pytest.raises(UsageError, match="no such file"):
        load_directory(tmp_path / "nowhere")


def test_folders_without_end(tmp_path):
    """Deep folders are left at a bound."""
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "x.yaml").write_text(BROKEN_POLICY)
    manifests, findings = load_directory(tmp_path)
    assert (manifests, [one.rule for one in findings]) == ((), ["size"])


def test_paths():
    """Paths of the configuration and names of files are made plain."""
    assert [plain_path(p) for p in ("", ".", "./a/", "a//b", "/a")] == ["", "", "a", "a/b", "a"]
    assert printable("a\udcffb\n") == "a\\xffb\\x0a"


def test_a_file_that_cannot_be_read():
    """An unreadable file is a finding, not a crash."""
    with open_folder() as folder:
        write(folder, {"a.yaml": policy()})
        (folder / "a.yaml").chmod(0)
        with nobody():
            _, findings = load_directory(folder)
    assert [one.rule for one in findings] == ["size"]


@pytest.mark.parametrize(
    "files", [{}, {"chart.yaml": "apiVersion: v2\nname: chart\n"}, {"a.txt": ""}]
)
def test_a_directory_without_manifests_of_ours(tmp_path, files):
    """An empty or wrong directory is not called sound: one warning says that nothing is here."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    manifests, findings = load_directory(tmp_path)

    assert manifests == ()
    assert [(one.severity, one.rule) for one in findings] == [("warning", "empty")]
    assert str(tmp_path) in str(findings[0])
