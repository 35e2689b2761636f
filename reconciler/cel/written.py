"""Trees and values as text: for people, so a long one is cut."""

from __future__ import annotations

import json
from typing import Any

from reconciler.cel import moments, syntax
from reconciler.cel.error import Stop
from reconciler.cel.library.standard import write_double
from reconciler.cel.moments import Duration, Timestamp
from reconciler.cel.values import Foreign, Optional, TypeName, Uint, keys_of, type_of

TEXT_MAX = 72
_ITEMS_MAX = 20
_DEPTH_MAX = 4
_RANKS = {"?:": 0, "||": 1, "&&": 2, "in": 3, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5}
_COMPARISON, _UNARY, _ATOM = 3, 6, 7


def expression(node: syntax.Node) -> str:
    """The text of a tree, in one line."""
    return _expression(node)[0]


def _inside(node: syntax.Node, rank: int) -> str:
    """The text of a part, in parentheses where the operator around it binds more strongly."""
    text, own = _expression(node)
    return text if own >= rank else f"({text})"


def _expression(node: syntax.Node) -> tuple[str, int]:
    match node:
        case syntax.Literal():
            return value(node.value), _ATOM
        case syntax.Name():
            return f".{node.name}" if node.is_absolute else node.name, _ATOM
        case syntax.Select():
            mark = ".?" if node.is_optional else "."
            name = node.name if node.name.isidentifier() else f"`{node.name}`"
            return f"{_inside(node.operand, _ATOM)}{mark}{name}", _ATOM
        case syntax.Index():
            mark = "?" if node.is_optional else ""
            return f"{_inside(node.operand, _ATOM)}[{mark}{expression(node.key)}]", _ATOM
        case syntax.Call():
            target = f"{_inside(node.target, _ATOM)}." if node.target else ""
            return f"{target}{node.name}({', '.join(map(expression, node.arguments))})", _ATOM
        case syntax.Unary():
            inner = _inside(node.operand, _UNARY)
            is_same = inner.startswith(node.operator) or isinstance(node.operand, syntax.Literal)
            return f"{node.operator}({inner})" if is_same else f"{node.operator}{inner}", _UNARY
        case syntax.Logic():
            rank = _RANKS[node.operator]
            terms = [_inside(term, rank + 1) for term in node.terms]
            return f" {node.operator} ".join(terms), rank
        case syntax.Chain():
            rank = _RANKS.get(node.steps[0][0], _COMPARISON)
            text = _inside(node.first, rank)
            for operator, _, right in node.steps:
                text += f" {operator} {_inside(right, rank + 1)}"
            return text, rank
        case syntax.Ternary():
            parts = (_inside(node.condition, 1), _inside(node.yes, 1), _inside(node.no, 0))
            return "{} ? {} : {}".format(*parts), 0
    return _literal(node), _ATOM


def _literal(node: syntax.Node) -> str:
    match node:
        case syntax.Items():
            items = [f"{'?' if maybe else ''}{expression(item)}" for item, maybe in node.items]
            return f"[{', '.join(items)}]"
        case syntax.Entries():
            entries = [
                f"{'?' if maybe else ''}{expression(key)}: {expression(item)}"
                for key, item, maybe in node.entries
            ]
            return f"{{{', '.join(entries)}}}"
        case syntax.Message():
            fields = [
                f"{'?' if maybe else ''}{name}: {expression(item)}"
                for name, item, maybe in node.fields
            ]
            return f"{node.name}{{{', '.join(fields)}}}"
    raise AssertionError(f"no such node: {node}")


def value(one: Any) -> str:
    """A value as it would be written in the language, as far as it can be."""
    return _value(one, _DEPTH_MAX)


def _value(one: Any, depth: int) -> str:
    match one:
        case None | bool() | str():
            return json.dumps(one, ensure_ascii=False)
        case Uint():
            return f"{int(one)}u"
        case int():
            return str(one)
        case float():
            text = write_double(one)
            return f"{text}.0" if text.lstrip("-").isdigit() else text
        case bytes():
            return f"b{json.dumps(one.decode('utf-8', 'backslashreplace'))}"
        case Timestamp():
            return f'timestamp("{moments.write_timestamp(one)}")'
        case Duration():
            return f'duration("{moments.write_duration(one)}")'
        case TypeName():
            return one.name
        case Optional():
            return (
                f"optional.of({_value(one.value, depth)})" if one.is_present else "optional.none()"
            )
    return _container(one, depth)


def _container(one: Any, depth: int) -> str:
    if isinstance(one, list):
        if depth == 0:
            return "[…]" if one else "[]"
        items = [_value(item, depth - 1) for item in one[:_ITEMS_MAX]]
        return f"[{', '.join(items)}{', …' if len(one) > _ITEMS_MAX else ''}]"
    if isinstance(one, dict):
        name = type_of(one)
        name = "" if name == "map" else name
        if depth == 0:
            return f"{name}{{…}}" if one else f"{name}{{}}"
        pairs = list(zip(keys_of(one), one.values(), strict=True))[:_ITEMS_MAX]
        entries = [f"{_value(key, 0)}: {_value(item, depth - 1)}" for key, item in pairs]
        return f"{name}{{{', '.join(entries)}{', …' if len(one) > _ITEMS_MAX else ''}}}"
    if isinstance(one, Foreign):
        return f"<{one.cel_type}>"
    raise Stop(f"a value of the host type {type(one).__name__} is no JSON")


def cut(text: str, width: int = TEXT_MAX) -> str:
    """The beginning of a text that is too long, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
