"""Which form of a manifest is in force, where only a check is new."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.kinds.loader import load
from reconciler.source.adopt import SourceSettings, decide, form_of
from reconciler.source.tree import ReadFile
from tests.support.policyfiles import location, policy

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
SETTINGS = SourceSettings(name="policies", url="file:///nowhere")


def file(path, text, *, blob):
    return ReadFile(path, blob, load(path, text.encode()))


def narrowed(where):
    """A policy with a condition."""
    return policy().replace("select: {", f'select: {{where: "{where}", ')


@pytest.mark.parametrize(
    ("where", "in_force"),
    [("1 + 1", True), ("no(such)", False), ("namespace.metadata.name == 'shop'", True)],
)
def test_what_is_in_force_stays_when_only_the_check_is_new(where, in_force):
    """A version that sees more faults says so, and does not switch off what an older one let in."""
    files = [
        file("location.yaml", location(), blob="a" * 40),
        file("shop.yaml", narrowed(where), blob="b" * 40),
    ]
    former = [
        form_of(loaded, blob=one.blob, revision="1" * 40)
        for one in files
        for loaded in one.loaded.manifests
    ]
    fresh, kept = (
        decide(files, former=before, settings=SETTINGS, revision="2" * 40, now=NOW)
        for before in ([], former)
    )
    is_good = "metadata" in where

    assert ("BackupPolicy/shop/shop" in [one.ref.identity for one in kept.manifests]) is in_force
    assert ("BackupPolicy/shop/shop" in [one.ref.identity for one in fresh.manifests]) is is_good
    assert any(finding.is_error for finding in kept.findings) is not is_good
