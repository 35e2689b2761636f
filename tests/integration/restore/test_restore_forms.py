"""Objects with a form of their own: Services and their ports, finalizers, sizes, generated names, extras."""

import json

import pytest

from reconciler.objects import field
from reconciler.restore.plan.strip import LAST_APPLIED
from tests.support.rescue import request, verdicts
from tests.support.seen import manifest


def service(name="web", *, kind="NodePort", port=None, **spec):
    ports = [{"port": 80, "protocol": "TCP", **({"nodePort": port} if port else {})}]
    return manifest("Service", name, spec={"type": kind, "ports": ports, **spec})


def asked_for(made):
    """The same as if `kubectl apply` had asked for its ports."""
    made["metadata"]["annotations"] = {LAST_APPLIED: json.dumps({"spec": made["spec"]})}
    return made


def entry_of(plan, name, kind=None):
    return next(e for e in plan.entries if e.target.name == name and kind in (None, e.target.kind))


def port_of(shop, name="web", namespace="shop"):
    return field(shop.town.get("v1", "Service", name, namespace=namespace), "spec", "ports", 0)[
        "nodePort"
    ]


@pytest.fixture
def shop(rescue):
    """A namespace to be filled and captured."""
    rescue.town.create(
        manifest("Namespace", "shop", namespace=""), manifest("Namespace", "other", namespace="")
    )
    return rescue


def allocated(shop, name="web"):
    """A node port as if the server had allocated it: nobody owns it."""
    shop.town.create(service(name, port=30080))
    kind = shop.town.kind("v1", "Service")
    shop.town.cluster.patch(
        kind,
        name,
        {"metadata": {"managedFields": [{}]}},
        namespace="shop",
        manager="person",
    )


def test_an_allocated_node_port_comes_back_while_it_is_free(shop):
    """Load balancers outside still find the Service; one that was taken since is allocated anew, and told."""
    allocated(shop)
    shop.capture()
    shop.delete_namespace()
    free = shop.plan(request())
    assert field(entry_of(free, "web").desired, "spec", "ports", 0, "nodePort") == 30080

    shop.town.create(
        {**service("squatter", port=30080), "metadata": {"name": "squatter", "namespace": "other"}}
    )
    taken = shop.plan(request())
    entry = entry_of(taken, "web")
    assert (entry.verdict, entry.reason) == ("create", "Absent")
    assert "nodePort" not in field(entry.desired, "spec", "ports", 0)
    assert "node port 30080" in entry.notes[0]
    assert "Service other/squatter has it" in entry.notes[0]


def test_an_asked_for_node_port_that_is_taken_blocks(shop):
    """It was asked for, so another one would be wrong: the holder is named."""
    shop.town.create(asked_for(service(port=30080)))
    shop.capture()
    shop.delete_namespace()
    assert verdicts(shop.plan(request()))["Service/web"] == ("create", "Absent")

    squatter = service("squatter", port=30080)
    shop.town.create({**squatter, "metadata": {"name": "squatter", "namespace": "other"}})
    entry = entry_of(shop.plan(request()), "web")
    assert (entry.verdict, entry.reason) == ("blocked", "AddressTaken")
    assert "node port 30080 is held by Service other/squatter" in entry.message


def test_a_copy_beside_the_original_gets_ports_of_its_own(shop):
    """Into another namespace the allocated port is the original's, and stays there."""
    allocated(shop)
    shop.capture()
    plan = shop.plan(request(to={"namespace": "copy"}))

    entry = entry_of(plan, "web")
    assert (entry.verdict, entry.reason) == ("create", "Absent")
    assert "Service shop/web has it" in entry.notes[0]
    asked = request(to={"namespace": "copy"})
    assert shop.execution(asked, plan).run().phase == "Succeeded"
    assert shop.town.get("v1", "Service", "web", namespace="copy") is not None
    assert port_of(shop) == 30080


def test_a_recreated_service_keeps_the_port_it_has(shop):
    """What is outside points at the live port, not at the captured one."""
    allocated(shop)
    shop.capture()
    shop.town.patch("v1", "Service", "web", {"spec": {"ports": [{"port": 80, "nodePort": 30090}]}})
    shop.town.cluster.patch(
        shop.town.kind("v1", "Service"),
        "web",
        {"metadata": {"managedFields": [{}], "labels": {"x": "y"}}},
        namespace="shop",
        manager="person",
    )
    kind = shop.town.kind("v1", "Service")
    shop.town.cluster.patch(
        kind, "web", {"metadata": {"managedFields": [{}]}}, namespace="shop", manager="person"
    )
    asked = request(recreate=["Service/web"])
    plan = shop.plan(asked)

    assert verdicts(plan)["Service/web"] == ("recreate", "Differs")
    result = shop.execution(asked, plan).run()
    assert (result.phase, result.message) == ("Succeeded", "")
    assert port_of(shop) == 30090


