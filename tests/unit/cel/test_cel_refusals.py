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
        ("Thing{a: 1 == 1 ? 2 : 3}", "literals of type Thing are not supported"),
        ("JSONPatch{opp: 'add'}", "JSONPatch has no field 'opp'; did you mean 'op'?"),
        ("JSONPatch{op: 'add', op: 'add'}", "given twice"),
        ("object.x{a: 1}", "literals of type object.x are not supported"),
        ("Object{a: object.missing}", "no such key: 'missing'"),
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
        ("{1: 2}", "a map whose key is no string"),
        ("{true: 2}", "a map whose key is no string"),
        ("{1.5: 2}", "a value of type double is no key of a map"),
        ("{dyn(null): 2}", "a value of type null_type is no key of a map"),
        ("{1: 2, 1u: 3}", "the same key twice"),
        ("optional.of(1)", "the result holds an optional"),
        ("quantity('1')", "the result holds a kubernetes.Quantity"),
        ("optional.none().value()", "value() of an optional that holds nothing"),
        ("[?1]", "an item with ? needs an optional, got int"),
        ("[?dyn(1)]", "an item with ? needs an optional, got int"),
        (
            "{'a': 1}.transformMapEntry(k, v, {'b': 1, 'c': 2}) + 1",
            "no such overload: + of map, int",
        ),
        ("{'a': 1, 'b': 2}.transformMapEntry(k, v, {'c': v})", "the same key twice"),
        ("18446744073709551615u + 1u", "unsigned integer overflow"),
        ("1u - 2u", "unsigned integer overflow"),
        ("uint(-1)", "unsigned integer overflow"),
        ("-(-9223372036854775808)", "integer overflow"),
        ("--9223372036854775808", "does not fit 64 bits"),
        ("-dyn(-9223372036854775808)", "integer overflow"),
        ("-9223372036854775808 / -1", "integer overflow"),
        ("int(1e19)", "integer overflow"),
        ("string(b'\\xff')", "no UTF-8"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "out of range"),
        ("duration('9223372036854775808ns')", "out of range"),
        ("ip('::ffff:1.2.3.4')", "inside an IPv6 address"),
        ("ip('fe80::1%eth0')", "no IP address"),
        ("ip('010.0.0.1')", "no IP address"),
        ("cidr('10.0.0.0/08')", "no network"),
        ("quantity('1.5.2')", "no quantity"),
        ("semver('v1.0.0')", "no semantic version"),
        ("url('../relative')", "no absolute URL"),
        ("'%d'.format(['a'])", "%d does not take a value of type string"),
        ("'%s %s'.format(['a'])", "more clauses than values"),
        ("[1, 'a'].max()", "no such overload: max"),
        ("[].min()", "min of an empty list"),
        ("base64.decode('!')", "no base64"),
        ("1 in 2", "no such overload: in of int, int"),
        ("[1].all(x, x.y)", "no field 'y' in a value of type int"),
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
        ("[1].reduce(r, i, 0, r + i)", "unknown function 'reduce'"),
        ("[1].all(i, i, i > 0)", "all needs two different names"),
        ("[1].transformList(i, v)", "transformList takes a variable and an expression"),
        ("[1].all(x, [2].all(y, [3].all(z, [4].all(w, true))))", "more than 3 macros"),
        ("math.absolute(1)", "unknown function 'math.absolute'; did you mean 'math.abs'?"),
        ("startsWith('a', 'b')", "it is called as ….startsWith(…)"),
        ("object.x.isIP()", "it is called as isIP(…)"),
        ("cel.bind(x, 1)", "cel.bind takes 3 arguments, got 2"),
        ("'a' < 1", "no such overload: < of string, int"),
        ("'a' + 1 == object.x", "no such overload: + of string, int"),
        ("'abc'.startsWith(1)", "no such overload: startsWith of string, int"),
        ("(1).name", "no field 'name' in a value of type int"),
        ("'a' && object.x", "&& needs a boolean, got string"),
        ("object.x.matches('(')", "no regular expression of RE2"),
        ("duration('1 hour') == object.x", "no duration"),
        ("[1].optMap(x, x)", "no such overload: optMap of list"),
        ("[1].map(object.x, 1)", "the first argument of map must be a plain name"),
        ("[1].map(x)", "map takes a variable and an expression"),
        ("optional.off(1)", "unknown function 'optional.off'; did you mean 'optional.of'?"),
        ("18446744073709551616u", "does not fit 64 bits"),
        ("b'\\u0041'", "unknown escape"),
        ("size('a', 'b')", "size takes 1 arguments, got 2"),
        ("has(object)", "has() takes one field"),
        ("has(object['a'])", "has() takes one field"),
        (".objct", "undeclared name 'objct'; did you mean 'object'?"),
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
    "open parentheses": "(" * 5000,
    "lists": "[" * 500 + "]" * 500,
    "not": "!(" * 2000 + "true" + ")" * 2000,
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
    three = "l.all(a, l.all(b, l.all(c, a == a)))"
    assert "costs more than 1000000 units" in refuse(three, l=numbers).message
    assert "too large" in refuse("l.map(a, l.map(b, l))", l=numbers[:250]).message
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


def test_the_grammar_is_loaded_late_and_leaves_the_process_alone():
    """Importing the engine does not build the parser; using it takes celpy's grammar, not its code, and does not
    change the recursion limit."""
    code = (
        "import sys; before = sys.getrecursionlimit(); from reconciler.cel import compile_expression;"
        "assert 'lark' not in sys.modules; compile_expression('1 + 1').evaluate({});"
        "assert 'lark' in sys.modules; assert 'celpy' not in sys.modules; assert sys.getrecursionlimit() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
