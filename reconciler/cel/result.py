"""The type that an expression's value will have, where its text alone says so.

Variables hold any JSON, so most types are only known when the expression runs. What can be known is the outermost
operator, literal, macro or function; a condition that cannot become a boolean is refused before it is in force.
"""

from __future__ import annotations

from typing import Any

from reconciler.cel.values import TYPES

_FUNCTIONS = {
    "size": "int",
    "int": "int",
    "indexOf": "int",
    "lastIndexOf": "int",
    "double": "double",
    "string": "string",
    "charAt": "string",
    "substring": "string",
    "replace": "string",
    "join": "string",
    "trim": "string",
    "lowerAscii": "string",
    "upperAscii": "string",
    "escapeKey": "string",
    "split": "list",
    "flatten": "list",
    "range": "list",
    "map": "list",
    "filter": "list",
    "timestamp": "timestamp",
    "duration": "duration",
    "type": "type",
    "bool": "bool",
    "has": "bool",
    "matches": "bool",
    "startsWith": "bool",
    "endsWith": "bool",
    "contains": "bool",
    "all": "bool",
    "exists": "bool",
    "exists_one": "bool",
}
"""Functions and macros whose result is of one type whatever they are given."""
_LITERALS = {
    "STRING_LIT": "string",
    "MLSTRING_LIT": "string",
    "BOOL_LIT": "bool",
    "NULL_LIT": "null_type",
    "FLOAT_LIT": "double",
    "INT_LIT": "int",
}
_LEAVES = ("literal", "ident", "ident_arg", "list_lit", "map_lit")
ARITHMETIC = "the result of arithmetic"
"""Of some type that can be added or multiplied: a number, text, a list, an instant or a span, never a boolean."""
_MIXED = {"", "timestamp", "duration"}
"""Sums of these need not be of the type of either side."""


def known_type(tree: Any, *, variables: frozenset[str]) -> str:
    """The name of the type, empty when only running it can tell. The tree was compiled, so its depth is bounded."""
    tree = _core(tree)
    match str(tree.data):
        case "literal":
            return _LITERALS.get(tree.children[0].type, "")
        case "list_lit":
            return "list"
        case "map_lit":
            return "map"
        case "conditionalor" | "conditionaland" | "relation":
            return "bool"
        case "unary":
            return "bool" if tree.children[0].data == "unary_not" else ARITHMETIC
        case "addition" | "multiplication":
            return _sum(tree, variables=variables)
        case "expr":
            sides = {known_type(one, variables=variables) for one in tree.children[1:]}
            return sides.pop() if len(sides) == 1 else ""
        case "ident":
            name = str(tree.children[0])
            return "type" if name in TYPES and name not in variables else ""
        case "ident_arg":
            return _FUNCTIONS.get(str(tree.children[0]), "")
        case "member_dot_arg":
            return _FUNCTIONS.get(str(tree.children[1]), "")
    return ""


def _sum(tree: Any, *, variables: frozenset[str]) -> str:
    """`a + b - c` leans to the left and may be long, so no recursion; what is known of one side holds for `+`."""
    types = set()
    is_sum = True
    while tree.data in ("addition", "multiplication"):
        operator, right = tree.children
        is_sum = is_sum and operator.data == "addition_add"
        types.add(known_type(right, variables=variables))
        tree = _core(operator.children[0])
    types.add(known_type(tree, variables=variables))
    found = types - {""} if is_sum else types
    return found.pop() if len(found) == 1 and not found & _MIXED else ARITHMETIC


def _core(tree: Any) -> Any:
    while len(tree.children) == 1 and tree.data not in _LEAVES:
        tree = tree.children[0]
    return tree
