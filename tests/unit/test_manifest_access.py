"""How manifests are read."""

import pytest

from reconciler.objects import field
from reconciler.restore.execute.ready import definition_problem


@pytest.mark.parametrize(
    ("manifest", "found"),
    [
        ({"status": {"conditions": [1]}}, [1]),
        ({"status": {"conditions": []}}, []),
        ({"status": {"conditions": None}}, "default"),
        ({"status": None}, "default"),
        ({"status": {}}, "default"),
        ({}, "default"),
        ({"status": {"conditions": False}}, False),
        ({"status": {"conditions": 0}}, 0),
    ],
)
def test_null_is_absent(manifest, found):
    """What servers write as null is not set; false, zero and empty lists are values."""
    assert field(manifest, "status", "conditions", default="default") == found


def test_a_definition_that_was_just_made_is_waited_for():
    """Its conditions are null for a moment."""
    made = {"kind": "CustomResourceDefinition", "status": {"conditions": None}}

    assert definition_problem(made) == "not NamesAccepted: no word yet"
