"""Manifests and plain data as YAML that every reader understands alike.

Text is written without quotes only when readers of YAML 1.1 and of 1.2 agree that it is text: `no`, `012`,
`1:30`, `1e3` and instants are quoted. Fields that have their default are left out; apiVersion, kind, metadata
and spec come first; nothing is folded, no anchors are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import yaml

from reconciler.clock import format_instant
from reconciler.kinds.model import Kind, Model, format_span

_FIRST = ("apiVersion", "kind", "metadata", "spec")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_PLAIN = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./@+,() -]|:(?=[A-Za-z0-9/]))*(?<! )")
_PLAIN_WITH_DIGIT = re.compile(r"(\d{1,9}[smhdw])+|\d{8}T\d{6}Z")
_ODD = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_WIDTH = 1 << 16


def to_data(value: Kind | Model) -> dict[str, Any]:
    """A model as plain JSON data: camelCase, defaults left out, apiVersion and kind always there."""
    data = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if isinstance(value, Kind):
        data |= {"apiVersion": value.api_version, "kind": type(value).__name__}
    return _ordered(data)


def to_yaml(value: Any) -> str:
    """A model, a manifest or other plain data as one YAML document, with a line break at its end."""
    text: str = yaml.dump(
        _plain(value),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=_WIDTH,
    )
    return text.removesuffix("...\n")


def _ordered(data: dict[str, Any]) -> dict[str, Any]:
    if "apiVersion" not in data or "kind" not in data:
        return data
    first = {key: data[key] for key in _FIRST if key in data}
    return first | data


def _plain(value: Any) -> Any:
    match value:
        case Model():
            return to_data(value)
        case Mapping():
            return _ordered({_plain(key): _plain(item) for key, item in value.items()})
        case str() | bool() | int() | float() | None:
            return value
        case datetime():
            return format_instant(value)
        case timedelta():
            return format_span(value)
        case Sequence():
            return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is no plain data")


class _Dumper(yaml.CSafeDumper):
    """The C emitter with our rule for quotes."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the emitter calls it so
        """Write a value that occurs twice twice: our own reader refuses aliases."""
        return True


def _is_text_everywhere(text: str) -> bool:
    if _PLAIN_WITH_DIGIT.fullmatch(text):
        return True
    return bool(_PLAIN.fullmatch(text)) and text.lower() not in _WORDS


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style: str | None = '"'
    if _is_text_everywhere(text):
        style = None
    elif "\n" in text and not _ODD.search(text) and text.strip("\n"):
        # The emitter falls back to quotes where a block cannot hold the text.
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
