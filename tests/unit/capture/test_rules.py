"""What is left out of a capture."""

from __future__ import annotations

import pytest

from reconciler.capture.observed import remember
from reconciler.capture.rules import Neighbours, ObjectFilter, reason_to_leave, without_secrets
from reconciler.kinds.policy import Capture
from tests.support.seen import manifest

TOKEN = "kubernetes.io/service-account-token"


def reason(subject, *others):
    return reason_to_leave(
        remember(subject), Neighbours.of([remember(o) for o in (subject, *others)])
    )


def service(name, *, selector=None):
    return manifest("Service", name, spec={"selector": selector} if selector else {})


@pytest.mark.parametrize(
    ("child", "owner"),
    [
        (
            manifest("ReplicaSet", "web-1", api="apps/v1", owner=("apps/v1", "Deployment", "web")),
            True,
        ),
        (
            manifest(
                "ReplicaSet",
                "web-1",
                api="apps/v1",
                owner=("argoproj.io/v1alpha1", "Rollout", "web"),
            ),
            False,
        ),
        (manifest("ReplicaSet", "web-1", api="apps/v1"), False),
        (
            manifest(
                "ControllerRevision", "db-1", api="apps/v1", owner=("apps/v1", "StatefulSet", "db")
            ),
            True,
        ),
        (manifest("Pod", "web-1-x", owner=("apps/v1", "ReplicaSet", "web-1")), True),
        (manifest("Pod", "db-0", owner=("apps/v1", "StatefulSet", "db")), True),
        (manifest("Pod", "old-0", owner=("v1", "ReplicationController", "old")), True),
        (manifest("Pod", "mirror", owner=("v1", "Node", "n1")), True),
        (
            manifest("Pod", "kafka-0", owner=("core.strimzi.io/v1beta2", "StrimziPodSet", "kafka")),
            False,
        ),
        (manifest("Pod", "bare"), False),
        (manifest("Job", "run-1", api="batch/v1", owner=("batch/v1", "CronJob", "run")), True),
        (manifest("Job", "run-1", api="batch/v1", owner=("example.com/v1", "Flow", "run")), False),
        (manifest("Secret", "tls", owner=("cert-manager.io/v1", "Certificate", "tls")), False),
        (manifest("Secret", "made", owner=("apps/v1", "Deployment", "web")), False),
        (manifest("ConfigMap", "made", owner=("apps/v1", "StatefulSet", "db")), False),
        (
            manifest("PersistentVolumeClaim", "data-db-0", owner=("apps/v1", "StatefulSet", "db")),
            False,
        ),
    ],
    ids=lambda value: (
        value if isinstance(value, bool) else f"{value['kind']}-{value['metadata']['name']}"
    ),
)
def test_only_children_of_built_in_controllers_are_left_out(child, owner):
    """What a built-in controller makes again is left out; what others made, and Secrets, ConfigMaps and claims, stay."""
    assert reason(child) == ("OwnedByController" if owner else "")


def test_endpoints_go_with_services_that_select():
    """Slices and Endpoints of a Service with a selector are made again; those of one without are a person's work."""
    labels = {"kubernetes.io/service-name": "web"}
    slice_ = manifest("EndpointSlice", "web-x", api="discovery.k8s.io/v1", labels=labels)
    points = manifest("Endpoints", "web")

    assert reason(slice_, service("web", selector={"app": "web"})) == "OwnedByController"
    assert reason(points, service("web", selector={"app": "web"})) == "OwnedByController"
    assert (reason(slice_, service("web")), reason(points, service("web"))) == ("", "")


