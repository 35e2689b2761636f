"""Everything that is wrong with a repository is told at once, whatever else is wrong with the same document."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime

import pytest

from reconciler.kinds.loader import load
from reconciler.source.adopt import SourceSettings, decide
from reconciler.source.tree import ReadFile, load_directory
from tests.support.policyfiles import HEAD, location, policy

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
WRECK = """\
    apiVersion: backup.reconciler.dev/v1alpha1
    kind: BackupPolicy
    metadata: {name: shop, namespace: shop}
    spec:
      select: {where: "namespace.foo("}
      schedule: {cron: "0 0 31 2 *", timeZone: Europe/Atlantis}
      locations: [{name: nowhere, retention: {daily: 7}}]
"""


def said(tmp_path, *documents):
    """`line: field: rule` of each finding of a file, in the order of the file."""
    text = "---\n".join(textwrap.dedent(one) for one in documents)
    (tmp_path / "p.yaml").write_text(text)
    _, findings = load_directory(tmp_path, now=NOW)
    return [f"{one.line}: {one.field}: {one.rule}" for one in findings if one.is_error]


def spec(text, name="shop"):
    """A policy, from what stands under spec."""
    return f"{HEAD}kind: BackupPolicy\nmetadata: {{name: {name}}}\nspec: {text}\n"


def test_a_fault_of_a_field_hides_no_other(tmp_path):
    """A time zone that does not exist, a location that nobody defines, a cron that never fires, and CEL that does not parse."""
    assert said(tmp_path, WRECK) == [
        "5: spec.select.where: expression",
        "6: spec.schedule.cron: cron",
        "6: spec.schedule.timeZone: value",
        "7: spec.locations[0].name: unknown-location",
    ]


def test_documents_of_a_file_hide_nothing_of_each_other(tmp_path):
    """Each has its own faults, also one that is no YAML at all, and who names a faulty one is told so."""
    found = said(
        tmp_path,
        WRECK,
        HEAD + "kind: [\n",
        location("primary", url="nonsense"),
        policy("fine", namespace=None),
        spec("{shedule: {}, preset: gold, drill: {}}", name="Bad_Name"),
    )

    assert found[4:] == [
        "11: : yaml",
        "15: spec.url: value",
        "23: spec.locations[0].name: unknown-location",
        "27: metadata.name: value",
        "28: spec.shedule: unknown-field",
        "28: spec.preset: unknown-preset",
        "28: spec.drill: not-supported",
    ]
    _, findings = load_directory(tmp_path, now=NOW)
    messages = [one.message for one in findings if one.rule == "unknown-location"]
    assert "the Location primary has faults itself, at p.yaml:12" in messages


def test_places_are_those_of_the_file_behind_entries_that_are_wrong(tmp_path):
    """Entries that are cut away are counted all the same."""
    text = (
        "{schedule: {cron: '0 * * * *'}, "
        "locations: [17, {name: one, retention: {daily: x}}, {name: two}, {name: three, retention: {daily: 1}}],"
        " capture: {exclude: [{kinds: 5, where: '1'}, 7, {where: 'no(such)'}], blueprints: [5, pg]}}"
    )
    found = said(tmp_path, spec(text))

    assert [line.split(": ", 1)[1] for line in found] == [
        "spec.locations[0]: value",
        "spec.locations[1].name: unknown-location",
        "spec.locations[1].retention.daily: value",
        "spec.locations[2].retention: missing-field",
        "spec.locations[2].name: unknown-location",
        "spec.locations[3].name: unknown-location",
        "spec.capture.exclude[0].kinds: value",
        "spec.capture.exclude[0].where: expression-result",
        "spec.capture.exclude[1]: value",
        "spec.capture.exclude[2].where: expression",
        "spec.capture.blueprints[0]: value",
        "spec.capture.blueprints[1]: unknown-blueprint",
    ]


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("{scedule: {cron: '0 * * * *'}, preset: gold}", ["unknown-field", "unknown-preset"]),
        ("{locatons: [], schedule: {cron: '0 * * * *'}}", ["unknown-field"]),
        ("{locations: [{name: primary, retention: {daily: x}}]}", ["value"]),
        ("{locations: 5}", ["value"]),
        ("{select: {applications: {name: 5, groupBy: app}}, preset: gold}", ["value", "unknown-preset"]),
        ("{capture: &a {}, locations: *a}", ["alias", "alias"]),
        ("5", ["value"]),
    ],
)  # fmt: skip
def test_nothing_is_concluded_from_what_was_cut_away(tmp_path, text, rules):
    """That a policy keeps content nowhere, say, is not said where its locations are what is wrong."""
    (tmp_path / "l.yaml").write_text(location("primary"))
    found = said(tmp_path, spec(text))

    assert sorted(line.rsplit(" ", 1)[1] for line in found) == sorted(rules)


def test_another_definition_of_a_faulty_document_is_told(tmp_path):
    """Mending one would bring up the other fault."""
    found = said(tmp_path, policy(locations="primary"), location(), WRECK)

    assert [line for line in found if "duplicate" in line] == ["16: metadata.name: duplicate"]


def test_a_poll_says_the_same_and_takes_nothing_of_it(tmp_path):
    """What is left of a faulty document is never in force, and nobody else is kept out by it."""
    files = [
        ReadFile("a.yaml", "a" * 40, load("a.yaml", textwrap.dedent(WRECK).encode())),
        ReadFile("b.yaml", "b" * 40, load("b.yaml", location().encode())),
        ReadFile("c.yaml", "c" * 40, load("c.yaml", policy("fine").encode())),
    ]
    decision = decide(
        files,
        former=[],
        settings=SourceSettings(name="policies", url="file:///nowhere"),
        revision="1" * 40,
        now=NOW,
    )

    assert [one.ref.identity for one in decision.manifests] == [
        "Location/primary",
        "BackupPolicy/shop/fine",
    ]
    assert sorted(one.rule for one in decision.findings if one.is_error) == [
        "cron",
        "expression",
        "unknown-location",
        "value",
    ]
