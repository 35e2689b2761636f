"""What the loader says about files, with places."""

from __future__ import annotations

import textwrap

import pytest

from reconciler.kinds.loader import FILE_BYTES_MAX, load, load_model
from reconciler.kinds.platform import LocationSpec
from reconciler.kinds.policy import BackupPolicy
from reconciler.kinds.record import RECORD_KINDS
from reconciler.kinds.registry import DECLARATIVE, PLANNED, PLANNED_RECORDS

HEAD = "apiVersion: backup.reconciler.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: shop}\n"
GOOD = HEAD + "spec: {}\n"


def say(text: str | bytes, path: str = "p.yaml") -> list[str]:
    """The findings of a file, as people see them."""
    data = textwrap.dedent(text).encode() if isinstance(text, str) else text
    return [str(finding) for finding in load(path, data).findings]


def errors(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [str(finding) for finding in load("p.yaml", data).findings if finding.is_error]


def test_a_good_file_gives_its_manifest_and_nothing_else():
    """Kind, place and index of a manifest are those of the file."""
    loaded = load("a/b.yaml", ("# a comment\n" + GOOD).encode())

    (one,) = loaded.manifests
    assert isinstance(one.kind, BackupPolicy)
    assert (one.kind.identity, one.path, one.index, one.line, one.column) == (
        "BackupPolicy/shop",
        "a/b.yaml",
        0,
        2,
        1,
    )
    assert loaded.findings == ()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("priorty: 1", '4:8: spec.priorty: unknown field; did you mean "priority"?'),
        ("PRIORITY: 1", '4:8: spec.PRIORITY: unknown field; did you mean "priority"?'),
        ("priority: '5'", '4:18: spec.priority: found "5", expected a whole number'),
        ("priority: 1.5", "4:18: spec.priority: found the number 1.5, expected a whole number"),
        ("priority: -1", "4:18: spec.priority: found the number -1, expected 0 or more"),
        ("priority: yes", '4:18: spec.priority: found "yes", expected a whole number'),
        ("preset: 5", "4:16: spec.preset: found the number 5, expected text; put it in quotes"),
        (
            "preset: Gold",
            "4:16: spec.preset: found \"Gold\", expected lower-case letters, digits, '-' and '.', starting and ending with a letter or digit",
        ),
        (
            "schedule: {}",
            "4:8: spec.schedule.cron: missing, expected: Five fields as in crontab(5)",
        ),
        ("schedule: []", "4:18: spec.schedule: found an empty list, expected a mapping"),
        (
            "schedule: {cron: '* * * * *', timeZone: Mars/Olympus}",
            '4:48: spec.schedule.timeZone: found "Mars/Olympus", expected an IANA time zone such as Europe/Berlin or UTC',
        ),
        (
            "schedule: {cron: '* * * * *', time_zone: UTC}",
            '4:38: spec.schedule.time_zone: unknown field; did you mean "timeZone"?',
        ),
        (
            "schedule: {cron: '* * * * *', window: x}",
            "4:38: spec.schedule.window: not supported by this version",
        ),
        ("drill: {}", "4:8: spec.drill: not supported by this version"),
        ("drill: null", "4:8: spec.drill: not supported by this version"),
        (
            "objectives: {rpo: 1 hour}",
            '4:26: spec.objectives.rpo: found "1 hour", expected a span such as 90s, 30m, 1h30m or 7d',
        ),
        (
            "objectives: {rpo: 60}",
            "4:26: spec.objectives.rpo: found the number 60, expected a span such as 90s, 30m, 1h30m or 7d",
        ),
        (
            "suspend: {reason: x, until: 2026-01-01}",
            '4:36: spec.suspend.until: found "2026-01-01", expected an RFC 3339 instant with a zone such as 2026-12-01T18:00:00Z',
        ),
        (
            "capture: {blueprints: 5}",
            "4:30: spec.capture.blueprints: found the number 5, expected 'auto' or a list",
        ),
        (
            "capture: {blueprints: [a, {}]}",
            "4:34: spec.capture.blueprints[1]: found a mapping, expected text",
        ),
        (
            "capture: {volumes: [{where: 'true', action: clone}]}",
            "4:52: spec.capture.volumes[0].action: found \"clone\", expected 'snapshot', 'files' or 'skip'",
        ),
        ("locations: []", "4:19: spec.locations: found an empty list, expected at least 1 entry"),
        (
            "locations: [{name: a, retention: {}}]",
            "4:20: spec.locations[0]: retention keeps nothing; set at least one bucket",
        ),
        (
            "select: {applications: {}}",
            "4:31: spec.select.applications: found a mapping, expected either groupBy or name",
        ),
        (
            "select: {namespaces: {matchLabels: {a.b/c: 1}}}",
            '4:51: spec.select.namespaces.matchLabels["a.b/c"]: found the number 1, expected text; put it in quotes',
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_place(spec, expected):
    """Line and column point at the value, or at the key when the key is what is wrong."""
    assert errors(HEAD + f"spec: {{{spec}}}\n") == ["p.yaml:" + expected]


def test_all_faults_of_all_documents_are_told_at_once():
    """A document with faults hides neither its other faults nor the other documents."""
    text = (
        GOOD
        + "---\n"
        + HEAD
        + "spec: {priority: x, preset: 5, nonsense: 1}\n---\n"
        + HEAD.replace("shop", "two")
        + "spec: {}\n---\na: [\n---\n"
        + HEAD
        + "spec: {a: *b, c: &d 1}\n"
    )

    loaded = load("p.yaml", text.encode())

    assert [one.kind.metadata.name for one in loaded.manifests] == ["shop", "two"]
    assert [(f.line, f.rule) for f in loaded.findings if f.is_error] == [
        (9, "value"),
        (9, "value"),
        (9, "unknown-field"),
        (21, "alias"),
        (21, "unknown-field"),
        (21, "alias"),
    ]
    assert [(r.identity, r.index) for r in loaded.refused] == [
        ("BackupPolicy/shop", 1),
        ("BackupPolicy/shop", 4),
    ]


def test_a_document_that_is_no_yaml_does_not_hide_the_others():
    """The text is cut at its markers before it is parsed."""
    text = (
        GOOD
        + "---\n"
        + HEAD
        + "spec: {priority: 1\n---\n"
        + HEAD.replace("shop", "two")
        + "spec: {}\n"
    )

    loaded = load("p.yaml", text.encode())

    assert [one.kind.metadata.name for one in loaded.manifests] == ["shop", "two"]
    assert [(f.line, f.severity, f.rule) for f in loaded.findings] == [(10, "error", "yaml")]
    assert loaded.manifests[1].line == 11


def test_a_marker_inside_text_ends_the_document_as_yaml_says():
    """A block that contains `---` indented keeps it."""
    text = (
        HEAD
        + "spec:\n  suspend:\n    until: 2030-01-01T00:00:00Z\n    reason: |\n      a\n      ---\n      b\n"
    )

    (one,) = load("p.yaml", text.encode()).manifests
    assert isinstance(one.kind, BackupPolicy)
    assert one.kind.spec.suspend is not None
    assert one.kind.spec.suspend.reason == "a\n---\nb\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("spec: &a {}", "6: spec: anchor &a, expected none: aliases are refused"),
        ("spec: *a", "7: spec: alias *a, expected the value itself"),
        ("spec: !!map {}", "7: spec: a tag, expected a plain value without one"),
        ("spec: !ruby/object {}", "7: spec: a tag, expected a plain value without one"),
        ("spec: {<<: {priority: 1}}", "8: spec: merge key <<, expected the fields themselves"),
        ("spec: {}\nspec: {priority: 1}", "1: spec: duplicate key, first given on line 4"),
        ("spec: {1: 2}", "8: spec: a key that is no text; put it in quotes"),
        ("spec: {? [a, b] : 2}", "10: spec: a key that is no text; put it in quotes"),
        (
            "spec: {priority: .inf}",
            "18: spec.priority: a number out of range, expected one that fits 64 bits",
        ),
        (
            "spec: {priority: 99999999999999999999}",
            "18: spec.priority: a number out of range, expected one that fits 64 bits",
        ),
        (
            "spec: {priority: 1e999}",
            "18: spec.priority: a number out of range, expected one that fits 64 bits",
        ),
        ("spec:\n\tpriority: 1", "1: cannot be read as YAML: a tab where YAML wants spaces"),
        (
            'spec: {preset: "a\x00b"}',
            "18: control character U+0000, expected text; write it as an escape",
        ),
        (
            'spec: {preset: "a\u2028b"}',
            "18: a line separator that readers disagree about; write it as an escape",
        ),
        (
            'spec: {preset: "a\x85b"}',
            "18: a line separator that readers disagree about; write it as an escape",
        ),
    ],
)
def test_what_makes_yaml_mean_something_else_than_it_shows_is_refused(body, message):
    """Anchors, aliases, tags, merge and duplicate keys, odd keys and numbers are findings with places."""
    found = errors(HEAD + body + "\n")

    assert any(
        one.split(":", 2)[2] in (message, message.replace("6:", "7:", 1)) for one in found
    ), found
    assert all("unknown field" not in one for one in found)