def test_what_every_namespace_is_given_is_left_out():
    """`kube-root-ca.crt`, default tokens, and the API server's own Service are made by the server."""
    token = manifest("Secret", "web-token-ab1cd", type=TOKEN)
    token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "web"}
    by_hand = manifest("Secret", "long-lived", type=TOKEN)
    by_hand["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "web"}

    assert reason(manifest("ConfigMap", "kube-root-ca.crt")) == "MadeByServer"
    assert reason(token) == "DefaultToken"
    assert reason(by_hand) == ""
    assert reason(manifest("Secret", "my-token-ab1cd", type="Opaque")) == ""
    assert reason(manifest("Service", "kubernetes", namespace="default")) == "MadeByServer"
    assert reason(manifest("Service", "kubernetes", namespace="shop")) == ""


def test_leases_and_finished_jobs_are_left_out():
    """A held Lease and a Job that ended are no state to go back to; a running Job is."""
    lease = manifest(
        "Lease", "leader", api="coordination.k8s.io/v1", spec={"holderIdentity": "pod-1"}
    )
    ended = {"conditions": [{"type": "Complete", "status": "True"}]}
    failed = {"conditions": [{"type": "Failed", "status": "True"}]}

    assert reason(lease) == "LeaderElection"
    assert reason(manifest("Lease", "free", api="coordination.k8s.io/v1", spec={})) == ""
    assert reason(manifest("Job", "a", api="batch/v1", status=ended)) == "Finished"
    assert reason(manifest("Job", "b", api="batch/v1", status=failed)) == "Finished"
    assert reason(manifest("Job", "c", api="batch/v1", status={"active": 1})) == ""


def test_the_owner_of_an_object_may_leave_it_out():
    """The exclude mark counts as a label and as an annotation, only with the value `true`."""
    annotated = manifest("ConfigMap", "b")
    annotated["metadata"]["annotations"] = {"backup.reconciler.dev/exclude": "true"}

    assert (
        reason(manifest("ConfigMap", "a", labels={"backup.reconciler.dev/exclude": "true"}))
        == "ExcludedByLabel"
    )
    assert reason(annotated) == "ExcludedByLabel"
    assert (
        reason(manifest("ConfigMap", "c", labels={"backup.reconciler.dev/exclude": "false"})) == ""
    )


def test_what_is_being_deleted_and_what_is_ours_is_left_out():
    """A deletion timestamp is a reason of its own; our own objects are never captured."""
    assert reason(manifest("ConfigMap", "a", deleting=True)) == "BeingDeleted"
    assert (
        reason(manifest("Pod", "filler", labels={"backup.reconciler.dev/managed-by": "x"}))
        == "OwnObject"
    )


def decide(rules, *subjects):
    chosen = ObjectFilter(Capture.model_validate(rules))
    return [chosen.reason_to_leave(remember(s)) for s in subjects], chosen.outcomes()


def test_rules_join_their_clauses_by_and():
    """Groups, kinds, names, labels and `where` must all hold for a rule to match."""
    rule = {
        "groups": [""],
        "kinds": ["ConfigMap"],
        "names": ["cache-*"],
        "matchLabels": {"app": "web"},
        "where": "size(object.data) > 1",
    }
    hit = manifest("ConfigMap", "cache-1", labels={"app": "web"}, data={"a": "1", "b": "2"})
    small = manifest("ConfigMap", "cache-1", labels={"app": "web"}, data={"a": "1"})
    unlabelled = manifest("ConfigMap", "cache-1", data={"a": "1", "b": "2"})
    other = manifest("Secret", "cache-1", labels={"app": "web"}, data={"a": "1", "b": "2"})

    assert decide({"exclude": [rule]}, hit, small, unlabelled, other)[0] == [
        "ExcludedByPolicy",
        "",
        "",
        "",
    ]
    assert decide({"include": [rule]}, hit, small)[0] == ["", "NotIncluded"]


def test_a_rule_without_an_answer_never_takes_an_object_out():
    """An expression that fails captures the object, and one outcome says how often."""
    rule = {"where": "object.data.missing == 'x'"}
    subjects = [
        manifest("ConfigMap", "a", data={"k": "v"}),
        manifest("ConfigMap", "b", data={"k": "v"}),
    ]

    excluded, notes = decide({"exclude": [rule]}, *subjects)
    included, _ = decide({"include": [rule]}, *subjects)

    assert (excluded, included) == (["", ""], ["", ""])
    assert [(n.item, n.result, n.reason) for n in notes] == [
        ("policy/capture.exclude[0]", "Skipped", "RuleFailed")
    ]
    assert "2 objects" in notes[0].message


def test_expressions_cannot_read_secrets():
    """A rule sees a Secret's keys but no values, not even in kubectl's annotation; other objects are seen whole."""
    secret = manifest("Secret", "s", data={"password": "aHVudGVy"}, stringData={"x": "y"})
    secret["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "aHVudGVy",
        "a": "b",
    }

    hidden = without_secrets(secret)

    assert "aHVudGVy" not in str(hidden)
    assert hidden["data"] == {"password": ""}
    assert hidden["metadata"]["annotations"] == {"a": "b"}
    assert decide({"exclude": [{"where": "object.data.password == 'aHVudGVy'"}]}, secret)[0] == [""]
    assert decide({"exclude": [{"where": "'password' in object.data"}]}, secret)[0] == [
        "ExcludedByPolicy"
    ]
    assert secret["data"] == {"password": "aHVudGVy"}
