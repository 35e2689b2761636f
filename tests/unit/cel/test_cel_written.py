"""Expressions and values as text."""

import pytest

from reconciler.cel import compile_expression, written
from reconciler.cel.source import parse

SOURCES = [
    "a + b - c * (d + 1) / -e",
    "a - (b - c)",
    "(a ? b : c) ? d : e ? f : g",
    "!(a && b || c) && (d || e)",
    "a.b.?c[?0]['x'].`d-e`.f(1, x)",
    "[?a, 1u, b'x', 1.5, null, true]",
    "{?'k': a, 2: 'b'}",
    "Object.spec{a: 1, ?b: c}",
    "(a < b) == c",
    "a in b && -(-a) == 1",
    "x.all(i, v, v > i)",
    ".a.b",
]


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_written_reads_back(source):
    """Writing a tree and reading it again gives the same text: no parenthesis is lost or added."""
    text = written.expression(parse(source))
    assert written.expression(parse(text)) == text
    assert text.count("(") <= source.count("(")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("[1, 1u, 1.0, 0.5, 'a', b'\\xff', null]", '[1, 1u, 1.0, 0.5, "a", b"\\\\xff", null]'),
        ("{'a': [[[[[1]]]]]}", '{"a": [[[[…]]]]}'),
        ("optional.of(duration('1h'))", 'optional.of(duration("3600s"))'),
        ("optional.none()", "optional.none()"),
        ("JSONPatch{op: 'test'}", 'JSONPatch{"op": "test"}'),
        ("type(1)", "int"),
        ("ip('::1')", "<net.IP>"),
        ("{true: 1}", "{true: 1}"),
        ("lists.range(30)", f"[{', '.join(map(str, range(20)))}, …]"),
    ],
)
def test_values_are_written_as_in_the_language(source, text):
    """A person sees the type of a value by how it is written; what is long is cut."""
    assert written.value(compile_expression(source).value({})) == text
