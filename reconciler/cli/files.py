"""`reconciler restore files POINT [PATH…]`: files and folders out of a captured volume, onto this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from reconciler.store.port import Content, Point, PointName, Store, TreeEntry

VOLUME = "volume/"
_SIGNS = {"directory": "/", "symlink": "@", "fifo": "|", "hardlink": "", "file": ""}


@click.command("files")
@click.argument("point")
@click.argument("paths", nargs=-1, metavar="[PATH]…")
@click.option("--volume", metavar="CLAIM", help="Which volume; needed when the point has several.")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that is empty or not there yet.",
)
@click.option(
    "--list", "is_listing", is_flag=True, help="Show what the volume holds, and write nothing."
)
@click.option("--location", "url", metavar="URL", help="Read from this location, without Git.")
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from-cluster", metavar="NAME", help="The cluster that the point is of, with --location."
)
@click.pass_context
def command(
    ctx: click.Context,
    point: str,
    paths: tuple[str, ...],
    volume: str | None,
    folder: Path | None,
    is_listing: bool,
    url: str | None,
    passphrase_file: Path | None,
    from_cluster: str | None,
) -> int:
    """Write files and folders of a volume in POINT to a folder of this machine; the whole volume without a PATH.

    Modes, times and links are kept; owners too, when root runs this. Nothing in the cluster is touched.
    """
    from reconciler.mover.part import part_of

    if (folder is None) == (not is_listing):
        raise UsageError("restore files: give either --to FOLDER or --list")
    store, name, found = _open(ctx, point, url, passphrase_file, from_cluster)
    content = _choose(found, volume)

    def entries() -> Iterable[TreeEntry]:
        return store.tree(name.domain, content.root)

    part = (entry for entry in part_of(entries, paths) if entry.path != ".")
    if is_listing:
        for entry in part:
            click.echo(_line(entry))
        return 0
    assert folder is not None
    count, size = _write(part, folder)
    click.echo(
        f"{count} files and folders ({size:,} bytes) of {content.name} as of "
        f"{content.consistent_at or found.record['capturedAt']} are in {folder}",
        err=True,
    )
    return 0


def _open(
    ctx: click.Context,
    text: str,
    url: str | None,
    passphrase_file: Path | None,
    from_cluster: str | None,
) -> tuple[Store, PointName, Point]:
    from reconciler.cli.compose import parts_of
    from reconciler.cli.points import find_record, parse_point, read_point
    from reconciler.cli.stored import find_in_store, open_location

    point = parse_point(text)
    if url is not None:
        store = open_location(url, passphrase_file)
        name = find_in_store(store, point, cluster=from_cluster).name
        return store, name, store.point(name)[0]
    parts = parts_of(ctx)
    parts.refresh()
    return read_point(parts, find_record(parts.ledger.view(), point))


def _choose(point: Point, volume: str | None) -> Content:
    """The volume that is meant.

    Raises:
        UsageError: there is none, or it is not clear which.
    """
    volumes = {
        content.name.removeprefix(VOLUME): content
        for content in point.contents
        if content.name.startswith(VOLUME) and content.root.form == "tree"
    }
    if volume is None and len(volumes) == 1:
        return next(iter(volumes.values()))
    if volume is not None and volume in volumes:
        return volumes[volume]
    names = ", ".join(sorted(volumes)) or "none"
    raise UsageError(
        f"find volume {volume or ''}: this point has the files of {names}".replace(
            "volume :", "volume:"
        ),
        hint="name one with --volume; contents that a blueprint captured are no files",
    )


def _line(entry: TreeEntry) -> str:
    path = click.format_filename(entry.path)
    target = f" -> {click.format_filename(entry.link)}" if entry.link else ""
    size = f"{entry.size_bytes:>14,}" if entry.type == "file" else f"{'':>14}"
    return f"{entry.mode:04o} {entry.uid:>6} {entry.gid:>6} {size} {path}{_SIGNS.get(entry.type, '')}{target}"


def _write(part: Iterable[TreeEntry], folder: Path) -> tuple[int, int]:
    """Write entries into an empty folder; how many, and how many bytes.

    Raises:
        RefusedError: there is something in it.
        UnpackError: the file system refuses something.
    """
    from reconciler.mover.unpack import Unpacker

    if folder.exists() and any(folder.iterdir()):
        raise RefusedError(
            f"write to {folder}: it is not empty", hint="name a folder that is not there yet"
        )
    folder.mkdir(parents=True, exist_ok=True)
    unpacker = Unpacker(str(folder), owns=os.geteuid() == 0)
    unpacker.unpack(part)
    return unpacker.written.files, unpacker.written.size_bytes
