"""Every entry of the catalogs loads without a finding, and does what its cases say."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.cli.catalog import CATALOGS, catalog, entries, read_entry
from reconciler.cli.demo.applications import expired_certificate
from reconciler.kinds.document import read_documents
from reconciler.kinds.loader import load
from reconciler.kinds.model import API_VERSION
from reconciler.kinds.transformset import TransformSet
from reconciler.kinds.writer import to_yaml
from reconciler.objects import annotations_of, field
from reconciler.source.check import Located, check
from reconciler.transform import Pipeline
from tests.support.targets import serving

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
LOCATIONS = "".join(
    f"---\napiVersion: {API_VERSION}\nkind: Location\nmetadata: {{name: {name}}}\nspec: {{url: 'file:///srv/{name}'}}\n"
    for name in ("primary", "offsite")
)
EVERY = [(name, entry) for name in CATALOGS for entry in entries(name)]
CURRENT = serving(
    "apps/v1 Deployment", "apps/v1 StatefulSet", "batch/v1 CronJob", "networking.k8s.io/v1 Ingress ingresses",
    "v1 Secret", "v1 PersistentVolumeClaim", "policy/v1 PodDisruptionBudget",
)  # fmt: skip


def cases(name: str, entry: str) -> list[dict]:
    """The cases beside an entry."""
    (document,) = read_documents((catalog(name) / entry / "cases.yaml").read_text())
    assert document.faults == ()
    assert document.root is not None
    return document.root.value


def located(text: str, path: str = "catalog.yaml") -> list[Located]:
    loaded = load(path, text.encode())
    assert [str(one) for one in loaded.findings] == []
    return [Located.of(one) for one in loaded.manifests]


def test_the_catalogs_have_what_the_starter_needs():
    """The entries that others name exist."""
    assert {
        ("policies", "gold"),
        ("policies", "guardrails"),
        ("transforms", "current-apis"),
        ("transforms", "storage-class"),
        ("blueprints", "postgresql"),
        ("blueprints", "sqlite"),
    } <= set(EVERY)


@pytest.mark.parametrize(("name", "entry"), EVERY)
def test_an_entry_is_clean_and_explained(name, entry):
    """No findings, references in order, and a comment that says what it is for."""
    text = read_entry(name, entry)
    manifests = located(text + LOCATIONS)

    assert {
        identity: [str(one) for one in found]
        for identity, found in check(manifests, now=NOW).items()
    } == {}
    assert text.startswith("# ")
    assert len(manifests) > 2


@pytest.mark.parametrize("case", cases("policies", "guardrails"), ids=lambda case: case["name"])
def test_guardrails_decide_as_their_cases_say(case):
    """Exactly the guardrails named speak, with the severity named."""
    policy = {
        "apiVersion": API_VERSION,
        "kind": "BackupPolicy",
        "metadata": {"name": "case"},
        "spec": case["spec"],
    }
    shared = read_entry("policies", "gold") + "---\n" + read_entry("policies", "guardrails")

    found = check(
        located("---\n" + to_yaml(policy)), known=located(shared + LOCATIONS), now=NOW
    ).get("BackupPolicy/case", [])

    spoken = {
        (one.severity, one.message.removeprefix("guardrail ").split(":")[0])
        for one in found
        if one.rule == "guardrail"
    }
    assert spoken == {("error", name) for name in case.get("denied", [])} | {
        ("warning", name) for name in case.get("warned", [])
    }


@pytest.mark.parametrize(
    ("entry", "case"),
    [(entry, case) for entry in entries("transforms") for case in cases("transforms", entry)],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_transform_sets_do_as_their_cases_say(entry, case):
    """Each object ends as its case says: with these fields, left out, or refused."""
    sets = [
        one.kind
        for one in located(read_entry("transforms", entry))
        if isinstance(one.kind, TransformSet)
    ]
    if case.get("expired"):
        certificate, key = expired_certificate(now=NOW)
        case["object"]["data"] = {
            "tls.crt": base64.b64encode(certificate).decode(),
            "tls.key": base64.b64encode(key).decode(),
        }

    done = Pipeline(sets, discovery=CURRENT, now=NOW + timedelta(days=1), namespaces={}).apply(
        case["object"]
    )

    if "refused" in case or "skipped" in case:
        verdict = "fail" if "refused" in case else "skip"
        said = case.get("refused") or case["skipped"]
        assert (done.object, done.verdict) == (None, verdict)
        assert said in (done.reason, done.message)
        return
    assert done.object is not None, done.message
    for path, value in case["is"].items():
        steps = [int(step) if step.isdigit() else step for step in path.split(".")]
        assert field(done.object, *steps) == value
    if "annotated" in case:
        assert case["annotated"] in annotations_of(done.object)


@pytest.mark.parametrize(
    ("image", "matches"),
    [
        ("postgres", True), ("postgres:16", True), ("postgres@sha256:00", True), ("docker.io/library/postgres:15-alpine", True),
        ("localhost:5000/team/postgres:15", True), ("bitnami/postgresql:16.1.0", True), ("postgis/postgis:16-3.4", True),
        ("prometheuscommunity/postgres-exporter:v0.15", False), ("example/notpostgres:1", False), ("postgres/tools:1", False),
    ],
)  # fmt: skip
def test_the_postgresql_blueprint_knows_servers_by_their_image(image, matches):
    """Servers match, exporters and tools do not."""
    from reconciler.blueprint.match import match_service
    from reconciler.kinds.blueprint import Blueprint

    kinds = [
        one.kind
        for name in entries("blueprints")
        for one in located(read_entry("blueprints", name))
    ]
    blueprints = [kind for kind in kinds if isinstance(kind, Blueprint)]
    pod = {"containers": [{"name": "sidecar"}, {"name": "db", "image": image}]}
    workload = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {"template": {"spec": pod}},
    }

    found = match_service(blueprints, workload)

    assert (
        found.blueprint is not None and found.blueprint.metadata.name == "postgresql"
    ) == matches
    assert found.faults == ()
