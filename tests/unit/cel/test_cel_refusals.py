"""What is refused, where, and in which words; and that hostile expressions end soon."""

import subprocess
import sys
import threading
import time

import pytest

from reconciler.cel import CelError, compile_expression


def refuse(source, **variables):
    with pytest.raises(CelError) as caught:
        compile_expression(source, variables=tuple(variables)).evaluate(variables)
    return caught.value


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("Object{a: 1 == 1 ? 2 : 3}", "message literals are not supported"),
        ("{'a': object.missing}", "no such key: 'missing'"),
        ("{'a': [object].map(o, o.missing)}", "no such key: 'missing'"),
        ("size({'a': object.missing})", "no such key: 'missing'"),
        ("[1].filter(x, 1)", "filter needs a boolean, got int"),
        ("[1].filter(x, '')", "filter needs a boolean, got string"),
        ("true && 'a'", "&& needs a boolean, got string"),
        ("'a' || true", "|| needs a boolean, got string"),
        ("!1", "! needs a boolean, got int"),
        ("1 ? 2 : 3", "?: needs a boolean, got int"),
        ("[1].all(x, 'y')", "all needs a boolean"),
        ("[1].exists(x, null)", "exists needs a boolean"),
        ("[1, 2][-1]", "index -1 is out of range for a list of 2"),
        ("'abc'[0]", "no such overload: [] of string, int"),
        ("size(null)", "no such overload: size of null_type"),
        ("string(null)", "no such overload: string of null_type"),
        ("has(object.a.b)", "no such key: 'a'"),
        ("object.missing ? 1 : 2", "no such key"),
        ("1 + 1.0", "no such overload: + of int, double"),
        ("'a' < 1", "no such overload: < of string, int"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("int(9.3e18)", "integer overflow"),
        ("1.0 / 0.0", "a number that JSON does not have"),
        ("type(1)", "which is no JSON value"),
        ("{1: 2}", "key must be a string, not a int"),
        ("{'a': 1, 'a': 2}", "the same key twice"),
        ("duration('1d')", "this is no duration"),
        ("duration('')", "this is no duration"),
        ("timestamp('2026-13-01T00:00:00Z')", "does not exist"),
        ("timestamp('2026-01-01')", "this is no timestamp"),
        ("timestamp('2026-01-01T00:00:00Z').getHours('Nowhere/City')", "unknown time zone"),
        ("'a'.matches('(')", "no regular expression"),
        ("'abc'.substring(2, 1)", "out of range"),
    ],
)
def test_what_has_no_value_is_an_error(source, words):
    """An error never hides in a result, and never passes as truth."""
    assert words in refuse(source, object={"x": 1}).message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("objct.x", "undeclared name 'objct'; did you mean 'object'?"),
        ("now", "undeclared name 'now'; known here: object, params"),
        ("has(undeclared.foo)", "undeclared name 'undeclared'"),
        ("true || undeclared", "undeclared name 'undeclared'"),
        ("object.x.startWith('a')", "unknown function 'startWith'; did you mean 'startsWith'?"),
        ("siz('a')", "did you mean 'size'?"),
        ("jsonpatch.escape('a')", "unknown function 'jsonpatch.escape'"),
        ("[1].reduce(r, i, 0, r + i)", "reduce is not supported by this version"),
        ("[1].min()", "min is not supported by this version"),
        ("[1].all(i, v, v > 0)", "two-variable all is not supported"),
        ("[1].transformList(i, v, v)", "two-variable macros are not supported"),
        ("[1].map(object.x, 1)", "the first argument of map must be a plain name"),
        ("[1].map(x)", "map takes a variable and an expression"),
        ("optional.of(1)", "optional values are not supported"),
        ("1u", "unsigned integers are not supported"),
        ("b'x'", "bytes are not supported"),
        ("size('a', 'b')", "size takes 1 arguments, got 2"),
        ("has(object)", "has() takes one field"),
        ("has(object['a'])", "has() takes one field"),
        (".object", "dot_ident is not supported"),
        ("9223372036854775808", "does not fit 64 bits"),
        ("'\\z'", "unknown escape"),
        ("'\\ud800'", "no Unicode character"),
    ],
)
def test_names_and_forms_are_checked_before_anything_runs(source, words):
    """A typo is found when the file is read, not when the rule is first needed."""
    with pytest.raises(CelError) as caught:
        compile_expression(source, variables=("object", "params"))
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("1 +", 1, 4),
        ("(1", 1, 3),
        ("1 1", 1, 3),
        ("true &&\n  $", 2, 3),
        ("", 1, 1),
        ("'abc", 1, 1),
        ("1 == 1 &&\n objct", 2, 2),
        ("object.\n  foo('x')", 2, 3),
        ("1 +\n 'abc\\q'", 2, 6),
    ],
)
def test_compile_errors_name_line_and_column(source, line, column):
    """Places count from 1, and messages hold no picture of the source."""
    with pytest.raises(CelError) as caught:
        compile_expression(source, variables=("object",))
    assert (caught.value.line, caught.value.column) == (line, column)
    assert "^" not in caught.value.message
    assert str(caught.value).startswith(f"{line}:{column}: ")


def test_run_time_errors_name_the_innermost_place():
    """The place is the key that is missing, not the start of the expression."""
    error = refuse("object.a == 1 &&\n  object.b.c == 2", object={"a": 1, "b": {}})
    assert (error.line, error.column) == (2, 12)


def test_messages_never_show_the_activation():
    """A Secret in the activation does not leak through an error, nor as a key that was computed."""
    secret = "hunter2-" * 20
    for source in (
        "object.data.nope",
        "object.data + 1",
        "object.data.password[0]",
        "int(object.data.password)",
        "object[object.data.password]",
    ):
        assert "hunter2" not in str(refuse(source, object={"data": {"password": secret}}))


