"""Laws of comparing: an update reaches what was captured, and then there is nothing left to do."""

import json

from hypothesis import given
from hypothesis import strategies as st

from reconciler.objects import duplicate
from reconciler.restore.plan.compare import differences, replacement_for
from reconciler.restore.plan.strip import strip

NAMES = st.sampled_from(["a", "b", "c", "d.e/f"])
LEAVES = st.one_of(st.integers(0, 2), st.booleans(), st.sampled_from(["", "x", "y"]))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, min_size=1, max_size=3),
        st.lists(LEAVES, min_size=1, max_size=3),
        st.lists(
            st.fixed_dictionaries({"name": NAMES}, optional={"value": LEAVES}),
            min_size=1,
            max_size=3,
            unique_by=lambda item: item["name"],
        ),
    ),
    max_leaves=12,
)
SPECS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)
KINDS = st.sampled_from(
    [
        ("v1", "ConfigMap"),
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("example.org/v1", "Widget"),
    ]
)


def build(kind, spec, *, uid=""):
    metadata = {"name": "n", "namespace": "s"}
    if uid:
        metadata |= {
            "uid": uid,
            "resourceVersion": "9",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
    return {"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, "spec": spec}


@given(KINDS, SPECS, SPECS)
def test_an_update_leaves_no_difference(kind, captured, live):
    """What a replace sends has no difference left to what it would send the next time."""
    desired, there = strip(build(kind, captured)), build(kind, live, uid="u")
    before = json.dumps([desired, there])
    after = replacement_for(desired, there)

    assert differences(after, replacement_for(desired, after)) == []
    assert after["metadata"]["uid"] == "u"
    assert strip(after)["spec"] == desired["spec"]
    assert json.dumps([desired, there]) == before


@given(KINDS, SPECS)
def test_an_object_does_not_differ_from_itself(kind, spec):
    """Captured and live now, unchanged in between: nothing to do."""
    live = build(kind, spec, uid="u")

    assert differences(live, replacement_for(strip(duplicate(live)), live)) == []


@given(KINDS, SPECS)
def test_stripping_twice_is_stripping_once(kind, spec):
    """The form that is written is stable."""
    once = strip(build(kind, spec, uid="u"))

    assert strip(once) == once
