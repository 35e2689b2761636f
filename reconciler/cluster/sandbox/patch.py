"""The ways in which a request changes an object: JSON merge, JSON patch, strategic merge, apply.

One table of merge keys stands in for the schemas of a real server; it is asked by field name only. Lists
that it does not name are replaced as a whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from reconciler.cluster.sandbox.catalog import RULES
from reconciler.cluster.sandbox.status import StatusError, not_built

_text = msgspec.json.Encoder(order="sorted")


def keyed(name: str, items: list[Any]) -> dict[str, Any] | None:
    """The items of the list `name` by fieldsV1 keys (`k:{…}`, `v:…`); None when the list is atomic."""
    keys: list[str] = RULES["mergeKeys"].get(name, ())
    result: dict[str, Any] = {}
    for item in items:
        if name == "finalizers":
            result["v:" + _text.encode(item).decode()] = item
            continue
        found = {"protocol": "TCP"} | item if isinstance(item, dict) else {}
        if name == "ports":
            keys = ["containerPort" if "containerPort" in found else "port", "protocol"]
        if not keys or not found.keys() >= set(keys):
            return None
        result["k:" + _text.encode({key: found[key] for key in keys}).decode()] = item
    return result if len(result) == len(items) else None


def merge(live: Any, patch: Any, name: str = "", *, lists: bool) -> Any:
    """Lay `patch` over `live`; null removes. With `lists`, lists with merge keys merge by them."""
    if isinstance(patch, dict):
        result = dict(live) if isinstance(live, dict) else {}
        for key, value in patch.items():
            if lists and key == "$retainKeys":
                result = {k: v for k, v in result.items() if k in value}
            elif lists and (key == "$patch" or key.startswith("$deleteFromPrimitiveList/")):
                raise not_built(f"the directive {key} of strategic merge")
            elif value is None or (lists and key.startswith("$setElementOrder/")):
                result.pop(key, None)
            else:
                result[key] = merge(result.get(key), value, key, lists=lists)
        return result
    if lists and isinstance(patch, list) and isinstance(live, list):
        below, above = keyed(name, live), keyed(name, patch)
        if below is not None and above is not None:
            for key, item in above.items():
                if isinstance(item, dict) and item.get("$patch") == "delete":
                    below.pop(key, None)
                else:
                    below[key] = merge(below.get(key), item, lists=True)
            return list(below.values())
    return patch


def json_patch(document: Any, operations: list[dict[str, Any]]) -> Any:
    """Carry out `test`, `add`, `replace` and `remove` of RFC 6902 on `document`, which is changed."""
    for step in operations:
        try:
            _carry_out(document, step["op"], step["path"], step.get("value"))
        except (KeyError, IndexError, ValueError, TypeError) as exc:
            message = f"the server rejected our request: {step.get('op')} at {step.get('path')}"
            raise StatusError(422, message, reason="Invalid") from exc
    return document


def _carry_out(place: Any, operation: str, path: str, value: Any) -> None:
    *way, last = (p.replace("~1", "/").replace("~0", "~") for p in path.split("/")[1:])
    for part in way:
        place = place[int(part) if isinstance(place, list) else part]
    at: Any = last
    if isinstance(place, list):
        at = len(place) if last == "-" else int(last)
    present = None if operation == "add" else place[at]
    match operation:
        case "add" if isinstance(place, list) and 0 <= at <= len(place):
            place.insert(at, value)
        case "add" | "replace" if isinstance(place, dict) or operation == "replace":
            place[at] = value
        case "remove":
            del place[at]
        case "test" if present == value:
            return
        case "move" | "copy":
            raise not_built(f"the JSON patch operation {operation}")
        case _:
            raise ValueError(operation)
