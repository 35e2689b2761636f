"""What is in force: two sources with their scopes, the last good state, guardrails, and policies that go."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.passes import metric, problems, slots, told, view_of
from tests.support.world import LOCATION, POLICY, git

HOUR = timedelta(hours=1)
TENANT = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: BackupPolicy
metadata: {name: own, namespace: %s}
spec:
  priority: 10
  schedule: {cron: "*/30 * * * *"}
  locations: [{name: primary, retention: {last: 9}}]
"""
GUARDRAIL = """\
apiVersion: backup.reconciler.dev/v1alpha1
kind: Guardrail
metadata: {name: hourly}
spec:
  validations:
    - expression: "has(object.spec.objectives.rpo) && duration(object.spec.objectives.rpo) <= duration('4h')"
      message: "the rpo must be at most four hours"
"""


def found(report):
    """All findings in one text."""
    return "\n".join(str(finding) for finding in report.desired.findings)


class Tenant:
    """A second source, confined to the namespace `wiki`."""

    def __init__(self, world):
        self.world = world
        root = world.root
        git("init", "-q", "--bare", "-b", "main", str(root / "tenant.git"))
        git("clone", "-q", str(root / "tenant.git"), str(root / "tenant"))
        git("checkout", "-q", "-B", "main", cwd=root / "tenant")
        text = world.config.read_text()
        entry = f'  - {{name: wiki-team, url: "{(root / "tenant.git").as_uri()}", namespaces: [wiki]}}\n'
        world.config.write_text(text.replace("ledger: {url", entry + "ledger: {url"))

    def push(self, **files):
        """Write files (by name, without .yaml) and push."""
        where = self.world.root / "tenant"
        for name, text in files.items():
            (where / f"{name}.yaml").write_text(text)
        git("add", "-A", cwd=where)
        git("commit", "-q", "-m", "ask", cwd=where)
        git("push", "-q", "origin", "main", cwd=where)


@pytest.fixture
def tenant(world):
    """The tenant's source, with an application of its own."""
    world.settle("wiki")
    return Tenant(world)


def test_a_tenant_rules_its_namespace_only(world, tenant):
    """A tenant's policy holds in its namespace; a Location, or a policy elsewhere, is refused and said."""
    tenant.push(
        own=TENANT % "wiki",
        foreign=(TENANT % "shop").replace("priority: 10", "priority: 1000"),
        location=LOCATION.replace("primary", "mine") % "file:///mine",
    )
    report = world.run_pass()

    covered = {entry.application.short: entry.policy.name for entry in report.coverage.covered}
    assert covered == {"shop": "gold", "wiki": "wiki/own"}
    assert told(report) == [("shop", "Succeeded"), ("wiki", "Succeeded")]
    assert "only platform sources may define Location" in found(report)
    assert "confined to wiki" in found(report)
    assert {one.metadata.name for one in report.desired.locations} == {"primary"}
    assert [view_of(world).adoption(name).spec.source for name in ("policies", "wiki-team")] == [
        "policies",
        "wiki-team",
    ]


def test_a_tenant_cannot_restore_what_is_not_its_own(world, tenant):
    """A tenant's Restore of another namespace's point is refused with its place, and touches nothing."""
    world.run_pass()
    until = (world.clock.now() + HOUR).isoformat()
    tenant.push(
        steal=f"""\
apiVersion: backup.reconciler.dev/v1alpha1
kind: Restore
metadata: {{name: steal, namespace: wiki}}
spec:
  cluster: town
  reason: curious
  notAfter: "{until}"
  from: {{point: shop/_/latest}}
  to: {{namespace: wiki}}
"""
    )
    before = world.data("wiki")
    report = world.run_pass()

    assert report.restored == []
    assert "steal.yaml:8:17: spec.from.point: a point outside of wiki needs a grant" in found(
        report
    )
    assert report.exit_code == 1
    assert world.data("wiki") == before


