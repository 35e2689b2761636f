"""Which policy covers which application."""

from __future__ import annotations

import pytest

from reconciler.capture.coverage import applications
from reconciler.kinds.effective import Application
from reconciler.objects import ObjectKey
from tests.support.seen import manifest, policy


def namespace(name, *, deleting=False, **labels):
    return manifest("Namespace", name, namespace="", labels=labels, deleting=deleting)


def cover(namespaces, policies, *, current=None, members=None, labels=None, left=None):
    return applications(
        [n if isinstance(n, dict) else namespace(n) for n in namespaces],
        policies,
        cluster_name="prod-eu1",
        cluster_labels=labels or {},
        current=current or {},
        members=lambda ns: (members or {}).get(ns, []),
        left_over=lambda ns, covered: (left or {}).get(ns, []),
    )


def chosen(coverage):
    return {str(c.application): c.policy.name for c in coverage.covered}


def test_a_namespace_is_one_application():
    """Without `applications` a selected namespace is one application called `_`."""
    coverage = cover(["shop", "wiki"], [policy("all", select={"namespaces": {"names": ["shop"]}})])

    assert chosen(coverage) == {"shop/_": "all"}
    assert coverage.uncovered == ("wiki",)


@pytest.mark.parametrize("names", [[], ["*"], ["kube-*"], ["k*"]])
def test_a_pattern_never_takes_system_namespaces(names):
    """No pattern and no empty list takes `kube-*`; these are not called uncovered either when they are the system's."""
    coverage = cover(
        ["kube-system", "kube-public", "kube-flannel"],
        [policy("all", select={"namespaces": {"names": names}})],
    )

    assert chosen(coverage) == {}
    assert coverage.uncovered == ("kube-flannel",)


def test_an_exact_name_may_take_a_system_namespace():
    """`kube-system` written out is selected, also by a policy that lives there."""
    exact = policy("exact", select={"namespaces": {"names": ["kube-system"]}})
    local = policy("local", namespace="kube-public")

    assert chosen(cover(["kube-system", "kube-public"], [exact, local])) == {
        "kube-system/_": "exact",
        "kube-public/_": "kube-public/local",
    }


def test_a_tenant_policy_is_confined_to_its_namespace():
    """A policy with a namespace selects only that one, whatever patterns it writes."""
    coverage = cover(
        ["shop", "wiki"],
        [policy("mine", namespace="shop", select={"namespaces": {"names": ["*"]}})],
    )

    assert chosen(coverage) == {"shop/_": "shop/mine"}


def test_labels_and_expressions_narrow_the_choice():
    """Names, labels and `where` must all hold; an expression without an answer selects nothing and is reported."""
    labelled = policy("gold", select={"namespaces": {"matchLabels": {"tier": "gold"}}})
    asked = policy("asked", select={"where": "namespace.metadata.labels['tier'] == 'silver'"})
    coverage = cover(
        [namespace("a", tier="gold"), namespace("b", tier="silver"), namespace("c")],
        [labelled, asked],
    )

    assert chosen(coverage) == {"a/_": "gold", "b/_": "asked"}
    assert coverage.uncovered == ("c",)
    (fault,) = coverage.faults
    assert "policy asked covers nothing of namespace c" in fault


def test_clusters_are_selected_by_name_and_label():
    """A policy for other clusters covers nothing here."""
    here = policy(
        "here", select={"clusters": {"names": ["prod-*"], "matchLabels": {"env": "prod"}}}
    )

    assert chosen(cover(["shop"], [here], labels={"env": "prod"})) == {"shop/_": "here"}
    assert cover(["shop"], [here], labels={"env": "test"}).uncovered == ("shop",)
    assert cover(
        ["shop"], [policy("there", select={"clusters": {"names": ["prod-us1"]}})]
    ).uncovered == ("shop",)


def test_the_highest_priority_wins():
    """Others that select the application are named."""
    coverage = cover(
        ["shop"], [policy("low", priority=1), policy("high", priority=2), policy("mid", priority=1)]
    )

    assert chosen(coverage) == {"shop/_": "high"}
    assert coverage.covered[0].others == ("low", "mid")
    assert coverage.ties == ()


