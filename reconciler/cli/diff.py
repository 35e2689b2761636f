"""`reconciler diff POINT [POINT|--live]`: what changed between two points, or since one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import context_option
from reconciler.cli.output import CLI_VERSION, counted
from reconciler.errors import UsageError
from reconciler.objects import Manifest, ObjectKey, metadata_of, name_of, owners_of

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts
    from reconciler.kinds.record import Artifact, RestorePoint
    from reconciler.restore.plan.compare import FieldChange

    Compare = Callable[[Manifest, Manifest], list[FieldChange]]

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


@click.command("diff")
@click.argument("point")
@click.argument("other", required=False)
@click.option("--live", is_flag=True, help="Compare with the cluster as it is now.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@context_option
@click.pass_context
def command(ctx: click.Context, point: str, other: str | None, live: bool, output: str) -> int:
    """Compare POINT with OTHER (an earlier or later point) or with the cluster. Ends with 1 on differences.

    Of contents (volumes, artifacts) sizes and digests are compared, point with point only. With --live, what a
    server allocates is no difference. Secrets are compared, their values are never shown.
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
        second = find_record(view, parse_point(other))
        items = differences(before, _stored(parts, second), _differing)
        contents, unknown = content_differences(first, second)
    else:
        after = _live(parts, first)
        items = differences(before, after, LiveComparison([*before.values(), *after.values()]))
        contents, unknown = [], [one.name for one in first.spec.artifacts]
    if output == "json":
        listed = {"apiVersion": CLI_VERSION, "kind": "DifferenceList", "items": items + contents}
        click.echo(json.dumps(listed, indent=2))
    else:
        for item in items:
            _print(item, str(ObjectKey.parse(item["object"])))
        for item in contents:
            _print(item, item["object"])
        sums = (counted(len(items), "object"), counted(len(contents), "content"))
        click.echo(f"{' and '.join(sums)} differ", err=True)
    if unknown:
        click.echo(f"not compared: the contents of {', '.join(unknown)}", err=True)
    if items or contents:
        name = f"{first.spec.application}/{first.spec.slot}"
        click.echo(
            f"next: `reconciler restore plan {name}` shows what going back to it would do", err=True
        )
    return 1 if items or contents else 0


def differences(
    before: dict[ObjectKey, Manifest], after: dict[ObjectKey, Manifest], compare: Compare
) -> list[dict[str, Any]]:
    """What differs, object by object, sorted by key."""
    items: list[dict[str, Any]] = []
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            items.append(_item(key.path, "removed"))
        elif key not in before:
            items.append(_item(key.path, "added"))
        elif fields := compare(before[key], after[key]):
            items.append(_item(key.path, "changed", fields))
    return items


def _differing(before: Manifest, after: Manifest) -> list[FieldChange]:
    from reconciler.restore.plan.compare import differences as differing_fields

    return differing_fields(before, after)


class LiveComparison:
    """Compares a captured object with a live one by the rules of a restore: what would an update change?"""

    def __init__(self, objects: Iterable[Manifest]) -> None:
        from reconciler.restore.plan.live import target_of

        scalers = [one for one in objects if one.get("kind") == "HorizontalPodAutoscaler"]
        self._scaled = {target_of(one) for one in scalers}

    def __call__(self, captured: Manifest, live: Manifest) -> list[FieldChange]:
        """The fields in which they differ, from captured to live."""
        from reconciler.restore.plan.compare import replacement_for
        from reconciler.restore.plan.strip import strip

        desired = strip(captured)
        owners = [_unowned(one) for one in owners_of(captured)]
        same = owners == [_unowned(one) for one in owners_of(live)]
        if owners:
            # The same owner made anew has another uid, which says nothing about this object.
            metadata_of(desired)["ownerReferences"] = owners_of(live if same else captured)
        is_scaled = (live.get("kind"), name_of(live)) in self._scaled
        return _differing(replacement_for(desired, live, is_scaled=is_scaled), live)


def _unowned(reference: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reference.items() if key != "uid"}


def content_differences(
    before: RestorePoint, after: RestorePoint
) -> tuple[list[dict[str, Any]], list[str]]:
    """Which contents differ by what the records say of them, and which of them cannot be compared.

    The digest of a file tree is keyed by the location that the record names first.
    """
    left = {one.name: one for one in before.spec.artifacts}
    right = {one.name: one for one in after.spec.artifacts}
    has_one_key = [one.name for one in before.spec.locations[:1]] == [
        one.name for one in after.spec.locations[:1]
    ]
    items, unknown = [], []
    for name in sorted(left.keys() | right.keys()):
        old, new = left.get(name), right.get(name)
        if old is None or new is None:
            items.append(_item(name, "added" if old is None else "removed"))
        elif fields := _content_fields(old, new):
            if fields[:-1] or new.form == "stream" or has_one_key:
                items.append(_item(name, "changed", fields))
            else:
                unknown.append(name)
    return items, unknown


def _content_fields(old: Artifact, new: Artifact) -> list[FieldChange]:
    """What differs; when anything does the digest does too, and is the last."""
    from reconciler.restore.plan.compare import FieldChange

    pairs = [
        ("form", old.form, new.form),
        ("sizeBytes", old.size_bytes, new.size_bytes),
        ("items", old.items, new.items),
        ("digest", old.digest, new.digest),
    ]
    return [FieldChange(path, left, right) for path, left, right in pairs if left != right]


def _item(name: str, change: str, fields: Iterable[FieldChange] = ()) -> dict[str, Any]:
    return {
        "object": name,
        "change": change,
        "fields": [{"path": f.path, "before": f.before, "after": f.after} for f in fields],
    }


def _print(item: dict[str, Any], name: str) -> None:
    sign, colour = _SIGNS[item["change"]]
    click.echo(f"{click.style(sign, fg=colour)} {item['change']:<8} {name}")
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
