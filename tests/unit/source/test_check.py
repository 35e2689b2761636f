"""Findings across manifests, each with its place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.kinds.effective import effective
from reconciler.kinds.finding import Finding
from reconciler.kinds.loader import load
from reconciler.kinds.policy import BackupPolicy, Guardrail
from reconciler.kinds.record import PolicyRef
from reconciler.source.check import Located, check, effective_policies, evaluate_guardrail
from reconciler.source.timetable import CronFaultError, longest_gap

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
LOCATION = "kind: Location\nmetadata: {name: primary}\nspec: {url: 'file:///srv/backups'}\n"
KEEP = "locations: [{name: primary, retention: {daily: 7}}]"
HOURLY = "schedule: {cron: '0 * * * *'}"


def manifests(*documents: str, path: str = "p.yaml") -> list[Located]:
    """Manifests of one file; they must load without findings."""
    text = "".join("---\napiVersion: backup.reconciler.dev/v1alpha1\n" + one for one in documents)
    loaded = load(path, text.encode())
    assert [str(f) for f in loaded.findings] == []
    return [Located.of(one) for one in loaded.manifests]


def policy(
    spec: str,
    *,
    name: str = "shop",
    namespace: str = "",
    select: str = "namespaces: {names: ['*']}",
) -> str:
    space = f", namespace: {namespace}" if namespace else ""
    return (
        f"kind: BackupPolicy\nmetadata: {{name: {name}{space}}}\nspec:\n  select: {{{select}}}\n"
        + "".join(f"  {line}\n" for line in spec.splitlines())
    )


def findings(
    *documents: str, known: tuple[str, ...] = (), now: datetime | None = NOW
) -> list[Finding]:
    found = check(manifests(*documents), known=manifests(*known, path="k.yaml"), now=now)
    return [finding for one in found.values() for finding in one]


def said(*documents: str, known: tuple[str, ...] = ()) -> list[str]:
    return [f"{f.severity[0]} {f}" for f in findings(*documents, known=known)]


def test_a_sound_repository_has_no_findings():
    """A policy, its preset, location, blueprint, transform set, restore and hold fit together."""
    assert (
        said(
            LOCATION,
            "kind: PolicyPreset\nmetadata: {name: gold}\nspec:\n  "
            + HOURLY
            + "\n  "
            + KEEP
            + "\n  objectives: {rpo: 1h}\n",
            policy("preset: gold\ncapture: {blueprints: [pg]}", namespace="shop"),
            "kind: Blueprint\nmetadata: {name: pg}\nspec:\n  service: pg\n  match: has(pod.containers) && workload.kind == 'StatefulSet'\n  actions:\n    backup: {phases: [{name: a, exec: {command: [x]}}]}\n    restore: {phases: [{name: a, exec: {command: [x]}}]}\n",
            "kind: TransformSet\nmetadata: {name: t}\nspec: {migrate: {}}\n",
            "kind: Cluster\nmetadata: {name: main}\n",
            "kind: Restore\nmetadata: {name: r}\nspec: {cluster: main, reason: x, notAfter: 2027-01-01T00:00:00Z, from: {point: shop/_/latest, location: primary}, transforms: [t]}\n",
            "kind: Hold\nmetadata: {name: h}\nspec: {cluster: main, application: shop/_, since: 2026-01-01T00:00:00Z, reason: x, owner: y, until: 2027-01-01T00:00:00Z}\n",
        )
        == []
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            HOURLY + "\nlocations: [{name: primry, retention: {daily: 7}}]",
            'e p.yaml:13:22: spec.locations[0].name: there is no Location called primry; did you mean "primary"?',
        ),
        (
            HOURLY + "\npreset: gold\n" + KEEP,
            "e p.yaml:13:11: spec.preset: there is no PolicyPreset called gold",
        ),
        (
            HOURLY,
            "e p.yaml:11:3: spec: keeps content nowhere; give locations here or in the preset",
        ),
        (
            KEEP,
            "w p.yaml:11:3: spec: no schedule, here or in the preset: captures are only made by hand",
        ),
        (
            KEEP + "\nschedule: {cron: '0 0 30 2 *'}",
            "e p.yaml:13:20: spec.schedule.cron: never fires: no month has such a day",
        ),
        (
            KEEP + "\nschedule: {cron: '0 24 * * *'}",
            "e p.yaml:13:20: spec.schedule.cron: bad hour, expected five fields as in crontab(5)",
        ),
        (
            KEEP + "\nschedule: {cron: '@daily'}",
            "e p.yaml:13:20: spec.schedule.cron: found 1 fields, expected five: minute, hour, day of month, month, day of week",
        ),
        (
            KEEP + "\nschedule: {cron: '0 0 * * *'}\nobjectives: {rpo: 1h}",
            "w p.yaml:14:21: spec.objectives.rpo: captures are up to 1d apart (cron '0 0 * * *'), more than the promised 1h",
        ),
        (
            KEEP + "\n" + HOURLY + "\nsuspend: {reason: x, until: 2026-12-01T11:00:00Z}",
            "w p.yaml:14:31: spec.suspend.until: ended at 2026-12-01T11:00:00Z; remove it",
        ),
        (
            KEEP + "\n" + HOURLY + "\ncapture: {blueprints: [pg]}",
            "e p.yaml:14:26: spec.capture.blueprints[0]: there is no Blueprint called pg",
        ),
        (
            HOURLY
            + "\nlocations: [{name: primary, retention: {daily: 7}}, {name: primary, retention: {daily: 7}}]",
            "e p.yaml:13:62: spec.locations[1].name: location primary is given twice",
        ),
    ],
)
def test_what_a_policy_names_must_make_sense(spec, expected):
    """References, schedules and promises are checked at their place."""
    assert expected in said(LOCATION, policy(spec))


def test_a_preset_stands_in_for_what_a_policy_does_not_say():
    """An unknown location of a preset is a fault of both; its schedule is checked there."""
    preset = "kind: PolicyPreset\nmetadata: {name: gold}\nspec: {schedule: {cron: 'x'}, locations: [{name: away, retention: {daily: 7}}]}\n"

    found = said(LOCATION, preset, policy("preset: gold"))

    assert [one.split(": ", 1)[1] for one in found] == [
        "spec.locations[0].name: there is no Location called away, expected one of primary",
        "spec.schedule.cron: found 1 fields, expected five: minute, hour, day of month, month, day of week",
        "spec.preset: its preset names the unknown location away",
    ]


def test_other_sources_may_be_referred_to_and_are_not_checked():
    """A tenant's policy names the platform's preset and location; findings are about its own manifests only."""
    shared = (
        "kind: PolicyPreset\nmetadata: {name: gold}\nspec:\n  "
        + KEEP
        + "\n  schedule: {cron: '0 0 31 2 *'}\n"
    )

    assert said(policy("preset: gold", namespace="shop"), known=(LOCATION, shared)) == []


def test_expressions_are_compiled_with_what_their_place_offers():
    """A name that a place does not offer is a fault, with line and column inside a block."""
    text = policy(
        KEEP
        + "\n"
        + HOURLY
        + "\ncapture:\n  exclude:\n    - where: |\n        object.kind == 'A' ||\n          volume.name == 'b'\n"
        "  volumes:\n    - {where: 'volume.name = 1', action: skip}"
    )

    found = [one for one in findings(LOCATION, text) if one.rule == "expression"]

    assert [(f.line, f.column, f.field) for f in found] == [
        (18, 13, "spec.capture.exclude[0].where"),
        (20, 30, "spec.capture.volumes[0].where"),
    ]
    assert "volume" in found[0].message


@pytest.mark.parametrize(
    "document",
    [
        policy(KEEP + "\n" + HOURLY, select="where: object.x == 1"),
        "kind: Guardrail\nmetadata: {name: g}\nspec: {validations: [{expression: policy.x}]}\n",
        "kind: Guardrail\nmetadata: {name: g}\nspec: {matchConditions: [{name: a, expression: variables.x}], validations: [{expression: 'true'}]}\n",
        "kind: Guardrail\nmetadata: {name: g}\nspec: {validations: [{expression: 'true', messageExpression: 'x +'}]}\n",
        "kind: TransformSet\nmetadata: {name: t}\nspec: {rules: [{name: a, action: Skip, matchConstraints: {resourceRules: [{apiGroups: [''], resources: [pods]}]}, matchConditions: [{name: a, expression: variables.x}]}]}\n",
        "kind: TransformSet\nmetadata: {name: t}\nspec: {rules: [{name: a, mutations: [{patchType: JSONPatch, jsonPatch: {expression: self}}], matchConstraints: {resourceRules: [{apiGroups: [''], resources: [pods]}]}}]}\n",
        "kind: Blueprint\nmetadata: {name: b}\nspec:\n  service: pg\n  match: object.kind\n  actions:\n    backup: {phases: [{name: a, exec: {command: [x]}}]}\n    restore: {phases: [{name: a, exec: {command: [x]}}]}\n",
        "kind: Restore\nmetadata: {name: r}\nspec: {cluster: main, reason: x, notAfter: 2027-01-01T00:00:00Z, from: {point: shop/_/latest}, include: {objects: [{where: volume.x}]}}\n",
    ],
)
def test_every_expression_of_every_kind_is_compiled(document):
    """None is left to fail in the middle of a capture or a restore."""
    assert [f.rule for f in findings(LOCATION, document) if f.is_error] == ["expression"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            policy(KEEP + "\n" + HOURLY, select="where: 1 + 1"),
            "expected a boolean, the expression gives int",
        ),
        (
            policy(KEEP + "\n" + HOURLY + "\ncapture: {exclude: [{where: object.metadata.name}]}"),
            "",
        ),
        (
            policy(
                KEEP + "\n" + HOURLY + "\ncapture: {exclude: [{where: object.metadata.name + 'x'}]}"
            ),
            "expected a boolean, the expression gives string",
        ),
        (
            policy(
                KEEP + "\n" + HOURLY + "\ncapture: {volumes: [{where: '[true]', action: skip}]}"
            ),
            "expected a boolean, the expression gives list",
        ),
        (
            "kind: Guardrail\nmetadata: {name: g}\nspec: {variables: [{name: a, expression: '1'}], validations: [{expression: 'true', messageExpression: '!true'}]}\n",
            "expected text, the expression gives bool",
        ),
        (
            "kind: TransformSet\nmetadata: {name: t}\nspec: {rules: [{name: a, mutations: [{patchType: JSONPatch, jsonPatch: {expression: '{}'}}], matchConstraints: {resourceRules: [{apiGroups: [''], resources: [pods]}]}}]}\n",
            "expected a list of JSON patch operations, the expression gives map",
        ),
    ],
)
def test_an_expression_must_give_what_its_place_wants(document, message):
    """Where the text alone says what type comes out, the wrong one is an error now, not a silent no later."""
    found = [f.message for f in findings(LOCATION, document) if f.is_error]

    assert found == ([message] if message else [])


def test_variables_that_nobody_defines_are_warned_of():
    """`variables.x` needs an x before it."""
    text = "kind: Guardrail\nmetadata: {name: g}\nspec: {variables: [{name: a, expression: variables.b}], validations: [{expression: variables.a && variables.c}]}\n"

    assert [(f.severity, f.message) for f in findings(text)] == [
        ("warning", "variables.b is not defined before"),
        ("warning", "variables.c is not defined before"),
    ]


def test_names_that_are_defined_twice_are_found():
    """The second definition is a fault that names the first; other namespaces and kinds are something else."""
    found = said(
        LOCATION,
        LOCATION,
        LOCATION.replace("Location", "PolicyPreset").replace("url: 'file:///srv/backups'", ""),
    )

    assert found == [
        "e p.yaml:9:18: metadata.name: Location/primary is defined twice, first at p.yaml:2; remove one of them"
    ]


@pytest.mark.parametrize(
    ("one", "two", "ties"),
    [
        ("namespaces: {names: [shop]}", "namespaces: {names: [shop, wiki]}", True),
        ("namespaces: {names: ['team-*']}", "namespaces: {names: ['team-*']}", True),
        ("namespaces: {names: ['team-*']}", "namespaces: {names: [team-a]}", True),
        ("", "", True),
        ("", "namespaces: {names: [shop]}", True),
        ("namespaces: {names: [shop]}", "namespaces: {names: [wiki]}", False),
        ("namespaces: {names: ['a-*']}", "namespaces: {names: ['b-*']}", False),
        (
            "namespaces: {matchLabels: {tier: gold}}",
            "namespaces: {matchLabels: {tier: silver}}",
            False,
        ),
        (
            "namespaces: {matchLabels: {tier: gold}}",
            "namespaces: {matchLabels: {tier: gold}}",
            True,
        ),
        ("applications: {groupBy: app}", "", False),
        ("clusters: {names: [a]}", "clusters: {names: [b]}", False),
        (
            "where: 'namespace.metadata.name == \"a\"'",
            "where: 'namespace.metadata.name == \"b\"'",
            False,
        ),
    ],
)
def test_a_tie_is_told_to_both(one, two, ties):
    """Only what is certain without a cluster is told, to both policies, naming the other."""
    spec = KEEP + "\n" + HOURLY
    found = check(
        manifests(
            LOCATION, policy(spec, name="one", select=one), policy(spec, name="two", select=two)
        )
    )

    told = {
        identity: [f.message for f in ones if f.rule == "priority-tie"]
        for identity, ones in found.items()
    }
    told = {identity: messages for identity, messages in told.items() if messages}
    assert set(told) == ({"BackupPolicy/one", "BackupPolicy/two"} if ties else set())
    if ties:
        assert "two (p.yaml:" in told["BackupPolicy/one"][0]


def test_priority_breaks_a_tie():
    """Policies of different priority never tie."""
    spec = KEEP + "\n" + HOURLY

    assert (
        findings(LOCATION, policy(spec, name="one"), policy(spec + "\npriority: 1", name="two"))
        == []
    )


def test_a_thousand_policies_are_checked_in_seconds():
    """The search for ties does not compare every pair."""
    import time

    many = [
        policy(KEEP + "\n" + HOURLY, name=f"p{n}", namespace=f"team-{n % 900}") for n in range(1000)
    ]
    located = manifests(LOCATION, *many)
    started = time.monotonic()

    found = check(located, now=NOW)

    assert time.monotonic() - started < 60
    assert len([f for ones in found.values() for f in ones if f.rule == "priority-tie"]) == 200


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        (
            "Restore",
            "cluster: main, reason: x, notAfter: 2027-01-01T00:00:00Z, from: {point: shop/_/latest}, transforms: [nope]",
            "e spec.transforms[0]: there is no TransformSet called nope",
        ),
        (
            "Restore",
            "cluster: man, reason: x, notAfter: 2027-01-01T00:00:00Z, from: {point: shop/_/latest}",
            'e spec.cluster: there is no Cluster called man; did you mean "main"?',
        ),
        (
            "Restore",
            "cluster: main, reason: x, notAfter: 2026-12-01T12:00:00Z, from: {point: shop/_/latest}",
            "w spec.notAfter: lies in the past: nothing will be started",
        ),
        (
            "Restore",
            "cluster: main, reason: x, notAfter: 2027-01-01T00:00:00Z, from: {point: shop/_/latest, location: away}",
            "e spec.from.location: there is no Location called away, expected one of primary",
        ),
        (
            "Restore",
            "cluster: main, reason: x, notAfter: 2027-01-01T00:00:00Z, from: {point: wiki/_/latest}",
            "e spec.from.point: a point outside of shop needs a grant, which this version does not support",
        ),
        (
            "Restore",
            "cluster: main, reason: x, notAfter: 2027-01-01T00:00:00Z, from: {point: shop/_/latest}, to: {namespace: wiki}",
            "e spec.to.namespace: this restore is confined to its namespace shop",
        ),
        (
            "Hold",
            "application: shop/_, slot: 20261201T110000Z, reason: x, owner: y, until: 2026-11-01T00:00:00Z",
            "w spec.until: ended at 2026-11-01T00:00:00Z: nothing is held any more",
        ),
        (
            "Hold",
            "application: wiki/_, slot: 20261201T110000Z, reason: x, owner: y",
            "e spec.application: this hold is confined to its namespace shop",
        ),
        (
            "Hold",
            "application: shop/_, since: 2026-02-01T00:00:00Z, upto: 2026-01-01T00:00:00Z, reason: x, owner: y",
            "e spec.upto: ends before it begins: no point is held",
        ),
        (
            "Hold",
            "cluster: other, application: shop/_, slot: 20261201T110000Z, reason: x, owner: y",
            "e spec.cluster: there is no Cluster called other, expected one of main",
        ),
    ],
)
def test_requests_are_checked(kind, spec, expected):
    """What a Restore or a Hold names exists, and what is over is said."""
    found = said(
        LOCATION,
        "kind: Cluster\nmetadata: {name: main}\n",
        f"kind: {kind}\nmetadata: {{name: r, namespace: shop}}\nspec: {{{spec}}}\n",
    )

    assert [one[:2] + one.split(": ", 1)[1] for one in found] == [expected]


def test_a_policy_is_confined_to_its_namespace():
    """A tenant's policy that selects another namespace selects nothing."""
    found = said(
        LOCATION,
        policy(KEEP + "\n" + HOURLY, namespace="shop", select="namespaces: {names: [wiki]}"),
    )

    assert [one.split(": ", 1)[1] for one in found] == [
        "spec.select.namespaces.names: selects nothing: this policy is confined to its namespace shop"
    ]


