"""Laws of the expression engine, for all values."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.cel import CelError, compile_expression

unhurried = settings(deadline=None)  # the machine may be busy; time is not what is tested here
INT64 = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | INT64
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
WORDS = st.sampled_from(
    "object x [ ] ( ) { } . , : ? && || ! == < in + - * / % 1 2.5 'a' \"b\" true null has( size( .map(x, .all(x, .filter(x, r'".split()
)


@unhurried
@given(JSON)
def test_a_value_passes_through_unchanged(value):
    """Evaluating a variable gives the value that was put in."""
    result = compile_expression("v", variables=("v",)).evaluate({"v": value})
    assert json.dumps(result) == json.dumps(value)


@unhurried
@given(JSON)
def test_a_value_equals_itself_and_is_in_its_list(value):
    """Equality is reflexive, and `in` agrees with it."""
    assert compile_expression("v == v && v in [v] && !(v != v)", variables=("v",)).test(
        {"v": value}
    )


@unhurried
@given(st.text(max_size=60))
def test_every_string_can_be_written_as_a_literal(text):
    """A string written with escapes reads back as itself."""
    literal = "".join(f"\\U{ord(char):08x}" if not char.isalnum() else char for char in text)
    assert compile_expression(f"'{literal}'").evaluate({}) == text


@unhurried
@given(INT64, INT64.filter(bool))
def test_division_and_modulus_belong_together(a, b):
    """(a / b) * b + a % b is a, or the division overflows."""
    program = compile_expression("(a / b) * b + a % b", variables=("a", "b"))
    try:
        assert program.evaluate({"a": a, "b": b}) == a
    except CelError as error:
        assert (a, b) == (-(2**63), -1)
        assert "overflow" in error.message


@unhurried
@given(st.text(max_size=30), st.text(max_size=3))
def test_split_and_join_are_inverse(text, separator):
    """Joining what was split gives the text back."""
    program = compile_expression("t.split(s).join(s)", variables=("t", "s"))
    assert program.evaluate({"t": text, "s": separator}) == text


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=80))
def test_any_text_gives_a_value_or_a_cel_error(source):
    """Nothing but CelError leaves the engine, whatever is written."""
    try:
        compile_expression(source, variables=("object",)).evaluate(
            {"object": {"a": [1, "x", None]}}
        )
    except CelError as error:
        assert error.line >= 1
        assert error.column >= 1


@unhurried
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(2.0**-24)
@example(-1.5e300)
def test_doubles_are_written_so_that_they_read_back(value):
    """string() of a double loses nothing, and has no more digits than needed."""
    text = compile_expression("string(v)", variables=("v",)).evaluate({"v": value})
    assert float(text) == value
    assert sum(map(str.isdigit, text.partition("e")[0].replace(".", "").strip("-0"))) <= 17
