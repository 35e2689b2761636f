"""A restore plan as people read it: what is written first, then contents, what is left alone, and the sum.

Signs stand beside words (`+ create`, `~ update`, `! recreate`, `- skip`, `✗ blocked`), so that nothing depends on
colour. Values of Secrets are never in a plan.
"""

from __future__ import annotations

import json
from typing import Any

import click

from reconciler.cli.output import size
from reconciler.objects import ObjectKey
from reconciler.restore.plan.entry import ContentEntry, Entry, Plan

_SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "recreate": ("!", "red"),
    "skip": ("-", "white"),
    "blocked": ("✗", "red"),
    "unchanged": ("=", "white"),
    "load": ("↧", "green"),
}
_DIFF_LINES = 12
_NAMES = 20
_SHOWN = 72


def plan_text(plan: Plan, *, details: bool = False) -> str:
    """Write a plan out; unchanged objects only with `details`."""
    lines = [
        click.style(f"{plan.point} → cluster {plan.cluster}", bold=True),
    ]
    hidden = 0
    for entry in plan.entries:
        if entry.verdict == "unchanged" and not details:
            hidden += 1
            continue
        lines.extend(_entry(entry, details=details))
    if hidden:
        lines.append(f"  = {hidden} objects are already as captured")
    for content in plan.contents:
        lines.extend(_content(content))
    lines.extend(_extras(plan, details=details))
    lines.extend(_pauses(plan, details=details))
    lines.extend(f"warning: {warning}" for warning in plan.warnings)
    lines.extend(click.style(f"refused: {refusal}", fg="red") for refusal in plan.refusals)
    lines.append(summary(plan))
    lines.append(f"Digest: {plan.digest}")
    return "\n".join(lines)


def summary(plan: Plan) -> str:
    """`Plan: 12 to create, 1 to update, 0 to recreate; 2 skipped, 0 blocked. Contents: 2 to load, 0 blocked.`."""
    count = dict.fromkeys(_SIGNS, 0)
    for entry in plan.entries:
        count[entry.verdict] += 1
    contents = [content.verdict for content in plan.contents]
    deleted = len(plan.deletions)
    return (
        f"Plan: {count['create']} to create, {count['update']} to update, {count['recreate']} to recreate; "
        f"{count['unchanged']} unchanged, {count['skip']} skipped, {count['blocked']} blocked. "
        f"Contents: {contents.count('load')} to load, {contents.count('blocked')} blocked."
        f"{f' {deleted} live objects are deleted.' if deleted else ''}"
        f"{' Refused: it is not carried out as it is.' if plan.refusals else ''}"
    )


def _extras(plan: Plan, *, details: bool) -> list[str]:
    shown = plan.extras if details else plan.extras[:_NAMES]
    lines = [
        f"  ? extra     {extra.key} is live and not in the point; it is left alone"
        for extra in shown
    ]
    if len(plan.extras) > len(shown):
        hidden = len(plan.extras) - len(shown)
        lines.append(f"  ? … and {hidden} more extra objects (--details shows all)")
    return lines


def _pauses(plan: Plan, *, details: bool) -> list[str]:
    shown = plan.pauses if details else plan.pauses[:_NAMES]
    lines = [
        f"  ‖ pause     {pause.key} is {pause.how} while the restore goes on"
        + (f"; {pause.note}" if pause.note else "")
        for pause in shown
    ]
    if len(plan.pauses) > len(shown):
        hidden = len(plan.pauses) - len(shown)
        lines.append(f"  ‖ … and {hidden} more are held back (--details shows all)")
    return lines


def _entry(entry: Entry, *, details: bool) -> list[str]:
    sign, colour = _SIGNS[entry.verdict]
    why = (
        _why(entry.reason, entry.message)
        if entry.verdict in {"skip", "blocked"} or entry.message
        else ""
    )
    lines = [f"  {click.style(f'{sign} {entry.verdict:<9}', fg=colour)} {_names(entry)}{why}"]
    lines += [f"        {click.style(by, fg='cyan')}: {what}" for by, what in entry.transforms]
    lines += [f"        note: {note}" for note in entry.notes]
    if entry.verdict in {"update", "recreate", "blocked"}:
        lines += [
            f"        {change.path}: {_pair(change.before, change.after)}"
            for change in entry.diff[:_DIFF_LINES]
        ]
        if len(entry.diff) > _DIFF_LINES:
            lines.append(
                f"        … and {len(entry.diff) - _DIFF_LINES} more fields (-o json shows all)"
            )
    lines += [f"        stays: {spared.path} ({spared.owner})" for spared in entry.spared]
    lines += _deletes(entry, details=details)
    if entry.hint:
        lines.append(f"        next: {entry.hint}")
    return lines


def _deletes(entry: Entry, *, details: bool) -> list[str]:
    """What goes with a live object that is deleted."""
    shown = entry.deletes if details else entry.deletes[:_NAMES]
    lines = [f"        {click.style('deletes', fg='red')} with it: {key}" for key in shown]
    if len(entry.deletes) > len(shown):
        hidden = len(entry.deletes) - len(shown)
        lines.append(f"        … and {hidden} more (--details or -o json shows all)")
    return lines


def _content(content: ContentEntry) -> list[str]:
    sign, colour = _SIGNS[content.verdict]
    amount = size(content.content.root.size_bytes)
    why = "" if content.verdict == "load" else _why(content.reason, content.message)
    lines = [
        f"  {click.style(f'{sign} {content.verdict:<9}', fg=colour)} {content.name} into {content.into} ({amount}){why}"
    ]
    if content.hint:
        lines.append(f"        next: {content.hint}")
    return lines


def _why(reason: str, message: str) -> str:
    return f"  [{reason}{': ' if message else ''}{message}]"


def _names(entry: Entry) -> str:
    return (
        str(entry.target)
        if entry.source == entry.target
        else f"{entry.target} (from {_place(entry.source)})"
    )


def _place(key: ObjectKey) -> str:
    return f"{key.namespace}/{key.name}" if key.namespace else key.name


def _pair(before: Any, after: Any) -> str:
    """Both values, cut around the first place where they differ."""
    left, right = _json(before), _json(after)
    if max(len(left), len(right)) > _SHOWN:
        same = 0
        while same < min(len(left), len(right)) and left[same] == right[same]:
            same += 1
        start = max(0, same - _SHOWN // 3)
        left, right = _cut(left, start), _cut(right, start)
    return f"{left} → {right}"


def _cut(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN]
    return f"{'…' if start else ''}{shown}{'…' if start + _SHOWN < len(text) else ''}"


def _json(value: Any) -> str:
    return "absent" if value is None else json.dumps(value, ensure_ascii=False)
