"""The SQLite blueprint on real databases, with processes that have them open."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.loader import load

FILE = Path(__file__).resolve().parents[2] / "blueprints/sqlite/blueprint.yaml"


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    kind = load(str(FILE), FILE.read_bytes()).manifests[0].kind
    assert isinstance(kind, Blueprint)
    return kind


@pytest.fixture
def run(blueprint, tmp_path):
    """Run an action's command as an exec into the container would; no leftovers may stay beside the database."""
    path = tmp_path / "a volume" / "orders.db"
    path.parent.mkdir()

    def execute(action: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        (phase,) = getattr(blueprint.spec.actions, action).phases
        step = phase.stream or phase.exec
        environment = {"PATH": os.environ["PATH"], "SQLITE_PATH": str(path)}
        done = subprocess.run(
            step.command, env=environment, input=data, capture_output=True, timeout=60, check=False
        )
        assert not list(path.parent.glob(".reconciler-*"))
        return done

    execute.path = path
    return execute


def fill(path: Path, *, mode: str = "wal", page: int = 4096) -> sqlite3.Connection:
    """A database with rows, open."""
    db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    db.execute(f"pragma page_size = {page}")
    db.execute(f"pragma journal_mode = {mode}")
    db.execute("create table orders (id integer primary key, item text)")
    db.execute("begin")
    db.executemany("insert into orders (item) values (?)", [(f"item {n}",) for n in range(1000)])
    db.execute("commit")
    db.execute("pragma user_version = 7")
    return db


def contents(db: sqlite3.Connection) -> tuple:
    return (
        db.execute("select count(*), sum(length(item)), max(id) from orders").fetchone(),
        db.execute("select name from sqlite_master order by name").fetchall(),
        db.execute("pragma user_version").fetchone(),
    )


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("page", [1024, 4096])
def test_a_restore_gives_back_exactly_what_was_captured(run, mode, page):
    """Also to processes that have the database open, and whatever came later is gone."""
    db = fill(run.path, mode=mode)
    before = contents(db)
    backup = run("backup")
    assert backup.returncode == 0, backup.stderr
    db.close()
    for leftover in run.path.parent.iterdir():
        leftover.unlink()
    other = fill(run.path, mode=mode, page=page)
    other.execute("create table later (a)")
    other.execute("delete from orders where id > 3")
    if page != 4096:  # another page size cannot be put under an open write-ahead log
        other.close()

    for _ in range(2):
        restored = run("restore", backup.stdout)
        assert restored.returncode == 0, restored.stderr

    reader = sqlite3.connect(run.path) if page != 4096 else other
    assert contents(reader) == before
    assert reader.execute("pragma journal_mode").fetchone() == (mode,)
    reader.execute("insert into orders (item) values ('goes on')")
    reader.commit()
    assert sqlite3.connect(run.path).execute("select count(*) from orders").fetchone() == (1001,)


def test_an_empty_volume_can_be_filled(run):
    """A database that is not there yet is made."""
    db = fill(run.path)
    before = contents(db)
    artifact = run("backup").stdout
    db.close()
    for leftover in run.path.parent.iterdir():
        leftover.unlink()

    assert run("restore", artifact).returncode == 0

    assert contents(sqlite3.connect(run.path)) == before
    assert run("verify").returncode == 0


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_backup_is_one_moment_while_others_write(run, mode):
    """Rows that belong together are captured together."""
    db = fill(run.path, mode=mode)
    db.execute("create table pairs (id integer primary key)")
    stop = threading.Event()

    def write() -> None:
        writer = sqlite3.connect(run.path, isolation_level=None, timeout=30)
        writer.execute("pragma synchronous = off")
        while not stop.is_set():
            writer.execute("begin immediate")
            writer.execute("insert into orders (item) values ('paired')")
            writer.execute("insert into pairs default values")
            writer.execute("commit")
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        backups = [run("backup") for _ in range(3)]
    finally:
        stop.set()
        thread.join()

    for backup in backups:
        assert backup.returncode == 0, backup.stderr
        assert run("restore", backup.stdout).returncode == 0
        assert contents(db)[0][0] - 1000 == db.execute("select count(*) from pairs").fetchone()[0]


@pytest.mark.parametrize("artifact", ["", "junk", "half", "flipped"])
def test_a_damaged_artifact_changes_nothing(run, artifact):
    """It is checked whole before the first page is written."""
    db = fill(run.path)
    whole = run("backup").stdout
    broken = {
        "": b"",
        "junk": b"x" * 8192,
        "half": whole[: len(whole) // 2],
        "flipped": whole[:4096] + b"\xff" * 4096 + whole[8192:],
    }[artifact]
    db.execute("insert into orders (item) values ('later')")
    before = contents(db)

    done = run("restore", broken)

    assert done.returncode != 0
    assert b"not touched" in done.stderr
    assert contents(db) == before


def test_a_missing_database_is_no_empty_one(run):
    """A wrong path fails the capture and the verification, and makes no file."""
    assert run("backup").returncode != 0
    assert run("verify").returncode != 0
    assert not run.path.exists()


def test_verify_finds_damage(run):
    """A database with torn pages does not pass."""
    fill(run.path, mode="delete").close()
    data = bytearray(run.path.read_bytes())
    data[8192:12288] = b"\xff" * 4096
    run.path.write_bytes(data)

    assert run("verify").returncode != 0