LIST = "[1,2,3,4,5,6,7,8,9,0]"
HOSTILE = {
    "four macros": f"{LIST}.all(a, {LIST}.all(b, {LIST}.all(c, {LIST}.all(d, true))))",
    "parentheses": "(" * 250 + "1" + ")" * 250,
    "open parentheses": "(" * 5000,
    "lists": "[" * 500 + "]" * 500,
    "not": "!" * 2000 + "true",
    "ternaries": "true ? 1 : " * 100 + "2",
    "parts": "+".join(["1"] * 2100),
    "steps in a row": "object" + ".a" * 500,
    "strings doubled": "['x']" + ".map(x, x+x)" * 28,
    "lists doubled": "[1]" + ".map(x, [x,x]).flatten()" * 30,
    "replace": "'x'" + ".replace('x', 'xx')" * 28,
    "nested lists doubled": "[[1]]" + ".map(x, [x, x])" * 40,
    "duration": "duration('" + "s" * 3000 + "!')",
    "backslashes": '"' + "\\\\" * 2000,
    "raw backslashes": 'r"' + "\\" * 2000,
    "long": "1" + " " * 6000,
    "digits": "9" * 5000,
    "range": "lists.range(1000000000)",
    "regex": "'a'.matches('(x+x+)+y{1,1000}{1,1000}')",
    "long regex": "'a'.matches('" + "a|" * 600 + "')",
    "huge join": "lists.range(1000).map(x, lists.range(1000).map(y, 'abcdefghij').join()).join()",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_expressions_end_soon(name):
    """Whatever a pull request holds is refused soon (half a minute leaves room for a busy machine), by a CelError and nothing else."""
    started = time.monotonic()
    refuse(HOSTILE[name], object={})
    assert time.monotonic() - started < 30


def test_hostile_data_ends_soon():
    """Loops over a large object are cut by the budget, also when the data is the attack."""
    numbers = list(range(300))
    deep = []
    for _ in range(5000):
        deep = [deep]
    started = time.monotonic()
    assert (
        "more than 1000000 steps"
        in refuse("l.all(a, l.all(b, l.all(c, a == a)))", l=numbers).message
    )
    assert "too large" in refuse("l.map(a, l.map(b, l))", l=numbers).message
    assert "nested too deeply" in refuse("d == e", d=deep, e=[*deep]).message
    assert "too deep" in refuse("d", d=deep).message
    assert "this is no duration" in refuse("duration(t)", t="1" * 100_000 + "!").message
    assert time.monotonic() - started < 60


LONG = {
    "l": list(range(300_000)),
    "t": "x" * 1_000_000,
    "m": {str(n): n for n in range(300_000)},
    "n": list(range(5000)),
}


@pytest.mark.parametrize(
    "source",
    [
        "l.all(x, l.exists(y, true))",
        "l.all(x, m.exists(y, true))",
        "l.all(x, t <= t + '')",
        "n.all(x, t < t.substring(0))",
        "l.all(x, int(t) == 1 || true)",
        "l.all(x, double(t) == 1.0 || true)",
        "l.all(x, duration(t) == duration('1s') || true)",
        "l.all(x, bool(t) || true)",
        "l.all(x, 'a'.matches('a{1,' + string(x % 900 + 1) + '}'))",
        "l.all(x, timestamp('2026-01-01T00:00:00Z').getHours('Europe/X' + string(x)) == 1 || true)",
        "l.all(x, timestamp('2026-01-01T00:00:00Z').getHours(t) == 1 || true)",
        "l.all(x, string(0.1 * double(x)) != '')",
        "l.all(x, t.contains('xy') || true)",
        "l.map(x, m)",
        "l.all(x, {'a': l} == {'a': l})",
    ],
)
def test_no_step_is_dear(source):
    """A budget of steps is a budget of time only when no single step depends on the size of the data."""
    started = time.monotonic()
    try:
        compile_expression(source, variables=tuple(LONG)).evaluate(LONG)
    except CelError:
        pass
    assert time.monotonic() - started < 60


def test_a_missing_key_is_named_when_it_was_written():
    """A literal key is in the file anyway."""
    assert refuse("object['app']", object={}).message == "no such key: 'app'"


def test_a_thousand_conditions_are_fine():
    """Long chains are not nesting: policies are written like that."""
    assert compile_expression(" || ".join(["false"] * 500)).evaluate({}) is False
    assert compile_expression("+".join(["1"] * 900)).evaluate({}) == 900


def test_values_that_are_no_json_are_refused():
    """A tuple or a set in an activation is a mistake of the caller and is said."""
    assert "no JSON" in refuse("x == 1 ? 1 : type(x)", x=(1,)).message
    with pytest.raises(CelError, match="the variable 'x' was given no value"):
        compile_expression("x", variables=("x",)).evaluate({})


def test_programs_run_in_many_threads():
    """One program gives every thread its own answer."""
    program = compile_expression("l.filter(x, x % 2 == 0).map(x, x * n)", variables=("l", "n"))
    wrong = []

    def run(n):
        for _ in range(50):
            if program.evaluate({"l": list(range(20)), "n": n}) != [x * n for x in range(0, 20, 2)]:
                wrong.append(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_celpy_is_loaded_late_and_leaves_the_process_alone():
    """Importing the engine does not import celpy; using it does not change the recursion limit."""
    code = (
        "import sys; before = sys.getrecursionlimit(); from reconciler.cel import compile_expression;"
        "assert 'celpy' not in sys.modules; compile_expression('1 + 1').evaluate({});"
        "assert 'celpy' in sys.modules; assert sys.getrecursionlimit() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
