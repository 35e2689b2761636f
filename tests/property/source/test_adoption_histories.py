"""Any history of a policy repository: what is in force is sound, survives a lost disk, and settles."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.clock import SteppedClock
from reconciler.ledger.document import parse, to_bytes
from reconciler.source.check import check
from reconciler.source.poll import Source, SourceSettings
from tests.support.gitremote import GitRemote
from tests.support.policyfiles import BROKEN_POLICY, NOT_YAML, guardrail, hold, location, policy

FILES = {
    "shop.yaml": [
        policy(),
        policy(locations="offsite"),
        policy(locations="primary,offsite"),
        BROKEN_POLICY,
        NOT_YAML,
        None,
    ],
    "wiki.yaml": [
        policy("wiki", namespace="wiki"),
        policy("wiki", namespace="wiki", cron="61 * * * *"),
        policy(),
        None,
    ],
    "primary.yaml": [
        location(),
        location(url="gs://x"),
        location() + "---\n" + location("offsite"),
        None,
    ],
    "offsite.yaml": [location("offsite"), NOT_YAML, None],
    "rule.yaml": [
        guardrail("size(object.spec.locations) > 1"),
        guardrail("object.spec.locations.size() < 9"),
        None,
    ],
    "hold.yaml": [hold(), hold(more="  release: {reason: over, approvedBy: me}\n"), NOT_YAML, None],
}
EDIT = st.sampled_from(sorted(FILES)).flatmap(
    lambda path: st.tuples(st.just(path), st.sampled_from(FILES[path]))
)
COMMIT = st.lists(EDIT, min_size=1, max_size=4).map(dict)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(COMMIT, min_size=1, max_size=6))
def test_any_history(commits):
    """After each commit: no error but a guardrail's among what is in force, and the state is stable and derivable."""
    with tempfile.TemporaryDirectory() as folder:
        remote = GitRemote(Path(folder) / "r.git")
        source_settings = SourceSettings(name="policies", url=remote.url)
        clock = SteppedClock(datetime(2026, 11, 23, tzinfo=UTC))
        source = Source(source_settings, directory=Path(folder) / "work")
        record, present = None, {}
        for number, commit in enumerate(commits):
            edits = {
                path: text for path, text in commit.items() if text is not None or path in present
            }
            edits = edits or {"README.md": str(number)}
            present = {path: text for path, text in (present | edits).items() if text is not None}
            remote.commit(edits)
            before, former = (
                record,
                {one.identity for one in record.spec.manifests} if record else set(),
            )
            found = source.poll(record, clock=clock, cluster="prod")
            assert found.refused == ""
            record = parse(to_bytes(found.record))

            located = [one.located for one in found.manifests]
            errors = {
                f.rule
                for one in check(located, now=clock.now()).values()
                for f in one
                if f.is_error
            }
            assert errors <= {"guardrail"}
            identities = {one.ref.identity for one in found.manifests}
            assert len(identities) == len(found.manifests)
            for identity, path in (
                ("BackupPolicy/shop/shop", "shop.yaml"),
                ("Hold/audit", "hold.yaml"),
            ):
                if identity in former and path in present and "release" not in present[path]:
                    assert identity in identities, (
                        "what was in force and is not deleted stays in force"
                    )

            again = source.poll(record, clock=clock, cluster="prod")
            assert again.record is None, "a second look changes nothing"
            fresh = Source(source_settings, directory=Path(folder) / f"fresh-{number}")
            elsewhere = fresh.poll(before, clock=clock, cluster="prod")
            assert elsewhere.manifests == found.manifests
            assert elsewhere.findings == found.findings
