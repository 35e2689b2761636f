"""The pipeline: order, rules, certificates, substitutions, and what it says."""

import base64
import copy
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler.kinds.transformset import TransformSet
from reconciler.transform import Pipeline, TransformError, faults
from tests.support.targets import serving

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
TARGET = serving(
    "v1 Secret",
    "v1 ConfigMap",
    "v1 PersistentVolumeClaim",
    "apps/v1 Deployment",
    "networking.k8s.io/v1 Ingress ingresses",
)


def transform_set(name="legacy", **spec):
    return TransformSet.model_validate(
        {
            "apiVersion": "backup.reconciler.dev/v1alpha1",
            "kind": "TransformSet",
            "metadata": {"name": name},
            "spec": spec,
        }
    )


def run(manifest, *sets, namespaces=None, discovery=TARGET):
    before = copy.deepcopy(manifest)
    result = Pipeline(sets, discovery=discovery, now=NOW, namespaces=namespaces or {}).apply(
        manifest
    )
    assert manifest == before, "what comes in is never changed"
    assert (result.object is None) == (result.verdict != "keep")
    return result


def rule(patch="[]", *, resources=("*",), groups=("*",), name="edit", conditions=(), **fields):
    return {
        "name": name,
        "matchConstraints": {
            "resourceRules": [{"apiGroups": list(groups), "resources": list(resources)}]
        },
        "matchConditions": [
            {"name": f"c{n}", "expression": text} for n, text in enumerate(conditions)
        ],
        **(
            {}
            if "action" in fields
            else {"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}]}
        ),
        **fields,
    }


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "replicas": 3,
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {"name": "web", "image": "registry.example/shop/web:1"},
                    {"name": "log", "image": "nginx"},
                ],
                "initContainers": [
                    {"name": "init", "image": "registry.example.com/init@sha256:ab"}
                ],
                "volumes": [
                    {"name": "assets", "image": {"reference": "registry.example/assets:1"}},
                    {
                        "name": "tmp",
                        "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "gp2"}}},
                    },
                ],
            },
        },
    },
}


def said(result):
    return [(change.by, change.what) for change in result.changes]


def test_rules_run_in_order_and_see_each_other():
    """The second rule reads what the first wrote; changes name their rule and hold no values."""
    first = rule(
        "[{'op': 'replace', 'path': '/spec/replicas', 'value': object.spec.replicas + 1}]",
        name="first",
    )
    second = rule(
        "[{'op': 'replace', 'path': '/spec/replicas', 'value': object.spec.replicas * 10},"
        " {'op': 'add', 'path': '/metadata/annotations', 'value': {'at': now, 'by': params.who}}]",
        name="second",
    )
    result = run(DEPLOYMENT, transform_set(rules=[first, second], params={"who": "ops"}))
    assert result.object["spec"]["replicas"] == 40
    assert result.object["metadata"]["annotations"] == {"at": "2026-12-01T12:00:00Z", "by": "ops"}
    assert said(result) == [
        ("rule/legacy/first", "/spec/replicas: replaced"),
        ("rule/legacy/second", "/spec/replicas: replaced"),
        ("rule/legacy/second", "/metadata/annotations: added"),
    ]


def test_sets_run_in_the_order_of_the_request_and_namespaces_last():
    """A rule still sees the captured namespace; the result has the target's."""
    noted = (
        "[{'op': 'add', 'path': '/metadata/labels', 'value': {'seen': object.metadata.namespace}}]"
    )
    more = "[{'op': 'add', 'path': '/metadata/labels/more', 'value': object.metadata.labels.seen}]"
    sets = [transform_set("one", rules=[rule(noted)]), transform_set("two", rules=[rule(more)])]
    result = run(DEPLOYMENT, *sets, namespaces={"shop": "shop-dr"})
    assert result.object["metadata"]["namespace"] == "shop-dr"
    assert result.object["metadata"]["labels"] == {"seen": "shop", "more": "shop"}
    assert said(result)[-1] == ("namespace", "metadata.namespace: shop → shop-dr")


