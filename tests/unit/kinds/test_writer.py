"""YAML that we write, read by readers of YAML 1.1 and 1.2."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from ruamel.yaml import YAML

from reconciler.kinds.document import read_documents
from reconciler.kinds.model import API_VERSION
from reconciler.kinds.request import Hold
from reconciler.kinds.writer import to_data, to_yaml

TRICKY = [
    "", " ", "no", "No", "yes", "y", "N", "on", "off", "true", "null", "~", "012", "0o17", "0x1f", "0b1", "1e3", "12e45", "1_000",
    "1:30", "190:20:30", "2026-01-01", "2026-12-01T18:00:00Z", "20261201T180000Z", ".inf", ".nan", "-.INF", "+1", "-", "--", "---",
    "...", "?", ":", "a: b", "a:", ":a", "# x", "a #b", "a#b", "*a", "&a", "!a", "%a", "@a", "`a", "|", ">", "[a]", "{a}", "a, b",
    "'", '"', "it's", " lead", "trail ", "a\nb", "a\n", "\na", "a\n\n", "  a\n b\n", "a \nb", "\n", "\t", "a\tb", "\x00", "\x7f", "\x85",
    "\u2028", "\ufeff", "é", "😀", "=", "<<", "1h30m", "90s", "7d", "5", "file:///a/b", "a:1", "http://x:8080/", "x" * 300, "a\r\nb", "NULL",
    "e3", "e+3", "_1", "1.2.3", "1.5", "0", "-0", "0.0.0.0/0", "08:00", "sha256:1e5",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKY)
def test_text_stays_text_for_every_reader(text):
    """Our loader, a YAML 1.1 reader and a YAML 1.2 reader give back the same text, as value and as key."""
    written = to_yaml({"value": text, "list": [text], "keys": {text: 1}})
    expected = {"value": text, "list": [text], "keys": {text: 1}}

    (document,) = read_documents(written)
    assert document.faults == () or text == "<<"
    if text != "<<":
        assert document.root is not None
        assert document.root.value == expected
    assert yaml.safe_load(written) == expected
    if "\ufeff" not in text:  # ruamel's reader drops it
        assert YAML(typ="safe", pure=True).load(written) == expected


def test_a_manifest_reads_pleasantly():
    """The four fields come first, defaults are left out, spans and instants are as people write them."""
    hold = Hold.model_validate(
        {
            "apiVersion": API_VERSION,
            "kind": "Hold",
            "metadata": {"name": "audit"},
            "spec": {
                "application": "shop/_",
                "since": "2026-01-01T00:00:00Z",
                "reason": "Audit of 2026",
                "owner": "legal",
            },
        }
    )

    assert to_yaml(hold) == (
        "apiVersion: backup.reconciler.dev/v1alpha1\n"
        "kind: Hold\n"
        "metadata:\n"
        "  name: audit\n"
        "spec:\n"
        "  application: shop/_\n"
        '  since: "2026-01-01T00:00:00Z"\n'
        "  reason: Audit of 2026\n"
        "  owner: legal\n"
    )
    assert list(to_data(hold)) == ["apiVersion", "kind", "metadata", "spec"]


def test_plain_data_is_written_as_it_is():
    """Numbers, booleans, null, spans, instants, tuples and repeated values need no help."""
    shared = {"a": 1}
    data = {
        "spec": [shared, shared],
        "kind": "X",
        "apiVersion": "v1",
        "b": True,
        "n": None,
        "f": 0.1,
        "big": 1e20,
        "t": (1,),
        "s": timedelta(minutes=90),
        "i": datetime(2026, 1, 1, tzinfo=UTC),
    }

    written = to_yaml(data)

    assert written.startswith("apiVersion: v1\nkind: X\nspec:\n- a: 1\n- a: 1\n")
    assert yaml.safe_load(written) == data | {"t": [1], "s": "1h30m", "i": "2026-01-01T00:00:00Z"}
    assert read_documents(written)[0].root.value["big"] == 1e20
    assert to_yaml([]) == "[]\n"
    assert to_yaml("text") == "text\n"
    with pytest.raises(TypeError):
        to_yaml({"a": object()})