def test_one_source_away_leaves_the_other(world, tenant):
    """A source that cannot be read keeps what was in force; the other goes on being adopted."""
    tenant.push(own=TENANT % "wiki")
    world.run_pass()
    (world.root / "tenant.git").rename(world.root / "tenant.away")
    world.write("policies/gold.yaml", (POLICY % 24).replace("rpo: 2h", "rpo: 3h"))
    world.merge("relax")
    world.clock.advance(HOUR)
    report = world.run_pass(world.parts(work="elsewhere"))

    assert "wiki-team" in problems(report)
    assert report.desired.policy("gold").objectives.rpo == 3 * HOUR
    # Its clone is lost with the disk, so nothing of it can be read: that is said, and nothing is retired.
    assert ("shop", "Succeeded") in told(report)
    assert report.retirement.points == ()


@pytest.mark.parametrize("work", ["work", "empty"], ids=["same-disk", "empty-disk"])
def test_a_broken_revision_keeps_the_last_good(world, work):
    """One broken file keeps its last good form, also on an empty disk; another change of that commit counts."""
    world.settle("wiki")
    world.run_pass()
    world.write("policies/gold.yaml", (POLICY % 24).replace("schedule:", "schedul:"))
    world.write("policies/wiki.yaml", TENANT % "wiki")
    world.merge("one typo, one new policy")
    world.clock.advance(HOUR)
    parts = world.parts(work=work)
    report = world.run_pass(parts)

    assert "spec.schedul" in found(report)
    assert told(report) == [("shop", "Succeeded"), ("wiki", "Succeeded")]
    covered = {e.application.short: e.policy.name for e in report.coverage.covered}
    assert covered == {"shop": "gold", "wiki": "wiki/own"}
    assert metric(parts, "policy_faults", cluster="town", source="policies") >= 1
    assert any("schedul" in fault for fault in view_of(world).adoption("policies").spec.faults)


@pytest.mark.parametrize("work", ["work", "empty"], ids=["same-disk", "empty-disk"])
def test_a_rolled_back_branch_is_refused(world, work):
    """A policy branch that lost an adopted commit is refused loudly; what was adopted stays in force."""
    first = git("rev-parse", "HEAD", cwd=world.root / "policies").strip()
    world.write("policies/gold.yaml", (POLICY % 24).replace("rpo: 2h", "rpo: 1h"))
    world.merge("stricter")
    world.run_pass()
    git("push", "-q", "--force", "origin", f"{first}:main", cwd=world.root / "policies")
    world.clock.advance(HOUR)
    report = world.run_pass(world.parts(work=work))

    assert "rolled back" in problems(report)
    assert report.exit_code == 6
    assert report.desired.policy("gold").objectives.rpo == HOUR
    assert told(report) == [("shop", "Succeeded")]


def test_a_guardrail_keeps_a_policy_out(world):
    """A new policy that a `Deny` guardrail refuses is not in force, and the message of the guardrail is said."""
    world.settle("wiki")
    world.run_pass()
    world.write("guardrails/hourly.yaml", GUARDRAIL)
    world.write("policies/wiki.yaml", TENANT % "wiki")
    world.merge("a guardrail, and a policy without rpo")
    report = world.run_pass()

    assert report.desired.policy("wiki/own") is None
    assert "the rpo must be at most four hours" in found(report)
    assert report.desired.policy("gold") is not None


def test_deleting_a_policy_retires_nothing(world):
    """Without its policy an application is unmanaged; its points stay, as many as there are."""
    world.write("policies/gold.yaml", POLICY % 2)
    world.merge("keep two")
    for _ in range(2):
        world.run_pass()
        world.clock.advance(HOUR)
    world.remove("policies/gold.yaml")
    world.merge("no more backups")
    world.clock.advance(timedelta(days=90))
    parts = world.parts()
    report = world.run_pass(parts)

    assert report.captured == []
    assert report.retirement.points == ()
    assert len(slots(world)) == 2
    labels = {"cluster": "town", "namespace": "shop", "application": "_", "policy": ""}
    assert metric(parts, "application_protection_info", **labels, state="unmanaged") == 1


def test_a_policy_that_matches_nothing_is_harmless(world):
    """A policy whose selector fits nothing captures nothing and disturbs nobody."""
    text = (POLICY % 24).replace("name: gold", "name: nobody").replace("backup: gold", "a: b")
    world.write("policies/nobody.yaml", text)
    world.merge("a policy for nobody")
    report = world.run_pass()

    assert report.desired.policy("nobody") is not None
    assert told(report) == [("shop", "Succeeded")]