GUARDRAIL = "kind: Guardrail\nmetadata: {name: g}\nspec: {validations: [{expression: 'has(object.spec.objectives.rpo) && duration(object.spec.objectives.rpo) <= duration(\"24h\")', message: promise a day}]}\n"


def test_guardrails_see_the_policy_with_its_preset_filled_in():
    """A preset's rpo satisfies the guardrail; a policy's own that is too long does not."""
    preset = (
        "kind: PolicyPreset\nmetadata: {name: gold}\nspec:\n  "
        + KEEP
        + "\n  schedule: {cron: '0 0 * * *'}\n  objectives: {rpo: 1d}\n"
    )

    assert findings(LOCATION, GUARDRAIL, preset, policy("preset: gold")) == []
    (found,) = findings(LOCATION, GUARDRAIL, preset, policy("preset: gold\nobjectives: {rpo: 2d}"))
    assert (found.rule, found.severity, found.message) == (
        "guardrail",
        "error",
        "guardrail g: promise a day",
    )
    (found,) = findings(
        policy("preset: gold\nobjectives: {rpo: 2d}", namespace="a"),
        known=(LOCATION, GUARDRAIL, preset),
    )
    assert found.path == "p.yaml"


@pytest.mark.parametrize(
    ("spec", "severity", "message"),
    [
        ("validations: [{expression: 'false', message: no}]", "error", "guardrail g: no"),
        (
            "validationActions: [Warn], validations: [{expression: 'false', message: no}]",
            "warning",
            "guardrail g: no",
        ),
        (
            "validations: [{expression: 'false', message: no, messageExpression: '\"not \" + object.metadata.name'}]",
            "error",
            "guardrail g: not shop",
        ),
        (
            "validations: [{expression: 'false', message: no, messageExpression: 'object.nope'}]",
            "error",
            "guardrail g: no",
        ),
        ("validations: [{expression: 'false'}]", "error", "guardrail g: failed expression: false"),
        (
            "matchConditions: [{name: a, expression: 'object.metadata.name == \"other\"'}], validations: [{expression: 'false'}]",
            None,
            "",
        ),
        (
            "variables: [{name: a, expression: '1'}, {name: b, expression: 'variables.a + 1'}], validations: [{expression: 'variables.b == 2'}]",
            None,
            "",
        ),
        (
            "variables: [{name: a, expression: 'object.nope'}], validations: [{expression: 'true || variables.a'}]",
            None,
            "",
        ),
        ("failurePolicy: Ignore, validations: [{expression: 'object.nope == 1'}]", None, ""),
        (
            "failurePolicy: Ignore, matchConditions: [{name: a, expression: 'object.nope == 1'}], validations: [{expression: 'false'}]",
            None,
            "",
        ),
    ],
)
def test_guardrails_mean_what_admission_policies_mean(spec, severity, message):
    """Conditions, variables, messages, actions and failures as in ValidatingAdmissionPolicy."""
    found = findings(
        LOCATION,
        f"kind: Guardrail\nmetadata: {{name: g}}\nspec: {{{spec}}}\n",
        policy(KEEP + "\n" + HOURLY),
    )

    assert [(f.severity, f.message) for f in found] == ([(severity, message)] if severity else [])


