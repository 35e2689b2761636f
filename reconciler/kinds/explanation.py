"""Faults of a model in our words: where in the file, what is wrong, what was expected.

The models' library says `Input should be a valid string` at a path that names branches of unions; people need
the place of the key, what was found, and what to write instead. Values are shown only when they are short and
their field does not sound like a secret.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from reconciler.kinds.document import FAULTY, Fault, Node, Path
from reconciler.kinds.marks import nearest, place_of
from reconciler.kinds.model import DNS_LABEL, DNS_SUBDOMAIN, Model

SHOWN_MAX = 40
_SECRETIVE = re.compile(
    r"pass(word|phrase|wd)|secret|token|credential|private|api.?key", re.IGNORECASE
)
_CREDENTIALS_IN_URL = re.compile(r"//[^/@\s]*@")

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
}
_PATTERNS = {
    DNS_LABEL: "lower-case letters, digits and '-', starting and ending with a letter or digit",
    DNS_SUBDOMAIN: "lower-case letters, digits, '-' and '.', starting and ending with a letter or digit",
    r"^[0-9a-f]{64}$": "64 hexadecimal digits",
}
_RULES = {
    "missing": "missing-field",
    "extra_forbidden": "unknown-field",
    "not_supported": "not-supported",
}


@dataclass(frozen=True, slots=True)
class _Found:
    """An error of the library, brought to a node of the file."""

    path: Path
    error: Any
    branch: str
    """The branch of a union that failed; empty outside of unions."""
    is_there: bool


def explain(error: ValidationError, root: Node, model: type[Model]) -> Iterator[Fault]:
    """Give the faults of a document, one for each wrong field."""
    found = [_locate(one, root) for one in error.errors(include_url=False, include_context=True)]
    for one in _without_lost_branches(found):
        if not _is_explained_already(one, root):
            yield _fault(one, root, model)


def suggest(word: str, known: Sequence[str]) -> str:
    """`; did you mean "schedule"?`, or nothing when nothing is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:
        lower = {name.lower(): name for name in known}
        close = [lower[word.lower()]] if word.lower() in lower else []
    return f'; did you mean "{close[0]}"?' if close else ""


def _locate(error: Any, root: Node) -> _Found:
    node, path, branch = root, [], ""
    is_there = True
    loc = error["loc"]
    for at, step in enumerate(loc):
        child = node.children.get(step)
        if child is not None:
            node = child
            path.append(step)
        elif error["type"] == "missing" and at == len(loc) - 1:
            path.append(step)
            is_there = False
        else:
            branch = str(step)
    return _Found(tuple(path), error, branch, is_there)


def _without_lost_branches(found: list[_Found]) -> Iterator[_Found]:
    """Of a union's branches keep those that got further than its own type, or one that names them all."""
    groups: dict[Path, list[_Found]] = {}
    for one in found:
        if one.branch:
            groups.setdefault(one.path, []).append(one)
        else:
            yield one
    for path, group in groups.items():
        is_prefix = any(len(p) > len(path) and p[: len(path)] == path for p in groups)
        if not is_prefix:
            yield from (group if len({one.branch for one in group}) == 1 else [_merged(group)])


def _merged(group: list[_Found]) -> _Found:
    wanted = " or ".join(dict.fromkeys(_wanted(one.error) for one in group))
    error = {**group[0].error, "type": "union", "ctx": {"wanted": wanted}}
    return _Found(group[0].path, error, "", group[0].is_there)


def _is_explained_already(one: _Found, root: Node) -> bool:
    """Whether a fault of the text itself (an alias, a merge key) made this one."""
    node = root
    for step in one.path:
        if node.value is FAULTY or (
            not one.is_there and node.has_merge and step not in node.children
        ):
            return True
        node = node.children.get(step, node)
    return node.value is FAULTY


