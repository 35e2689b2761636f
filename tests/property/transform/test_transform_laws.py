"""Laws of patches and of namespace mapping."""

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.objects import field
from reconciler.transform import map_namespaces
from reconciler.transform.patch import PatchError, TestFailedError, apply_patch, is_equal

unhurried = settings(deadline=None)  # the machine may be busy; time is not what is tested here
KEYS = st.text(alphabet="ab/~0 1-", max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def pointer(steps):
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def places(value, steps=()):
    """Every place in a document, as steps."""
    yield steps
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for step, inner in items:
        yield from places(inner, (*steps, step))


@st.composite
def documents_with_places(draw):
    document = draw(st.dictionaries(KEYS, JSON, min_size=1, max_size=3))
    return document, draw(st.sampled_from(list(places(document))))


@unhurried
@given(documents_with_places(), JSON)
def test_what_was_put_is_there(place, value):
    """After a replace, a test of the same value holds, and everything else is as it was."""
    document, steps = place
    path = pointer(steps)
    result = apply_patch(
        document,
        [
            {"op": "replace", "path": path, "value": value},
            {"op": "test", "path": path, "value": value},
        ],
    )
    assert is_equal(result if not steps else field(result, *steps), value)


@unhurried
@given(documents_with_places(), JSON)
def test_adding_and_removing_gives_the_document_back(place, value):
    """`add` to a map or list, then `remove` at the same place, is nothing."""
    document, steps = place
    parent = field(document, *steps) if steps else document
    if isinstance(parent, list):
        path = pointer((*steps, len(parent)))
    elif isinstance(parent, dict):
        path = pointer((*steps, "a new key"))
    else:
        return
    assert (
        apply_patch(
            document, [{"op": "add", "path": path, "value": value}, {"op": "remove", "path": path}]
        )
        == document
    )


@unhurried
@given(documents_with_places())
def test_moving_there_and_back(place):
    """A value that is moved away and back leaves the document as it was."""
    document, steps = place
    if not steps:
        return
    path = pointer(steps)
    there = [
        {"op": "move", "from": path, "path": "/a new key"},
        {"op": "move", "from": "/a new key", "path": path},
    ]
    assert apply_patch(document, there) == document


OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "nope"]),
            "path": KEYS.map("/{}".format),
        },
        optional={"value": JSON, "from": KEYS.map("/{}".format)},
    )
    | JSON,
    max_size=4,
)


@unhurried
@given(JSON, OPERATIONS)
def test_any_patch_gives_a_document_or_a_patch_error(document, operations):
    """Nothing else is raised, and neither argument is ever changed."""
    before = copy.deepcopy((document, operations))
    try:
        apply_patch(document, operations)
    except (PatchError, TestFailedError):
        pass
    assert (document, operations) == before


NAMES = st.sampled_from(["shop", "wiki", "blog", "other"])
REFERENCES = {
    "subjects": lambda ns: {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "subjects": [{"kind": "ServiceAccount", "namespace": n} for n in ns],
    },
    "webhooks": lambda ns: {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "webhooks": [{"clientConfig": {"service": {"namespace": n}}} for n in ns],
    },
    "routes": lambda ns: {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "spec": {"parentRefs": [{"namespace": n} for n in ns]},
    },
    "peers": lambda ns: {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "spec": {
            "egress": [
                {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": n}}}]}
                for n in ns
            ]
        },
    },
    "monitors": lambda ns: {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "spec": {"namespaceSelector": {"matchNames": list(ns)}},
    },
    "custom": lambda ns: {
        "apiVersion": "example.com/v1",
        "kind": "Robot",
        "spec": {"targets": [{"targetRef": {"namespace": n}} for n in ns]},
    },
}


@unhurried
@given(
    st.sampled_from(sorted(REFERENCES)),
    st.lists(NAMES, max_size=6),
    NAMES,
    st.sets(NAMES, min_size=1),
)
def test_no_mapped_namespace_is_left(shape, names, own, moved):
    """Every reference to a mapped namespace is gone, those to others stay, and mapping again changes nothing."""
    mapping = {name: f"{name}-restored" for name in moved}
    manifest = REFERENCES[shape](names)
    manifest["metadata"] = {"name": "x", "namespace": own}
    result, changes = map_namespaces(manifest, mapping)
    wanted = REFERENCES[shape]([mapping.get(name, name) for name in names])
    wanted["metadata"] = {"name": "x", "namespace": mapping.get(own, own)}
    assert result == wanted
    assert len(changes) == sum(name in mapping for name in [*names, own])
    assert map_namespaces(result, mapping) == (result, [])
