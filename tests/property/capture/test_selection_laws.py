"""Laws of how a namespace falls into applications."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.capture.select import labels_seen, leftovers, select
from reconciler.kinds.effective import Application
from tests.support.seen import manifest, observation, pod_template, policy

GROUPED = policy("parts", select={"applications": {"groupBy": "app"}})
WHOLE = policy("whole")
names = st.integers(0, 5).map(str)
labels = st.sampled_from([{}, {"app": "a"}, {"app": "b"}])


@st.composite
def namespaces(draw):
    """Deployments that name ConfigMaps and accounts, some labelled, some not; Pods that controllers made."""
    found = {}
    for name in draw(st.sets(names)):
        template = pod_template(config_maps=draw(st.sets(names, max_size=2)), account=draw(names))
        found[f"d{name}"] = manifest(
            "Deployment", name, api="apps/v1", labels=draw(labels), spec={"template": template}
        )
        found[f"p{name}"] = manifest(
            "Pod", name, labels=draw(labels), owner=("apps/v1", "ReplicaSet", name)
        )
    for name in draw(st.sets(names)):
        found[f"c{name}"] = manifest("ConfigMap", name, labels=draw(labels))
    for name in draw(st.sets(names)):
        found[f"s{name}"] = manifest("ServiceAccount", name, labels=draw(labels))
    return observation(*found.values())


def keys(application, seen, chooser):
    return {
        o.key
        for o in select(Application("shop", application), observation=seen, policy=chooser).objects
    }


@settings(max_examples=150, deadline=None)
@given(seen=namespaces())
def test_parts_and_leftovers_are_the_whole(seen):
    """Every object that a whole capture keeps is in a part or named as left over, and never both."""
    values = {entry["app"] for entry in labels_seen(seen, "shop") if "app" in entry}
    parts = [keys(value, seen, GROUPED) for value in values]
    over = set(
        leftovers("shop", [(Application("shop", v), GROUPED) for v in values], observation=seen)
    )
    union = set().union(*parts)

    assert union | over == keys("_", seen, WHOLE)
    assert not union & over


@settings(max_examples=50, deadline=None)
@given(seen=namespaces())
def test_selection_does_not_depend_on_order(seen):
    """Objects come sorted by key, whatever order they were seen in."""
    chosen = select(Application("shop"), observation=seen, policy=None).objects

    assert list(chosen) == sorted(chosen, key=lambda o: o.key)