def _fault(one: _Found, root: Node, model: type[Model]) -> Fault:
    kind = one.error["type"]
    if kind == "missing":
        line, column = place_of(root, one.path[:-1], key=True)
        parent, _ = nearest(root, one.path[:-1])
        if not one.path[:-1]:
            line, column = parent.line, parent.column
        message = "missing" + _description(model, one.path)
    else:
        line, column = place_of(root, one.path, key=kind in ("extra_forbidden", "not_supported"))
        message = _message(one, root, model)
    return Fault(line, column, one.path, message, _RULES.get(kind, "value"))


def _message(one: _Found, root: Node, model: type[Model]) -> str:
    kind = one.error["type"]
    if kind == "not_supported":
        return "not supported by this version"
    if kind == "extra_forbidden":
        known = _field_names(model, one.path[:-1])
        hint = suggest(str(one.path[-1]), known)
        listed = f", expected one of {', '.join(known)}" if known and not hint else ""
        return f"unknown field{hint or listed}"
    node, _ = nearest(root, one.path)
    shown = found(node.value, one.path)
    wanted = _wanted(one.error)
    if kind == "string_type" and isinstance(node.value, bool | int | float):
        wanted += "; put it in quotes"
    if wanted:
        return f"found {shown}, expected {wanted}"
    text = str(one.error["msg"])
    return f"found {shown}, {text}" if text.startswith("expected ") and not node.children else text


def _wanted(error: Any) -> str:
    kind, limits = error["type"], error.get("ctx") or {}
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    match kind:
        case "literal_error":
            return str(limits["expected"])
        case "union":
            return str(limits["wanted"])
        case "string_pattern_mismatch":
            pattern = str(limits["pattern"])
            return _PATTERNS.get(pattern, f"text that matches {pattern}")
        case "string_too_short":
            return f"at least {limits['min_length']} character"
        case "string_too_long":
            return f"at most {limits['max_length']} characters"
        case "too_short":
            return f"at least {limits['min_length']} entry"
        case "too_long":
            return f"at most {limits['max_length']} entries"
        case "greater_than_equal":
            return f"{limits['ge']} or more"
        case "less_than_equal":
            return f"{limits['le']} or less"
        case "greater_than":
            return f"more than {limits['gt']}"
        case "less_than":
            return f"less than {limits['lt']}"
    return ""


def found(value: Any, path: Path) -> str:
    """What stands there, for people: short and harmless values themselves, of others only what they are."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case dict():
            return "a mapping"
        case str() | int() | float():
            text = str(value)
            is_number = not isinstance(value, str)
            names = ".".join(step for step in path if isinstance(step, str))
            if _SECRETIVE.search(names) or _CREDENTIALS_IN_URL.search(text):
                return "a hidden value"
            if len(text) > SHOWN_MAX:
                return f"text of {len(text)} characters"
            return f"the number {text}" if is_number else f'"{text}"'
    return "something else"


def _description(model: type[Model], path: Path) -> str:
    owner = model_at(model, path[:-1])
    if owner is None:
        return ""
    for name, info in owner.model_fields.items():
        if path[-1] in (name, info.alias) and info.description:
            return f", expected: {re.split(r'[;:.] |[.;:]$', info.description)[0]}"
    return ""


def _field_names(model: type[Model], path: Path) -> list[str]:
    owner = model_at(model, path)
    return [i.alias or n for n, i in owner.model_fields.items() if not i.exclude] if owner else []


def model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model that a path of a file leads to; None when it leads elsewhere."""
    current: Any = model
    for step in path:
        owner = next((m for m in _branches(current) if _is_model(m)), None)
        if isinstance(step, int):
            current = next((typing.get_args(b)[0] for b in _branches(current) if _is_list(b)), None)
        elif owner is not None:
            fields = owner.model_fields
            current = next((i.annotation for n, i in fields.items() if step in (i.alias, n)), None)
        else:
            current = next((typing.get_args(b)[1] for b in _branches(current) if _is_dict(b)), None)
        if current is None:
            return None
    return next((m for m in _branches(current) if _is_model(m)), None)


def _branches(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _branches(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [b for arg in typing.get_args(annotation) for b in _branches(arg)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) is list


def _is_dict(annotation: Any) -> bool:
    return typing.get_origin(annotation) is dict