def test_values_follow_yaml_1_2():
    """`no` is text, `012` is twelve, an instant and a sexagesimal stay text."""
    text = (
        HEAD.replace(
            "{name: shop}",
            "{name: shop, labels: {a: no, b: 1:30, c: 2026-01-01, d: Yes, e: off, f: '012', g: 0b1}}",
        )
        + "spec: {priority: 012}\n"
    )

    (one,) = load("p.yaml", text.encode()).manifests
    assert isinstance(one.kind, BackupPolicy)
    assert one.kind.metadata.labels == {
        "a": "no",
        "b": "1:30",
        "c": "2026-01-01",
        "d": "Yes",
        "e": "off",
        "f": "012",
        "g": "0b1",
    }
    assert one.kind.spec.priority == 12


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_of_other_systems_are_fine(ends):
    """CRLF and CR files are read, and lines are counted as in the editor."""
    text = (GOOD + "---\n" + HEAD + "spec: {nope: 1}\n").replace("\n", ends)

    loaded = load("p.yaml", text.encode())

    assert len(loaded.manifests) == 1
    assert [(f.line, f.column) for f in loaded.findings] == [(9, 8)]


def test_a_byte_order_mark_is_fine():
    """UTF-8 with a mark at its start is UTF-8."""
    assert len(load("p.yaml", b"\xef\xbb\xbf" + GOOD.encode()).manifests) == 1


