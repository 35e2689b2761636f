"""Warnings about what is allowed and hardly meant; each at its field, and none where it is meant."""

from __future__ import annotations

import pytest

from reconciler.kinds.loader import load
from reconciler.source.check import Located, check
from tests.support.policyfiles import HEAD, location

CLUSTER = f"{HEAD}kind: Cluster\nmetadata: {{name: prod-eu}}\nspec: {{labels: {{env: prod}}}}\n"
SETTINGS = """\
  locations: [{name: primary, retention: {daily: 7}}]
  schedule: {cron: '0 * * * *'}
"""
ZERO = "  objectives: {rpo: 0s}\n"


def said(*documents, known=()):
    """Every finding on these documents."""

    def located(texts):
        loaded = load("p.yaml", "---\n".join(texts).encode())
        assert [str(one) for one in loaded.findings] == []
        return [Located.of(one) for one in loaded.manifests]

    found = check(located([*documents, location()]), known=located(known))
    return [f"{one.severity} {one}" for ones in found.values() for one in ones]


def warnings(*, select, namespace="", more="", known=()):
    """What is said of one policy."""
    space = f", namespace: {namespace}" if namespace else ""
    head = f"{HEAD}kind: BackupPolicy\nmetadata: {{name: shop{space}}}\nspec:\n"
    return said(f"{head}  select: {{{select}}}\n{SETTINGS}{more}", known=known)


def test_no_select():
    """A platform policy that selects nothing in particular takes every namespace, and is told so."""
    (line,) = warnings(select="")

    assert line.startswith("warning p.yaml:5:3: spec: ")
    assert "selects every namespace" in line


@pytest.mark.parametrize(
    "select",
    [
        "namespaces: {names: ['*']}",
        "namespaces: {matchLabels: {a: b}}",
        "where: 'true'",
        "applications: {groupBy: app}",
    ],
)
def test_a_select_is_a_select(select):
    """Whatever is said about what to take is taken as meant."""
    assert warnings(select=select) == []


def test_a_tenant_needs_no_select():
    """A policy that is confined to its namespace selects that one."""
    assert warnings(select="", namespace="shop") == []


@pytest.mark.parametrize("name", ["kube-*", "kube-sys?em"])
def test_a_pattern_of_kube_namespaces(name):
    """A pattern never takes `kube-*`; the exact name does."""
    (line,) = warnings(select=f"namespaces: {{names: [shop, '{name}']}}")

    assert "spec.select.namespaces.names[1]" in line
    assert "never takes kube-*" in line
    assert warnings(select="namespaces: {names: [kube-system]}") == []


@pytest.mark.parametrize(
    ("clusters", "known", "told"),
    [
        ("names: [prod-us]", (CLUSTER,), "no Cluster is called prod-us"),
        ("names: ['prod-*']", (CLUSTER,), ""),
        ("names: [prod-eu]", (), "no Cluster manifest is known"),
        ("matchLabels: {env: test}", (CLUSTER,), "no Cluster has these labels"),
        ("matchLabels: {env: prod}", (CLUSTER,), ""),
        ("matchLabels: {env: prod}", (), "no Cluster manifest is known"),
        ("", (), ""),
    ],
)
def test_clusters_that_nobody_knows(clusters, known, told):
    """Names and labels of clusters are compared with the Cluster manifests that are known."""
    lines = warnings(select=f"namespaces: {{names: [a]}}, clusters: {{{clusters}}}", known=known)

    assert [told in line for line in lines] == ([True] if told else [])


def test_a_recovery_point_of_nothing():
    """An rpo of 0s is told once, in a policy and in a preset, with a schedule or without one."""
    preset = f"{HEAD}kind: PolicyPreset\nmetadata: {{name: gold}}\nspec:\n{SETTINGS}{ZERO}"
    in_policy = warnings(select="namespaces: {names: [a]}", more=ZERO)

    assert ["0s cannot be kept" in line for line in in_policy] == [True]
    assert ["0s cannot be kept" in line for line in said(preset)] == [True]
