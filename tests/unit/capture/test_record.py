"""What a capture says about itself."""

from __future__ import annotations

from datetime import UTC, datetime

from reconciler.capture.listing import Gap
from reconciler.capture.observed import remember
from reconciler.capture.report import Findings, Occasion, as_json, ledger_form, record_of
from reconciler.kinds.effective import Application
from reconciler.kinds.record import Outcome, RestorePointSpec
from reconciler.store.port import Content, ObjectInput, PointName, Published, Root
from tests.support.seen import manifest, observation, policy

AT = datetime(2026, 11, 23, 11, tzinfo=UTC)
OCCASION = Occasion(
    application=Application("shop"),
    cluster="prod",
    cluster_uid="u-1",
    policy=policy("gold"),
    slot="20261123T110000Z",
    manual=False,
    missed_slots=2,
    attempt=3,
    captured_at=AT,
)
STREAM = Content(
    "content/pg/StatefulSet.db/dump",
    Root("stream", "aa", 100, 1, sha256="bb"),
    consistent_at="2026-11-23T11:00:01Z",
)
TREE = Content("volume/data", Root("tree", "cc", 50, 3))


def outcome(result, name, reason="Because"):
    return Outcome(item=name, result=result, reason=reason)


def record(findings=None, *, contents=(STREAM, TREE), view=None):
    seen = [remember(manifest("ConfigMap", f"c{i}")) for i in range(3)] + [
        remember(manifest("Deployment", "web", api="apps/v1"))
    ]
    inputs = [ObjectInput(s.key, s.projection, s.uid, s.resource_version) for s in seen]
    return record_of(
        OCCASION,
        objects=inputs,
        contents=contents,
        findings=findings or Findings(),
        observation=view or observation(),
        finished_at=AT,
    )


def test_a_point_with_nothing_failed_succeeded():
    """Skipping by intent is no failure; everything captured is counted."""
    findings = Findings()
    findings.add([outcome("Skipped", "volume/cache", "SkippedByPolicy")])
    spec = record(findings)

    assert spec.phase == "Succeeded"
    assert (spec.objects, spec.kinds, spec.missed_slots, spec.attempt) == (
        4,
        {"ConfigMap": 3, "Deployment.apps": 1},
        2,
        3,
    )
    assert spec.outcome_counts == {"Skipped/SkippedByPolicy": 1, "Succeeded/Captured": 6}
    assert [(a.name, a.form, a.size_bytes, a.items, a.digest) for a in spec.artifacts] == [
        ("content/pg/StatefulSet.db/dump", "stream", 100, 1, "bb"),
        ("volume/data", "tree", 50, 3, "cc"),
    ]
    assert spec.artifacts[0].consistent_at == datetime(2026, 11, 23, 11, 0, 1, tzinfo=UTC)
    assert spec.artifacts[1].consistent_at is None
    assert spec.full_bytes > 150


def test_anything_failed_makes_it_partial():
    """A kind that could not be read is named, with what was taken over."""
    findings = Findings()
    findings.gaps([Gap("secrets", "", "Secret", "Forbidden", "no")], taken_over=4)
    spec = record(findings)

    assert spec.phase == "Partial"
    assert [(o.item, o.result, o.reason) for o in spec.outcomes] == [
        ("kind/secrets", "Failed", "Forbidden")
    ]
    assert "4 objects" in spec.outcomes[0].message


def test_a_record_survives_the_store():
    """The JSON in a point reads back as the same record."""
    spec = record()

    assert RestorePointSpec.model_validate(as_json(spec)) == spec
    assert "chain" not in as_json(spec)
    assert "locations" not in as_json(spec)


def test_the_ledger_gets_the_failures_first():
    """At most 100 outcomes, none of the failures lost to those that were skipped; the point keeps all."""
    findings = Findings()
    findings.add([outcome("Skipped", f"a{i:03}") for i in range(150)])
    findings.add([outcome("Failed", f"z{i}") for i in range(5)])
    spec = record(findings)
    published = {
        "primary": Published(
            PointName("u-1", "shop", "_", "20261123T110000Z"), "d" * 64, created=True, added_bytes=9
        )
    }
    short = ledger_form(spec, published, ())

    assert len(spec.outcomes) == 155
    assert len(short.outcomes) == 100
    assert [o.item for o in short.outcomes[:6]] == ["z0", "z1", "z2", "z3", "z4", "a000"]
    assert short.outcome_counts["Skipped/Because"] == 150
    assert [(ref.name, ref.domain, ref.digest, ref.added_bytes) for ref in short.locations] == [
        ("primary", "u-1", "d" * 64, 9)
    ]


def test_a_location_that_fails_last_makes_the_record_partial():
    """A copy that is missing is a failure in the ledger, even when the other points were written before it was known."""
    late = [outcome("Failed", "location/offsite", "StorageFull")]
    short = ledger_form(record(), {}, late)

    assert short.phase == "Partial"
    assert short.outcomes == late
    assert short.outcome_counts["Failed/StorageFull"] == 1
