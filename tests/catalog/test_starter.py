"""The starter repository, the examples and the schemas: clean, and in agreement with the loader."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

import reconciler
from reconciler.cli import catalog as catalog_module
from reconciler.cli.catalog import CATALOGS, catalog, entries, read_entry
from reconciler.cli.starter import SCHEMAS, write_starter
from reconciler.daemon.settings import Settings
from reconciler.errors import UsageError
from reconciler.kinds.document import read_documents
from reconciler.kinds.loader import load, load_model
from reconciler.kinds.model import API_VERSION
from reconciler.kinds.record import RECORD_KINDS
from reconciler.kinds.registry import DECLARATIVE
from reconciler.kinds.schema import combined_schema, json_schema
from reconciler.source.tree import load_directory

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
EXAMPLES = sorted(p for p in (ROOT / "examples").iterdir() if p.is_dir())
FILES = sorted(
    p
    for folder in ("examples", *CATALOGS)
    for p in (ROOT / folder).rglob("*.yaml")
    if p.name != "cases.yaml" and p.parent.name != "operator"
)
HEAD = {"apiVersion": API_VERSION, "metadata": {"name": "a"}}


@pytest.fixture
def starter(tmp_path):
    written = write_starter(
        tmp_path / "policies", cluster="main", location_url="file:///srv/backups"
    )
    return tmp_path / "policies", written


def test_the_starter_is_clean(starter):
    """`reconciler lint` has nothing to say about it, warnings included."""
    directory, _ = starter

    manifests, findings = load_directory(directory, now=NOW)

    assert [str(one) for one in findings] == []
    kinds = {type(one.kind).__name__ for one in manifests}
    assert kinds == {
        "BackupPolicy",
        "PolicyPreset",
        "Guardrail",
        "Location",
        "TransformSet",
        "Blueprint",
    }


def test_the_starter_has_every_folder_and_its_tools(starter):
    """Folders, CI files, schemas and a README are there; every manifest names its schema, which exists."""
    directory, written = starter

    assert {p.name for p in directory.iterdir()} == {
        "README.md", "policies", "guardrails", "transforms", "blueprints", "locations", "restores", "tests", SCHEMAS, ".github", ".gitlab-ci.yml",
    }  # fmt: skip
    assert sorted(p for p in directory.rglob("*") if p.is_file()) == sorted(written)
    for path in written:
        text = path.read_text()
        if path.suffix == ".yaml" and ".github" not in path.parts:
            line = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
            schema = json.loads((path.parent / line).read_text())
            for document in read_documents(text):
                assert document.root is not None
                Draft7Validator(schema).validate(document.root.value)
    for ci in (".gitlab-ci.yml", ".github/workflows/policies.yaml"):
        assert "reconciler lint ." in (directory / ci).read_text()


def test_nothing_is_overwritten(starter):
    """A second run, or one file in the way, writes nothing at all."""
    directory, written = starter
    for path in written[1:]:
        path.unlink()
    written[0].write_text("mine")

    with pytest.raises(UsageError, match="exists"):
        write_starter(directory, cluster="main", location_url="file:///srv/backups")

    assert [p for p in directory.rglob("*") if p.is_file()] == [written[0]]
    assert written[0].read_text() == "mine"


def test_blueprints_can_be_chosen(tmp_path):
    """Only what is named is written; what the catalog does not have is refused before anything is."""
    written = write_starter(
        tmp_path / "a",
        cluster="main",
        location_url="file:///x",
        ledger_url="file:///srv/ledger.git",
        blueprints=("sqlite",),
    )

    assert [p.name for p in written if p.parent.name == "blueprints"] == ["sqlite.yaml"]
    assert "file:///srv/ledger.git" in (tmp_path / "a/README.md").read_text()
    with pytest.raises(UsageError, match="no such entry"):
        write_starter(
            tmp_path / "b", cluster="main", location_url="file:///x", blueprints=("oracle",)
        )
    assert not (tmp_path / "b").exists()


def test_catalogs_are_found_in_a_wheel(tmp_path, monkeypatch):
    """Installed, they lie inside the package."""
    package = tmp_path / "reconciler"
    shutil.copytree(ROOT / "blueprints", package / "_catalog" / "blueprints")
    monkeypatch.setattr(catalog_module.reconciler, "__file__", str(package / "__init__.py"))

    assert catalog("blueprints") == package / "_catalog" / "blueprints"
    assert "sqlite" in entries("blueprints")
    assert (
        read_entry("blueprints", "sqlite")
        == (ROOT / "blueprints/sqlite/blueprint.yaml").read_text()
    )
    assert reconciler.__file__ == str(package / "__init__.py")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_clean(example):
    """Examples show what works: no findings."""
    manifests, findings = load_directory(example, now=NOW)

    assert [str(one) for one in findings] == []
    assert manifests
    assert (example / "README.md").is_file()


def test_the_operators_example_is_read():
    """The configuration beside the platform's example is valid."""
    path = ROOT / "examples/platform-and-tenants/operator/reconciler.yaml"

    settings, findings = load_model(Settings, path=str(path), data=path.read_bytes())

    assert findings == []
    assert settings is not None
    assert [source.name for source in settings.sources] == ["platform", "tenants"]


