"""What expressions give: the semantics of cel-go, where celpy's own evaluators differ from them."""

import json

import pytest

from reconciler.cel import CelError, compile_expression

OBJECT = {
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "web"}},
    "spec": {
        "replicas": 3,
        "ratio": 1.5,
        "containers": [{"image": "a/b"}, {"image": "x/c", "n": 1}],
    },
}


def evaluate(source, **variables):
    return compile_expression(source, variables=tuple(variables)).evaluate(variables)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("object.kind == 'Deployment' && object.spec.replicas > 2", True),
        ("object.spec.containers.all(c, c.image.startsWith('a'))", False),
        ("object.spec.containers.exists_one(c, has(c.n))", True),
        (
            "object.spec.containers.filter(c, has(c.n)).map(c, {'op': c.n == 1 ? 'y' : 'n'})",
            [{"op": "y"}],
        ),
        ("object.spec.containers.map(c, has(c.n), c.image)", ["x/c"]),
        ("object.metadata.labels['app.kubernetes.io/name']", "web"),
        ("object.metadata.labels.exists(k, k.startsWith('app.'))", True),
        ("has(object.spec.missing) ? 1 : 2", 2),
        ("'kind' in object", True),
        ("object.spec.replicas == 3.0", True),
        ("true ? 1 : 2", 1),
    ],
)
def test_expressions_over_an_object(source, value):
    """Selection, macros and conditions read a manifest as plain JSON."""
    assert evaluate(source, object=OBJECT) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 == 1.0", True),
        ("1 < 1.5", True),
        ("'a' == 1", False),
        ("dyn(true) == dyn(1)", False),
        ("null == 1", False),
        ("'z' in [1, 'a']", False),
        ("1 in [1.0]", True),
        ("type('a' + 'b') == string", True),
        ("type(1) == int && type(1.0) == double && type(null) == null_type", True),
        ("[1, 'a', [2]] == [1.0, 'a', [2]]", True),
        ("string(true) + string(1) + string(1.0) + string(0.5)", "true110.5"),
        (
            "string(1000000.0) + ' ' + string(123456.789) + ' ' + string(-0.00001)",
            "1e+06 123456.789 -1e-05",
        ),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7 / -2", -3),
        ("1 - -1", 2),
        ("-9223372036854775808", -9223372036854775808),
        ("int('42') + int(2.9) + int(-2.9)", 42),
        ("double('1.5') + 1.0", 2.5),
        ("bool('true')", True),
        ("size('ÿ😀') + size([1]) + size({'a': 1}) + 'ab'.size()", 6),
        ("{'a': [1, {'b': null}]}", {"a": [1, {"b": None}]}),
        ("[[1], [2, 3]].flatten()", [1, 2, 3]),
        ("lists.range(3).map(i, '/x/' + string(i))", ["/x/0", "/x/1", "/x/2"]),
        ("jsonpatch.escapeKey('a/b~c')", "a~1b~0c"),
        ("[1, 2].map(x, [3].map(x, x + 1)[0] + x)", [5, 6]),
    ],
)
def test_types_and_operators(source, value):
    """Numbers compare across types, other types are unequal without an error, integers have 64 bits."""
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("'tacocat'.charAt(3) + 'tacocat'.charAt(7)", "o"),
        ("'tacocat'.indexOf('a', 3) * 10 + 'tacocat'.lastIndexOf('a')", 55),
        ("'hello hello'.replace('he', 'we', 1)", "wello hello"),
        ("'abc'.replace('', '-')", "-a-b-c-"),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("'ab'.split('')", ["a", "b"]),
        ("'a'.split(',', 0)", []),
        ("['a', 'b'].join('/') + ['x'].join()", "a/bx"),
        ("'tacocat'.substring(4) + 'tacocat'.substring(0, 2)", "catta"),
        ("'\\u3000 trim \\n'.trim()", "trim"),
        ("'TacoCÆt'.lowerAscii() + 'taco'.upperAscii()", "tacocÆtTACO"),
        ("'a.b'.matches('^a\\\\.b$') && matches('ab', 'b')", True),
        ("'abc'.contains('b') && 'abc'.endsWith('c')", True),
        (r"r'\d' + '\x41\101\U0001F600'", "\\dAA😀"),
        ("'''a\n'b''' + \"\"\"c\"\"\"", "a\n'bc"),
        ("'a' // a comment with \"quotes\n + 'b'", "ab"),
    ],
)
def test_strings(source, value):
    """Kubernetes' strings library and the escapes of literals."""
    assert evaluate(source) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("timestamp('2026-01-01T00:00:00.5Z') + duration('1h')", "2026-01-01T01:00:00.5Z"),
        ("timestamp('2026-01-01T02:00:00+02:00') == timestamp('2026-01-01T00:00:00Z')", True),
        ("duration('1h30m') + duration('1s')", "5401s"),
        ("duration('-1.5s')", "-1.5s"),
        (
            "timestamp('2026-01-02T00:00:00Z') - timestamp('2026-01-01T00:00:00Z') > duration('23h')",
            True,
        ),
        ("timestamp('2026-06-01T23:00:00Z').getHours('Europe/Berlin')", 1),
        ("timestamp('2026-06-01T23:00:00Z').getDayOfWeek()", 1),
        ("duration('90m').getHours()", 1),
    ],
)
def test_times(source, value):
    """Timestamps and durations leave as the strings that Kubernetes has for them."""
    assert evaluate(source) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("object.missing == 1 || true", True),
        ("true || object.missing == 1", True),
        ("object.missing == 1 && false", False),
        ("[1, 0].exists(x, 1 / x == 1)", True),
        ("[0, 1].exists(x, 1 / x == 1)", True),
        ("[0, 2].all(x, 1 / x == 1)", False),
    ],
)
def test_a_decided_condition_absorbs_faults(source, value):
    """`||`, `&&`, exists and all do not care about a fault once another operand decides."""
    assert evaluate(source, object={}) == value


