"""`reconciler get KIND`: one row per thing; `points --location URL` needs nothing but the store and its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Selector, context_option, selector_option
from reconciler.cli.output import Column, age, output_option, show, size

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts

STATES = ("Compliant", "Non-compliant", "Unmanaged", "Suspended")
namespace_option = click.option("-n", "--namespace", help="Only this namespace.")
all_option = click.option(
    "-A", "--all-namespaces", is_flag=True, help="Every namespace (the default)."
)


def text(key: str) -> Any:
    """Read a field of an item as text; `-` when it is empty."""

    def read(item: Mapping[str, Any]) -> str:
        value = item.get(key)
        return "-" if value is None or value == "" else str(value)

    return read


@click.group("get")
def command() -> None:
    """List apps, policies, points, restores, holds or locations."""


@command.command("apps")
@namespace_option
@all_option
@selector_option
@context_option
@output_option
@click.pass_context
def apps(
    ctx: click.Context,
    namespace: str | None,
    all_namespaces: bool,
    selector: Selector,
    output: str,
) -> int:
    """Applications: protected by what, how fresh, when next. Labels are those of the namespace."""
    from reconciler.cli.compose import parts_of

    _ = all_namespaces
    items = [
        item
        for item in application_items(parts_of(ctx))
        if namespace in (None, item["namespace"]) and selector.matches(item["labels"])
    ]
    states = [item["status"] for item in items]
    counted = [s for s in STATES if s != "Suspended" or s in states]
    summary = ", ".join(f"{states.count(s)} {s.lower()}" for s in counted)
    show(
        items,
        [
            Column("NAMESPACE", text("namespace")),
            Column("APP", text("application")),
            Column("STATUS", text("status")),
            Column("POLICY", text("policy")),
            Column("LAST POINT", text("lastPointAge")),
            Column("RPO", text("rpo")),
            Column("NEXT", text("nextIn")),
            Column("POINTS", text("points"), right=True),
            Column("LAST SLOT", text("lastSlot"), wide=True),
            Column("NOTE", text("note")),
        ],
        form=output,
        kind="ApplicationList",
        empty="No applications: no namespace is there, or none is selected.",
        summary=f"{len(items)} apps: {summary}",
    )
    return 0


def application_items(parts: Parts) -> list[dict[str, Any]]:
    """What is known of each application, from ledger, policies and cluster."""
    from reconciler.daemon.due import Upcoming, due_captures
    from reconciler.daemon.report import application_facts
    from reconciler.daemon.survey import survey
    from reconciler.kinds.model import format_span
    from reconciler.objects import labels_of, name_of

    desired, view, now = parts.desired(), parts.ledger.view(), parts.clock.now()
    found = survey(
        parts.connect(), desired=desired, settings=parts.settings, view=view, clock=parts.clock
    )
    due, upcoming = due_captures(found.assignments, view=view, now=now)
    upcoming += [Upcoming(entry.application, now) for entry in due]
    kept = {one.ref.name for one in desired.kept if one.identity.startswith("BackupPolicy/")}
    labels = {name_of(one): labels_of(one) for one in found.namespaces}
    items = []
    for fact in application_facts(found.coverage, view=view, upcoming=upcoming, now=now):
        policy = desired.policy(fact.policy)
        newest = fact.last_success_at
        state = {
            "compliant": "Compliant",
            "noncompliant": "Non-compliant",
            "unmanaged": "Unmanaged",
        }[fact.state]
        notes = [fact.note] if fact.note else []
        if fact.policy in kept:
            notes.append("its policy has faults; the last good form is in force")
        items.append(
            {
                "name": f"{fact.namespace}/{fact.application}",
                "namespace": fact.namespace,
                "application": fact.application,
                "status": "Suspended" if fact.is_suspended else state,
                "policy": fact.policy or None,
                "lastSlot": newest.isoformat() if newest else None,
                "lastPointAge": f"{age((now - newest).total_seconds())} ago" if newest else None,
                "rpo": format_span(policy.objectives.rpo)
                if policy and policy.objectives.rpo
                else None,
                "nextIn": _until(fact.next_run_at, now),
                "points": fact.points,
                "note": "; ".join(notes) or None,
                "labels": labels.get(fact.namespace, {}),
            }
        )
    return items


def _until(at: Any, now: Any) -> str | None:
    if at is None:
        return None
    return "now" if at <= now else f"in {age((at - now).total_seconds())}"


@command.command("policies")
@selector_option
@output_option
@click.pass_context
def policies(ctx: click.Context, selector: Selector, output: str) -> int:
    """Policies in force, with their presets filled in."""
    from reconciler.cli.compose import parts_of
    from reconciler.kinds.model import format_span

    items = [
        {
            "name": policy.name,
            "priority": policy.priority,
            "schedule": policy.schedule.cron if policy.schedule else None,
            "timeZone": policy.schedule.time_zone if policy.schedule else None,
            "rpo": format_span(policy.objectives.rpo) if policy.objectives.rpo else None,
            "locations": ", ".join(entry.name for entry in policy.locations),
            "source": policy.ref.source,
            "path": policy.ref.path,
            "revision": policy.ref.revision[:10],
            "labels": policy.metadata.labels,
        }
        for policy in parts_of(ctx).desired().policies
        if selector.matches(policy.metadata.labels)
    ]
    show(
        items,
        [
            Column("NAME", text("name")),
            Column("PRIORITY", text("priority"), right=True),
            Column("SCHEDULE", text("schedule")),
            Column("ZONE", text("timeZone")),
            Column("RPO", text("rpo")),
            Column("LOCATIONS", text("locations")),
            Column("SOURCE", text("source"), wide=True),
            Column("FILE", text("path"), wide=True),
            Column("REVISION", text("revision"), wide=True),
        ],
        form=output,
        kind="PolicyList",
        empty="No policies are in force. Start with `reconciler init`.",
    )
    return 0


@command.command("points")
@click.argument("application", required=False)
@namespace_option
@all_option
@click.option("--location", "url", metavar="URL", help="List what a location holds, without Git.")
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@output_option
@click.pass_context
def points(
    ctx: click.Context,
    application: str | None,
    namespace: str | None,
    all_namespaces: bool,
    url: str | None,
    passphrase_file: Path | None,
    output: str,
) -> int:
    """Restore points, newest first; of one APPLICATION when given."""
    from reconciler.cli.points import ledger_items

    _ = all_namespaces
    if url is not None:
        from reconciler.cli.stored import store_items

        items = store_items(url, passphrase_file)
    else:
        from reconciler.cli.compose import parts_of

        parts = parts_of(ctx)
        parts.refresh()
        items = ledger_items(parts.ledger.view())
    if application is not None:
        from reconciler.cli.arguments import parse_application

        wanted = str(parse_application(application))
        items = [item for item in items if item["application"] == wanted]
    items = [item for item in items if namespace in (None, item["application"].split("/")[0])]
    show(
        items,
        [
            Column("POINT", text("name")),
            Column("PHASE", text("phase")),
            Column("CAPTURED", text("capturedAt")),
            Column("OBJECTS", text("objects"), right=True),
            Column("SIZE", lambda item: size(item["fullBytes"]), right=True),
            Column(
                "ADDED",
                lambda item: size(item["addedBytes"]) if item["addedBytes"] is not None else "-",
                right=True,
            ),
            Column("POLICY", text("policy")),
            Column("CLUSTER", _cluster_names(items), wide=len(_clusters(items)) < 2),
            Column("LOCATIONS", lambda item: ", ".join(item["locations"]), wide=True),
            Column("DIGEST", text("digest"), wide=True),
        ],
        form=output,
        kind="RestorePointList",
        empty="No restore points. `reconciler capture NAMESPACE` makes one now.",
    )
    return 0


def _clusters(items: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """(name, uid) of every cluster that the points are of."""
    return {(item["cluster"], item.get("clusterUid", "")) for item in items}


def _cluster_names(items: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    """How to read a point's cluster: its name, with its uid where two clusters share a name."""
    names = [name for name, _ in _clusters(items)]

    def read(item: Mapping[str, Any]) -> str:
        name = str(item["cluster"])
        return f"{name} ({item['clusterUid']})" if names.count(name) > 1 else name

    return read