@pytest.mark.parametrize("kind", [*DECLARATIVE, *RECORD_KINDS])
def test_a_schema_is_draft_07(kind):
    """No newer keywords, `definitions` only, and nothing but known fields allowed."""
    schema = json_schema(kind)

    Draft7Validator.check_schema(schema)
    text = json.dumps(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "$defs" not in text
    assert "prefixItems" not in text
    for model in [schema, *schema["definitions"].values()]:
        assert model["additionalProperties"] is False
        assert model["description"]
        assert all({"description", "$ref"} & value.keys() for value in model["properties"].values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_schemas_accept_what_the_loader_accepts(path):
    """Every example and catalog entry passes its kind's schema and the combined one."""
    for document in read_documents(path.read_text()):
        assert document.root is not None
        value = document.root.value
        Draft7Validator(json_schema(value["kind"])).validate(value)
        Draft7Validator(combined_schema()).validate(value)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("BackupPolicy", {"priorty": 1}),
        ("BackupPolicy", {"priority": "1"}),
        ("BackupPolicy", {"priority": -1}),
        ("BackupPolicy", {"schedule": {}}),
        ("BackupPolicy", {"schedule": {"cron": "* * * * *", "time_zone": "UTC"}}),
        ("BackupPolicy", {"schedule": {"cron": "* * * * *", "jitter": "5 minutes"}}),
        ("BackupPolicy", {"drill": {}}),
        ("BackupPolicy", {"drill": None}),
        ("BackupPolicy", {"locations": []}),
        ("BackupPolicy", {"capture": {"blueprints": "all"}}),
        ("BackupPolicy", {"capture": {"volumes": [{"where": "true", "action": "clone"}]}}),
        ("BackupPolicy", None),
        ("Location", {}),
        ("Location", {"url": 5}),
        (
            "Restore",
            {
                "cluster": "a",
                "reason": "",
                "notAfter": "2030-01-01T00:00:00Z",
                "from": {"point": "a/_/latest"},
            },
        ),
        (
            "Restore",
            {
                "cluster": "a",
                "reason": "x",
                "notAfter": "2030-01-01T00:00:00Z",
                "from": {"point": "a/_/latest", "digest": "x"},
            },
        ),
        ("Guardrail", {"validations": []}),
        (
            "TransformSet",
            {"rules": [{"name": "a", "mutations": [{"patchType": "ApplyConfiguration"}]}]},
        ),
        ("Blueprint", {"service": "x", "match": "true", "actions": {}}),
        ("Cluster", {"signingKeys": []}),
        ("Hold", {"application": "shop", "slot": "20261201T110000Z", "reason": "x", "owner": "y"}),
    ],
)
def test_schemas_refuse_what_the_loader_refuses(kind, spec):
    """An editor underlines what the loader would refuse."""
    value = {**HEAD, "kind": kind, "spec": spec}

    assert load("p.yaml", json.dumps(value).encode()).manifests == ()
    assert not Draft7Validator(json_schema(kind)).is_valid(value)
    assert not Draft7Validator(combined_schema()).is_valid(value)


@pytest.mark.parametrize(
    "change",
    [
        {"apiVersion": "v1"},
        {"kind": "Hold"},
        {"status": {}},
        {"metadata": {}},
        {"metadata": {"name": "A"}},
        {"extra": 1},
    ],
)
def test_schemas_refuse_a_wrong_frame(change):
    """Version, kind, metadata and further fields are checked too."""
    good = {**HEAD, "kind": "Location", "spec": {"url": "file:///x"}}
    assert Draft7Validator(json_schema("Location")).is_valid(good)
    assert Draft7Validator(combined_schema()).is_valid(good)

    assert not Draft7Validator(json_schema("Location")).is_valid(good | change)
    assert not Draft7Validator(combined_schema()).is_valid(good | change)


def test_the_reference_pages_are_up_to_date():
    """`docs/spec` is what the models say; `make docs` writes it."""
    import runpy

    generated = runpy.run_path(str(ROOT / "docs/generate.py"))["pages"]()

    for name, text in generated.items():
        assert (ROOT / "docs/spec" / name).read_text() == text, f"{name}: run `make docs`"
    assert {p.name for p in (ROOT / "docs/spec").iterdir()} == set(generated)
