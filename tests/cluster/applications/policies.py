"""What stands beside workloads and acts on them: an autoscaler, a disruption budget, network policies."""

from __future__ import annotations

import json

from tests.cluster.applications.kinds import Application
from tests.cluster.applications.workloads import deployment
from tests.cluster.outpost import KubectlError, Outpost, until

SCALER = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 2
  metrics:
    - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}
  behavior: {scaleDown: {stabilizationWindowSeconds: 60}}
"""
BUDGET = """\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: web}}
"""
NETWORK = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [web, api]}]}
  ingress:
    - from:
        - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
        - namespaceSelector: {matchLabels: {team: front}}
          podSelector: {matchLabels: {role: proxy}}
      ports: [{port: 8080}, {port: 9000, endPort: 9100, protocol: UDP}]
  egress: [{ports: [{port: dns, protocol: UDP}]}]
"""


def deploy_scaled(outpost: Outpost, namespace: str) -> None:
    """One replica, scaled to two by hand, which the autoscaler allows."""
    web = deployment("web", resources={"requests": {"cpu": "10m"}})
    outpost.kubectl.apply([web], "-n", namespace)
    outpost.kubectl.apply(SCALER, "-n", namespace)
    outpost.kubectl("scale", "deployment", "web", "--replicas=2", "-n", namespace)


def is_scaling(outpost: Outpost, namespace: str) -> None:
    """The autoscaler has found what it scales."""

    def conditions() -> dict[str, str]:
        status = outpost.kubectl.get("hpa", "web", "-n", namespace).get("status", {})
        return {one["type"]: one["status"] for one in status.get("conditions") or []}

    until(lambda: conditions().get("AbleToScale") == "True", what=conditions)


def deploy_guarded(outpost: Outpost, namespace: str) -> None:
    """A pod that must not be evicted."""
    outpost.kubectl.apply([deployment("web")], "-n", namespace)
    outpost.kubectl.apply(BUDGET, "-n", namespace)


def change_budget(outpost: Outpost, namespace: str) -> None:
    """Pods that are not healthy may go."""
    patch = '{"spec":{"unhealthyPodEvictionPolicy":"AlwaysAllow"}}'
    outpost.kubectl("patch", "pdb", "web", "-n", namespace, "--type=merge", "-p", patch)


def is_guarding(outpost: Outpost, namespace: str) -> None:
    """The eviction of the pod is refused by the budget."""

    def healthy() -> int:
        status = outpost.kubectl.get("pdb", "web", "-n", namespace).get("status", {})
        return status.get("currentHealthy", 0)

    until(lambda: healthy() == 1)
    pod = outpost.kubectl.get("pods", "-n", namespace)["items"][0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    body = json.dumps(eviction)
    where = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    try:
        outpost.kubectl.create(body, "--raw", where)
    except KubectlError as error:
        assert "disruption budget" in str(error)
    else:
        raise AssertionError("the pod was evicted")


def change_network(outpost: Outpost, namespace: str) -> None:
    """Nobody is let in any more by role."""
    patch = '[{"op":"remove","path":"/spec/ingress/0/from/1"}]'
    outpost.kubectl("patch", "netpol", "web", "-n", namespace, "--type=json", "-p", patch)


AUTOSCALED = Application("autoscaled", deploy=deploy_scaled, works=is_scaling)
GUARDED = Application("guarded", deploy=deploy_guarded, change=change_budget, works=is_guarding)
FENCED = Application(
    "fenced",
    deploy=lambda outpost, namespace: outpost.kubectl.apply(NETWORK, "-n", namespace),
    change=change_network,
)
