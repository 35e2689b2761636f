"""What is done with each claim, and which service stands for it."""

from __future__ import annotations

import pytest

from reconciler.capture.observed import remember
from reconciler.capture.services import find_services
from reconciler.capture.tarstream import ArchiveError
from reconciler.capture.volumes import VolumeRules, _judge, describe, quantity, sort_claims
from reconciler.kinds.policy import Capture
from tests.support.blueprints import blueprint
from tests.support.seen import manifest, pod_template

DATABASE = blueprint("pg", "workload.metadata.name == 'db'", covers=["data"])


def claim(name, *, phase="Bound", **spec):
    return manifest("PersistentVolumeClaim", name, spec=spec, status={"phase": phase})


def stateful_set(**spec):
    return manifest(
        "StatefulSet",
        "db",
        api="apps/v1",
        spec={
            "template": pod_template(),
            "volumeClaimTemplates": [
                {"metadata": {"name": "data"}},
                {"metadata": {"name": "logs"}},
            ],
            **spec,
        },
    )


def sort(*claims, rules=(), workloads=()):
    services, notes = find_services([remember(w) for w in workloads], [DATABASE])
    parsed = Capture.model_validate({"volumes": list(rules)}).volumes
    wanted, outcomes = sort_claims(
        [remember(c) for c in claims], rules=VolumeRules(parsed), services=services
    )
    return [w.claim.key.name for w in wanted], [
        (o.item, o.result, o.reason) for o in (*notes, *outcomes)
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10Gi", 10 * 2**30),
        ("1.5G", 1_500_000_000),
        ("100", 100),
        ("1e3", 1000),
        ("500m", 0),
        ("2Ki", 2048),
        ("x", 0),
        ("", 0),
        ("1..2", 0),
    ],
)
def test_quantities_are_read_as_kubernetes_writes_them(text, number):
    """Binary and decimal suffixes, exponents; what is no quantity is 0."""
    assert quantity(text) == number


def test_a_bound_claim_is_read_as_files():
    """A claim that nothing else speaks for is captured; one without a volume is not, and that is no failure."""
    assert sort(
        claim("a"), claim("b", phase="Pending"), claim("c", phase="", volumeName="pv-1")
    ) == (
        ["a", "c"],
        [("volume/b", "Skipped", "NotBound")],
    )


def test_what_cannot_be_read_is_a_failure():
    """Block devices and lost volumes are not silently left out."""
    assert sort(claim("a", volumeMode="Block"), claim("b", phase="Lost"))[1] == [
        ("volume/a", "Failed", "NotSupported"),
        ("volume/b", "Failed", "VolumeLost"),
    ]


def test_artifacts_stand_for_the_volumes_that_a_blueprint_covers():
    """Only the named pod volumes, by claim template and by mounted claim, only of the workload that matched."""
    assert sort(
        claim("data-db-0"), claim("logs-db-0"), claim("data-other-0"), workloads=[stateful_set()]
    ) == (
        ["logs-db-0", "data-other-0"],
        [("volume/data-db-0", "Skipped", "CoveredByBlueprint")],
    )
    template = pod_template()
    template["spec"]["volumes"] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "store"}}
    ]
    deployment = manifest("Deployment", "db", api="apps/v1", spec={"template": template})
    assert sort(claim("store"), workloads=[deployment])[1] == [
        ("volume/store", "Skipped", "CoveredByBlueprint")
    ]


def test_a_service_scaled_to_zero_has_its_volumes_read():
    """Nobody can be asked for artifacts, so the files are taken, and that is said."""
    assert sort(claim("data-db-0"), workloads=[stateful_set(replicas=0)]) == (
        ["data-db-0"],
        [("content/pg/StatefulSet.db", "Skipped", "ScaledToZero")],
    )


def test_the_first_rule_that_matches_decides():
    """Rules see name, class, size, modes and labels; a rule without an answer is passed over and told."""
    rules = [
        {"where": "volume.labels.keep == 'yes'", "action": "skip"},
        {"where": "volume.name == 'cache' && volume.capacityBytes > 1000", "action": "skip"},
        {"where": "volume.storageClass == 'scratch'", "action": "skip"},
    ]
    size = {"requests": {"storage": "2Ki"}}
    wanted, outcomes = sort(
        claim("cache", resources=size),
        claim("data"),
        claim("tmp", storageClassName="scratch"),
        rules=rules,
    )

    assert wanted == ["data"]
    assert [o for o in outcomes if o[2] == "SkippedByPolicy"] == [
        ("volume/cache", "Skipped", "SkippedByPolicy"),
        ("volume/tmp", "Skipped", "SkippedByPolicy"),
    ]
    assert [o[0] for o in outcomes if o[2] == "RuleFailed"] == ["policy/capture.volumes[0]"] * 3


def test_what_rules_see_of_a_claim():
    """Exactly the documented fields."""
    seen = describe(
        claim("a", accessModes=["ReadWriteOnce"], resources={"requests": {"storage": "1Gi"}})
    )

    assert seen == {
        "name": "a",
        "namespace": "shop",
        "storageClass": "",
        "capacityBytes": 2**30,
        "accessModes": ["ReadWriteOnce"],
        "labels": {},
        "annotations": {},
    }


@pytest.mark.parametrize(
    ("trailer", "outcomes"),
    [
        (b"reconciler-tar gnu\nexit=0\n", []),
        (
            b"reconciler-tar gnu\ntar: ./a: file changed as we read it\nexit=1\n",
            [("Skipped", "FilesChanged")],
        ),
        (
            b"reconciler-tar gnu\ntar: ./a: Cannot open: Permission denied\nexit=2\n",
            [("Failed", "FilesUnreadable")],
        ),
        (b"reconciler-tar plain\ntar: can't open 'a'\nexit=1\n", [("Failed", "FilesUnreadable")]),
        (
            b"reconciler-tar gnu\ntar: ./s: socket ignored\nexit=0\n",
            [("Skipped", "SocketsIgnored")],
        ),
    ],
)
def test_the_end_of_tar_is_judged(trailer, outcomes):
    """Changed files are noted, unreadable ones are a failure; messages carry no file names."""
    found = _judge("volume/a", trailer)

    assert [(o.result, o.reason) for o in found] == outcomes
    assert not any("./" in o.message for o in found)


@pytest.mark.parametrize(
    "trailer", [b"", b"reconciler-tar gnu\n", b"reconciler-tar gnu\nexit=\n", b"junk\nexit=0\n"]
)
def test_tar_must_say_how_it_ended(trailer):
    """An archive without that word is not whole."""
    with pytest.raises(ArchiveError):
        _judge("volume/a", trailer)


def test_matches_that_nobody_foresaw_are_told():
    """Two blueprints for one workload, and none because its expression gave no answer."""
    twin, picky = blueprint("twin", "true"), blueprint("picky", "workload.metadata.labels.x == 'y'")
    _, ambiguous = find_services([remember(stateful_set())], [DATABASE, twin])
    _, unanswered = find_services([remember(stateful_set())], [picky])

    assert [(o.item, o.reason) for o in ambiguous] == [
        ("content/pg/StatefulSet.db", "AmbiguousBlueprint")
    ]
    assert [(o.item, o.result, o.reason) for o in unanswered] == [
        ("apps/StatefulSet/shop/db", "Skipped", "BlueprintMatchFailed")
    ]
