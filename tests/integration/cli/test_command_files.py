"""`reconciler restore files`: files out of a captured volume, on this machine."""

from __future__ import annotations

from tests.support.command import reconciler


def files(hall, *argv, config=True):
    return reconciler(
        *(["--config", str(hall.world.config)] if config else []), "restore", "files", *argv
    )


def test_a_file_comes_out_of_a_volume(library, tmp_path):
    """The page as it was captured, whatever is in the volume now."""
    library.write("changed since")
    target = tmp_path / "out"
    done = files(library, "shop/_/latest", "home", "--to", str(target))
    assert done.code == 0, done.err
    assert (target / "home").read_text() == "captured\n"
    assert [path.name for path in target.iterdir()] == ["home"]
    assert "1 files and folders" in done.err


def test_a_volume_is_listed(library):
    """What it holds, with modes and sizes; nothing is written."""
    done = files(library, "shop", "--list")
    assert done.code == 0, done.err
    assert any(line.endswith(" home") for line in done.out.splitlines())


def test_files_come_from_the_location_alone(library, tmp_path):
    """Without Git and without a configuration."""
    root = library.world.root
    done = files(
        library,
        *("shop", "--to", str(tmp_path / "out")),
        *("--location", (root / "location").as_uri()),
        *("--passphrase-file", str(root / "passphrase")),
        config=False,
    )
    assert done.code == 0, done.err
    assert (tmp_path / "out/home").read_text() == "captured\n"


def test_what_cannot_be_is_said(library, tmp_path):
    """No such path, no such volume, a folder with something in it, neither or both of --to and --list."""
    out = str(tmp_path / "out")
    wrong = files(library, "shop", "nothing/here", "--to", out)
    assert (wrong.code, "has no such path" in wrong.err) == (2, True)
    wrong = files(library, "shop", "--volume", "other", "--to", str(tmp_path / "o2"))
    assert (wrong.code, "has the files of pages" in wrong.err) == (2, True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("kept")
    wrong = files(library, "shop", "--to", str(tmp_path / "full"))
    assert (wrong.code, "not empty" in wrong.err) == (4, True)
    assert (tmp_path / "full/mine").read_text() == "kept"
    assert files(library, "shop").code == 2
