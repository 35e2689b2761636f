"""The official conformance tests of the language, against our engine.

What fails is listed one by one with its reason in `docs/limits.md`; a case that is listed and passes is an error
too. Cases that need protocol-buffer messages are left out: a Kubernetes object is JSON.
"""

import math
import re
from collections import Counter
from functools import cache

import pytest

from reconciler.cel import CelError, syntax
from reconciler.cel.compiler import Compiler
from reconciler.cel.library import FUNCTIONS
from reconciler.cel.library.table import OURS, Functions, Overload
from reconciler.cel.program import Program
from reconciler.cel.scope import Environment
from reconciler.cel.source import parse
from reconciler.cel.types import DYN, Signature, Type
from reconciler.cel.values import BoolKey, TypeName, Uint, make_map
from tests.support import celspec

pytestmark = pytest.mark.skipif(celspec.directory() is None, reason=celspec.MISSING)
LIMITS = celspec.REPOSITORY / "docs/limits.md"
LISTED = re.compile(r"^\| `([a-z0-9_]+/[^`]+)` \| (.+) \|$", re.M)
PRIMITIVES = {
    "BOOL": "bool", "INT64": "int", "UINT64": "uint", "DOUBLE": "double", "STRING": "string", "BYTES": "bytes",
}  # fmt: skip
WELL_KNOWN = {"TIMESTAMP": "timestamp", "DURATION": "duration", "ANY": "dyn"}


def spec_value(message):
    """A value of the files as the engine has it."""
    ((kind, (value, *_)),) = message.items()
    match kind:
        case "null_value":
            return None
        case "bool_value":
            return value == "true"
        case "int64_value":
            return int(value)
        case "uint64_value":
            return Uint(value)
        case "double_value":
            return float(value)
        case "string_value":
            return value.decode()
        case "bytes_value":
            return value
        case "list_value":
            return [spec_value(one) for one in value.get("values", [])]
        case "map_value":
            entries = value.get("entries", [])
            return make_map(
                (spec_value(one["key"][0]), spec_value(one["value"][0])) for one in entries
            )
        case "type_value":
            return TypeName(value.decode())
    raise ValueError(kind)


def spec_type(message):
    """A type of the files as the checker has it."""
    ((kind, (value, *_)),) = message.items()
    match kind:
        case "primitive":
            return Type(PRIMITIVES[value])
        case "null":
            return Type("null_type")
        case "dyn":
            return DYN
        case "well_known":
            return Type(WELL_KNOWN[value])
        case "type_param":
            return Type(value.decode())
        case "list_type":
            return Type("list", (spec_type(value["elem_type"][0]),))
        case "map_type":
            return Type("map", (spec_type(value["key_type"][0]), spec_type(value["value_type"][0])))
        case "type":
            return Type("type", (DYN,))
        case "abstract_type":
            name = value["name"][0].decode()
            params = tuple(spec_type(one) for one in value.get("parameter_types", []))
            return Type({"optional_type": "optional"}.get(name, name.capitalize()), params)
    raise ValueError(kind)


def same(left, right):
    """Equal in type and value, to the sign of zero."""
    if isinstance(left, BoolKey) or isinstance(right, BoolKey):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        both_nan = math.isnan(left) and math.isnan(right)
        return both_nan or (left == right and math.copysign(1, left) == math.copysign(1, right))
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right


