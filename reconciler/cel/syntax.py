"""The syntax tree of an expression, as the parser leaves it.

`at` is the offset of what a message should point to: the name of a field, an operator, the first character of a
literal. Chains of one precedence (`a + b - c`, `a || b || c`) are flat, so that their length is no depth; `height`
is the number of levels below a node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Node:
    """Any part of an expression."""

    at: int
    height: int = field(default=1, kw_only=True)


@dataclass(slots=True)
class Literal(Node):
    """A constant; `is_bare` when no parentheses are around it."""

    value: Any
    is_bare: bool = True


@dataclass(slots=True)
class Name(Node):
    """A variable, a type or the first part of a qualified name; `is_absolute` when written `.name`."""

    name: str
    is_absolute: bool = False


@dataclass(slots=True)
class Select(Node):
    """`operand.name`, `operand.?name`."""

    operand: Node
    name: str
    is_optional: bool = False


@dataclass(slots=True)
class Index(Node):
    """`operand[key]`, `operand[?key]`."""

    operand: Node
    key: Node
    is_optional: bool = False


@dataclass(slots=True)
class Call(Node):
    """`name(…)`, `target.name(…)`."""

    name: str
    target: Node | None
    arguments: list[Node]
    is_absolute: bool = False


@dataclass(slots=True)
class Items(Node):
    """A list literal; each item with whether it was written with `?`."""

    items: list[tuple[Node, bool]]


@dataclass(slots=True)
class Entries(Node):
    """A map literal; each entry with whether its key was written with `?`."""

    entries: list[tuple[Node, Node, bool]]


@dataclass(slots=True)
class Message(Node):
    """`Object.spec{field: value}`."""

    name: str
    fields: list[tuple[str, Node, bool]]


@dataclass(slots=True)
class Unary(Node):
    """`!a`, `-a`; `is_bare` when no parentheses are around it."""

    operator: str
    operand: Node
    is_bare: bool = True


@dataclass(slots=True)
class Logic(Node):
    """`a && b && c` or `a || b || c`."""

    operator: str
    terms: list[Node]


@dataclass(slots=True)
class Chain(Node):
    """`first + b - c`: operators of one precedence, from the left; each step is (operator, its place, operand)."""

    first: Node
    steps: list[tuple[str, int, Node]]


@dataclass(slots=True)
class Ternary(Node):
    """`condition ? yes : no`."""

    condition: Node
    yes: Node
    no: Node


def children(node: Node) -> Iterable[Node]:
    """The parts of a node, in the order of the text."""
    match node:
        case Select() | Unary():
            return (node.operand,)
        case Index():
            return (node.operand, node.key)
        case Call():
            return ([node.target] if node.target else []) + node.arguments
        case Items():
            return [item for item, _ in node.items]
        case Entries():
            return [part for key, value, _ in node.entries for part in (key, value)]
        case Message():
            return [value for _, value, _ in node.fields]
        case Logic():
            return node.terms
        case Chain():
            return [node.first, *(step[2] for step in node.steps)]
        case Ternary():
            return (node.condition, node.yes, node.no)
    return ()


def measured(node: Node) -> Node:
    """The node, with its height written down."""
    node.height = 1 + max((part.height for part in children(node)), default=0)
    return node


def dotted(node: Node) -> str | None:
    """`a.b.c` where a node is only that, else None; a leading dot is kept."""
    names: list[str] = []
    while isinstance(node, Select) and not node.is_optional:
        names.append(node.name)
        node = node.operand
    if not isinstance(node, Name):
        return None
    names.append(f".{node.name}" if node.is_absolute else node.name)
    return ".".join(reversed(names))
