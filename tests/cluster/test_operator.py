"""In place, while the webhooks of an operator are dead: what they would refuse waits until the restore has mended them."""

from __future__ import annotations

import pytest

from tests.cluster.applications import operator
from tests.cluster.outpost import until


@pytest.fixture
def namespace(outpost):
    """A namespace with the operator and its Widgets; what is outside of it goes at the end, whatever happened."""
    made = f"down-{outpost.mark}"
    outpost.settle(made)
    try:
        operator.deploy(outpost, made)
        yield made
    finally:
        operator.clean(outpost, made)


def stop(outpost, namespace):
    """Take the operator's pods away, until its Service has no endpoint."""
    outpost.kubectl("scale", "deployment", "operator", "--replicas=0", "-n", namespace)

    def is_empty():
        slices = outpost.kubectl.get(
            "endpointslices", "-n", namespace, "-l", "kubernetes.io/service-name=operator"
        )
        ready = [
            endpoint
            for one in slices["items"]
            for endpoint in one.get("endpoints") or []
            if endpoint.get("conditions", {}).get("ready")
        ]
        return not ready

    until(is_empty)


def test_what_a_dead_webhook_refuses_waits_for_its_operator(outpost, namespace):
    """The Widget is as captured, although its webhook refused it when the plan was made; the plan said so."""
    keys = operator.state(outpost, namespace)
    outpost.capture()
    operator.paint(outpost, namespace, "blue")
    stop(outpost, namespace)

    differs = outpost.what_differs(namespace)
    outpost.restore(namespace, onConflict="update")

    widget = next(entry for path, entry in differs.items() if path.endswith("/first"))
    assert widget["verdict"] == "update"
    assert any("waits for" in note and "operator" in note for note in widget["notes"])
    kind = f"widgets.v1.{operator.group_of(namespace)}"
    assert outpost.kubectl.get(kind, "first", "-n", namespace)["spec"] == {"color": "red"}
    assert operator.state(outpost, namespace) == keys
    operator.works(outpost, namespace)
    assert outpost.what_differs(namespace) == {}


def test_without_its_operator_the_refused_objects_are_named(outpost, namespace):
    """A restore of the Widgets alone cannot bring the webhook up: they are blocked, and the rest comes back."""
    outpost.capture()
    operator.paint(outpost, namespace, "blue")
    stop(outpost, namespace)
    rules = [{"kinds": ["Widget"]}, {"kinds": ["Secret"]}]

    report = outpost.restore(
        namespace, expect="Partial", onConflict="update", include={"objects": rules}
    )

    assert "WebhookUnavailable" in report.restored[0].message
    assert operator.definition_of(namespace) in report.restored[0].message
