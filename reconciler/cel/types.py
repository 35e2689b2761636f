"""Static types: what a literal, an operator or a function is known to give before anything runs.

Variables hold JSON, so most of an object is `dyn`, which fits everything. What is known is checked by cel-spec's
rules ("Gradual Type Checking"): type parameters take the most general of what they meet, and null fits what may
be absent. Equality is not checked: values of different types are unequal, not an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Type:
    """A type with its parameters. `Type("A")` with one capital is a parameter of a signature."""

    name: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.params))})" if self.params else self.name


class Open(Type):
    """A type that is not known yet: the items of `[]`, a parameter of a call. Compared by identity."""

    __slots__ = ("bound",)
    bound: Type | None

    def __init__(self) -> None:
        super().__init__("?")
        object.__setattr__(self, "bound", None)

    def bind(self, to: Type) -> None:
        """Learn what it is."""
        object.__setattr__(self, "bound", to)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


DYN, NULL, BOOL, INT, UINT = map(Type, ("dyn", "null_type", "bool", "int", "uint"))
DOUBLE, STRING, BYTES = map(Type, ("double", "string", "bytes"))
TIMESTAMP, DURATION = Type("timestamp"), Type("duration")
_ABSENT = frozenset(("optional", "timestamp", "duration"))
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")


def list_of(item: Type) -> Type:
    """`list(item)`."""
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    """`map(key, value)`."""
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    """`optional(value)`."""
    return Type("optional", (value,))


def type_of_type(named: Type) -> Type:
    """`type(named)`."""
    return Type("type", (named,))


def settled(kind: Type) -> Type:
    """What a type is known to be by now, at its outermost level."""
    while isinstance(kind, Open) and kind.bound is not None:
        kind = kind.bound
    return kind


def closed(kind: Type, *, depth: int = 0) -> Type:
    """A type without open parts; what stayed open is dyn."""
    kind = settled(kind)
    if isinstance(kind, Open) or depth > 32:
        return DYN
    return Type(kind.name, tuple(closed(one, depth=depth + 1) for one in kind.params))


def is_dyn(kind: Type) -> bool:
    """Whether nothing is known of a type."""
    kind = settled(kind)
    return kind.name == "dyn" or isinstance(kind, Open)


def join(left: Type, right: Type) -> Type | None:
    """The most general of two types that fit each other, else None."""
    left, right = settled(left), settled(right)
    if left is right:
        return left
    if isinstance(left, Open):
        return _bound(left, right)
    if isinstance(right, Open):
        return _bound(right, left)
    if left.name == "dyn" or right.name == "dyn":
        return DYN
    for one, other in ((left, right), (right, left)):
        if one.name == "null_type" and (other.name in _ABSENT or other.name[:1].isupper()):
            return other
    if left.name != right.name or len(left.params) != len(right.params):
        return None
    params = [join(one, other) for one, other in zip(left.params, right.params, strict=True)]
    return None if None in params else Type(left.name, tuple(one for one in params if one))


def _bound(unknown: Open, to: Type) -> Type | None:
    if _occurs(unknown, to):
        return None
    unknown.bind(to)
    return to


def _occurs(unknown: Open, kind: Type) -> bool:
    kind = settled(kind)
    return kind is unknown or any(_occurs(unknown, one) for one in kind.params)


def fits(wanted: Type, given: Type, bindings: dict[str, Type]) -> bool:
    """Whether a value of one type may be passed where another is wanted; parameters are bound as they are met."""
    if len(wanted.name) == 1 and wanted.name.isupper():
        before = bindings.get(wanted.name)
        joined = given if before is None else join(before, given)
        if joined is None:
            return False
        bindings[wanted.name] = joined
        return True
    given = settled(given)
    if wanted.name == "dyn":
        return True
    if is_dyn(given):
        for one in wanted.params:  # of what is inside nothing is known either
            fits(one, DYN, bindings)
        return True
    if given.name == "null_type" and wanted.name in _ABSENT:
        return True
    if wanted.name != given.name or len(wanted.params) > len(given.params):
        return False
    pairs = zip(wanted.params, given.params, strict=False)
    return all(fits(one, other, bindings) for one, other in pairs)


def applied(kind: Type, bindings: dict[str, Type]) -> Type:
    """A type of a signature with its parameters filled in; those that were not met become open."""
    if len(kind.name) == 1 and kind.name.isupper():
        return bindings.setdefault(kind.name, Open())
    if not kind.params:
        return kind
    return Type(kind.name, tuple(applied(one, bindings) for one in kind.params))


_KNOWN = frozenset(
    "bool int uint double string bytes list map timestamp duration type dyn optional null_type".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Signature:
    """`string.charAt(int) -> string`: a receiver counts as the first parameter."""

    name: str
    is_method: bool
    params: tuple[Type, ...]
    result: Type
    text: str


def read_signature(text: str) -> Signature:
    """Read a signature. A receiver is a type (`list(A).…`), a namespace is any other word (`math.…`)."""
    receiver, at = _read_type(text, 0)
    is_type = receiver.name in _KNOWN or receiver.name[0].isupper()
    is_method = text[at] == "." and is_type and text[:at] != "optional"
    start = at + 1 if is_method else 0
    end = text.index("(", start)
    name, params, at = text[start:end], [receiver] if is_method else [], end + 1
    while text[at] != ")":
        param, at = _read_type(text, at)
        params.append(param)
        if text[at] == ",":
            at += 2
    result, _ = _read_type(text, at + len(") -> "))
    return Signature(name, is_method, tuple(params), result, text)


def _read_type(text: str, at: int) -> tuple[Type, int]:
    found = _WORD.match(text, at)
    if found is None:
        return Type("?"), at
    at, params = found.end(), []
    if found[0] in ("list", "map", "optional", "type") and text[at : at + 1] == "(":
        start, at = at, at + 1
        while text[at] != ")":
            param, at = _read_type(text, at)
            params.append(param)
            if text[at : at + 1] == ",":
                at += 2
            elif text[at : at + 1] != ")":
                return Type(found[0]), start  # the name of a function, such as `type(A)`
        at += 1
        if not (text[at : at + 1] in (".", ",", ")", "") or found[0] != "type"):
            return Type(found[0]), start
    return Type(found[0], tuple(params)), at