@command.command("restores")
@context_option
@output_option
@click.pass_context
def restores(ctx: click.Context, output: str) -> int:
    """Restores: those that were accepted and how they ended, and what is merged and not carried out."""
    from reconciler.cli.compose import parts_of
    from reconciler.cli.requested import restore_items

    show(
        restore_items(parts_of(ctx)),
        [
            Column("NAME", text("name")),
            Column("ATTEMPT", text("attempt"), right=True),
            Column("PHASE", text("phase")),
            Column("POINT", text("point")),
            Column("ACCEPTED", text("acceptedAt")),
            Column("REASON", text("reason"), wide=True),
            Column("MESSAGE", text("message")),
        ],
        form=output,
        kind="RestoreList",
        empty="No restores yet. `reconciler restore new POINT` prints the manifest of one.",
    )
    return 0


@command.command("holds")
@selector_option
@output_option
@click.pass_context
def holds(ctx: click.Context, selector: Selector, output: str) -> int:
    """Holds in force."""
    from reconciler.cli.compose import parts_of

    items = [
        {
            "name": hold.metadata.name,
            "application": hold.spec.application,
            "slot": hold.spec.slot,
            "since": hold.spec.since.isoformat() if hold.spec.since else None,
            "upto": hold.spec.upto.isoformat() if hold.spec.upto else None,
            "until": hold.spec.until.isoformat() if hold.spec.until else None,
            "owner": hold.spec.owner,
            "reason": hold.spec.reason,
            "released": hold.spec.release is not None,
            "labels": hold.metadata.labels,
        }
        for hold in parts_of(ctx).desired().holds
        if selector.matches(hold.metadata.labels)
    ]
    show(
        items,
        [
            Column("NAME", text("name")),
            Column("APP", text("application")),
            Column("SLOT", text("slot")),
            Column("SINCE", text("since"), wide=True),
            Column("UPTO", text("upto"), wide=True),
            Column("UNTIL", text("until")),
            Column("OWNER", text("owner")),
            Column("REASON", text("reason")),
        ],
        form=output,
        kind="HoldList",
        empty="Nothing is held. `reconciler hold POINT --reason …` prints a manifest.",
    )
    return 0


@command.command("locations")
@selector_option
@output_option
@click.pass_context
def locations(ctx: click.Context, selector: Selector, output: str) -> int:
    """Locations, and whether they open."""
    from reconciler.cli.compose import parts_of
    from reconciler.cli.points import location_item

    parts = parts_of(ctx)
    items = [
        location_item(parts, location)
        for location in parts.desired().locations
        if selector.matches(location.metadata.labels)
    ]
    show(
        items,
        [
            Column("NAME", text("name")),
            Column("URL", text("url")),
            Column("STATE", text("state")),
            Column("POINTS", text("points"), right=True),
            Column(
                "STORED",
                lambda i: size(i["storedBytes"]) if i["storedBytes"] is not None else "-",
                right=True,
            ),
            Column("NOTE", text("message"), wide=True),
        ],
        form=output,
        kind="LocationList",
        empty="No locations. A Location manifest names one; `reconciler keys init` makes it ready.",
    )
    closed = [item["name"] for item in items if item["state"] != "Ready"]
    for name in closed:
        click.echo(f"next: `reconciler describe location/{name}` says why", err=True)
    return 1 if closed else 0
