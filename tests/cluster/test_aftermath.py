"""What controllers and the garbage collector do to a restore's objects right after it is found and named."""

from __future__ import annotations

from datetime import timedelta

from reconciler.clock import SystemClock
from tests.cluster.outpost import until
from tests.support.clusters import IMAGE


def deployment(name):
    labels = {"app": name}
    command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
    main = {"name": "main", "image": IMAGE, "command": command}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [main]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def config(name, **metadata):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}
    return {**body, "data": {"a": "1"}}


def test_the_aftermath_of_a_restore(outpost):
    """A field that another manager takes, a Secret's value, and an object that the garbage collector removes."""
    namespace = f"after-{outpost.mark}"
    outpost.clock.move_to(SystemClock().now())
    outpost.settle(namespace)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pass"}}
    where = ("-n", namespace)
    outpost.kubectl.apply([config("head"), deployment("web"), deployment("quiet")], *where)
    outpost.kubectl.apply([{**secret, "stringData": {"p": "before"}}], *where)
    head = outpost.kubectl.get("configmap", "head", *where)["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "head", "uid": head}
    outpost.kubectl.apply([config("tail", ownerReferences=[owner])], *where)
    outpost.ready(namespace)
    outpost.capture()
    outpost.destroy(namespace)
    outpost.clock.move_to(SystemClock().now())
    outpost.restore(namespace)

    patch = '{"spec":{"template":{"spec":{"hostname":"elsewhere"}}}}'
    outpost.kubectl("patch", "deploy", "web", *where, "--field-manager=operator", "-p", patch)
    outpost.kubectl("scale", "deploy", "quiet", *where, "--replicas=2")
    value = '{"stringData":{"p":"never-to-be-told"}}'
    outpost.kubectl("patch", "secret", "pass", *where, "--field-manager=vault", "-p", value)
    outpost.kubectl("delete", "configmap", "head", *where)
    until(lambda: outpost.kubectl.gone("configmap", "tail", *where))
    outpost.clock.advance(timedelta(minutes=2, seconds=10))
    report = outpost.run_pass()

    (line,) = [one for one in report.restored if one.phase == "Changed"]
    assert line.is_finding
    (record,) = [state.watched for state in outpost.parts().ledger.view().restores().values()]
    found = {row.object.rpartition("/")[2]: row for row in record.spec.aftermath}
    assert set(found) == {"web", "quiet", "pass", "head", "tail"}
    assert found["web"].fields == ["spec.template.spec.hostname"]
    assert found["web"].managers == ["operator"]
    assert (found["quiet"].fields, found["quiet"].managers) == (["spec.replicas"], ["kubectl"])
    assert found["pass"].fields == ["data.p"]
    assert "vault" in found["pass"].managers
    assert "never-to-be-told" not in record.model_dump_json()
    assert {found[name].what for name in ("head", "tail")} == {"removed"}
    assert "garbage collector" in found["tail"].message
    assert outpost.run_pass().restored == []


def test_a_restore_that_nobody_touches_is_left_as_it_is(outpost):
    """Controllers at work, and nothing to tell: what they write belongs to them."""
    namespace = f"calm-{outpost.mark}"
    outpost.clock.move_to(SystemClock().now())
    outpost.settle(namespace)
    outpost.kubectl.apply([deployment("web"), config("conf")], "-n", namespace)
    outpost.kubectl("expose", "deployment", "web", "--port=80", "-n", namespace)
    outpost.ready(namespace)
    outpost.capture()
    outpost.destroy(namespace)
    outpost.restore(namespace)
    outpost.clock.advance(timedelta(minutes=2, seconds=10))

    assert outpost.run_pass().restored == []
    (state,) = outpost.parts().ledger.view().restores().values()
    assert state.watched.spec.aftermath == []
