"""Syntax tree → Python closures over plain JSON values.

celpy supplies the grammar; its evaluators do not, because they are silently wrong where a restore depends on
them (a ternary in a message field, errors inside map literals, predicates that are no booleans) and cannot be
bounded. What is checked here, before anything runs: every name and function is known, arity, the shape of macros,
nesting, the number of nodes. A node becomes `(frame) -> value`; whatever it raises gets the place of the innermost
node that has one.

Not part of this version, and refused: message literals, bytes, unsigned integers, keys of maps that are no
strings, two-variable macros, optional values.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reconciler.cel import macros, values
from reconciler.cel.error import CelError, Interrupt, Stop
from reconciler.cel.functions import GLOBALS, METHODS, NAMESPACED, Function
from reconciler.cel.source import Source
from reconciler.cel.values import TYPES, Frame

Node = Callable[[Frame], Any]

NESTING_MAX = 32
NODES_MAX = 2_000
LOOPS_MAX = 3

_THROUGH = frozenset(
    (
        "expr",
        "conditionalor",
        "conditionaland",
        "relation",
        "addition",
        "multiplication",
        "unary",
        "member",
        "primary",
    )
)
_STEPS = ("member_dot", "member_dot_arg", "member_index", "member_object")
_RELATIONS: dict[str, Callable[[Frame, Any, Any], Any]] = {
    "relation_eq": values.equal,
    "relation_ne": lambda frame, a, b: not values.equal(frame, a, b),
    "relation_lt": lambda frame, a, b: values.compare(frame, "<", a, b),
    "relation_le": lambda frame, a, b: values.compare(frame, "<=", a, b),
    "relation_gt": lambda frame, a, b: values.compare(frame, ">", a, b),
    "relation_ge": lambda frame, a, b: values.compare(frame, ">=", a, b),
    "relation_in": values.contains,
}
_OPERATORS: dict[str, Callable[[Frame, Any, Any], Any]] = {
    **_RELATIONS,
    "addition_add": values.add,
    "addition_sub": values.subtract,
    "multiplication_mul": values.multiply,
    "multiplication_div": values.divide,
    "multiplication_mod": values.modulo,
}
_REFUSED = {
    "optional": "optional values are",
    "bytes": "bytes are",
    "uint": "unsigned integers are",
    "reduce": "the macro reduce is",
    "transformList": "two-variable macros are",
    "transformMap": "two-variable macros are",
    "transformMapEntry": "two-variable macros are",
    "existsOne": "two-variable macros are",
    "min": "the function min is",
    "max": "the function max is",
}


class Compiler:
    """Compiles one expression; use it once."""

    def __init__(self, source: Source, *, variables: Sequence[str]) -> None:
        self._source = source
        self._variables = frozenset(variables)
        self._bound: list[str] = []
        self._nodes = 0
        self._depth = 0

    def compile(self) -> Node:
        """Make the closure.

        Raises:
            CelError: a name or function is unknown, or a bound is passed.
        """
        return self._node(self._source.tree)

    def _node(self, tree: Any) -> Node:
        tree = _core(tree)
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _refuse(tree, f"the expression has more than {NODES_MAX} parts")
        match str(tree.data):
            case "expr":
                return self._deeper(tree, self._ternary)
            case "conditionalor" | "conditionaland":
                return self._logic(tree)
            case "relation" | "addition" | "multiplication":
                return self._operators(tree)
            case "unary":
                return self._deeper(tree, self._unary)
            case "member_dot" | "member_dot_arg" | "member_index" | "member_object":
                return self._chain(tree)
            case "literal":
                return _constant(self._literal(tree))
            case "ident":
                return self._name(tree)
            case "paren_expr":
                return self._deeper(tree, lambda inner: self._node(inner.children[0]))
            case "list_lit":
                return self._deeper(tree, self._list)
            case "map_lit":
                return self._deeper(tree, self._map)
            case "ident_arg":
                return self._deeper(tree, self._call)
            case other:
                raise _refuse(tree, f"{other} is not supported by this version")

    def _deeper(self, tree: Any, build: Callable[[Any], Node]) -> Node:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise _refuse(tree, f"the expression is nested more than {NESTING_MAX} deep")
        node = build(tree)
        self._depth -= 1
        return node

    def _ternary(self, tree: Any) -> Node:
        condition, yes, no = (self._node(child) for child in tree.children)

        def ternary(frame: Frame) -> Any:
            frame.spend()
            return yes(frame) if macros.boolean(condition(frame), "?:") else no(frame)

        return placed(tree, ternary)

    def _logic(self, tree: Any) -> Node:
        """`a || b || c`: the chain leans to the left and is as long as people like, so no recursion."""
        terms, rest, rule = [], tree, tree.data
        while rest.data == rule and len(rest.children) == 2:
            terms.append(rest.children[1])
            rest = rest.children[0]
        nodes = [self._node(term) for term in (rest, *reversed(terms))]
        decisive, name = (True, "||") if rule == "conditionalor" else (False, "&&")
        return placed(tree, macros.logic(nodes, decisive=decisive, name=name))

    def _operators(self, tree: Any) -> Node:
        """`a + b - c`, `a < b`: folded from the left."""
        rule, rest = tree.data, tree
        steps: list[tuple[str, Any, Any]] = []
        while rest.data == rule and len(rest.children) == 2:
            operator, right = rest.children
            steps.append((str(operator.data), right, rest))
            rest = operator.children[0]
        node = self._node(rest)
        if len(steps) == 1:
            name, right, place = steps[0]
            return placed(place, _binary(_OPERATORS[name], node, self._node(right)))
        folds = [
            (_OPERATORS[name], self._node(right), _place(place))
            for name, right, place in reversed(steps)
        ]

        def fold(frame: Frame) -> Any:
            value = node(frame)
            for apply, right, place in folds:
                try:
                    value = apply(frame, value, right(frame))
                except Interrupt as error:
                    error.place = error.place or place
                    raise
            return value

        return fold

    def _unary(self, tree: Any) -> Node:
        operator, operand = tree.children
        node = self._node(operand)
        if operator.data == "unary_not":
            return placed(tree, lambda frame: not macros.boolean(node(frame), "!"))
        return placed(tree, lambda frame: values.negate(frame, node(frame)))

    def _chain(self, tree: Any) -> Node:
        """`a.b[c].d(e)`: steps from a base, collected without recursion."""
        steps, rest = [], tree
        while rest.data in _STEPS or rest.data == "member":
            if rest.data != "member":
                steps.append(rest)
            rest = rest.children[0]
        steps.reverse()
        if any(step.data == "member_object" for step in steps):
            raise _refuse(tree, "message literals are not supported by this version; write a map")
        if len(steps) > NESTING_MAX * 2:
            raise _refuse(tree, f"more than {NESTING_MAX * 2} steps in a row")
        namespaced = self._namespaced(rest, steps[0])
        if namespaced is not None:
            node, steps = namespaced, steps[1:]
        else:
            node = self._node(rest)
        for step in steps:
            self._nodes += 1
            node = self._step(step, node)
        return node

    def _namespaced(self, base: Any, step: Any) -> Node | None:
        inner = base.children[0]
        if str(inner.data) != "ident" or step.data != "member_dot_arg":
            return None
        space = str(inner.children[0])
        if space in self._variables or space in self._bound:
            return None
        if space == "optional":
            raise _refuse(step, "optional values are not supported by this version")
        if space not in NAMESPACED:
            return None
        name, arguments = self._arguments(step)
        function = _overload(step, NAMESPACED[space], name, len(arguments), shown=f"{space}.{name}")
        nodes = self._deeper_all(step, arguments)
        return placed(step, lambda frame: function(frame, *[argument(frame) for argument in nodes]))

    def _arguments(self, step: Any) -> tuple[str, list[Any]]:
        """The name and arguments of a call; `ident_arg` and `member_dot_arg` differ by the receiver."""
        children = step.children if step.data == "ident_arg" else step.children[1:]
        return str(children[0]), list(children[1].children) if len(children) > 1 else []

    def _deeper_all(self, tree: Any, arguments: Iterable[Any]) -> list[Node]:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise _refuse(tree, f"the expression is nested more than {NESTING_MAX} deep")
        nodes = [self._node(argument) for argument in arguments]
        self._depth -= 1
        return nodes

    def _step(self, step: Any, receiver: Node) -> Node:
        match str(step.data):
            case "member_dot":
                name = str(step.children[1])
                return placed(step, lambda frame: values.select(frame, receiver(frame), name))
            case "member_index":
                return self._index(step, receiver)
        name, arguments = self._arguments(step)
        if name in macros.MACROS:
            return self._macro(step, name, arguments, receiver)
        function = _overload(step, METHODS, name, len(arguments) + 1, receiver=True)
        nodes = self._deeper_all(step, arguments)
        return placed(
            step,
            lambda frame: function(
                frame, receiver(frame), *[argument(frame) for argument in nodes]
            ),
        )

    def _index(self, step: Any, receiver: Node) -> Node:
        (key,) = self._deeper_all(step, step.children[1:])
        tree = _core(step.children[1])
        shown = ""
        if tree.data == "literal" and isinstance(literal := self._literal(tree), str):
            shown = repr(literal[:80])
        return placed(
            step, lambda frame: values.index(frame, receiver(frame), key(frame), shown=shown)
        )

    def _macro(self, step: Any, name: str, arguments: list[Any], receiver: Node) -> Node:
        counts = (2, 3) if name == "map" else (2,)
        if len(arguments) not in counts:
            two = len(arguments) in (3, 4)
            raise _refuse(
                step,
                f"two-variable {name} is not supported by this version"
                if two
                else f"{name} takes a variable and an expression, got {len(arguments)} arguments",
            )
        variable = _plain_name(arguments[0])
        if variable is None:
            raise _refuse(arguments[0], f"the first argument of {name} must be a plain name")
        if len(self._bound) >= LOOPS_MAX:
            raise _refuse(step, f"more than {LOOPS_MAX} macros over lists inside each other")
        self._bound.append(variable)
        bodies = self._deeper_all(step, arguments[1:])
        self._bound.pop()
        return placed(step, macros.MACROS[name](receiver, variable, bodies))

    def _call(self, tree: Any) -> Node:
        name, arguments = self._arguments(tree)
        if name == "has":
            return self._has(tree, arguments)
        function = _overload(tree, GLOBALS, name, len(arguments))
        nodes = [self._node(argument) for argument in arguments]
        return placed(tree, lambda frame: function(frame, *[argument(frame) for argument in nodes]))

    def _has(self, tree: Any, arguments: list[Any]) -> Node:
        inner = arguments[0] if len(arguments) == 1 else None
        inner = None if inner is None else _core(inner)
        if inner is None or inner.data != "member_dot":
            raise _refuse(tree, "has() takes one field such as has(object.spec)")
        operand = self._node(inner.children[0])
        name = str(inner.children[1])
        return placed(tree, lambda frame: values.has(frame, operand(frame), name))

    def _list(self, tree: Any) -> Node:
        items = tree.children[0].children if tree.children else []
        nodes = [self._node(item) for item in items]

        def build(frame: Frame) -> list[Any]:
            frame.spend(1 + len(nodes))
            return [node(frame) for node in nodes]

        return placed(tree, build)

    def _map(self, tree: Any) -> Node:
        items = tree.children[0].children if tree.children else []
        pairs = [
            (self._node(key), self._node(value))
            for key, value in zip(items[::2], items[1::2], strict=True)
        ]

        def build(frame: Frame) -> dict[str, Any]:
            frame.spend(1 + len(pairs))
            made: dict[str, Any] = {}
            for key_node, value_node in pairs:
                key = key_node(frame)
                if not isinstance(key, str):
                    raise Stop(f"a map's key must be a string, not a {values.type_of(key)}")
                if key in made:
                    raise Stop("a map has the same key twice")
                made[key] = value_node(frame)
            return made

        return placed(tree, build)

    def _literal(self, tree: Any) -> Any:
        token = tree.children[0]
        match token.type:
            case "STRING_LIT" | "MLSTRING_LIT":
                return self._source.strings[token.start_pos]
            case "BOOL_LIT":
                return str(token) == "true"
            case "NULL_LIT":
                return None
            case "FLOAT_LIT":
                return float(token)
            case "INT_LIT":
                return _integer(tree, str(token))
            case "UINT_LIT":
                raise _refuse(tree, "unsigned integers are not supported by this version")
            case _:
                raise _refuse(tree, "bytes are not supported by this version")

    def _name(self, tree: Any) -> Node:
        name = str(tree.children[0])
        if name in self._variables or name in self._bound:

            def variable(frame: Frame) -> Any:
                try:
                    return frame.values[name]
                except KeyError:
                    raise Stop(f"the variable {name!r} was given no value") from None

            return placed(tree, variable)
        if name in TYPES:
            return _constant(TYPES[name])
        known = sorted({*self._variables, *self._bound})
        raise _refuse(tree, f"undeclared name {name!r}", hint=_suggest(name, known))


def placed(tree: Any, node: Node) -> Node:
    """Give what `node` raises the place of `tree`, unless it has a place already."""
    place = _place(tree)

    def run(frame: Frame) -> Any:
        try:
            return node(frame)
        except Interrupt as error:
            if error.place is None:
                error.place = place
            raise

    return run


def _place(tree: Any) -> tuple[int, int]:
    """Where a node is; a step of a chain is where its name or key is, not where the chain starts."""
    spot = tree.meta
    if tree.data in _STEPS and len(tree.children) > 1:
        step = tree.children[1]
        spot = getattr(step, "meta", step)
    return getattr(spot, "line", 1) or 1, getattr(spot, "column", 1) or 1


def _refuse(tree: Any, message: str, *, hint: str = "") -> CelError:
    line, column = _place(tree)
    text = f"{message}; {hint}" if hint else message
    return CelError(text, line=line, column=column, hint=hint)


def _suggest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(known)}" if known else "no variables are known here"


def _overload(
    tree: Any,
    table: dict[str, dict[int, Function]],
    name: str,
    count: int,
    *,
    receiver: bool = False,
    shown: str = "",
) -> Function:
    shown = shown or name
    if name not in table:
        if name in _REFUSED:
            raise _refuse(tree, f"{_REFUSED[name]} not supported by this version")
        others = METHODS if receiver else {**GLOBALS, "has": {}}
        macro_names = macros.MACROS if receiver else ()
        known = sorted(table if table not in (GLOBALS, METHODS) else {*others, *macro_names})
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else ""
        raise _refuse(tree, f"unknown function {shown!r}", hint=hint)
    if count not in table[name]:
        wanted = " or ".join(str(n - receiver) for n in sorted(table[name]))
        raise _refuse(tree, f"{shown} takes {wanted} arguments, got {count - receiver}")
    return table[name][count]


def _binary(apply: Callable[[Frame, Any, Any], Any], left: Node, right: Node) -> Node:
    return lambda frame: apply(frame, left(frame), right(frame))


def _constant(value: Any) -> Node:
    return lambda _: value


def _integer(tree: Any, text: str) -> int:
    digits = text.lstrip("-")
    if len(digits) <= 20:
        value = int(text, 16) if digits[:2] in ("0x", "0X") else int(text)
        if values.INT_MIN <= value <= values.INT_MAX:
            return value
    raise _refuse(tree, "this integer does not fit 64 bits")


def _core(tree: Any) -> Any:
    """Step through the levels of precedence that hold nothing of their own."""
    while tree.data in _THROUGH and len(tree.children) == 1:
        tree = tree.children[0]
    return tree


def _plain_name(tree: Any) -> str | None:
    tree = _core(tree)
    return str(tree.children[0]) if tree.data == "ident" else None