def test_a_tie_is_reported_and_protects_all_the_same():
    """The current owner keeps the application; without one the first by name takes it. Both are said."""
    tied = [policy("b", priority=5), policy("a", priority=5), policy("z", priority=1)]

    fresh = cover(["shop"], tied)
    kept = cover(["shop"], tied, current={"shop/_": "b"})
    outranked = cover(["shop"], tied, current={"shop/_": "z"})

    assert (chosen(fresh), chosen(kept), chosen(outranked)) == (
        {"shop/_": "a"},
        {"shop/_": "b"},
        {"shop/_": "a"},
    )
    assert [(t.policies, t.chosen) for t in (*fresh.ties, *kept.ties)] == [
        (("a", "b"), "a"),
        (("a", "b"), "b"),
    ]


@pytest.mark.parametrize(
    "where", ["namespace.metadata.labels['tier'] == 'silver'", "1 + 1", "no(such)"]
)
def test_an_expression_without_an_answer_takes_nothing_away(where):
    """The policy that covered the namespace before keeps it, also against a lesser one; where it did not, it is not
    given anything. Either way each namespace is said.
    """
    asked = policy("asked", priority=9, select={"where": where})
    before = {"a/_": "asked", "b/_": "other"}

    alone = cover(["a", "b", "c"], [asked], current=before)
    beside = cover(["a", "b"], [asked, policy("other")], current=before)

    assert chosen(alone) == {"a/_": "asked"}
    assert alone.uncovered == ("b", "c")
    assert chosen(beside) == {"a/_": "asked", "b/_": "other"}
    assert len(alone.faults) == 3
    assert "policy asked keeps what it covered before of namespace a" in alone.faults[0]


def test_grouping_makes_an_application_of_each_value():
    """Values of the label are applications; a namespace where nothing carries the label is uncovered, and so are
    the objects of a grouped one that belong to none of its parts.
    """
    lost = ObjectKey("", "ConfigMap", "shop", "lost")
    grouped = policy("parts", select={"applications": {"groupBy": "app"}})
    coverage = cover(
        ["shop", "bare", "tidy"],
        [grouped],
        members={
            "shop": [{"app": "web"}, {"app": "db"}, {"app": "web"}, {"x": "y"}, {"app": ""}],
            "tidy": [{"app": "web"}],
        },
        left={"shop": [lost]},
    )

    assert chosen(coverage) == {"shop/db": "parts", "shop/web": "parts", "tidy/web": "parts"}
    assert coverage.leftovers == {"shop": (lost,)}
    assert coverage.uncovered == ("bare",)
    assert coverage.faults == ()


@pytest.mark.parametrize("value", ["two/x", "_", "..", "a" * 64, "a\n", "-a", "\x1b[31m", ["x"], 7])
def test_a_value_that_no_server_takes_is_one_fault(value):
    """It names no application and stops none of the others; however many objects carry it, it is said once."""
    grouped = policy("parts", select={"applications": {"groupBy": "app"}})
    coverage = cover(
        ["shop", "wiki"],
        [grouped],
        members={
            "shop": [{"app": "web"}, {"app": value}, {"app": value}],
            "wiki": [{"app": "pages"}],
        },
    )

    assert chosen(coverage) == {"shop/web": "parts", "wiki/pages": "parts"}
    (fault,) = coverage.faults
    assert "namespace shop after app" in fault
    assert fault.isprintable()


def test_a_flood_of_odd_values_is_told_in_a_line():
    """Only some are shown, and how many more there are."""
    grouped = policy("parts", select={"applications": {"groupBy": "app"}})
    values = [{"app": f"{number}/" + "x" * 5000} for number in range(100)]

    (fault,) = cover(["shop"], [grouped], members={"shop": values}).faults
    assert "and 97 more" in fault
    assert len(fault) < 1000


def test_a_named_part_and_the_whole_stand_beside_each_other():
    """A part and the whole namespace are two applications; that they overlap is said."""
    part = policy(
        "part", priority=9, select={"applications": {"name": "web", "matchLabels": {"app": "web"}}}
    )
    coverage = cover(["shop"], [part, policy("whole")])

    assert chosen(coverage) == {"shop/_": "whole", "shop/web": "part"}
    assert coverage.overlapping == ("shop",)
    assert coverage.policy_of(Application("shop", "web")).name == "part"


def test_a_namespace_being_deleted_is_noted():
    """It stays covered, and is named as terminating."""
    assert cover([namespace("shop", deleting=True)], [policy("all")]).terminating == ("shop",)
