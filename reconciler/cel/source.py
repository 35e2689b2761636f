"""Source text → syntax tree, within bounds.

The grammar is celpy's `cel.lark`, with the rules that Kubernetes' CEL has beyond it: optional fields, indices and
items (`.?f`, `[?k]`, `{?k: v}`), quoted fields, trailing commas. lark makes an LALR parser of it, which needs no
recursion. celpy itself is not imported: that takes up to half a second, and its `Environment` raises the recursion
limit of the whole process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from reconciler.cel.error import CelError
from reconciler.cel.lexer import refuse, syntax_error, tokens
from reconciler.cel.syntax import (
    Call,
    Chain,
    Entries,
    Index,
    Items,
    Literal,
    Logic,
    Message,
    Name,
    Node,
    Select,
    Ternary,
    Unary,
    dotted,
    measured,
)

SOURCE_BYTES_MAX = 5 * 1024
HEIGHT_MAX = 64
NODES_MAX = 2_000

_EDITS = (
    ('member "." IDENT\n', 'member "." field\nmember_maybe   : member "." "?" field\n'),
    (
        'member_index   : member "[" expr "]"',
        'member_index   : member "[" expr "]"\nmember_at      : member "[" "?" expr "]"',
    ),
    ("member         : member_dot |", "member         : member_dot | member_maybe | member_at |"),
    ('"[" [exprlist] "]"', '"[" [items] "]"'),
    (
        'fieldinits     : IDENT ":" expr ("," IDENT ":" expr)*',
        'fieldinits     : fieldinit ("," fieldinit)* [","]\nfieldinit      : optional? field ":" expr',
    ),
    (
        'mapinits       : expr ":" expr ("," expr ":" expr)*',
        """mapinits    : mapinit ("," mapinit)* [","]
mapinit        : optional? expr ":" expr
items          : item ("," item)* [","]
item           : optional? expr
optional       : "?"
field          : IDENT | QUOTED""",
    ),
    ("MLSTRING_LIT | ", ""),
)
"""What is changed in celpy's grammar; each must be found."""
_TERMINALS = [
    "UINT_LIT",
    "FLOAT_LIT",
    "INT_LIT",
    "STRING_LIT",
    "BYTES_LIT",
    "BOOL_LIT",
    "NULL_LIT",
    "IDENT",
    "QUOTED",
]
_MARKED = re.compile(
    r"^((?:relation|addition|multiplication|unary)_\w+|list_lit|map_lit|expr|conditional\w+|optional)\b",
    re.MULTILINE,
)
"""Rules whose marks are kept, because a message points at them."""
_building = threading.Lock()


def parse(text: str) -> Node:
    """Parse an expression.

    Raises:
        CelError: it is too long, too deep, or no CEL.
    """
    if len(text.encode("utf-8", "surrogatepass")) > SOURCE_BYTES_MAX:
        raise CelError(f"the expression is longer than {SOURCE_BYTES_MAX} bytes")
    if text.count("(") + text.count("[") + text.count("{") + text.count("!") > NODES_MAX * 2:
        raise CelError(f"the expression has more than {NODES_MAX} parts")
    from lark.exceptions import UnexpectedInput, VisitError

    with _building:
        parser = _parser()
    try:
        tree: Node = parser.parse(text)
    except UnexpectedInput as error:
        token = getattr(error, "token", None)
        at = None if token is None or token.type == "$END" else token.start_pos
        raise syntax_error(text, at) from None
    except VisitError as error:
        if isinstance(error.orig_exc, _Refused):
            raise refuse(text, error.orig_exc.at, error.orig_exc.message) from None
        raise
    except _Refused as error:
        raise refuse(text, error.at, error.message) from None
    return tree


class _Refused(Exception):  # noqa: N818  becomes a CelError once the text is at hand
    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at
        self.message = message


