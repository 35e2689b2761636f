"""Checks that people forget, turned into tests: sizes, words, layout."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
README_LINES_MAX = 120
SANDBOX_LINES_MAX = 2400


def tracked() -> list[Path]:
    """The files that Git tracks."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    return [
        ROOT / name for name in listing.decode().split("\0") if name and (ROOT / name).is_file()
    ]


def modules() -> list[Path]:
    """The product's Python modules."""
    return sorted((ROOT / "reconciler").rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_fit_in_a_sitting(path):
    """A module has at most 500 lines and opens with a docstring; a function has at most 70 lines."""
    text = path.read_text()
    tree = ast.parse(text)
    long = [
        f"{node.name} {node.end_lineno - node.lineno + 1}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]

    assert text.count("\n") <= MODULE_LINES_MAX
    assert ast.get_docstring(tree), "a module opens with what it is for"
    assert long == []


def test_no_rooms_without_a_name():
    """No module is called by a word that says nothing."""
    empty_words = {
        "utils",
        "util",
        "helpers",
        "helper",
        "common",
        "manager",
        "base",
        "misc",
        "tools",
    }

    assert [p for p in modules() if p.stem in empty_words] == []


def test_nothing_is_left_unbuilt():
    """No stub hides in the product."""
    marks = re.compile(r"NotImplementedError|\bTODO\b|\bFIXME\b|\bXXX\b")

    assert [p for p in modules() if marks.search(p.read_text())] == []


def test_the_house_has_its_rooms():
    """The layout is the documentation: these folders stand at the top."""
    for room in (
        "reconciler",
        "policies",
        "transforms",
        "blueprints",
        "tests",
        "examples",
        "docs",
        "bench",
    ):
        assert (ROOT / room).is_dir(), room


def test_nothing_else_lies_at_the_door():
    """Every file is text of the project: no archive, wheel or picture of somebody's work got in."""
    here = {path.relative_to(ROOT).parts[0] for path in tracked() if path.parent == ROOT}
    texts = {".md", ".toml", ".gitignore", "LICENSE", "Makefile"}
    strange = {name for name in here if Path(name).suffix not in texts and name not in texts}
    binary = [path.name for path in tracked() if b"\0" in path.read_bytes()[:8192]]

    assert strange == set()
    assert binary == []


def test_every_room_is_in_the_import_contract():
    """A new package inside reconciler/ takes its place on a floor."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    layers = " ".join(contracts[0]["layers"])
    rooms = [
        p.stem
        for p in (ROOT / "reconciler").iterdir()
        if p.name not in {"__init__.py", "__pycache__", "py.typed"}
    ]

    assert [room for room in rooms if f"reconciler.{room}" not in layers] == []


def test_the_sandbox_stays_small():
    """The sandbox must not grow into a poor copy of an API server: what its feature list needs, and no more."""
    lines = sum(
        p.read_text().count("\n") for p in (ROOT / "reconciler/cluster/sandbox").rglob("*.py")
    )

    assert lines <= SANDBOX_LINES_MAX


def test_readme_is_short():
    """The README has at most 120 lines."""
    assert (ROOT / "README.md").read_text().count("\n") <= README_LINES_MAX


def test_lock_names_no_registry_and_hashes_everything():
    """Lock files carry hashes and no address."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text, lock
        assert len(re.findall(r"^[a-z0-9].*==", text, re.M)) <= text.count("--hash=sha256:"), lock


def test_no_machine_paths_or_registries_in_the_tree():
    """No file carries a path of somebody's machine."""
    private = re.compile(
        "/" + "work/|/" + r"root/|/home/\w+/|pypi\." + r"org|files\.python" + "hosted"
    )
    text_files = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".sh", ""}
    found = [
        str(p.relative_to(ROOT))
        for p in tracked()
        if p.suffix in text_files
        and p.name != "LICENSE"
        and private.search(p.read_text(errors="replace"))
    ]

    assert found == []
