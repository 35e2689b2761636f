"""Objects that transforms make too large give up their last-applied copy, and only then anything else."""

import pytest

from reconciler.objects import ObjectKey, annotations_of, duplicate
from reconciler.restore.plan.draft import Draft
from reconciler.restore.plan.size import ANNOTATION_BYTES_MAX, OBJECT_BYTES_MAX, fit
from reconciler.restore.plan.strip import LAST_APPLIED
from tests.support.seen import manifest


def draft(captured, desired):
    key = ObjectKey.of(captured)
    return Draft(source=key, captured=captured, target=key, desired=desired)


def widget(size, *, applied=0, api="example.org/v1"):
    made = manifest("Widget", "w", api=api, spec={"text": "x" * size})
    if applied:
        made["metadata"]["annotations"] = {LAST_APPLIED: "y" * applied, "kept": "1"}
    return made


def test_an_object_that_fits_is_left_alone():
    """Also one that was near the limit when it was captured: the server kept it."""
    for size in (10, OBJECT_BYTES_MAX - 300_000, OBJECT_BYTES_MAX + 10):
        made = widget(size, applied=100_000)
        one = draft(made, duplicate(made))
        fit(one)
        assert (one.desired, one.notes, one.ended) == (made, (), None)


def test_the_last_applied_copy_goes_first():
    """What transforms made too large fits without it, and the plan says what that means."""
    one = draft(widget(1_400_000, applied=150_000), widget(1_450_000, applied=150_000))
    fit(one)

    assert annotations_of(one.desired) == {"kept": "1"}
    assert "kubectl apply" in one.notes[0]
    assert one.ended is None


def test_annotations_have_a_limit_of_their_own():
    """A server takes 256 KiB of annotations and no more."""
    one = draft(widget(10, applied=10), widget(10, applied=ANNOTATION_BYTES_MAX))
    fit(one)

    assert annotations_of(one.desired) == {"kept": "1"}


@pytest.mark.parametrize(
    ("api", "is_blocked"),
    [
        ("example.org/v1", True),
        ("gateway.networking.k8s.io/v1", True),
        ("v1", False),
        ("networking.k8s.io/v1", False),
    ],
)
def test_what_is_too_large_without_it_is_told(api, is_blocked):
    """A custom resource is stored as it is written; another kind may still fit."""
    one = draft(widget(10, api=api), widget(OBJECT_BYTES_MAX, api=api))
    fit(one)

    assert (one.ended is not None) == is_blocked
    if is_blocked:
        assert one.ended[1] == "TooLarge"
    else:
        assert "may be refused" in one.notes[0]