class _Tree:
    """What each rule of the grammar becomes; lark calls a method with the parts of its rule, last rule first."""

    def expr(self, condition: Node, *rest: Any) -> Node:
        if not rest:
            return condition
        mark, yes, _, no = rest
        return _made(Ternary(mark.start_pos, condition, yes, no))

    def conditionalor(self, *parts: Any) -> Node:
        return _logic("||", parts)

    def conditionaland(self, *parts: Any) -> Node:
        return _logic("&&", parts)

    def relation(self, *parts: Any) -> Node:
        return _chain(parts)

    addition = multiplication = relation

    def unary(self, *parts: Any) -> Node:
        if len(parts) == 1:
            node: Node = parts[0]
            return node
        mark, operand = parts
        is_number = isinstance(operand, Literal) and type(operand.value) in (int, float)
        if mark.value == "-" and is_number and operand.is_bare:
            return Literal(mark.start_pos, -operand.value)
        if isinstance(operand, Unary) and operand.is_bare and operand.operator == mark.value:
            return operand.operand  # `!!a` is a, as cel-go reads it
        return _made(Unary(mark.start_pos, mark.value, operand))

    def unary_not(self, mark: Any) -> Any:
        return mark

    unary_neg = optional = field = unary_not

    def member(self, node: Node) -> Node:
        return node

    primary = member

    def paren_expr(self, node: Node) -> Node:
        if isinstance(node, (Literal, Unary)):
            node.is_bare = False
        return node

    def member_dot(self, operand: Node, name: Any) -> Node:
        return _made(Select(name.start_pos, operand, name.value))

    def member_maybe(self, operand: Node, name: Any) -> Node:
        return _made(Select(name.start_pos, operand, name.value, is_optional=True))

    def member_dot_arg(self, target: Node, name: Any, arguments: Any = ()) -> Node:
        return _made(Call(name.start_pos, name.value, target, list(arguments)))

    def member_index(self, operand: Node, key: Node) -> Node:
        return _made(Index(key.at, operand, key))

    def member_at(self, operand: Node, key: Node) -> Node:
        return _made(Index(key.at, operand, key, is_optional=True))

    def member_object(self, operand: Node, fields: Any = ()) -> Node:
        name = dotted(operand)
        if name is None:
            raise _Refused(operand.at, "a message literal starts with the name of its type")
        return _made(Message(operand.at, name, list(fields)))

    def literal(self, token: Any) -> Node:
        return Literal(token.start_pos, token.value)

    def ident(self, name: Any) -> Node:
        return Name(name.start_pos, name.value)

    def dot_ident(self, name: Any) -> Node:
        return Name(name.start_pos, name.value, is_absolute=True)

    def ident_arg(self, name: Any, arguments: Any = ()) -> Node:
        return _made(Call(name.start_pos, name.value, None, list(arguments)))

    def dot_ident_arg(self, name: Any, arguments: Any = ()) -> Node:
        return _made(Call(name.start_pos, name.value, None, list(arguments), is_absolute=True))

    def exprlist(self, *parts: Node) -> tuple[Node, ...]:
        return parts

    items = fieldinits = mapinits = exprlist

    def item(self, *parts: Any) -> tuple[Node, bool]:
        return parts[-1], len(parts) == 2

    def mapinit(self, *parts: Any) -> tuple[Node, Node, bool]:
        return parts[-2], parts[-1], len(parts) == 3

    def fieldinit(self, *parts: Any) -> tuple[str, Node, bool]:
        return parts[-2].value, parts[-1], len(parts) == 3

    def list_lit(self, mark: Any, *parts: Any) -> Node:
        return _made(Items(mark.start_pos, list(parts[0]) if isinstance(parts[0], tuple) else []))

    def map_lit(self, mark: Any, *parts: Any) -> Node:
        return _made(Entries(mark.start_pos, list(parts[0]) if isinstance(parts[0], tuple) else []))

    def relation_lt(self, left: Node, mark: Any) -> tuple[Node, Any]:
        return left, mark

    relation_le = relation_ge = relation_gt = relation_eq = relation_ne = relation_in = relation_lt
    addition_add = addition_sub = relation_lt
    multiplication_mul = multiplication_div = multiplication_mod = relation_lt


def _made(node: Node) -> Node:
    node = measured(node)
    if node.height > HEIGHT_MAX:
        raise _Refused(node.at, f"the expression is nested more than {HEIGHT_MAX} deep")
    return node


def _logic(operator: str, parts: Any) -> Node:
    """The chain leans to the left; it is flattened as it grows."""
    left: Node = parts[0]
    if len(parts) == 1:
        return left
    mark, right = parts[1:]
    if isinstance(left, Logic) and left.operator == operator:
        left.terms.append(right)
        left.height = max(left.height, right.height + 1)
        return left
    return _made(Logic(mark.start_pos, operator, [left, right]))


def _chain(parts: Any) -> Node:
    left: Node
    right: Node
    if len(parts) == 1:
        left = parts[0]
        return left
    (left, mark), right = parts
    operator = str(mark.value)
    if isinstance(left, Chain) and _rank(left.steps[0][0]) == _rank(operator):
        left.steps.append((operator, mark.start_pos, right))
        left.height = max(left.height, right.height + 1)
        return left
    return _made(Chain(mark.start_pos, left, [(operator, mark.start_pos, right)]))


def _rank(operator: str) -> int:
    return 2 if operator in "*/%" else 1 if operator in "+-" else 0


@lru_cache(maxsize=1)
def _parser() -> Any:
    from lark import Lark, Token, Transformer, v_args
    from lark.lexer import Lexer

    names: dict[str, str] = {}

    class Tokens(Lexer):
        """Hands our tokens to lark."""

        def __init__(self, conf: Any) -> None:
            for terminal in conf.terminals:
                if type(terminal.pattern).__name__ == "PatternStr":
                    names[terminal.pattern.value] = terminal.name

        def lex(self, data: Any) -> Iterator[Any]:  # type: ignore[override]
            for kind, value, at in tokens(data):
                token = Token(names.get(kind, kind), "", at)
                token.value = value
                yield token

    rules = {name: rule for name, rule in vars(_Tree).items() if not name.startswith("_")}
    builder = v_args(inline=True)(type("Tree", (Transformer,), rules))
    return Lark(
        grammar(),
        parser="lalr",
        start="expr",
        lexer=Tokens,
        transformer=builder(visit_tokens=False),
        maybe_placeholders=False,
    )


def grammar() -> str:
    """Celpy's grammar with our edits; the tokens are only named, `lexer.py` makes them."""
    spec = find_spec("celpy")
    assert spec is not None and spec.submodule_search_locations, "cel-python is installed"  # noqa: PT018
    path = f"{spec.submodule_search_locations[0]}/cel.lark"
    text: str = spec.loader.get_data(path).decode()  # type: ignore[union-attr]
    rules = "\n".join(line for line in text.splitlines() if not line.startswith("//"))
    rules = rules[: rules.index("INT_LIT        :")]
    for old, new in _EDITS:
        assert rules.count(old) == 1, f"celpy's grammar changed: {old!r}"
        rules = rules.replace(old, new)
    rules = _MARKED.sub(r"!\1", rules)
    return f"{rules}\n%declare {' '.join(_TERMINALS)}\n"
