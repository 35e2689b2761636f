"""Which writes a webhook's rules and selectors take in."""

import pytest

from reconciler.cluster.port import ResourceType
from reconciler.objects import ObjectKey
from reconciler.restore.plan.gates import Asked, Gate, Gates, matches
from tests.support.seen import manifest

RULE = {
    "operations": ["CREATE", "UPDATE"],
    "apiGroups": ["example.org"],
    "apiVersions": ["v1"],
    "resources": ["widgets"],
}
CONFIGURATION = ObjectKey("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "", "c")
SERVICE = ObjectKey("", "Service", "shop", "hook")


def kind(group="example.org", version="v1", name="Widget", plural="widgets", *, namespaced=True):
    return ResourceType(group, version, name, plural, namespaced, frozenset({"create", "list"}))


def gate(rule=None, **hook):
    hook = {"name": "a.example.org", "rules": [{**RULE, **(rule or {})}], **hook}
    return Gate(CONFIGURATION, "a.example.org", SERVICE, hook)


def asked(of=None, *, operation="CREATE", labels=None, space=None, live=None):
    made = manifest("Widget", "w", api="example.org/v1", labels=labels)
    space = {"kubernetes.io/metadata.name": "shop"} if space is None else space
    return Asked(of or kind(), made, operation, space, live)


@pytest.mark.parametrize(
    ("rule", "of", "operation", "is_in"),
    [
        ({}, kind(), "CREATE", True),
        ({}, kind(), "UPDATE", True),
        ({"operations": ["UPDATE"]}, kind(), "CREATE", False),
        ({"operations": ["*"]}, kind(), "CREATE", True),
        ({"apiGroups": ["*"], "resources": ["*"]}, kind(), "CREATE", True),
        ({"resources": ["*/*"]}, kind(), "CREATE", True),
        ({"resources": ["widgets/*"]}, kind(), "CREATE", True),
        ({"resources": ["widgets/status"]}, kind(), "CREATE", False),
        ({"apiGroups": [""]}, kind(), "CREATE", False),
        ({"resources": ["gears"]}, kind(), "CREATE", False),
        ({"scope": "Cluster"}, kind(), "CREATE", False),
        ({"scope": "Cluster"}, kind(namespaced=False), "CREATE", True),
        ({"scope": "Namespaced"}, kind(), "CREATE", True),
    ],
)
def test_rules(rule, of, operation, is_in):
    """Operations, groups, resources and scope decide, with their wildcards."""
    assert matches(gate(rule), asked(of, operation=operation)) == is_in


def test_versions_count_only_when_the_match_is_exact():
    """By default a rule for one version is asked about every version of the kind."""
    newer = asked(kind(version="v2"))

    assert matches(gate(), newer)
    assert matches(gate(matchPolicy="Equivalent"), newer)
    assert not matches(gate(matchPolicy="Exact"), newer)


@pytest.mark.parametrize(
    ("selector", "is_in"),
    [
        ({}, True),
        ({"matchLabels": {"team": "a"}}, True),
        ({"matchLabels": {"team": "b"}}, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "no", "operator": "NotIn", "values": ["a"]}]}, True),
    ],
)
def test_selectors(selector, is_in):
    """Namespaces and objects are selected by labels alike."""
    labels = {"team": "a"}

    assert matches(gate(namespaceSelector=selector), asked(space=labels)) == is_in
    assert matches(gate(objectSelector=selector), asked(labels=labels)) == is_in


def test_a_namespace_that_is_left_out_is_left_out():
    """The usual exclusion of kube-system by the label of its name."""
    expression = {
        "key": "kubernetes.io/metadata.name",
        "operator": "NotIn",
        "values": ["kube-system"],
    }
    left_out = gate(namespaceSelector={"matchExpressions": [expression]})

    assert not matches(left_out, asked(space={"kubernetes.io/metadata.name": "kube-system"}))
    assert matches(left_out, asked())


def test_objects_of_the_cluster_have_no_namespace_to_be_selected_by():
    """A namespaceSelector does not leave them out."""
    narrow = gate(namespaceSelector={"matchLabels": {"team": "b"}})
    made = Asked(kind(namespaced=False), manifest("Widget", "w"), "CREATE", None)

    assert matches(narrow, made)


def test_an_update_counts_by_either_form():
    """The live labels are enough for a webhook to be asked, so are the new ones."""
    narrow = gate(objectSelector={"matchLabels": {"guard": "on"}})
    live = manifest("Widget", "w", labels={"guard": "on"})

    assert matches(narrow, asked(operation="UPDATE", live=live))
    assert not matches(narrow, asked(operation="UPDATE", live=manifest("Widget", "w")))


def test_webhooks_are_never_asked_about_webhooks():
    """Otherwise a dead one could never be removed."""
    everything = gate({"apiGroups": ["*"], "resources": ["*"], "apiVersions": ["*"]})
    own = kind(CONFIGURATION.group, "v1", CONFIGURATION.kind, "x", namespaced=False)

    assert not matches(everything, asked(own))


def test_a_conversion_is_needed_for_other_versions_only():
    """What is written in the stored version needs no conversion."""
    crd = ObjectKey("apiextensions.k8s.io", "CustomResourceDefinition", "", "widgets.example.org")
    conversion = Gate(crd, crd.name, SERVICE)
    gates = Gates(conversions={("example.org", "Widget"): (conversion, "v1")})

    assert gates.in_the_way_of(asked()) == []
    assert gates.in_the_way_of(asked(kind(version="v1beta1"))) == [conversion]
    assert "conversion webhook of CustomResourceDefinition" in str(conversion)
