"""The most of everything: a thousand objects, the largest ones, the longest names, lists with the same key twice."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

from tests.cluster.applications.kinds import Application
from tests.cluster.applications.workloads import config_map, deployment
from tests.cluster.outpost import Outpost


def deploy_thousand(outpost: Outpost, namespace: str) -> None:
    """A thousand objects of four kinds."""
    things: list[Any] = [
        config_map(f"settings-{n:03}", metadata={"labels": {"part": str(n % 7)}}, number=str(n))
        for n in range(600)
    ]
    for number in range(200):
        name = f"thing-{number:03}"
        data = {"key": base64.b64encode(f"value {number}".encode()).decode()}
        things += [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        ]
    listed = {"apiVersion": "v1", "kind": "List", "items": things}
    outpost.kubectl.create(json.dumps(listed), "-n", namespace)


def change_thousand(outpost: Outpost, namespace: str) -> None:
    """A seventh of them changes, one goes."""
    argv = ("configmaps", "-l", "part=3", "changed=yes", "-n", namespace)
    outpost.kubectl("label", *argv)
    outpost.kubectl("delete", "configmap", "settings-100", "-n", namespace)


def deploy_heavy(outpost: Outpost, namespace: str, *, seed: int = 1) -> None:
    """A ConfigMap and a Secret with the most that the server takes, and annotations to their limit."""
    size = 1024 * 1024
    random_bytes = base64.b64encode(random.Random(seed).randbytes(size)).decode()
    most = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "most"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "most"}}
    noted = config_map("noted", metadata={"annotations": {"note": "n" * (256 * 1024 - 4)}})
    things = [
        {**most, "binaryData": {"b": random_bytes}},
        {**secret, "data": {"b": random_bytes}},
        noted,
    ]
    outpost.kubectl.create(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": things}), "-n", namespace
    )


def change_heavy(outpost: Outpost, namespace: str) -> None:
    """Other bytes."""
    outpost.kubectl("delete", "configmap/most", "configmap/noted", "secret/most", "-n", namespace)
    deploy_heavy(outpost, namespace, seed=2)


def deploy_long(outpost: Outpost, namespace: str) -> None:
    """Names and labels of the greatest length, and names with every sign that a path may hold."""
    longest = ".".join(["l" * 63] * 3 + ["l" * 61])
    label = {f"{longest}/{'k' * 63}": "v" * 63, "empty": ""}
    mark = {"metadata": {"name": "x" * 63, "labels": label}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    things = [
        config_map(
            longest, metadata={"labels": label}, **{"k" * 253: "v", ".dotted": "", "UP_1": ""}
        ),
        {
            "apiVersion": "v1",
            "kind": "Service",
            **mark,
            "spec": {"ports": [{"port": 80, "name": "p" * 15}], "selector": {"none": "x"}},
        },
        {**role, "metadata": {"name": "système: what? #1 & +more;=@~'\"<ü>|日本"}, "rules": rules},
        {**role, "metadata": {"name": "r" * 253}, "rules": rules},
    ]
    outpost.kubectl.create(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": things}), "-n", namespace
    )


def change_long(outpost: Outpost, namespace: str) -> None:
    """One label goes."""
    outpost.kubectl("label", "service", "x" * 63, "empty-", "-n", namespace)


def deploy_doubled(outpost: Outpost, namespace: str) -> None:
    """Twice the same name in `env`, and one containerPort under two hostPorts: an apply would be refused."""
    first = 20000 + int(outpost.mark, 16) % 5000 * 2
    doubled = deployment(
        "doubled",
        env=[
            {"name": "WORD", "value": "first"},
            {"name": "OTHER", "value": "$(WORD)"},
            {"name": "WORD", "value": "last"},
        ],
        ports=[
            {"containerPort": 8080, "hostPort": first},
            {"containerPort": 8080, "hostPort": first + 1},
        ],
    )
    outpost.kubectl.create([doubled], "-n", namespace)


def change_doubled(outpost: Outpost, namespace: str) -> None:
    """A label of no meaning."""
    outpost.kubectl("label", "deployment", "doubled", "changed=yes", "-n", namespace)


def state_doubled(outpost: Outpost, namespace: str) -> str:
    """What the container sees."""
    outpost.ready(namespace)
    return outpost.kubectl(
        "exec", "-n", namespace, "deploy/doubled", "--", "sh", "-c", "echo $WORD $OTHER"
    )


THOUSAND = Application("thousand", deploy=deploy_thousand, change=change_thousand)
HEAVY = Application("heavy", deploy=deploy_heavy, change=change_heavy)
LONG = Application("long-" + "n" * 49, deploy=deploy_long, change=change_long)
DOUBLED = Application("doubled", deploy=deploy_doubled, change=change_doubled, state=state_doubled)
