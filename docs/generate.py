"""Write the reference pages `docs/spec/*.md` from the models: a page per declarative kind, one for the records.

`python docs/generate.py` writes them, `--check` ends with 1 when one is not up to date. Examples are the first
manifest of their kind in a file that a test lints.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from reconciler.cel.library import TABLES
from reconciler.cel.library.table import OURS
from reconciler.cel.macros import FORMS
from reconciler.cel.types import Signature
from reconciler.daemon.settings import Settings
from reconciler.kinds.model import DNS_LABEL, DNS_SUBDOMAIN, Kind, Metadata, Model, format_span
from reconciler.kinds.record import RECORD_KINDS, Record
from reconciler.kinds.registry import DECLARATIVE, PLANNED, PLANNED_RECORDS

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "docs" / "spec"
NOTE = "<!-- Written by docs/generate.py from the models: change those, then run `make docs`. -->"
EXAMPLES = {
    "BackupPolicy": "examples/platform-and-tenants/tenants/shop/policy.yaml",
    "PolicyPreset": "policies/gold/presets.yaml",
    "Guardrail": "examples/platform-and-tenants/platform/guardrails/promises.yaml",
    "TransformSet": "transforms/storage-class/transformset.yaml",
    "Blueprint": "blueprints/sqlite/blueprint.yaml",
    "Location": "examples/platform-and-tenants/platform/locations/locations.yaml",
    "Cluster": "examples/platform-and-tenants/platform/clusters/prod-eu1.yaml",
    "Restore": "examples/platform-and-tenants/tenants/shop/inc-4711.yaml",
    "Hold": "examples/platform-and-tenants/tenants/wiki/audit.yaml",
}
CONFIGURATION = "examples/platform-and-tenants/operator/reconciler.yaml"
_PATTERNS = {DNS_LABEL: "a DNS label", DNS_SUBDOMAIN: "a name", r"^[0-9a-f]{64}$": "64 hex digits"}
_EXPRESSION_LENGTH = 5120


@dataclass(frozen=True)
class Section:
    """A model at the first path where it occurs."""

    path: str
    model: type[Model]


def main(argv: list[str]) -> int:
    """Write the pages, or compare them."""
    stale = []
    for name, text in pages().items():
        path = SPEC / name
        if "--check" in argv:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if stale:
        print(f"not up to date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


def pages() -> dict[str, str]:
    """File name → text of every page."""
    found = {f"{name.lower()}.md": _page(name, kind) for name, kind in DECLARATIVE.items()}
    others = {"records.md": _records(), "configuration.md": _configuration(), "README.md": _index()}
    others["functions.md"] = _functions()
    return found | others


def _index() -> str:
    rows = [
        f"| [{n}]({n.lower()}.md) | {_first_line(k)} | {_owner(k)} |"
        for n, k in DECLARATIVE.items()
    ]
    lines = [
        NOTE,
        "# Reference",
        "",
        "Manifests are YAML (core schema of 1.2; no aliases, tags or duplicate keys) of at most 256 KiB. All have",
        "`apiVersion: backup.reconciler.dev/v1alpha1`, `kind`, `metadata` and `spec`.",
        "",
        "| kind | says | defined by |",
        "|---|---|---|",
        *rows,
        "",
        "[Records](records.md) are written by the program only, into the ledger. The",
        "[configuration](configuration.md) is the operator's, and never part of Git.",
        f"Not supported by this version: {', '.join(sorted(PLANNED | PLANNED_RECORDS))}.",
        "",
        "## metadata",
        "",
        *_table(Metadata, "metadata", {}),
        "",
        "## Forms of values",
        "",
        "| form | is |",
        "|---|---|",
        "| span | a count and a unit, largest first: `90s`, `30m`, `1h30m`, `7d`, `2w` |",
        "| instant | RFC 3339 with a zone: `2026-12-01T18:00:00Z` |",
        "| name | lower-case letters, digits, `-` and `.`, starting and ending with a letter or digit |",
        "| CEL | an [expression](../expressions.md), compiled when the file is checked: [functions](functions.md) |",
    ]
    return "\n".join(lines) + "\n"


def _owner(kind: type[Kind]) -> str:
    return "the platform" if kind.platform_only else "the platform, or a tenant for its namespace"


def _page(name: str, kind: type[Kind]) -> str:
    lines = [NOTE, f"# {name}", "", _prose(kind), ""]
    lines += [f"Defined by {_owner(kind)}.", "", "```yaml", _example(name), "```", ""]
    lines += _fields(kind, level=2)
    return "\n".join(lines).rstrip() + "\n"


def _functions() -> str:
    lines = [
        NOTE.replace("the models", "reconciler/cel"),
        "# Functions of expressions",
        "",
        "[Expressions](../expressions.md) says how they are evaluated. *Since* is the version of Kubernetes whose",
        "policies have the function; one marked *ours* does not compile in a MutatingAdmissionPolicy.",
        "",
        "## macros",
        "",
        "| form | since |",
        "|---|---|",
        *(f"| `{form}` | {since} |" for form, since in FORMS.items()),
    ]
    for name in dict.fromkeys(table.name for table in TABLES):
        overloads = [one for table in TABLES if table.name == name for one in table.overloads]
        rows = dict.fromkeys((_signature(one.signature), one.since) for one in overloads)
        lines += ["", f"## {name}", "", "| signature | since |", "|---|---|"]
        lines += [f"| `{text}` | {since} |" for text, since in rows]
    assert any(OURS in line for line in lines)
    return "\n".join(lines) + "\n"


def _signature(signature: Signature) -> str:
    """As it is written, operators between their operands."""
    if signature.name[0].isalpha():
        return signature.text
    *left, right = map(str, signature.params)
    return f"{' '.join([*left, signature.name, right])} -> {signature.result}"


def _records() -> str:
    lines = [
        NOTE,
        "# Records",
        "",
        "What the program writes to the ledger, and nobody else: one in a policy repository is refused. Every record",
        "carries its place in its branch (`spec.chain`), so that a missing or altered one is noticed. In the ledger a",
        "record has at most 64 KiB; longer lists are whole in the store's point object.",
        "",
    ]
    for name, kind in RECORD_KINDS.items():
        lines += [f"## {name}", "", _prose(kind), "", *_fields(kind, level=3)]
    assert set(RECORD_KINDS.values()) == set(typing.get_args(Record))
    return "\n".join(lines).rstrip() + "\n"


def _configuration() -> str:
    lines = [
        NOTE,
        "# Configuration",
        "",
        "The operator's one file: `--config`, `$RECONCILER_CONFIG`, or `./reconciler.yaml`. Relative paths in it",
        "start at its folder. Unknown fields are refused.",
        "",
        "```yaml",
        (ROOT / CONFIGURATION).read_text(encoding="utf-8").strip(),
        "```",
        "",
        *_tables(list(_sections("", Settings, set())), level=2),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _example(name: str) -> str:
    documents = re.split(
        r"^---\n", (ROOT / EXAMPLES[name]).read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return next(text.strip() for text in documents if f"\nkind: {name}\n" in text)


def _fields(kind: type[Kind], *, level: int) -> list[str]:
    spec = kind.model_fields["spec"]
    return _tables(list(_sections("spec", _models(spec.annotation)[0], set())), level=level)


def _tables(sections: list[Section], *, level: int) -> list[str]:
    homes = {section.model: section.path for section in sections}
    lines = []
    for section in sections:
        title = section.path.removeprefix(".") or "The file"
        lines += [f"{'#' * level} {title}", "", _prose(section.model), ""]
        lines += [*_table(section.model, section.path, homes), ""]
        missing = [_alias(n, i) for n, i in section.model.model_fields.items() if i.exclude]
        if missing:
            listed = ", ".join(f"`{one}`" for one in missing)
            lines += [f"Not supported by this version: {listed}.", ""]
    return lines


def _sections(path: str, model: type[Model], seen: set[type[Model]]) -> Iterator[Section]:
    """A model and those below it, each at its first path."""
    if model in seen:
        return
    seen.add(model)
    yield Section(path, model)
    for name, info in model.model_fields.items():
        for below in _models(info.annotation):
            yield from _sections(
                f"{path}.{_alias(name, info)}{_suffix(info.annotation)}", below, seen
            )


def _table(model: type[Model], path: str, homes: dict[type[Model], str]) -> list[str]:
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        if info.exclude:
            continue
        meaning = " ".join((info.description or "").split())
        for below in _models(info.annotation):
            home = homes.get(below)
            if home and home != f"{path}.{_alias(name, info)}{_suffix(info.annotation)}":
                meaning += f" See {home}."
        kind = _words(info.annotation, info.metadata)
        cells = (f"`{_alias(name, info)}`", kind, _default(info), meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    match info.get_default(call_default_factory=True):
        case None | "" | [] | {} | Model():
            return ""
        case bool() as value:
            return f"`{str(value).lower()}`"
        case timedelta() as span:
            return f"`{format_span(span)}`"
        case list() as values:
            return f"`[{', '.join(map(str, values))}]`"
        case value:
            return f"`{value}`"


def _words(annotation: Any, metadata: list[Any]) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(args[0], list(args[1:]))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(a, metadata) for a in args if a is not type(None))
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin is list:
        return f"list of {_words(args[0], [])}"
    if origin is dict:
        return "map" if args[1] is Any else f"map of text to {_words(args[1], [])}"
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return "mapping"
    if annotation is str:
        return _text_words(metadata)
    if annotation is int:
        return f"whole number{_range(metadata)}"
    simple = {bool: "true or false", float: "number", timedelta: "span", datetime: "instant"}
    return simple.get(annotation, "any value")


def _text_words(metadata: list[Any]) -> str:
    pattern = next((p for p in _bounds(metadata, "pattern")), None)
    if pattern is not None:
        return _PATTERNS.get(pattern, f"text `{pattern}`")
    return "CEL" if _EXPRESSION_LENGTH in _bounds(metadata, "max_length") else "text"


def _range(metadata: list[Any]) -> str:
    low, high = [*_bounds(metadata, "ge"), None][0], [*_bounds(metadata, "le"), None][0]
    if low is None and high is None:
        return ""
    return f", {low} or more" if high is None else f", {low} to {high}"


def _bounds(metadata: list[Any], name: str) -> list[Any]:
    entries = [one for entry in metadata for one in getattr(entry, "metadata", [entry])]
    return [value for one in entries if (value := getattr(one, name, None)) is not None]


def _models(annotation: Any) -> list[type[Model]]:
    """The models that an annotation leads to."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return [annotation]
    return [model for arg in typing.get_args(annotation) for model in _models(arg)]


def _suffix(annotation: Any) -> str:
    """`[]` for lists of models."""
    if typing.get_origin(annotation) is list:
        return "[]"
    inner = [a for a in typing.get_args(annotation) if a is not type(None)]
    return _suffix(inner[0]) if inner and typing.get_origin(annotation) is not dict else ""


def _alias(name: str, info: FieldInfo) -> str:
    return info.alias or name


def _prose(model: type[Model]) -> str:
    return "\n".join(line.strip() for line in (model.__doc__ or "").strip().splitlines())


def _first_line(model: type[Model]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
