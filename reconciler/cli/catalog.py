"""The catalogs that ship with the program: presets, guardrails, transform sets, blueprints.

In a wheel they lie inside the package, under `_catalog`; in a checkout at the top, beside it.
"""

from __future__ import annotations

from pathlib import Path

import reconciler
from reconciler.errors import UsageError

CATALOGS = ("policies", "transforms", "blueprints")
_CASES = "cases.yaml"


def catalog(name: str) -> Path:
    """The folder of a catalog: `policies`, `transforms` or `blueprints`."""
    assert name in CATALOGS
    package = Path(reconciler.__file__).parent
    packed = package / "_catalog" / name
    return packed if packed.is_dir() else package.parent / name


def entries(name: str) -> list[str]:
    """The names of a catalog's entries."""
    return sorted(path.name for path in catalog(name).iterdir() if path.is_dir())


def read_entry(name: str, entry: str) -> str:
    """The manifests of an entry, comments included, as one text.

    Raises:
        UsageError: there is no such entry.
    """
    known = entries(name)
    if entry not in known:
        raise UsageError(f"read {name}/{entry}: no such entry", hint=f"one of {', '.join(known)}")
    files = sorted(p for p in (catalog(name) / entry).glob("*.yaml") if p.name != _CASES)
    return "---\n".join(path.read_text(encoding="utf-8") for path in files)
