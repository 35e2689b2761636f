"""Services of every kind: headless, with a load balancer, with node ports, with end points made by hand."""

from __future__ import annotations

from typing import Any

from tests.cluster.applications.kinds import Application
from tests.cluster.applications.workloads import deployment
from tests.cluster.outpost import Outpost, until

BACKEND = {
    "command": ["sh", "-c", "mkdir /www && echo hello > /www/x && exec httpd -f -p 8080 -h /www"],
}
SERVED = """\
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: web}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: balanced, annotations: {example.com/scheme: internal}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  loadBalancerClass: example.com/none
  loadBalancerSourceRanges: [10.0.0.0/8]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  selector: {app: web}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: dns, port: 53, targetPort: 8080}
    - {name: dns-udp, port: 53, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: db.example.com}
"""
BY_HAND = """\
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: outside-1
  labels:
    kubernetes.io/service-name: outside
    endpointslice.kubernetes.io/managed-by: a-person
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
  - {addresses: [192.0.2.10], conditions: {ready: true}, hostname: one}
  - {addresses: [192.0.2.11], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: older}
spec: {ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: older}
subsets:
  - {addresses: [{ip: 192.0.2.20}], ports: [{name: http, port: 8080}]}
"""


def deploy_served(outpost: Outpost, namespace: str) -> None:
    """A web server behind them."""
    outpost.kubectl.apply([deployment("web", **BACKEND)], "-n", namespace)
    outpost.kubectl.apply(SERVED, "-n", namespace)


def answers(name: str) -> Any:
    """A step that asks for a page through a service, from the pod."""

    def ask(outpost: Outpost, namespace: str) -> None:
        request = f"printf 'GET /x HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {name}"
        argv = ("exec", "-n", namespace, "deploy/web", "--", "sh", "-c", request)
        until(lambda: "hello" in outpost.kubectl(*argv))

    return ask


def asked_port(outpost: Outpost) -> int:
    """A node port that no other test asks for."""
    return 30000 + int(outpost.mark, 16) % 2000


def deploy_ports(outpost: Outpost, namespace: str) -> None:
    """One node port is asked for, two are allocated."""
    ports: list[dict[str, Any]] = [
        {"name": "asked", "port": 80, "targetPort": 8080, "nodePort": asked_port(outpost)},
        {"name": "any", "port": 81, "targetPort": 8080},
        {"name": "datagrams", "port": 80, "targetPort": 8080, "protocol": "UDP"},
    ]
    spec = {"type": "NodePort", "selector": {"app": "web"}, "ports": ports}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    outpost.kubectl.apply([deployment("web", **BACKEND), service], "-n", namespace)


def state_of_ports(outpost: Outpost, namespace: str) -> int:
    """The node port that was asked for; the others are whatever is free."""
    service = outpost.kubectl.get("service", "web", "-n", namespace)
    ports = {port["name"]: port["nodePort"] for port in service["spec"]["ports"]}
    assert all(ports.values())
    return ports["asked"]


def change_ports(outpost: Outpost, namespace: str) -> None:
    """A port that is allocated joins."""
    patch = '[{"op":"add","path":"/spec/ports/-","value":{"name":"new","port":82}}]'
    outpost.kubectl("patch", "service", "web", "-n", namespace, "--type=json", "-p", patch)


def deploy_by_hand(outpost: Outpost, namespace: str) -> None:
    """Nothing of these addresses is in the cluster."""
    outpost.kubectl.apply(BY_HAND, "-n", namespace)


def state_by_hand(outpost: Outpost, namespace: str) -> Any:
    """The Endpoints, and what is mirrored from them."""

    def mirrored() -> list[str]:
        slices = outpost.kubectl.get(
            "endpointslices", "-n", namespace, "-l", "kubernetes.io/service-name=older"
        )["items"]
        return [a for one in slices for end in one["endpoints"] for a in end["addresses"]]

    until(lambda: mirrored() == ["192.0.2.20"], what=mirrored)
    return outpost.kubectl.get("endpoints", "older", "-n", namespace)["subsets"]


def change_by_hand(outpost: Outpost, namespace: str) -> None:
    """One address moves."""
    patch = '[{"op":"replace","path":"/endpoints/1/addresses","value":["192.0.2.12"]}]'
    argv = ("endpointslice", "outside-1", "-n", namespace, "--type=json")
    outpost.kubectl("patch", *argv, "-p", patch)


def deploy_generated(outpost: Outpost, namespace: str) -> None:
    """Three ConfigMaps and a Service whose names the server made up."""
    metadata = {"generateName": "one-of-many-"}
    for number in range(3):
        one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        outpost.kubectl.create([{**one, "data": {"number": str(number)}}], "-n", namespace)
    spec = {"ports": [{"port": 80}], "selector": {"app": "none"}}
    made = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    outpost.kubectl.create([made], "-n", namespace)


SERVING = Application("serving", deploy=deploy_served, works=answers("headless 8080"))
PORTS = Application(
    "ports",
    deploy=deploy_ports,
    change=change_ports,
    state=state_of_ports,
    works=answers("web 81"),
)
BY_HAND_SERVED = Application(
    "by-hand", deploy=deploy_by_hand, change=change_by_hand, state=state_by_hand
)
GENERATED = Application("generated", deploy=deploy_generated)
