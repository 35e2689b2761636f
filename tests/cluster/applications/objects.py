"""Objects that nobody may change, and objects that have owners."""

from __future__ import annotations

from typing import Any

from tests.cluster.applications.kinds import Application
from tests.cluster.applications.workloads import config_map, deployment
from tests.cluster.outpost import Outpost, until


def deploy_immutable(outpost: Outpost, namespace: str, *, word: str = "first") -> None:
    """A ConfigMap and a Secret that nobody can change, and one who reads them."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "sealed"},
        "immutable": True,
        "type": "example.com/odd",
        "stringData": {"word": word},
    }
    fixed = {**config_map("fixed", word=word), "immutable": True}
    sources = [{"configMapRef": {"name": "fixed"}}, {"secretRef": {"name": "sealed"}}]
    outpost.kubectl.apply([fixed, secret, deployment("reader", envFrom=sources)], "-n", namespace)


def change_immutable(outpost: Outpost, namespace: str) -> None:
    """Such objects are changed by making them again."""
    outpost.kubectl("delete", "configmap/fixed", "secret/sealed", "-n", namespace)
    deploy_immutable(outpost, namespace, word="second")


def refuses_changes(outpost: Outpost, namespace: str) -> None:
    """Both are immutable."""
    for kind, name in (("configmap", "fixed"), ("secret", "sealed")):
        found = outpost.kubectl.get(kind, name, "-n", namespace)
        assert found["immutable"] is True


def deploy_owned(outpost: Outpost, namespace: str) -> None:
    """A chain of owners: the namespace and a Deployment at its top, ConfigMaps below."""
    outpost.kubectl.apply([deployment("top"), config_map("loose")], "-n", namespace)
    top = ("deployment", "top", "-n", namespace)
    own(outpost, namespace, "middle", top, controller=True, blockOwnerDeletion=True)
    own(outpost, namespace, "bottom", ("configmap", "middle", "-n", namespace))
    # Sorted before its owner, so an order by name would write it first.
    own(outpost, namespace, "aaa", ("configmap", "bottom", "-n", namespace))
    own(outpost, namespace, "placed", ("namespace", namespace))


def own(outpost: Outpost, namespace: str, name: str, owner: tuple[str, ...], **more: bool) -> None:
    """Make a ConfigMap that has an owner."""
    found = outpost.kubectl.get(*owner)
    reference = {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "name": found["metadata"]["name"],
        "uid": found["metadata"]["uid"],
        **more,
    }
    made = config_map(name, metadata={"ownerReferences": [reference]}, of=name)
    outpost.kubectl.apply([made], "-n", namespace)


def state_owned(outpost: Outpost, namespace: str) -> dict[str, list[Any]]:
    """Who owns what, and that the owner's uid is that of the object which is there."""
    live = {
        ("Namespace", namespace): outpost.kubectl.get("namespace", namespace),
        **{
            (item["kind"], item["metadata"]["name"]): item
            for item in outpost.kubectl.get("deployments,configmaps", "-n", namespace)["items"]
        },
    }
    return {
        name: [
            {
                **owner,
                "uid": live[owner["kind"], owner["name"]]["metadata"]["uid"] == owner["uid"],
            }
            for owner in item["metadata"].get("ownerReferences", [])
        ]
        for (kind, name), item in sorted(live.items())
        if kind == "ConfigMap"
    }


def goes_with_its_owner(outpost: Outpost, namespace: str) -> None:
    """When the top is deleted the whole chain follows, and nothing else."""
    outpost.kubectl("delete", "deployment", "top", "-n", namespace)
    for name in ("middle", "bottom", "aaa"):
        until(lambda name=name: outpost.kubectl.gone("configmap", name, "-n", namespace))
    assert not outpost.kubectl.gone("configmap", "placed", "-n", namespace)
    assert not outpost.kubectl.gone("configmap", "loose", "-n", namespace)


IMMUTABLE = Application(
    "immutable", deploy=deploy_immutable, change=change_immutable, works=refuses_changes
)
OWNED = Application("owned", deploy=deploy_owned, state=state_owned, works=goes_with_its_owner)
