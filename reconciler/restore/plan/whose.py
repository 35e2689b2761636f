"""Whose a field of a live object is: the paths of a plan, looked up among its field managers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.clock import parse_instant
from reconciler.objects import Manifest
from reconciler.restore.plan.compare import keyed, step_of
from reconciler.restore.plan.fieldset import Path, entries_of, follow, leaves


@dataclass(frozen=True)
class Writer:
    """A field manager, and when it last wrote; None when the object does not say."""

    manager: str
    at: datetime | None


def writers_of(path: str, live: Manifest) -> list[Writer]:
    """Who owns the field at a path as `compare.differences` writes it, or a part of it."""
    wanted = path.removesuffix("(order)")
    return [
        _writer(entry)
        for entry in entries_of(live)
        if any(_meet(wanted, text) for text in _texts(entry, live))
    ]


def writers_since(live: Manifest, since: datetime) -> list[Writer]:
    """Who wrote an object since an instant, its status aside."""
    found = [_writer(entry) for entry in entries_of(live) if entry.get("subresource") != "status"]
    return [one for one in found if one.at is not None and one.at >= since]


def _writer(entry: dict[str, Any]) -> Writer:
    try:
        return Writer(str(entry["manager"]), parse_instant(str(entry["time"])))
    except (KeyError, ValueError):
        return Writer(str(entry["manager"]), None)


def _texts(entry: dict[str, Any], live: Manifest) -> Iterator[str]:
    for path in leaves(entry["fieldsV1"]):
        text = _text(path, live)
        if text:
            yield text


def _text(path: Path, live: Manifest) -> str:
    """An owned path in the words of a plan; empty when it leads nowhere."""
    text, value = "", live
    for step in path:
        found = follow(step, value)
        if found is None:
            return ""
        mark, _, name = step.partition(":")
        if mark == "f":
            text = f"{text}.{step_of(name)}" if text else step_of(name)
        elif mark == "k":
            items: dict[Any, Any] = (keyed(value) if isinstance(value, list) else None) or {}
            keys = [key for key in items if items[key] is found[0]]
            text += f"[{'/'.join(part for part in keys[0] if part)}]" if keys else ""
        elif mark == "i":
            text += f"[{name}]"
        value = found[0]
    return text


def _meet(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies within the other."""
    short, long = sorted((one, other), key=len)
    return long == short or (long.startswith(short) and long[len(short)] in ".[")
