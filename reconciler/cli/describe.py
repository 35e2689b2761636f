"""`reconciler describe KIND/NAME`: one thing in full."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import context_option
from reconciler.cli.output import size, to_yaml
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts
    from reconciler.kinds.record import RestorePoint

KINDS = ("point", "app", "policy", "location", "restore", "hold")


@click.command("describe")
@click.argument("thing", metavar="KIND/NAME")
@click.option(
    "--location", "url", metavar="URL", help="A point, from a location alone, without Git."
)
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from-cluster", metavar="NAME", help="With --location: the cluster that the point is of."
)
@context_option
@click.pass_context
def command(
    ctx: click.Context,
    thing: str,
    url: str | None,
    passphrase_file: Path | None,
    from_cluster: str | None,
) -> int:
    """Show one thing in full: point/shop/_/latest, app/shop, policy/gold, location/primary, restore/NAME,
    hold/NAME.
    """
    from reconciler.cli.compose import parts_of

    kind, _, name = thing.partition("/")
    kind = kind.rstrip("s") if kind not in KINDS else kind
    kind = {"restorepoint": "point", "rp": "point", "application": "app", "policie": "policy"}.get(
        kind, kind
    )
    if kind not in KINDS or not name:
        raise UsageError(
            f"describe {thing!r}: expected KIND/NAME", hint=f"KIND is one of {', '.join(KINDS)}"
        )
    if url is not None:
        if kind != "point":
            raise UsageError(
                f"describe {thing}: a location alone tells of points only",
                hint="leave --location out, or describe point/…",
            )
        click.echo(to_yaml(_stored_point(name, url, passphrase_file, from_cluster)), nl=False)
        return 0
    parts = parts_of(ctx)
    parts.refresh()
    describe = {
        "point": _point,
        "app": _application,
        "policy": _policy,
        "location": _location,
        "restore": _restore,
        "hold": _hold,
    }[kind]
    click.echo(to_yaml(describe(parts, name)), nl=False)
    return 0


def _point(parts: Parts, name: str) -> dict[str, Any]:
    from reconciler.cli.points import find_record, parse_point

    return _shown(find_record(parts.ledger.view(), parse_point(name)))


def _stored_point(
    name: str, url: str, passphrase_file: Path | None, cluster: str | None
) -> dict[str, Any]:
    """A point as the store has it: what its record says, with every outcome, and where it was found."""
    from reconciler.cli.points import parse_point
    from reconciler.cli.stored import find_in_store, open_location
    from reconciler.kinds.model import API_VERSION, Metadata
    from reconciler.kinds.record import LocationRef, RestorePoint, RestorePointSpec

    store = open_location(url, passphrase_file)
    found = find_in_store(store, parse_point(name), cluster=cluster).name
    point, digest = store.point(found)
    here = LocationRef(name=url, domain=found.domain, digest=digest, added_bytes=0)
    spec = RestorePointSpec.model_validate(point.record).model_copy(update={"locations": [here]})
    metadata = Metadata(name=found.slot.lower(), namespace=found.namespace)
    shown = _shown(RestorePoint(api_version=API_VERSION, metadata=metadata, spec=spec))
    # What a point added is known to the ledger alone.
    del shown["summary"]["addedSize"]
    del shown["spec"]["locations"][0]["addedBytes"]
    return shown


def _shown(record: RestorePoint) -> dict[str, Any]:
    spec = record.spec
    shown = record.model_dump(mode="json", exclude_none=True)
    shown["summary"] = {
        "fullSize": size(spec.full_bytes),
        "addedSize": size(sum(ref.added_bytes for ref in spec.locations)),
        "captureTook": f"{(spec.finished_at - spec.captured_at).total_seconds():.1f} s",
    }
    return shown


def _application(parts: Parts, name: str) -> dict[str, Any]:
    from reconciler.cli.arguments import parse_application
    from reconciler.cli.get import application_items
    from reconciler.cli.points import ledger_items

    wanted = str(parse_application(name))
    found = next((item for item in application_items(parts) if item["name"] == wanted), None)
    points = [i for i in ledger_items(parts.ledger.view()) if i["application"] == wanted]
    if found is None and not points:
        raise UsageError(f"describe app {name}: there is none", hint="see `reconciler get apps`")
    return {
        **(found or {"name": wanted, "status": "Gone"}),
        "points": [
            {key: p[key] for key in ("slot", "phase", "objects", "addedBytes")} for p in points[:20]
        ],
        "pointsTotal": len(points),
    }


def _policy(parts: Parts, name: str) -> dict[str, Any]:
    policy = parts.desired().policy(name)
    if policy is None:
        raise UsageError(
            f"describe policy {name}: none is in force", hint="see `reconciler get policies`"
        )

    def dump(model: Any) -> Any:
        return (
            model.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            if model
            else None
        )

    return {
        "name": policy.name,
        "priority": policy.priority,
        "select": dump(policy.select),
        "capture": dump(policy.capture),
        "schedule": dump(policy.schedule),
        "locations": [dump(location) for location in policy.locations],
        "objectives": dump(policy.objectives),
        "suspend": dump(policy.suspend),
        "from": dump(policy.ref),
        "nextSlots": _next_slots(parts, policy.schedule),
    }


def _next_slots(parts: Parts, schedule: Any) -> list[str]:
    from reconciler.clock import format_instant
    from reconciler.daemon.calendar import next_slot

    found: list[str] = []
    at = parts.clock.now()
    while schedule is not None and len(found) < 5 and (slot := next_slot(schedule, at)) is not None:
        found.append(format_instant(slot))
        at = slot
    return found


def _location(parts: Parts, name: str) -> dict[str, Any]:
    from reconciler.cli.points import location_item

    location = parts.desired().location(name)
    if location is None:
        raise UsageError(
            f"describe location {name}: there is none", hint="see `reconciler get locations`"
        )
    return location_item(parts, location)


def _restore(parts: Parts, name: str) -> dict[str, Any]:
    states = {
        f"{key.source}/{key.namespace}/{key.name}/{key.attempt}": state
        for key, state in parts.ledger.view().restores().items()
    }
    found = {key: state for key, state in states.items() if f"/{name}/" in f"/{key}/"}
    if not found:
        return _requested(parts, name)
    key = max(found)
    record = found[key].finished or found[key].accepted
    assert record is not None, "a known restore has a record"
    if (seen := found[key].watched) is not None:
        after = {"watched_at": seen.spec.watched_at, "aftermath": seen.spec.aftermath}
        record = record.model_copy(update={"spec": record.spec.model_copy(update=after)})
    return record.model_dump(mode="json", exclude_none=True)


def _requested(parts: Parts, name: str) -> dict[str, Any]:
    """A Restore that is merged and was not accepted, with how it stands."""
    from reconciler.cli.requested import standing
    from reconciler.daemon.restores import request_of

    desired = parts.desired()
    for one in desired.restores:
        metadata = one.restore.metadata
        if f"/{name}/" in f"/{one.source}/{metadata.namespace or ''}/{metadata.name}/":
            request = request_of(one, desired)
            phase, message = standing(parts, request, view=parts.ledger.view())
            written = one.restore.model_dump(mode="json", exclude_none=True)
            return {**written, "phase": phase, "message": message}
    raise UsageError(
        f"describe restore {name}: there is none", hint="see `reconciler get restores`"
    )


def _hold(parts: Parts, name: str) -> dict[str, Any]:
    """A Hold in force, with the live points that it keeps."""
    from reconciler.clock import parse_instant
    from reconciler.retention.holds import covers, is_in_force

    hold = next((one for one in parts.desired().holds if one.metadata.name == name), None)
    if hold is None:
        raise UsageError(f"describe hold {name}: there is none", hint="see `reconciler get holds`")
    cluster, spec = parts.settings.cluster.name, hold.spec
    return {
        **hold.model_dump(mode="json", exclude_none=True),
        "inForce": is_in_force(spec, now=parts.clock.now()),
        "points": [
            f"{entry.application}/{entry.slot}"
            for entry in parts.ledger.view().points(spec.application)
            if covers(
                spec,
                cluster=cluster,
                application=entry.application,
                slot=parse_instant(entry.slot),
            )
        ],
    }