def test_mutations_of_a_rule_are_atomic():
    """When the second mutation fails, the first has not happened."""
    good = {
        "patchType": "JSONPatch",
        "jsonPatch": {"expression": "[{'op': 'remove', 'path': '/spec/replicas'}]"},
    }
    bad = {
        "patchType": "JSONPatch",
        "jsonPatch": {"expression": "[{'op': 'remove', 'path': '/spec/replicas'}]"},
    }
    entry = {**rule(), "mutations": [good, bad]}
    refused = run(DEPLOYMENT, transform_set(rules=[entry]))
    assert (refused.verdict, refused.reason) == ("fail", "RuleFailed")
    assert "rule/legacy/edit" in refused.message
    assert "replicas" in refused.message
    ignored = run(DEPLOYMENT, transform_set(rules=[entry], failurePolicy="Ignore"))
    assert ignored.object == DEPLOYMENT
    assert [(c.by, c.warning) for c in ignored.changes] == [("rule/legacy/edit", True)]


def test_a_test_that_does_not_hold_changes_nothing_and_is_no_error():
    """Neither the operations before it nor those after it happen."""
    patch = (
        "[{'op': 'remove', 'path': '/spec/replicas'}, {'op': 'test', 'path': '/kind', 'value': 'Pod'},"
        " {'op': 'remove', 'path': '/spec'}]"
    )
    result = run(DEPLOYMENT, transform_set(rules=[rule(patch)]))
    assert result.object == DEPLOYMENT
    assert result.changes == ()


@pytest.mark.parametrize(
    ("conditions", "applies"),
    [
        (["object.spec.replicas > 2"], True),
        (["object.spec.replicas > 2", "object.spec.replicas > 3"], False),
        (["has(object.spec.missing) && object.spec.missing"], False),
    ],
)
def test_conditions(conditions, applies):
    """All must be true; one that is false skips the rule."""
    entry = rule("[{'op': 'remove', 'path': '/spec/replicas'}]", conditions=conditions)
    assert (
        "replicas" in run(DEPLOYMENT, transform_set(rules=[entry])).object["spec"]
    ) is not applies


@pytest.mark.parametrize("condition", ["object.missing == 1", "1", "object.spec.replicas"])
def test_a_condition_that_gives_no_boolean_fails_the_object(condition):
    """An error is no "false"."""
    result = run(DEPLOYMENT, transform_set(rules=[rule(conditions=[condition])]))
    assert (result.verdict, result.reason) == ("fail", "RuleFailed")


