"""The policy repository that `reconciler init` writes: small, whole, and clean under `reconciler lint`.

Most of it is copied from the catalogs, so that what people start from is what is tested. Every manifest names its
schema on the first line, for editors; the schemas lie in `.schemas/`. Nothing that exists is overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from reconciler.cli.catalog import read_entry
from reconciler.errors import UsageError
from reconciler.kinds.model import API_VERSION
from reconciler.kinds.registry import DECLARATIVE
from reconciler.kinds.schema import json_schema
from reconciler.kinds.writer import to_yaml

SCHEMAS = ".schemas"

_POLICY = f"""\
# Every namespace that carries the label `backup: gold` is protected as the preset `gold` says.
# An application team can do the same for its own namespace with a manifest that has `metadata.namespace`.
apiVersion: {API_VERSION}
kind: BackupPolicy
metadata: {{name: gold}}
spec:
  priority: 10          # where several policies select one application, the highest wins
  select:
    namespaces:
      matchLabels: {{backup: gold}}
  preset: gold
"""

_README = """\
# What is protected, and how

Change these files by pull request. What is merged is in force at the next poll of the daemon in cluster
`{cluster}`; the ledger{ledger} says what was done.

| folder | what is in it |
|---|---|
| `policies/` | what is captured, when, and how long it is kept |
| `guardrails/` | what every policy must satisfy |
| `locations/` | where content is kept |
| `blueprints/` | how databases are captured and restored |
| `transforms/` | edits made to objects on their way back |
| `restores/` | requests to bring something back; each acts exactly once |
| `tests/` | what must stay true of this repository |

    reconciler lint .                    # every fault at once, each with its place
    kubectl label namespace shop backup=gold
    reconciler capture shop              # now, outside the schedule
    reconciler restore new shop/_/latest --reason '…' > restores/shop.yaml

Editors that know the YAML language server complete and check fields by the first line of each file. After an
upgrade write the schemas again: `reconciler schema KIND > .schemas/KIND.json`.
"""

_RESTORES = """\
# Restores

A file here is carried out once, after it was merged. Let the command line write it:

    reconciler restore new shop/_/latest --reason 'INC-4711: orders table dropped' > restores/inc-4711.yaml

To see first what it would do: `reconciler restore plan restores/inc-4711.yaml`, or `mode: Plan` in the file. To
run the same request again, raise `spec.attempt`. A file that was carried out may stay: it does nothing more.
"""

_TESTS = """\
# Tests

`reconciler lint .` runs on every change (see the CI files) and checks syntax, fields, references between files,
schedules, every CEL expression, and each policy against each guardrail. Scripts of your own that must hold for
this repository have their place here.
"""

_GITHUB = """\
name: policies
on: [push, pull_request]
permissions: {contents: read}
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      - run: pip install backup-reconciler
      - run: reconciler lint .
"""

_GITLAB = """\
policies:
  image: python:3.12-slim
  script:
    - pip install backup-reconciler
    - reconciler lint .
"""


def write_starter(
    directory: Path,
    *,
    cluster: str,
    location_url: str,
    ledger_url: str | None = None,
    blueprints: Sequence[str] = ("postgresql", "sqlite"),
) -> list[Path]:
    """Write a policy repository into a directory, which is made when it is missing.

    Args:
        directory: where to.
        cluster: what the operator calls the cluster.
        location_url: where content goes; the location is called `primary`.
        ledger_url: named in the README.
        blueprints: entries of the catalog.

    Returns:
        The files written, absolute when `directory` is.

    Raises:
        UsageError: one of the files exists; nothing was written.
    """
    files = _files(
        cluster=cluster, location_url=location_url, ledger_url=ledger_url, blueprints=blueprints
    )
    taken = [name for name in files if (directory / name).exists()]
    if taken:
        raise UsageError(
            f"write starter: {directory / taken[0]} exists",
            hint="choose an empty directory, or move the file away: nothing is overwritten",
        )
    written = []
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _files(
    *, cluster: str, location_url: str, ledger_url: str | None, blueprints: Sequence[str]
) -> dict[str, str]:
    location = {
        "apiVersion": API_VERSION,
        "kind": "Location",
        "metadata": {"name": "primary"},
        "spec": {"url": location_url, "description": "The first copy of everything."},
    }
    transform_sets = ("current-apis",)
    files = {
        "README.md": _README.format(
            cluster=cluster, ledger=f" ({ledger_url})" if ledger_url else ""
        ),
        "policies/gold.yaml": _with_schema("BackupPolicy", _POLICY),
        "policies/presets.yaml": _with_schema("PolicyPreset", read_entry("policies", "gold")),
        "guardrails/promises.yaml": _with_schema("Guardrail", read_entry("policies", "guardrails")),
        "locations/primary.yaml": _with_schema("Location", to_yaml(location)),
        "restores/README.md": _RESTORES,
        "tests/README.md": _TESTS,
        ".github/workflows/policies.yaml": _GITHUB,
        ".gitlab-ci.yml": _GITLAB,
    }
    for name in transform_sets:
        text = read_entry("transforms", name)
        files[f"transforms/{name}.yaml"] = _with_schema("TransformSet", text)
    for name in blueprints:
        text = read_entry("blueprints", name)
        files[f"blueprints/{name}.yaml"] = _with_schema("Blueprint", text)
    for kind in DECLARATIVE:
        files[f"{SCHEMAS}/{kind}.json"] = json.dumps(json_schema(kind), indent=1) + "\n"
    return files


def _with_schema(kind: str, text: str) -> str:
    return f"# yaml-language-server: $schema=../{SCHEMAS}/{kind}.json\n{text}"