def test_other_encodings_are_refused_when_they_are_ours():
    """UTF-16, as shells on Windows write it, is an error for our files and a warning for others."""
    for encoding in ("utf-16-le", "utf-16-be", "utf-16"):
        loaded = load("p.yaml", GOOD.encode(encoding))
        assert [f.message for f in loaded.findings if f.is_error] == [
            "not UTF-8, expected UTF-8 text"
        ]
        assert loaded.refused
    assert [f.severity for f in load("p.yaml", b"a: 1\nb: \xff\n").findings] == ["warning"]
    assert str(load("p.yaml", b"a: 1\nb: \xff\n").findings[0]).startswith("p.yaml:2:4: ")


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, name: b}\ndata: &x {a: *x}\n",
        "AWSTemplateFormatVersion: 1\nResources: !Sub x\n",
        "- just\n- a list\n",
        "plain text",
        "",
        "# only a comment\n",
        "---\n---\n",
        "image: {<<: {a: 1}, 1: 2}\n",
        "apiVersion: apps/v1\nkind: Deployment\nspec: {x: .inf}\n",
        "replicas: 3\nimage: {tag: 1.0}\n",
    ],
)
def test_what_is_not_ours_is_ignored_before_any_rule(text):
    """Kubernetes manifests, templates of other tools, values and lists may lie beside policies."""
    assert load("p.yaml", text.encode()) == load("p.yaml", b"")


def test_templates_that_are_no_yaml_are_warned_of():
    """A chart's template is a warning; one that names our group is an error."""
    template = "{{- if .Values.on }}\nkind: X\n{{- end }}\n"

    assert [f.severity for f in load("p.yaml", template.encode()).findings] == ["warning"]
    assert [
        f.severity
        for f in load("p.yaml", (template + "# backup.reconciler.dev/v1alpha1\n").encode()).findings
    ] == ["error"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: BackupPolicy\nspec: {}\n",
            "1:1: apiVersion: missing, so that this BackupPolicy is skipped; expected backup.reconciler.dev/v1alpha1",
        ),
        (
            "apiVersion: backup.reconcilr.dev/v1alpha1\nkind: Hold\n",
            "1:13: apiVersion: found an unknown API group, skipped; did you mean backup.reconciler.dev/v1alpha1?",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: backup.reconciler.dev/v1alpha1\n",
            "1:1: kind: manifests inside a List are not read, expected documents of their own",
        ),
    ],
)
def test_what_was_probably_meant_to_be_ours_is_warned_of(text, message):
    """Nothing that looks like a policy is skipped in silence."""
    (finding,) = load("p.yaml", text.encode()).findings

    assert finding.severity == "warning"
    assert str(finding) == "p.yaml:" + message


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            "apiVersion: backup.reconciler.dev/v1\nkind: BackupPolicy",
            "apiVersion: not supported by this version, expected backup.reconciler.dev/v1alpha1",
        ),
        (
            "apiVersion: backup.reconciler.dev/v1alpha1\nkind: BackupPolcy",
            'kind: unknown kind BackupPolcy; did you mean "BackupPolicy"?',
        ),
        (
            "apiVersion: backup.reconciler.dev/v1alpha1\nkind: backuppolicy",
            'kind: unknown kind backuppolicy; did you mean "BackupPolicy"?',
        ),
        (
            "apiVersion: backup.reconciler.dev/v1alpha1",
            "kind: missing, expected one of BackupPolicy, PolicyPreset, Guardrail, TransformSet, Blueprint, Location, Cluster, Restore, Hold",
        ),
        (
            "apiVersion: backup.reconciler.dev/v1alpha1\nkind: [Hold]",
            "kind: missing, expected one of BackupPolicy, PolicyPreset, Guardrail, TransformSet, Blueprint, Location, Cluster, Restore, Hold",
        ),
        (
            "apiVersion: backup.reconciler.dev/v1alpha1\nkind: Exemption",
            "kind: Exemption is not supported by this version",
        ),
    ],
)
def test_kinds_and_versions_that_are_not_known_are_refused(head, message):
    """The message says what was expected, and guesses at typing errors."""
    (found,) = errors(head + "\nmetadata: {name: x}\nspec: {}\n")

    assert found.split(": ", 1)[1] == message


