"""`reconciler verify [POINT|--all]`: content against digests, and the ledger's chain."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.output import CLI_VERSION
from reconciler.errors import ReconcilerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.cli.compose import Parts
    from reconciler.daemon.desired import Desired
    from reconciler.store.port import Fault, PointName, Store


LEDGER = "ledger"
"""Where a fault is that lies in no location."""


def read_share(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Read `10%` or `0.1` as a share.

    Raises:
        BadParameter: it is neither, or not between 0 and 100 %.
    """
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        raise click.BadParameter("expected a share such as 10% or 0.1") from None
    if not 0 <= share <= 1:
        raise click.BadParameter("expected a share between 0% and 100%")
    return share


@click.command("verify")
@click.argument("point", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="All points of all locations, and the ledger's chain."
)
@click.option(
    "--read-data",
    default="100%",
    show_default=True,
    callback=read_share,
    metavar="SHARE",
    help="Share of the packs whose every byte is read and opened.",
)
@click.option("--location", "url", metavar="URL", help="Verify a location, without Git.")
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from-cluster", metavar="NAME", help="With --location: the cluster that POINT is of."
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.pass_context
def command(
    ctx: click.Context,
    point: str | None,
    everything: bool,
    read_data: float,
    url: str | None,
    passphrase_file: Path | None,
    from_cluster: str | None,
    output: str,
) -> int:
    """Check that what is stored is what was written. Ends with 1 when something is wrong, and names it."""
    if (point is None) == (not everything):
        raise UsageError(
            "verify: name a POINT or give --all", hint="reconciler verify --all --read-data 10%"
        )
    faults: list[dict[str, Any]] = []
    unread: list[ReconcilerError] = []
    checked = 0
    for name, open_, wanted in _stores(
        ctx, point, url, passphrase_file, faults, cluster=from_cluster
    ):
        try:
            for fault in open_().verify(wanted, read_data=read_data):
                faults.append(_item(name, fault))
                if output == "text":
                    click.echo(_line(name, fault))
        except ReconcilerError as error:
            # One location that cannot be read must not hide what is wrong with the others.
            unread.append(error)
            click.echo(f"{name}: not verified: {error.message}", err=True)
            click.echo(f"  next: {error.hint or '`reconciler doctor`'}", err=True)
            continue
        checked += 1
    if output == "json":
        click.echo(
            json.dumps({"apiVersion": CLI_VERSION, "kind": "FaultList", "items": faults}, indent=2)
        )
    else:
        for fault_item in faults:
            if fault_item["location"] == LEDGER:
                click.echo(f"ledger: {fault_item['object']}: {fault_item['problem']}")
    click.echo(f"{checked} locations checked, {len(faults)} faults", err=True)
    # A record that is at fault concerns no point in a location; all else is content that is damaged or gone.
    records = [one for one in faults if one["location"] == LEDGER and not one["points"]]
    if len(records) < len(faults):
        click.echo(
            "next: restore affected points from another location, and look for what damaged it",
            err=True,
        )
    if records:
        click.echo(
            "next: compare the ledger with another clone of it (git log, git fsck), and find out who "
            "pushed; its restore points stay readable with --location URL",
            err=True,
        )
    return 1 if faults else unread[0].exit_code if unread else 0


def _stores(
    ctx: click.Context,
    point: str | None,
    url: str | None,
    passphrase_file: Path | None,
    faults: list[dict[str, Any]],
    *,
    cluster: str | None,
) -> Iterator[tuple[str, Callable[[], Store], PointName | None]]:
    """Each location to look at: its name, how to open it, and the point to look at, if one is named."""
    from reconciler.cli.points import find_record, parse_point
    from reconciler.cli.stored import find_in_store, open_location
    from reconciler.store.port import PointName as Name

    if url is not None:
        store = open_location(url, passphrase_file)
        wanted = find_in_store(store, parse_point(point), cluster=cluster).name if point else None
        yield url, lambda: store, wanted
        return
    from reconciler.cli.compose import parts_of

    parts = parts_of(ctx)
    desired = parts.desired()
    if point is None:
        from reconciler.ledger.chain import verify_chain

        faults.extend(
            {"location": LEDGER, "object": parts.ledger.branch, "problem": problem, "points": []}
            for problem in verify_chain(parts.ledger.view())
        )
        faults.extend(_lost(parts, desired))
        for location in desired.locations:
            yield location.metadata.name, partial(parts.locations.open, location), None
        return
    record = find_record(parts.ledger.view(), parse_point(point))
    namespace, _, application = record.spec.application.partition("/")
    for ref in record.spec.locations:
        found = desired.location(ref.name)
        if found is not None:
            name = Name(ref.domain, namespace, application, record.spec.slot)
            yield ref.name, partial(parts.locations.open, found), name


def _lost(parts: Parts, desired: Desired) -> Iterator[dict[str, Any]]:
    """Points that the ledger records in a location and that are not there any more."""
    view = parts.ledger.view()
    left = {(f"{r.application}/{r.slot}", name) for r in view.retired() for name in r.locations}
    for location in desired.locations:
        name = location.metadata.name
        try:
            present = {
                (point.domain, point.path) for point in parts.locations.open(location).points()
            }
        except ReconcilerError:
            continue  # Said where the location is verified.
        for entry in view.points():
            record = view.point(entry.application, entry.slot)
            path = f"{entry.application}/{entry.slot}"
            for ref in record.spec.locations if record else []:
                if (
                    ref.name == name
                    and (path, name) not in left
                    and (ref.domain, path) not in present
                ):
                    yield {
                        "location": LEDGER,
                        "object": path,
                        "problem": f"recorded, and location {name} has it no more",
                        "points": [path],
                    }


def _item(location: str, fault: Fault) -> dict[str, Any]:
    return {
        "location": location,
        "object": fault.object,
        "problem": fault.problem,
        "points": list(fault.points),
    }


def _line(location: str, fault: Fault) -> str:
    needed = f" (needed by {', '.join(fault.points[:3])})" if fault.points else ""
    return f"{location}: {fault.object}: {fault.problem}{needed}"