def blocks(node):
    """`cel.block([a, b], c)` becomes nested `cel.bind`: the test-only macros of block_ext."""
    if isinstance(node, syntax.Call):
        if syntax.dotted(node.target) == "cel" if node.target else False:
            if node.name in ("index", "iterVar", "accuVar"):
                numbers = "_".join(str(one.value) for one in node.arguments)
                return syntax.Name(node.at, f"at_{node.name}_{numbers}")
            if node.name == "block":
                body = blocks(node.arguments[1])
                for number, (item, _) in reversed(list(enumerate(node.arguments[0].items))):
                    name = syntax.Name(node.at, f"at_index_{number}")
                    cel = syntax.Name(node.at, "cel")
                    body = syntax.Call(node.at, "bind", cel, [name, blocks(item), body])
                return body
        target = blocks(node.target) if node.target else None
        return syntax.Call(node.at, node.name, target, [blocks(one) for one in node.arguments])
    match node:
        case syntax.Select():
            node.operand = blocks(node.operand)
        case syntax.Unary():
            node.operand = blocks(node.operand)
        case syntax.Index():
            node.operand, node.key = blocks(node.operand), blocks(node.key)
        case syntax.Items():
            node.items = [(blocks(item), maybe) for item, maybe in node.items]
        case syntax.Entries():
            node.entries = [(blocks(k), blocks(v), maybe) for k, v, maybe in node.entries]
        case syntax.Logic():
            node.terms = [blocks(term) for term in node.terms]
        case syntax.Chain():
            node.first = blocks(node.first)
            node.steps = [(name, at, blocks(right)) for name, at, right in node.steps]
        case syntax.Ternary():
            node.condition, node.yes, node.no = map(blocks, (node.condition, node.yes, node.no))
    return node


def compiled(case):
    """The program of a case."""
    variables, extra = {}, []
    for one in case.declared:
        name = one["name"][0].decode()
        if "ident" in one:
            variables[name] = spec_type(one["ident"][0]["type"][0])
        for overload in one.get("function", [{}])[0].get("overloads", []):
            params = tuple(spec_type(param) for param in overload.get("params", []))
            signature = Signature(name, False, params, spec_type(overload["result_type"][0]), name)
            extra.append(Overload(signature, lambda frame, *values: None, OURS))
    for name in case.bindings:
        variables.setdefault(name, DYN)
    environment = Environment(variables, container=case.container, checks=case.check)
    functions = Functions([*FUNCTIONS.all, *extra]) if extra else FUNCTIONS
    compiler = Compiler(case.expr, environment, functions=functions)
    part = compiler.part(blocks(parse(case.expr)))
    return Program(case.expr, part=part, slots=compiler.scope.slots)


def failure(case):
    """Why a case fails, empty when it passes."""
    try:
        program = compiled(case)
        if case.deduced is not None and program.kind != spec_type(case.deduced):
            return f"the type is {program.kind}"
        if case.check_only:
            return ""
        bindings = {name: spec_value(one["value"][0]) for name, one in case.bindings.items()}
        value = program.value(bindings)
    except CelError as error:
        if not case.wants_error:
            return str(error)
        if "unbound" in case.name:
            return ""
        is_absent = "unknown function" in error.message or "not supported" in error.message
        return f"an error only because something is not there: {error}" if is_absent else ""
    if case.wants_error:
        return f"gave {value!r}, not an error"
    return "" if same(value, spec_value(case.value)) else f"gave {value!r}"


@cache
def failures():
    """Every case of the files that needs no messages: its name and why it fails."""
    return {case.name: failure(case) for case in celspec.cases() if not case.needs_protobuf}


def listed():
    """The cases that are known to fail, with the reasons."""
    return dict(LISTED.findall(LIMITS.read_text()))


def test_every_failing_case_is_listed_with_its_reason():
    """What fails is in docs/limits.md, and what is listed there fails."""
    failed = {name: reason for name, reason in failures().items() if reason}
    assert {name: why for name, why in failed.items() if name not in listed()} == {}
    assert set(listed()) - set(failed) == set()


def test_99_of_100_cases_pass():
    """At least 99 % of the cases that need no messages pass; the figures are printed by `-s`."""
    passed, total = Counter(), Counter()
    for name, reason in failures().items():
        file = name.partition("/")[0]
        total[file] += 1
        passed[file] += not reason
    for file in total:
        print(f"{file:16} {passed[file]:4}/{total[file]}")
    print(f"{'all':16} {passed.total():4}/{total.total()}")
    assert total.total() > 1_700
    assert passed.total() >= 0.99 * total.total()


def test_the_files_are_read_whole():
    """The reader loses no case: there are as many as lines that start an expression."""
    lines = sum(
        len(re.findall(r"^\s*expr:", path.read_text(), re.M))
        for path in celspec.directory().glob("*.textproto")
    )
    assert len(celspec.cases()) == lines