def test_conditions_stop_at_what_decides():
    """A list of a million elements costs one step when its first element decides."""
    assert evaluate("l.all(x, x > 0)", l=list(range(1_000_000))) is False


def test_results_share_nothing_with_the_activation():
    """Changing a result does not change the object that it came from."""
    source = {"spec": {"list": [1]}}
    result = evaluate("object.spec", object=source)
    result["list"].append(2)
    assert source == {"spec": {"list": [1]}}
    assert json.loads(json.dumps(result)) == {"list": [1, 2]}


def test_variables_are_restored_after_a_macro():
    """A macro's variable hides an outer one only inside."""
    assert evaluate("[1].map(object, object)[0] + object.n", object={"n": 2}) == 3


def test_the_same_source_is_compiled_once():
    """Programs are cached by source and variables."""
    first = compile_expression("object.a", variables=("object",))
    assert compile_expression("object.a", variables=("object",)) is first
    assert compile_expression("object.a", variables=("object", "params")) is not first


def test_test_insists_on_a_boolean():
    """A condition that gives no boolean is an error, not truth."""
    assert compile_expression("1 == 1").test({}) is True
    with pytest.raises(CelError, match="expected a boolean, the expression gave int"):
        compile_expression("1").test({})


@pytest.mark.parametrize(
    ("source", "type_name"),
    [
        ("1 + 1", "int"),
        ("(((1)))", "int"),
        ("'a' + x", "string"),
        ("x - y", "the result of arithmetic"),
        ("x + duration('1h')", "the result of arithmetic"),
        ("-x", "the result of arithmetic"),
        ("!x", "bool"),
        ("x < y || x.z", "bool"),
        ("x ? 1 : 2", "int"),
        ("x ? 1 : true", ""),
        ("x.y[0].z", ""),
        ("dyn(1)", ""),
        ("has(x.y)", "bool"),
        ("x.all(i, i > 1)", "bool"),
        ("x.map(i, i)", "list"),
        ("lists.range(3)", "list"),
        ("{}", "map"),
        ("[]", "list"),
        ("null", "null_type"),
        ("string", "type"),
        ("+".join(["x"] * 900), "the result of arithmetic"),
    ],
)
def test_the_type_is_told_where_the_text_says_it(source, type_name):
    """Only what holds for all values of the variables is told."""
    assert compile_expression(source, variables=("x", "y")).result == type_name
