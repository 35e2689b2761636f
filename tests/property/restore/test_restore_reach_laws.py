"""Laws of what goes with a deletion, and of sets of fields."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.objects import ObjectKey
from reconciler.restore.plan.cascade import Population
from reconciler.restore.plan.fieldset import leaves, merge, prune
from reconciler.restore.plan.ownership import given_back, ownership_of

NAMES = list("abcdefgh")


@st.composite
def families(draw):
    """Objects with owners among those before them: uid → owners."""
    found = {}
    for index, name in enumerate(NAMES):
        found[name] = draw(st.sets(st.sampled_from(NAMES[:index]), max_size=2)) if index else set()
    return found


def population(family):
    made = Population()
    for uid, owners in family.items():
        references = [
            {"kind": "ConfigMap", "name": owner, "uid": owner} for owner in sorted(owners)
        ]
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": uid,
                "namespace": "s",
                "uid": uid,
                "ownerReferences": references,
            },
        }
        made.add(ObjectKey("", "ConfigMap", "s", uid), manifest)
    return made


def collected(family, dead):
    """What a garbage collector takes: whoever has owners, and none of them alive, until nobody is left."""
    dead = set(dead)
    while True:
        more = {uid for uid, owners in family.items() if owners and owners <= dead} - dead
        if not more:
            return dead
        dead |= more


@given(families(), st.sampled_from(NAMES))
def test_one_deletion_takes_what_the_collector_takes(family, root):
    """No more and no less."""
    assert population(family).swept_by(root, gone=set()) == collected(family, {root}) - {root}


@given(families(), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
def test_deletions_one_after_the_other_take_what_they_take_together(family, roots):
    """Whatever the order of the roots."""
    made, gone = population(family), set()
    for root in roots:
        gone |= made.swept_by(root, gone=gone) | {root}

    assert gone == collected(family, roots)


KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.integers(0, 1), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=3)


def owned(value):
    """A set that owns all of a value."""
    return (
        {f"f:{key}": owned(inside) for key, inside in value.items()}
        if isinstance(value, dict)
        else {}
    )


def led(paths, value):
    for path in paths:
        here = value
        for step in path:
            assert isinstance(here, dict)
            assert step[2:] in here
            here = here[step[2:]]


@given(OBJECTS, OBJECTS)
def test_what_is_left_of_a_set_leads_somewhere(one, other):
    """Pruned paths are in the object and were in the set; pruning again changes nothing."""
    kept = prune(owned(one), other)

    led(leaves(kept), other)
    led(leaves(kept), one)
    assert prune(kept, other) == kept
    assert prune(owned(one), one) == owned(one)


@given(OBJECTS, OBJECTS)
def test_a_union_has_all_of_both(one, other):
    """Whichever is named first."""
    union = merge(owned(one), owned(other))

    assert union == merge(owned(other), owned(one))
    assert merge(union, owned(one)) == union


@given(OBJECTS, OBJECTS, OBJECTS)
def test_managers_own_nothing_that_is_not_written(was, now, hand):
    """Entries that are given back lead into the object, are told apart by the server, and none is ours."""

    def entry(manager, operation, fields):
        return {
            "manager": manager,
            "operation": operation,
            "apiVersion": "example.org/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": owned(fields)},
        }

    managed = [entry("team", "Apply", was), entry("hand", "Update", hand)]
    about = {"apiVersion": "example.org/v1", "kind": "Widget"}
    captured = {
        **about,
        "metadata": {"name": "w", "uid": "u", "managedFields": managed},
        "spec": was,
    }
    desired = {**about, "metadata": {"name": "w"}, "spec": now}
    back = given_back(ownership_of(captured, desired), desired)

    told = [(e.get("manager"), e.get("operation")) for e in back]
    assert len(told) == len(set(told))
    assert set(told) <= {("team", "Apply"), ("hand", "Update"), (None, None)}
    for one in back:
        led(leaves(one.get("fieldsV1", {})), desired | {"spec": now})
