"""`reconciler diff POINT [POINT|--live]`: what changed between two points, or since one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.output import CLI_VERSION
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts
    from reconciler.kinds.record import RestorePoint
    from reconciler.objects import Manifest, ObjectKey

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


@click.command("diff")
@click.argument("point")
@click.argument("other", required=False)
@click.option("--live", is_flag=True, help="Compare with the cluster as it is now.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.pass_context
def command(ctx: click.Context, point: str, other: str | None, live: bool, output: str) -> int:
    """Compare POINT with OTHER (an earlier or later point) or with the cluster. Ends with 1 on differences.

    Secrets are compared, their values are never shown.
    """
    from reconciler.cli.compose import parts_of
    from reconciler.cli.points import find_record, parse_point

    if (other is None) == (not live):
        raise UsageError(
            "diff: name a second POINT or give --live", hint="reconciler diff shop/_/latest --live"
        )
    parts = parts_of(ctx)
    parts.refresh()
    view = parts.ledger.view()
    first = find_record(view, parse_point(point))
    before = _stored(parts, first)
    if other is not None:
        after = _stored(parts, find_record(view, parse_point(other)))
    else:
        after = _live(parts, first)
    items = differences(before, after)
    if output == "json":
        click.echo(
            json.dumps(
                {"apiVersion": CLI_VERSION, "kind": "DifferenceList", "items": items}, indent=2
            )
        )
    else:
        for item in items:
            _print(item)
        click.echo(f"{len(items)} objects differ", err=True)
    return 1 if items else 0


def differences(
    before: dict[ObjectKey, Manifest], after: dict[ObjectKey, Manifest]
) -> list[dict[str, Any]]:
    """What differs, object by object, sorted by key."""
    from reconciler.restore.compare import differences as differing_fields

    items: list[dict[str, Any]] = []
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            items.append({"object": key.path, "change": "removed", "fields": []})
        elif key not in before:
            items.append({"object": key.path, "change": "added", "fields": []})
        else:
            fields = differing_fields(before[key], after[key])
            if fields:
                items.append(
                    {
                        "object": key.path,
                        "change": "changed",
                        "fields": [
                            {"path": f.path, "before": f.before, "after": f.after} for f in fields
                        ],
                    }
                )
    return items


def _print(item: dict[str, Any]) -> None:
    sign, colour = _SIGNS[item["change"]]
    click.echo(f"{click.style(sign, fg=colour)} {item['change']:<8} {item['object']}")
    for entry in item["fields"][:20]:
        click.echo(f"      {entry['path']}: {_cut(entry['before'])} → {_cut(entry['after'])}")
    if len(item["fields"]) > 20:
        click.echo(f"      … and {len(item['fields']) - 20} more fields (-o json shows all)")


def _cut(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 70 else text[:69] + "…"


def _stored(parts: Parts, record: RestorePoint) -> dict[ObjectKey, Manifest]:
    from reconciler.cli.points import read_point

    store, name, point = read_point(parts, record)
    return dict(store.objects(name.domain, point.table))


def _live(parts: Parts, record: RestorePoint) -> dict[ObjectKey, Manifest]:
    """The application's objects as the next capture would see them."""
    from reconciler.capture.capture import belongings
    from reconciler.daemon.survey import survey
    from reconciler.kinds.effective import Application

    found = survey(
        parts.connect(),
        desired=parts.desired(),
        settings=parts.settings,
        view=parts.ledger.view(),
        clock=parts.clock,
    )
    application = Application.parse(record.spec.application)
    policy = found.coverage.policy_of(application)
    seen = belongings(application, observation=found.observation, policy=policy)
    return {one.key: one.manifest() for one in seen}
