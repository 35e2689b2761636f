"""JSON Patch, by RFC 6902 and its appendix."""

import copy

import pytest

from reconciler.transform.patch import PatchError, TestFailedError, apply_patch


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        (
            {"foo": "bar"},
            [{"op": "add", "path": "/baz", "value": "qux"}],
            {"foo": "bar", "baz": "qux"},
        ),
        (
            {"foo": ["a", "c"]},
            [{"op": "add", "path": "/foo/1", "value": "b"}],
            {"foo": ["a", "b", "c"]},
        ),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/1", "value": "b"}], {"foo": ["a", "b"]}),
        ({"foo": 1, "bar": 2}, [{"op": "remove", "path": "/bar"}], {"foo": 1}),
        ({"foo": [1, 2, 3]}, [{"op": "remove", "path": "/foo/1"}], {"foo": [1, 3]}),
        ({"foo": [1, 2]}, [{"op": "replace", "path": "/foo/0", "value": None}], {"foo": [None, 2]}),
        (
            {"a": {"b": 1}, "c": {}},
            [{"op": "move", "from": "/a/b", "path": "/c/d"}],
            {"a": {}, "c": {"d": 1}},
        ),
        ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
        (
            {"a": {"b": [1]}},
            [{"op": "copy", "from": "/a/b", "path": "/c"}],
            {"a": {"b": [1]}, "c": [1]},
        ),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}], {"a": 1}),
        (
            {"a/b": 1, "c~d": 2},
            [{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/c~0d"}],
            {},
        ),
        ({"~1": 1}, [{"op": "remove", "path": "/~01"}], {}),
        ({"": {"": 1}}, [{"op": "replace", "path": "//", "value": 2}], {"": {"": 2}}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": [1]}], [1]),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
        ({"a": 1}, [{"op": "add", "path": "/a", "value": 2, "comment": "ignored"}], {"a": 2}),
        ({"a": 1}, [], {"a": 1}),
    ],
)
def test_operations(document, operations, result):
    """Each operation does what the RFC says, to a copy."""
    before = copy.deepcopy(document)
    assert apply_patch(document, operations) == result
    assert document == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "add", "path": "/missing/deep", "value": 1},
        {"op": "add", "path": "/list/4", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/list/-1", "value": 1},
        {"op": "add", "path": "/list/x", "value": 1},
        {"op": "remove", "path": "/list/-"},
        {"op": "replace", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/text/0", "value": 1},
        {"op": "remove", "path": ""},
        {"op": "move", "from": "/map", "path": "/map/inner/x"},
        {"op": "move", "from": "/missing", "path": "/missing"},
        {"op": "copy", "from": "/missing", "path": "/x"},
        {"op": "copy", "path": "/x"},
        {"op": "add", "path": "/x"},
        {"op": "add", "path": "x", "value": 1},
        {"op": "add", "path": "/a~2b", "value": 1},
        {"op": "add", "path": 1, "value": 1},
        {"op": "merge", "path": "/x", "value": 1},
        {"path": "/x", "value": 1},
        "add",
    ],
)
def test_what_cannot_be_applied_is_an_error_and_changes_nothing(operation):
    """One bad operation fails the patch, after good ones too."""
    document = {"list": [1, 2, 3], "text": "abc", "map": {"inner": {}}}
    before = copy.deepcopy(document)
    with pytest.raises(PatchError):
        apply_patch(document, [{"op": "add", "path": "/good", "value": 1}, operation])
    assert document == before


@pytest.mark.parametrize(
    ("there", "asked"),
    [(1, True), (0, False), ("1", 1), ([1], [1, 2]), ({"a": 1}, {"a": None}), (None, 0)],
)
def test_a_test_that_does_not_hold_is_told_apart(there, asked):
    """A failed test has its own error; 1 is not true."""
    with pytest.raises(TestFailedError):
        apply_patch({"x": there}, [{"op": "test", "path": "/x", "value": asked}])


def test_values_are_not_shared():
    """The same value added twice can be changed apart, and so can the patch."""
    value = {"n": []}
    patch = [
        {"op": "add", "path": "/a", "value": value},
        {"op": "copy", "from": "/a", "path": "/b"},
    ]
    result = apply_patch({}, patch)
    result["a"]["n"].append(1)
    assert result["b"] == {"n": []}
    assert value == {"n": []}


def test_patches_are_bounded():
    """A patch of 1,001 operations is refused."""
    with pytest.raises(PatchError, match="more than 1000"):
        apply_patch({}, [{"op": "add", "path": "/x", "value": 1}] * 1001)
    with pytest.raises(PatchError, match="a list"):
        apply_patch({}, {"op": "add"})
