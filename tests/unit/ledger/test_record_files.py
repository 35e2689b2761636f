"""Records as files: readable by every YAML reader, bounded, in a pleasant order."""

from __future__ import annotations

import pytest
import yaml

from reconciler.errors import UsageError
from reconciler.kinds.record import AdoptedManifest, Artifact, Chain, Outcome, VersionRange
from reconciler.ledger.document import (
    RecordTooLargeError,
    UnreadableRecordError,
    chain_of,
    chained,
    parse,
    sha256,
    to_bytes,
)
from reconciler.ledger.layout import RestoreKey, application_path, path_of, record_path
from tests.support.ledgers import (
    adoption,
    failed_outcomes,
    failure,
    instant,
    point,
    prune,
    restore,
    retirement,
)

EVERY = [
    point(),
    failure(),
    restore(),
    restore("finished"),
    retirement([("shop/_", "20261123T031700Z")]),
    prune(),
    adoption(),
]


@pytest.mark.parametrize("record", EVERY, ids=lambda r: type(r).__name__)
def test_round_trip(record):
    """What is written is read back equal, and begins with what a person looks for."""
    chain = Chain(sequence=7, previous="12e4" + "0" * 60)
    data = to_bytes(chained(record, chain))
    assert parse(data) == chained(record, chain)
    assert list(yaml.safe_load(data)) == ["apiVersion", "kind", "metadata", "spec"]
    assert list(yaml.safe_load(data)["spec"])[0] == "chain"
    assert chain_of(data) == chain
    assert chain_of(to_bytes(record)) is None
    assert chain_of(to_bytes(chained(record, Chain(sequence=1)))) == Chain(sequence=1)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "012",
        "1:30",
        "1e3",
        "0o17",
        "2026-11-23",
        "~",
        "y",
        "=",
        "0x1f",
        ".inf",
        "- a",
        "a: b",
        "# c",
    ],
)
def test_yaml_1_1_reads_text_as_text(text):
    """What YAML 1.1 or 1.2 would take for something else is quoted."""
    record = failure(message=text)
    assert yaml.load(to_bytes(record), Loader=yaml.SafeLoader)["spec"]["message"] == text
    assert parse(to_bytes(record)) == record


def test_outcomes_are_cut_failures_first():
    """At most 100 outcomes are kept, failures before skips, successes never."""
    skipped = [Outcome(item=f"s{n}", result="Skipped", reason="Excluded") for n in range(90)]
    good = [Outcome(item="g", result="Succeeded", reason="Captured")]
    record = parse(to_bytes(point(outcomes=[*good, *skipped, *failed_outcomes(60)])))
    assert [one.result for one in record.spec.outcomes] == ["Failed"] * 60 + ["Skipped"] * 40


def test_a_record_stays_below_64_kib():
    """Whatever the outcomes and the plan are, the file fits."""
    plan = [
        {"object": "apps/Deployment/shop/web", "verdict": "update", "fields": ["x" * 300]}
        for _ in range(2000)
    ]
    data = to_bytes(restore("finished", plan=plan, outcomes=failed_outcomes(400)))
    assert len(data) <= 64 * 1024
    assert len(parse(data).spec.outcomes) == 100
    long = [Outcome(item="i" * 2000, result="Failed", reason="Forbidden") for _ in range(100)]
    assert len(to_bytes(point(outcomes=long))) <= 64 * 1024


def test_what_cannot_be_cut_is_refused():
    """A record that does not fit without its outcomes is refused, never cut where it matters."""
    artifacts = [
        Artifact(name="volume/" + "x" * 1000, form="tree", size_bytes=1) for _ in range(100)
    ]
    with pytest.raises(RecordTooLargeError):
        to_bytes(point(artifacts=artifacts))


def test_an_adoption_of_thousands_fits():
    """Nothing else holds the list of what is in force, so that it may be long."""
    many = [
        AdoptedManifest(
            path=f"policies/team-{n}/policy.yaml",
            identity=f"BackupPolicy/team-{n}/p",
            blob=f"{n:040x}",
        )
        for n in range(5000)
    ]
    record = adoption()
    record = record.model_copy(update={"spec": record.spec.model_copy(update={"manifests": many})})
    assert len(parse(to_bytes(record)).spec.manifests) == 5000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"a: [",
        b"kind: Pod",
        b"- 1",
        b"kind: [1]",
        b"kind: RestorePoint\nspec: {}",
        b"[" * 5000,
        b"kind: RestorePoint\n!!python/object:os.system x",
    ],
)
def test_rubbish_is_unreadable(data):
    """A file that is no record is said to be none, whatever is in it."""
    with pytest.raises(UnreadableRecordError):
        parse(data)


def test_a_newer_field_is_named():
    """A record of a newer version names the field that is not known."""
    data = to_bytes(point()) + b"  color: blue\n"
    with pytest.raises(UnreadableRecordError, match=r"spec\.color"):
        parse(data)


def test_paths():
    """Each record lies where the layout says; a namespace-wide application and the platform are `_`."""
    digest = sha256(b"x")
    assert (
        path_of(point(), digest=digest)
        == "restore-points/prod/shop/_/2026/11/20261123T031700Z.yaml"
    )
    assert path_of(point(application="shop/web"), digest=digest).startswith(
        "restore-points/prod/shop/web/2026/11/"
    )
    assert (
        path_of(restore(namespace=""), digest=digest)
        == "restores/prod/policies/_/inc-4711/1/accepted.yaml"
    )
    assert (
        path_of(prune(), digest=digest)
        == f"records/prod/2026/11/20261123T121700Z-PruneRecord-{digest[:12]}.yaml"
    )
    assert application_path("shop") == application_path("shop/_") == "shop/_"
    assert record_path("prod", at=instant(24 * 40), kind="K", digest="d").startswith(
        "records/prod/2027/01/20270102T"
    )
    assert RestoreKey("a", "", "b", 1) < RestoreKey("a", "", "b", 2)


@pytest.mark.parametrize("name", ["..", ".", ".git", ".GIT", "a/b", "", "a b", "x" * 254])
def test_a_name_that_is_no_path_component(name):
    """Nothing can point out of its folder."""
    with pytest.raises(UsageError):
        record_path(name, at=instant(0), kind="K", digest="d")


def test_versions_stay():
    """The version range of each kind is kept."""
    record = point(versions={"pods": VersionRange(since="1", upto="2")})
    assert parse(to_bytes(record)).spec.versions["pods"].upto == "2"