def test_every_planned_kind_and_every_record_is_refused():
    """Nothing that is not built is accepted; records are written by the program only."""
    for name in sorted(PLANNED | PLANNED_RECORDS | RECORD_KINDS.keys()):
        (found,) = errors(GOOD.replace("BackupPolicy", name))
        word = (
            "not supported by this version" if name in PLANNED else "is written by the program only"
        )
        assert word in found
    assert not DECLARATIVE.keys() & (PLANNED | PLANNED_RECORDS | RECORD_KINDS.keys())


def test_status_is_refused_with_its_reason():
    """State is derived from the ledger; a file cannot say it."""
    (found,) = errors(GOOD + "status: {ready: true}\n")

    assert (
        found
        == "p.yaml:5:1: status: state is derived from the ledger and never written in a file; remove it"
    )


def test_kinds_of_the_platform_have_no_namespace():
    """A Location in a namespace is refused at that field."""
    text = "apiVersion: backup.reconciler.dev/v1alpha1\nkind: Location\nmetadata: {name: a, namespace: b}\nspec: {url: 'file:///x'}\n"

    assert errors(text) == [
        "p.yaml:3:21: metadata.namespace: a Location is the platform's, expected none"
    ]


def test_secrets_are_never_echoed():
    """Long values, values of fields that sound secret, and credentials in URLs do not appear in messages."""
    loud = "hunter2" * 10
    text = (
        HEAD
        + f"spec: {{preset: {{password: hunter2}}, priority: {loud}, suspend: {{token: hunter2, until: hunter2hunter2, reason: 5}}}}\n"
    )
    text += (
        "---\n"
        + HEAD.replace("BackupPolicy", "Location")
        + 'spec: {url: "file://user:hunter2@host/x"}\n'
    )
    text += (
        "---\n"
        + HEAD.replace(
            "{name: shop}",
            "{name: shop, labels: {apiKey: {a: 1}, secretToken: [hunter2], password: 12345}}",
        )
        + "spec: {}\n"
    )

    said = "\n".join(errors(text))

    assert said.count("\n") >= 7
    assert loud not in said
    assert "user:" not in said
    assert "12345" not in said
    assert '"hunter2"' not in said


def test_a_file_has_a_bound():
    """256 KiB are read, one byte more is refused when it is ours and ignored otherwise."""
    fits = GOOD + "#" + "x" * (FILE_BYTES_MAX - len(GOOD) - 1)
    assert len(load("p.yaml", fits.encode()).manifests) == 1
    assert errors(fits + "x") == ["p.yaml:1:1: larger than 256 KiB"]
    assert load("p.yaml", b"a: 1\n" * 60_000).findings == ()


def test_the_configuration_is_read_with_the_same_words():
    """`load_model` reads one strict model and names places the same way."""
    assert load_model(LocationSpec, path="c", data=b"url: file:///x\n")[
        0
    ] == LocationSpec.model_validate({"url": "file:///x"})
    for data, said in [
        (b"url: ftp://x\n", ['c:1:6: url: found "ftp://x", expected file:///absolute/path']),
        (
            b"uri: x\n",
            [
                'c:1:1: uri: unknown field; did you mean "url"?',
                "c:1:1: url: missing, expected: `file:///absolute/path`, or "
                "`s3://bucket/prefix?endpoint=https://host:port&region=name`",
            ],
        ),
        (b"", ["c:1:1: found 0 documents, expected one"]),
        (b"url: file:///x\n---\nurl: file:///y\n", ["c:1:1: found 2 documents, expected one"]),
        (b"\xff", ["c:1:1: not UTF-8, expected UTF-8 text"]),
        (b"- a\n", ["c:1:1: found a list of 1, expected a mapping"]),
        (b"url: &a file:///x\n", ["c:1:6: url: anchor &a, expected none: aliases are refused"]),
    ]:
        value, findings = load_model(LocationSpec, path="c", data=data)
        assert value is None
        assert sorted(map(str, findings)) == sorted(said)


def test_many_faults_are_bounded():
    """A file full of faults gives a list that can be read."""
    many = HEAD + "spec:\n" + "".join(f"  field{n}: 1\n" for n in range(5000))

    findings = load("p.yaml", many.encode()).findings

    assert 100 <= len(findings) <= 201
    assert any("more" in f.message for f in findings)
