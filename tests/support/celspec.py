"""The conformance tests of the language (github.com/google/cel-spec, `tests/simple/testdata`), read in place.

They are looked for in `RECONCILER_CEL_SPEC`, else in `../shared/cel-spec` beside the repository.
"""

import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.support import textproto

REPOSITORY = Path(__file__).resolve().parents[2]
MISSING = (
    "the cel-spec tests are not here: copy tests/simple/testdata/*.textproto of github.com/google/cel-spec"
    " to ../shared/cel-spec, or name their directory in RECONCILER_CEL_SPEC"
)
_PROTOBUF = re.compile(r"TestAllTypes|NestedEnum|GlobalEnum|NestedTestAllTypes|google\.protobuf\.")


@dataclass
class Case:
    """One test. `value` and `bindings` are as the file has them; `spec_value` of the engine's tests reads them."""

    name: str
    expr: str
    container: str = ""
    check: bool = True
    check_only: bool = False
    declared: list = field(default_factory=list)
    bindings: dict = field(default_factory=dict)
    value: dict | None = None
    deduced: dict | None = None
    wants_error: bool = False
    needs_protobuf: bool = False


def directory():
    """Where the tests are, or None."""
    places = [os.environ.get("RECONCILER_CEL_SPEC", ""), str(REPOSITORY.parent / "shared/cel-spec")]
    return next((Path(p) for p in places if p and (Path(p) / "basic.textproto").is_file()), None)


@cache
def cases():
    """Every test of every file, in order."""
    found, seen = [], set()
    for path in sorted(directory().glob("*.textproto")):
        parsed = textproto.parse(path.read_text())
        for section in parsed.get("section", []):
            for test in section.get("test", []):
                place = f"{path.stem}/{_text(section, 'name')}/{_text(test, 'name')}"
                while place in seen:
                    place += " again"
                seen.add(place)
                found.append(_case(place, test))
    return found


def _text(message, name):
    return message[name][0].decode() if name in message else ""


def _flag(message, name):
    return message.get(name, [""])[0] == "true"


def _case(place, test):
    typed = test.get("typed_result", [{}])[0]
    value = test.get("value", typed.get("result", [None]))[0]
    wants_error = "eval_error" in test or "any_eval_errors" in test
    if value is None and not wants_error and "typed_result" not in test:
        value = {"bool_value": [textproto.Word("true")]}
    case = Case(
        name=place,
        expr=_text(test, "expr"),
        container=_text(test, "container"),
        check=not _flag(test, "disable_check"),
        check_only=_flag(test, "check_only"),
        declared=test.get("type_env", []),
        bindings={_text(one, "key"): one["value"][0] for one in test.get("bindings", [])},
        value=value,
        deduced=typed.get("deduced_type", [None])[0],
        wants_error=wants_error,
    )
    case.needs_protobuf = bool(
        case.container.startswith(("cel.expr.conformance", "google.protobuf"))
        or _PROTOBUF.search(case.expr)
        or _mentions(test, ("object_value", "enum_value", "message_type", "wrapper"))
    )
    return case


def _mentions(message, names):
    if isinstance(message, dict):
        return any(key in names or _mentions(each, names) for key, each in message.items())
    if isinstance(message, list):
        return any(_mentions(each, names) for each in message)
    return False