def test_headless_services_and_hand_made_endpoints_come_back(shop):
    """`None` stays None; a slice that a person wrote points at the same names, without old uids."""
    target = {"kind": "Pod", "name": "db-0", "namespace": "shop", "uid": "old"}
    made = manifest(
        "EndpointSlice",
        "outside",
        api="discovery.k8s.io/v1",
        labels={"kubernetes.io/service-name": "db"},
        addressType="IPv4",
        endpoints=[{"addresses": ["192.0.2.1"], "targetRef": target}],
        ports=[{"port": 5432}],
    )
    shop.town.create(service("db", kind="ClusterIP", clusterIP="None"), made)
    shop.capture()
    shop.delete_namespace()
    assert shop.restore(request()).phase == "Succeeded"

    assert shop.town.get("v1", "Service", "db")["spec"]["clusterIP"] == "None"
    endpoint = shop.town.get("discovery.k8s.io/v1", "EndpointSlice", "outside")["endpoints"][0]
    assert endpoint["targetRef"] == {"kind": "Pod", "name": "db-0", "namespace": "shop"}
    assert verdicts(shop.plan(request()))["EndpointSlice/outside"][0] == "unchanged"


def test_finalizers_come_back_and_orphaned_ones_are_told(shop):
    """One whose group is served is not worth a word; one that nothing serves is."""
    known = manifest("ConfigMap", "known", data={})
    known["metadata"]["finalizers"] = ["kubernetes.io/some-protection"]
    orphan = manifest("ConfigMap", "orphan", data={})
    orphan["metadata"]["finalizers"] = ["operators.example.org/cleanup"]
    shop.town.create(known, orphan)
    shop.capture()
    for name in ("known", "orphan"):
        shop.town.patch("v1", "ConfigMap", name, {"metadata": {"finalizers": None}})
    shop.delete_namespace()
    plan = shop.plan(request())

    assert entry_of(plan, "known").notes == ()
    assert "finalizer operators.example.org/cleanup is kept" in entry_of(plan, "orphan").notes[0]
    assert shop.execution(request(), plan).run().phase == "Succeeded"
    for name in ("known", "orphan"):
        assert shop.town.get("v1", "ConfigMap", name)["metadata"]["finalizers"]
        shop.town.patch("v1", "ConfigMap", name, {"metadata": {"finalizers": None}})


def test_generated_names_stay(shop):
    """An object that was named by the server keeps that name."""
    made = manifest("ConfigMap", "", data={"a": "1"})
    made["metadata"] = {"generateName": "job-", "namespace": "shop"}
    name = shop.town.create(made)["metadata"]["name"]
    shop.capture()
    shop.delete_namespace()
    assert shop.restore(request()).phase == "Succeeded"

    back = shop.town.get("v1", "ConfigMap", name)["metadata"]
    assert back["generateName"] == "job-"
    assert verdicts(shop.plan(request()))[f"ConfigMap/{name}"][0] == "unchanged"


def test_extras_leave_out_what_comes_by_itself(shop):
    """Children and what every namespace is given are not told; what the capture left out by intent neither."""
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "a", "image": "a:1"}]},
        },
    }
    web = manifest("Deployment", "web", api="apps/v1", spec=spec)
    left = manifest("ConfigMap", "left", labels={"backup.reconciler.dev/exclude": "true"}, data={})
    shop.town.create(web, left)
    shop.capture()
    assert shop.plan(request()).extras == ()

    shop.town.create(
        manifest("ConfigMap", "later", data={}),
        manifest("Deployment", "new", api="apps/v1", spec={**spec, "replicas": 0}),
    )
    plan = shop.plan(request())
    assert [extra.key.name for extra in plan.extras] == ["later", "new"]
    assert {"object": "/ConfigMap/shop/later", "verdict": "extra"} in plan.rows()


def test_a_namespace_that_is_not_there_is_not_looked_through(shop):
    """Nothing in it can be live, so nothing in it is asked for."""
    shop.town.create(manifest("ConfigMap", "conf", data={}))
    shop.capture()
    shop.delete_namespace()
    shop.town.sandbox.deny("list", "configmaps", namespace="shop")
    shop.town.sandbox.deny("get", "configmaps", namespace="shop")
    plan = shop.plan(request())

    assert verdicts(plan)["ConfigMap/conf"] == ("create", "Absent")
    assert plan.warnings == ()


def test_a_server_that_cannot_be_asked_is_not_needed_to_know_what_is_immutable(shop):
    """When the dry run gets no answer, what is known of Kubernetes decides; other changes are tried."""
    shop.town.create(
        manifest("ConfigMap", "sealed", immutable=True, data={"a": "1"}),
        manifest("ConfigMap", "open", data={"a": "1"}),
    )
    shop.capture()
    shop.town.delete("v1", "ConfigMap", "sealed")
    shop.town.create(manifest("ConfigMap", "sealed", immutable=True, data={"a": "2"}))
    shop.town.patch("v1", "ConfigMap", "open", {"data": {"a": "2"}})
    shop.town.sandbox.faults.add("answer", "dryRun=All", value=503, method="PUT", times=99)
    plan = shop.plan(request())

    assert verdicts(plan)["ConfigMap/sealed"] == ("blocked", "Immutable")
    assert "no update can change data.a" in entry_of(plan, "sealed").message
    assert verdicts(plan)["ConfigMap/open"] == ("update", "Differs")
