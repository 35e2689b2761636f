"""Traps of plain Python values: what Python would say, and what the language says."""

import math

import pytest

from reconciler.cel import CelError, compile_expression
from reconciler.cel.values import Uint


def value(source, **variables):
    return compile_expression(source, variables=tuple(variables)).value(variables)


@pytest.mark.parametrize(
    "source",
    [
        "dyn(true) == dyn(1)",
        "[true] == [dyn(1)]",
        "dyn(1) in [true]",
        "true in {1: 'a'}",
        "1 in {true: 'a'}",
        "{true: 1} == {1: 1}",
        "double('nan') in [double('nan')]",
        "x == x",
        "'a' == b'a'",
        "dyn(1u) == dyn('1')",
        "null == false",
        "optional.of(null) == optional.none()",
        "ip('1.2.3.4') == '1.2.3.4'",
        "Object{a: 1} == {'a': 1}",
        "[1] == {0: 1}",
    ],
)
def test_what_is_not_equal(source):
    """A boolean is no number, NaN is in no list, and values of different types are unequal."""
    assert value(source, x=math.nan) is False


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{true: 'a', 1: 'b'}[true] + {true: 'a', 1: 'b'}[1]", "ab"),
        ("{true: 1, false: 2}.map(k, k)", [True, False]),
        ("{1: 'a', 2u: 'b'}[1.0] + {1: 'a', 2u: 'b'}[2]", "ab"),
        ("1u + 1u", Uint(2)),
        ("type(1u) == uint && type(1) == int", True),
        ("[1, 2u, 3.0].map(x, type(x) == uint)", [False, True, False]),
        ("-7 / 2 == -3 && -7 % 2 == -1 && 7 / -2 == -3 && 7 % -2 == 1", True),
        ("size('ÿ😀') == 2 && size(b'ÿ') == 2", True),
        ("has(m.nothing) && m.nothing == null && !has(m.missing)", True),
        ("m.?nothing.hasValue() && !m.?missing.hasValue()", True),
        ("'İ'.lowerAscii() == 'İ' && 'ABCé'.lowerAscii() == 'abcé'", True),
        ("'\\u00a0x\\u2003'.trim()", "x"),
        ("'\\u001cx'.trim()", "\x1cx"),
        ("'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'a'.split(',', 0) == []", True),
        ("'ab'.findAll('x*') == ['', '', ''] && 'aab'.findAll('a*') == ['aa', '']", True),
        ("'abc'.matches('b') && !'abc'.matches('^b')", True),
        ("duration('1.5h') == duration('90m') && duration('-1h30m') < duration('0')", True),
        ("timestamp('2026-01-01T00:00:00.000000001Z') > timestamp('2026-01-01T00:00:00Z')", True),
        ("string(timestamp('2026-01-01T00:00:00+05:30'))", "2026-01-01T00:00:00+05:30"),
        ("timestamp('2026-01-01T00:00:00+05:30').getHours()", 18),
        ("timestamp('0001-01-01T00:00:00Z').getFullYear('-01:00')", 0),
        ("timestamp('9999-12-31T23:59:59Z').getFullYear('+01:00')", 10000),
        ("duration('-1.5s').getMilliseconds()", -1500),
        ("quantity('1e3') == quantity('1k') && quantity('1Ki').asInteger() == 1024", True),
        ("quantity('0.1m').isLessThan(quantity('1m'))", True),
        ("quantity('1000m').isInteger()", False),
        ("quantity('0.1n') == quantity('1n')", True),
        ("9007199254740993 == 9007199254740993.0", True),
        ("[3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sortBy(x, x) == ['a', 'b']", True),
        ("optional.of(1).or(optional.of(1 / 0)).orValue(1 / 0)", 1),
        ("'x' in m || m.missing == 1 || true", True),
        ("'horses' || true", "refused"),
        ("dyn('horses') || true", True),
        ("b'\\377\\x00' == b'\\xff\\000'", True),
        ('r\'\\n\' + """a"b"""', '\\na"b'),
        ("trueish + inner", 3),
        ("m.`a-b` + m['a-b']", 2),
        ("[?m.?missing, ?optional.of(1)] == [1]", True),
        ("{?'a': m.?missing, 'b': 1}", {"b": 1}),
        ("[1, 2].exists(i, v, i == 1 && v == 2) && ![].exists(i, v, true)", True),
        ("{'a': 1}.transformMap(k, v, k + string(v))", {"a": "a1"}),
        ("['a:1', 'b:2'].transformMapEntry(i, v, {v.split(':')[0]: i})", {"a": 0, "b": 1}),
        ("cel.bind(x, 2, x * x)", 4),
        ("[[1, [2]], 3].flatten(2)", [1, 2, 3]),
        ("url('https://[::1]:443/a b?x=1&x=%20').getQuery() == {'x': ['1', ' ']}", True),
        ("semver('1.0.0-rc.2').isLessThan(semver('1.0.0-rc.10'))", True),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", True),
        ("format.dns1123Label().validate('ok').hasValue()", False),
        ("base64.decode('aGk') == b'hi' && base64.encode(b'hi') == 'aGk='", True),
        ("math.greatest(1, 2.5, 2u)", 2.5),
        ("math.bitShiftRight(-1, 1) == 9223372036854775807", True),
        ("strings.quote('a\"\\n')", '"a\\"\\n"'),
        ("'%s|%d|%.1f|%x'.format(['a', 1, 2.25, 255])", "a|1|2.2|ff"),
    ],
)
def test_what_the_language_says(source, wanted):
    """Each line was wrong, or would be, with Python's own operators and functions."""
    given = {"m": {"nothing": None, "a-b": 1, "x": 1}, "trueish": 1, "inner": 2}
    if wanted == "refused":
        with pytest.raises(CelError, match="needs a boolean, got string"):
            value(source, **given)
        return
    found = value(source, **given)
    assert found == wanted
    assert type(found) is type(wanted)


def test_lone_surrogates_are_no_crash():
    """JSON may hold half of a surrogate pair; what cannot work with it is a fault, the rest works."""
    half = {"t": "a\ud800b"}
    assert value("t.size()", **half) == 3
    assert value("t + 'x' == t + 'x'", **half) is True
    for source in ("bytes(t)", "t.matches('a')", "t.find('a')"):
        with pytest.raises(CelError, match="half of a surrogate pair"):
            value(source, **half)


def test_time_zones_are_read_by_name_and_by_offset():
    """Summer time comes from the zone's rules, not from today's offset."""
    zone = "timestamp('2026-0{}-01T12:00:00Z').getHours('Europe/Berlin')"
    assert value(zone.format(1)) == 13
    assert value(zone.format(7)) == 14
    assert value("timestamp('2026-01-01T12:00:00Z').getMinutes('Asia/Kathmandu')") == 45
    for wrong in ("Mars/Base", "../etc/passwd", "", "+2"):
        source = f"timestamp('2026-01-01T12:00:00Z').getHours('{wrong}')"
        if wrong:
            with pytest.raises(CelError, match="unknown time zone"):
                value(source)
        else:
            assert value(source) == 12