def test_an_error_in_a_guardrail_denies():
    """With failurePolicy Fail what cannot be evaluated is not allowed."""
    (found,) = findings(
        LOCATION,
        "kind: Guardrail\nmetadata: {name: g}\nspec: {validations: [{expression: 'object.nope == 1'}]}\n",
        policy(KEEP + "\n" + HOURLY),
    )

    assert found.is_error
    assert found.message.startswith("guardrail g: cannot be evaluated: ")


def test_a_guardrail_can_be_held_against_one_policy():
    """`evaluate_guardrail` and `effective_policies` serve callers that have their own manifests."""
    located = manifests(GUARDRAIL, policy(KEEP))
    ref = PolicyRef(source="s", path="x.yaml", name="shop", revision="r", blob="b")

    (whole,) = effective_policies(located, refs={"BackupPolicy/shop": ref})
    guardrail, kind = located[0].kind, located[1].kind

    assert isinstance(guardrail, Guardrail) and isinstance(kind, BackupPolicy)
    assert whole == effective(kind, None, ref=ref)
    assert [str(f) for f in evaluate_guardrail(guardrail, whole, line=3)] == [
        "x.yaml:3:1: spec: guardrail g: promise a day"
    ]


def test_without_a_clock_nothing_is_said_about_time():
    """`now` is given by those who have one."""
    text = "kind: Restore\nmetadata: {name: r}\nspec: {cluster: main, reason: x, notAfter: 2000-01-01T00:00:00Z, from: {point: shop/_/latest}}\n"

    assert findings(text, now=None) == []
    assert [f.rule for f in findings(text)] == ["ended"]


@pytest.mark.parametrize(
    ("cron", "gap"),
    [
        ("0 * * * *", timedelta(hours=1)),
        ("*/5 * * * *", timedelta(minutes=5)),
        ("0 9-17 * * MON-FRI", timedelta(days=2, hours=16)),
        ("0 0 * * 1", timedelta(days=7)),
        ("0 0 * * 7", timedelta(days=7)),
        ("0 0 1 * *", timedelta(days=31)),
        ("0 0 29 2 *", timedelta(days=1461)),
        ("0 0 1,15 * 3", timedelta(days=7)),
    ],
)
def test_the_longest_gap_of_a_schedule(cron, gap):
    """Known without a clock, also for leap days."""
    assert longest_gap(cron) == gap


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "a b c d e",
        "0 0 31 4 *",
        "@reboot",
        "*/0 * * * *",
    ],
)
def test_schedules_that_never_run_are_refused(cron):
    """What cronsim cannot read, six fields, and days that do not exist."""
    with pytest.raises(CronFaultError):
        longest_gap(cron)