@pytest.mark.parametrize(
    ("constraints", "applies"),
    [
        ({"apiGroups": ["apps"], "resources": ["deployments"]}, True),
        (
            {
                "apiGroups": ["apps"],
                "apiVersions": ["v1"],
                "resources": ["*"],
                "resourceNames": ["web"],
            },
            True,
        ),
        ({"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["db"]}, False),
        ({"apiGroups": ["apps"], "apiVersions": ["v1beta1"], "resources": ["deployments"]}, False),
        ({"apiGroups": [""], "resources": ["deployments"]}, False),
        ({"apiGroups": ["*"], "resources": ["statefulsets"]}, False),
    ],
)
def test_match_constraints(constraints, applies):
    """Group, version, plural and name, as in admission policies."""
    entry = rule("[{'op': 'remove', 'path': '/spec/replicas'}]")
    entry["matchConstraints"] = {"resourceRules": [constraints]}
    assert (
        "replicas" not in run(DEPLOYMENT, transform_set(rules=[entry])).object["spec"]
    ) is applies
    entry["matchConstraints"] = {
        "resourceRules": [{"apiGroups": ["*"], "resources": ["*"]}],
        "excludeResourceRules": [constraints],
    }
    assert ("replicas" in run(DEPLOYMENT, transform_set(rules=[entry])).object["spec"]) is applies


def test_plurals_come_from_the_target_and_else_from_english():
    """Also a kind that the target does not serve can be matched."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x"},
    }
    entry = rule(resources=["networkpolicies"], action="Skip")
    assert run(policy, transform_set(rules=[entry])).verdict == "skip"


def test_variables_are_computed_when_used():
    """A variable may build on another; one that fails does no harm while nobody reads it."""
    variables = [
        {"name": "pod", "expression": "object.spec.template.spec"},
        {"name": "names", "expression": "variables.pod.containers.map(c, c.name)"},
        {"name": "broken", "expression": "object.nothing.here"},
    ]
    patch = (
        "[{'op': 'add', 'path': '/metadata/labels', 'value': {'names': variables.names.join('-')}}]"
    )
    result = run(DEPLOYMENT, transform_set(rules=[rule(patch, variables=variables)]))
    assert result.object["metadata"]["labels"] == {"names": "web-log"}
    reads = patch.replace("variables.names.join('-')", "variables.broken")
    failed = run(DEPLOYMENT, transform_set(rules=[rule(reads, variables=variables)]))
    assert "variable 'broken'" in failed.message
    circle = [
        {"name": "a", "expression": "variables.b"},
        {"name": "b", "expression": "variables.a"},
    ]
    looped = run(
        DEPLOYMENT,
        transform_set(
            rules=[rule("[{'op': 'test', 'path': '', 'value': variables.a}]", variables=circle)]
        ),
    )
    assert "made from itself" in looped.message


@pytest.mark.parametrize(
    "patch",
    [
        "[{'op': 'replace', 'path': '/kind', 'value': 'Pod'}]",
        "[{'op': 'replace', 'path': '/metadata/name', 'value': 'x'}]",
        "[{'op': 'replace', 'path': '/metadata/namespace', 'value': 'kube-system'}]",
        "[{'op': 'remove', 'path': '/metadata'}]",
        "[{'op': 'replace', 'path': '', 'value': [1]}]",
        "'no list'",
        "[1]",
        "[{'op': 'add'}]",
    ],
)
def test_a_rule_cannot_make_another_object(patch):
    """Kind, name and namespace stay; a patch that is none fails."""
    assert run(DEPLOYMENT, transform_set(rules=[rule(patch)])).reason == "RuleFailed"


@pytest.mark.parametrize(
    ("action", "verdict", "reason"),
    [("Skip", "skip", "SkippedByRule"), ("Fail", "fail", "RefusedByRule")],
)
def test_actions(action, verdict, reason):
    """A rule may leave an object out, or refuse it, and say why in one line."""
    entry = rule(action=action, messageExpression="'no room for\\n' + object.metadata.name")
    result = run(DEPLOYMENT, transform_set(rules=[entry]))
    assert (result.verdict, result.reason, result.message) == (verdict, reason, "no room for web")
    silent = run(DEPLOYMENT, transform_set(rules=[rule(action=action)]))
    assert silent.message == "by rule/legacy/edit"


def test_a_message_cannot_tell_a_secret():
    """A message expression sees the keys of a Secret and none of its values; errors show neither."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "annotations": {"last": "aHVudGVy"}},
        "data": {"p": "aHVudGVy"},
        "stringData": {"q": "aHVudGVy"},
    }
    told = "'p' in object.data ? object.data.p + object.stringData.q : 'no'"
    assert (
        "aHVudGVy"
        not in run(
            secret, transform_set(rules=[rule(action="Skip", messageExpression=told)])
        ).message
    )
    for patch in (
        "[{'op': object.data.p, 'path': '/x'}]",
        "[{'op': 'add', 'path': '/data', 'value': int(object.data.p)}]",
        "[{'op': 'remove', 'path': '/data/' + object.data.p}]",
        "[{'op': 'remove', 'path': '/metadata/' + {'a': 'b'}[object.data.p]}]",
    ):
        result = run(secret, transform_set(rules=[rule(patch)]))
        assert result.verdict == "fail"
        assert "aHVudGVy" not in result.message
    changed = run(
        secret,
        transform_set(rules=[rule("[{'op': 'add', 'path': '/data/q', 'value': object.data.p}]")]),
    )
    assert changed.object["data"]["q"] == "aHVudGVy"
    named = run(
        secret,
        transform_set(
            rules=[rule("[{'op': 'add', 'path': '/data/' + object.data.p, 'value': ''}]")]
        ),
    )
    assert "aHVudGVy" in named.object["data"]
    assert "aHVudGVy" not in str(changed.changes) + str(named.changes)


def test_a_set_that_does_not_compile_is_refused_before_anything_runs():
    """Every fault is named by its field; the pipeline is not made."""
    broken = transform_set(
        rules=[
            rule("[objct]", conditions=["object.x ==", "variables.a"]),
            rule("[]", action="Skip", messageExpression="nope"),
        ]
    )
    assert [field for field, _ in faults(broken)] == [
        "spec.rules[0].matchConditions[0].expression",
        "spec.rules[0].matchConditions[1].expression",
        "spec.rules[0].mutations[0].jsonPatch.expression",
        "spec.rules[1].messageExpression",
    ]
    with pytest.raises(TransformError, match="compile TransformSet legacy"):
        Pipeline([broken], discovery=TARGET, now=NOW, namespaces={})


def test_storage_classes():
    """Named classes are mapped wherever a storageClassName is; the default class stays the default."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "c",
            "annotations": {"volume.beta.kubernetes.io/storage-class": "gp2"},
        },
        "spec": {"storageClassName": "gp2"},
    }
    result = run(claim, transform_set(storageClasses={"gp2": "ceph-rbd", "*": "standard"}))
    assert result.object["spec"]["storageClassName"] == "ceph-rbd"
    assert result.object["metadata"]["annotations"] == {
        "volume.beta.kubernetes.io/storage-class": "ceph-rbd"
    }
    assert said(result)[0] == ("storageClasses", "spec.storageClassName: gp2 → ceph-rbd")
    for spec, expected in (
        ({"storageClassName": "io1"}, "standard"),
        ({"storageClassName": ""}, ""),
        ({}, None),
    ):
        other = {**claim, "metadata": {"name": "c"}, "spec": spec}
        mapped = run(
            other, transform_set(storageClasses={"gp2": "ceph-rbd", "*": "standard"})
        ).object
        assert mapped["spec"].get("storageClassName") == expected
    volumes = run(DEPLOYMENT, transform_set(storageClasses={"gp2": "ceph-rbd"})).object["spec"][
        "template"
    ]["spec"]["volumes"]
    assert volumes[1]["ephemeral"]["volumeClaimTemplate"]["spec"]["storageClassName"] == "ceph-rbd"


def test_registries():
    """The longest prefix wins, a prefix ends where a name ends, and nginx is docker.io/library/nginx."""
    registries = {
        "registry.example": "mirror.dr",
        "registry.example/shop/": "mirror.dr/special/",
        "docker.io/library": "mirror.dr/hub",
    }
    pod = run(DEPLOYMENT, transform_set(registries=registries)).object["spec"]["template"]["spec"]
    assert [c["image"] for c in pod["containers"]] == [
        "mirror.dr/special/web:1",
        "mirror.dr/hub/nginx",
    ]
    assert pod["initContainers"][0]["image"] == "registry.example.com/init@sha256:ab"
    assert pod["volumes"][0]["image"]["reference"] == "mirror.dr/assets:1"
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"image": "registry.example/x"},
    }
    assert run(config, transform_set(registries=registries)).object == config


def certificate(expires_at):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(expires_at - timedelta(days=90))
        .not_valid_after(expires_at)
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def tls(crt, *, managed=False):
    annotations = {"cert-manager.io/certificate-name": "web"} if managed else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "web-tls", "annotations": annotations},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": crt, "tls.key": "a2V5"},
    }


EXPIRED = certificate(NOW - timedelta(seconds=1))
VALID = certificate(NOW + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("settings", "managed", "verdict"),
    [
        ({}, True, "skip"),
        ({}, False, "keep"),
        ({"managed": "Keep"}, True, "keep"),
        ({"managed": "Fail"}, True, "fail"),
        ({"unmanaged": "Skip"}, False, "skip"),
        ({"unmanaged": "Fail"}, False, "fail"),
    ],
)
def test_expired_certificates(settings, managed, verdict):
    """Managed and unmanaged ones are told apart; one that is kept says since when it is over."""
    result = run(tls(EXPIRED, managed=managed), transform_set(certificates=settings))
    assert result.verdict == verdict
    if verdict == "keep":
        annotation = result.object["metadata"]["annotations"][
            "backup.reconciler.dev/expired-certificate"
        ]
        assert annotation == "2026-12-01T11:59:59Z"
        assert "expired-certificate" in said(result)[0][1]
    else:
        assert result.reason == "CertificateExpired"
        assert "2026-12-01T11:59:59Z" in result.message
    assert "a2V5" not in str(result.changes) + result.message


def test_a_certificate_that_expires_at_this_instant_is_expired():
    """`now` decides to the second."""
    assert (
        run(tls(certificate(NOW), managed=True), transform_set(certificates={})).verdict == "skip"
    )
    kept = run(tls(VALID, managed=True), transform_set(certificates={}))
    assert (kept.verdict, kept.changes) == ("keep", ())


@pytest.mark.parametrize(
    "crt",
    [
        "",
        "!!!",
        "aGVsbG8=",
        base64.b64encode(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        ).decode(),
        None,
        5,
    ],
)
def test_a_certificate_that_cannot_be_read_is_kept_and_said(crt):
    """It is never taken for expired."""
    result = run(
        tls(crt, managed=True), transform_set(certificates={"managed": "Fail", "unmanaged": "Fail"})
    )
    assert result.verdict == "keep"
    assert said(result) == [("certificates", "certificate could not be read")]


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("cert-manager.io/v1", "CertificateRequest"),
        ("acme.cert-manager.io/v1", "Order"),
        ("acme.cert-manager.io/v1", "Challenge"),
    ],
)
def test_steps_of_an_issue_are_left_out(api_version, kind):
    """Even where their kind is not served: they are not missed. Without the setting they stay."""
    manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}
    result = run(manifest, transform_set(certificates={}, migrate={}))
    assert (result.verdict, result.reason) == ("skip", "Ephemeral")
    assert run(manifest, transform_set()).object == manifest


def test_a_legacy_application_in_one_go():
    """Migration, certificates, registries, rules and namespaces, in this order, in one result."""
    legacy = {
        "apiVersion": "extensions/v1beta1",
        "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "legacy"},
        "spec": {
            "rules": [
                {
                    "host": "web.old.example",
                    "http": {"paths": [{"backend": {"serviceName": "web", "servicePort": 80}}]},
                }
            ]
        },
    }
    hosts = rule(
        "lists.range(size(object.spec.rules)).map(i, {'op': 'replace', 'path': '/spec/rules/' + string(i) + '/host',"
        " 'value': object.spec.rules[i].host.replace(params.from, params.to)})",
        groups=["networking.k8s.io"],
        resources=["ingresses"],
        name="hosts",
    )
    chosen = transform_set(
        migrate={}, certificates={}, rules=[hosts], params={"from": ".old.", "to": ".new."}
    )
    result = run(legacy, chosen, namespaces={"legacy": "modern"})
    assert result.object["apiVersion"] == "networking.k8s.io/v1"
    assert result.object["spec"]["rules"][0]["host"] == "web.new.example"
    assert result.object["metadata"]["namespace"] == "modern"
    assert [by for by, _ in said(result)] == [
        "migrate",
        "migrate",
        "migrate",
        "rule/legacy/hosts",
        "namespace",
    ]


def test_an_object_that_is_nested_too_deeply_fails_alone():
    """A hostile custom resource does not end the plan of all others."""
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    manifest = {
        "apiVersion": "example.com/v1",
        "kind": "Robot",
        "metadata": {"name": "x"},
        "spec": deep,
    }
    result = Pipeline([], discovery=TARGET, now=NOW, namespaces={}).apply(manifest)
    assert (result.verdict, result.reason) == ("fail", "TooDeep")


def test_what_is_skipped_says_what_was_done_before():
    """The changes made until then are kept for the plan."""
    psp = {"apiVersion": "policy/v1beta1", "kind": "PodSecurityPolicy", "metadata": {"name": "old"}}
    result = run(psp, transform_set(migrate={"onUnknown": "Skip"}))
    assert (result.verdict, result.reason, result.object) == ("skip", "NoSuccessor", None)
