"""JSON Patch (RFC 6902) over JSON Pointer (RFC 6901).

All or nothing: the document that comes in is never changed, and one operation that fails fails the patch. A `test`
that does not hold is told apart, because a rule whose test does not hold is no error: it changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.errors import TerminalError

OPERATIONS_MAX = 1000


class PatchError(TerminalError):
    """A patch is malformed, or names a place that is not there."""


class TestFailedError(PatchError):
    """A `test` operation did not hold."""

    __test__ = False  # pytest collects by the first word of a name


def apply_patch(document: Any, operations: Any) -> Any:
    """Apply a list of operations to a copy of `document`.

    Raises:
        PatchError: an operation is malformed or its place is missing.
        TestFailedError: a `test` did not hold.
    """
    if not isinstance(operations, list):
        raise PatchError("apply patch: expected a list of operations")
    if len(operations) > OPERATIONS_MAX:
        raise PatchError(f"apply patch: more than {OPERATIONS_MAX} operations")
    result = copy.deepcopy(document)
    for number, operation in enumerate(operations):
        try:
            result = _apply(result, operation)
        except TestFailedError:
            raise
        except PatchError as error:
            raise PatchError(f"apply patch: operation {number}: {error.message}") from None
    return result


def read_pointer(text: Any) -> list[str]:
    """Split a JSON pointer into its steps.

    Raises:
        PatchError: it does not start with `/`, or has a `~` that is no escape.
    """
    if not isinstance(text, str):
        raise PatchError("path must be a string")
    if text == "":
        return []
    if not text.startswith("/"):
        raise PatchError(f"path {text[:80]!r} must start with '/'")
    steps = text[1:].split("/")
    for step in steps:
        if "~" in step.replace("~0", "").replace("~1", ""):
            raise PatchError(f"path {text[:80]!r} has a '~' that is neither ~0 nor ~1")
    return [step.replace("~1", "/").replace("~0", "~") for step in steps]


def is_equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same; 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(v, right[k]) for k, v in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    return bool(left == right)


def _apply(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise PatchError("expected a map with op and path")
    steps = read_pointer(operation.get("path"))
    match operation.get("op"):
        case "add":
            return _add(document, steps, _value(operation))
        case "replace":
            value = _value(operation)
            return value if not steps else _replace(document, steps, value)
        case "remove":
            _remove(document, steps)
            return document
        case "test":
            if not is_equal(_get(document, steps), _value(operation)):
                raise TestFailedError(f"the test of {operation['path'][:80]!r} does not hold")
            return document
        case "copy":
            source = read_pointer(operation.get("from"))
            return _add(document, steps, copy.deepcopy(_get(document, source)))
        case "move":
            return _move(document, read_pointer(operation.get("from")), steps)
        case _:
            raise PatchError("unknown op; expected add, remove, replace, move, copy or test")


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchError("value is missing")
    return copy.deepcopy(operation["value"])


def _index(items: Sequence[Any], step: str, *, upto: int) -> int:
    if step == "0" or (step.isascii() and step.isdigit() and step[0] != "0" and len(step) < 10):
        index = int(step)
        if index < upto:
            return index
        raise PatchError(f"index {index} is beyond a list of {len(items)}")
    raise PatchError(f"{step[:40]!r} is no index of a list")


def _get(document: Any, steps: Sequence[str]) -> Any:
    value = document
    for step in steps:
        if isinstance(value, dict):
            if step not in value:
                raise PatchError(f"there is no {step[:80]!r} on the way")
            value = value[step]
        elif isinstance(value, list):
            value = value[_index(value, step, upto=len(value))]
        else:
            raise PatchError(f"{step[:80]!r} is looked for in a plain value")
    return value


def _add(document: Any, steps: Sequence[str], value: Any) -> Any:
    if not steps:
        return value
    parent, last = _get(document, steps[:-1]), steps[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        at = len(parent) if last == "-" else _index(parent, last, upto=len(parent) + 1)
        parent.insert(at, value)
    else:
        raise PatchError(f"{last[:80]!r} cannot be added to a plain value")
    return document


def _replace(document: Any, steps: Sequence[str], value: Any) -> Any:
    _get(document, steps)
    parent, last = _get(document, steps[:-1]), steps[-1]
    parent[last if isinstance(parent, dict) else int(last)] = value
    return document


def _remove(document: Any, steps: Sequence[str]) -> Any:
    if not steps:
        raise PatchError("the whole document cannot be removed")
    value = _get(document, steps)
    parent, last = _get(document, steps[:-1]), steps[-1]
    del parent[last if isinstance(parent, dict) else int(last)]
    return value


def _move(document: Any, source: Sequence[str], steps: Sequence[str]) -> Any:
    if list(steps[: len(source)]) == list(source):
        if len(steps) == len(source):
            _get(document, source)
            return document
        raise PatchError("a value cannot be moved into itself")
    return _add(document, steps, _remove(document, source))
