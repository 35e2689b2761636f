"""Identities: an account with a token made by hand, and roles of the cluster that are bound from the namespace."""

from __future__ import annotations

import base64
from typing import Any

import yaml

from tests.cluster.applications.kinds import Application
from tests.cluster.applications.workloads import deployment
from tests.cluster.outpost import MARK, KubectlError, Outpost, until

TOKEN = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
secrets: [{name: robot-key}]
---
apiVersion: v1
kind: Secret
metadata:
  name: robot-key
  annotations: {kubernetes.io/service-account.name: robot}
type: kubernetes.io/service-account-token
"""
BINDINGS = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: watcher}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: views}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: watcher}]
"""


def deploy_token(outpost: Outpost, namespace: str) -> None:
    """An account, its token, and a workload under the account."""
    outpost.kubectl.apply(TOKEN, "-n", namespace)
    robot = deployment("robot")
    robot["spec"]["template"]["spec"]["serviceAccountName"] = "robot"
    outpost.kubectl.apply([robot], "-n", namespace)
    is_known(outpost, namespace)


def is_known(outpost: Outpost, namespace: str) -> None:
    """The server knows the token in the Secret as the account's, of this cluster and this account."""

    def token() -> str:
        secret = outpost.kubectl.get("secret", "robot-key", "-n", namespace)
        return base64.b64decode(secret.get("data", {}).get("token", "")).decode()

    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {"name": "robot"},
        "spec": {"token": until(token)},
    }
    answer = outpost.kubectl("create", "-f", "-", "-o", "yaml", stdin=yaml.safe_dump(review))
    status = yaml.safe_load(answer)["status"]
    assert status.get("authenticated"), status
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:robot"


def names_of(namespace: str) -> dict[str, str]:
    """Objects of the cluster that belong to the application."""
    return {"role": f"{namespace}-nodes", "base": f"{namespace}-base"}


def deploy_bound(outpost: Outpost, namespace: str) -> None:
    """An account with a role of the whole cluster, which collects the rules of another one."""
    names, label = names_of(namespace), f"brc.example/{namespace}"
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole"}
    marked = {MARK: outpost.mark}
    reads = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}
    collects = {"clusterRoleSelectors": [{"matchLabels": {label: "yes"}}]}
    subject = {"kind": "ServiceAccount", "name": "watcher", "namespace": namespace}
    outpost.kubectl.apply(BINDINGS, "-n", namespace)
    outpost.kubectl.apply(
        [
            {
                **role,
                "metadata": {"name": names["base"], "labels": {**marked, label: "yes"}},
                "rules": [reads],
            },
            {
                **role,
                "metadata": {"name": names["role"], "labels": marked},
                "aggregationRule": collects,
                "rules": [],
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": names["role"], "labels": marked},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": names["role"]},
                "subjects": [subject],
            },
        ]
    )
    may_read_nodes(outpost, namespace)


def change_bound(outpost: Outpost, namespace: str) -> None:
    """It may watch, too."""
    patch = '[{"op":"add","path":"/rules/0/verbs/-","value":"watch"}]'
    name = names_of(namespace)["base"]
    outpost.kubectl("patch", "clusterrole", name, "--type=json", "-p", patch)


def state_bound(outpost: Outpost, namespace: str) -> Any:
    """The rules, and who has them."""
    names = names_of(namespace)

    def rules(kind: str) -> Any:
        return outpost.kubectl.get("clusterrole", names[kind]).get("rules")

    until(lambda: rules("role") == rules("base"))
    binding = outpost.kubectl.get("clusterrolebinding", names["role"])
    return rules("base"), rules("role"), binding["subjects"], binding["roleRef"]


def destroy_bound(outpost: Outpost, namespace: str) -> None:
    """The namespace goes, and what it had in the cluster."""
    outpost.destroy(namespace)
    clean_bound(outpost, namespace)


def clean_bound(outpost: Outpost, _namespace: str) -> None:
    """Take away what is in the cluster."""
    kinds = "clusterroles,clusterrolebindings"
    outpost.kubectl("delete", kinds, "-l", f"{MARK}={outpost.mark}", "--ignore-not-found")


def may_read_nodes(outpost: Outpost, namespace: str) -> None:
    """The account may do what the role says, and what the role `view` says in its namespace."""
    who = f"--as=system:serviceaccount:{namespace}:watcher"

    def may(*what: str) -> bool:
        try:
            return outpost.kubectl("auth", "can-i", *what, who).strip() == "yes"
        except KubectlError:
            return False

    until(lambda: may("list", "nodes"))
    until(lambda: may("get", "pods", "-n", namespace))


TOKENS = Application("tokens", deploy=deploy_token, works=is_known)
BOUND = Application(
    "bound",
    deploy=deploy_bound,
    change=change_bound,
    state=state_bound,
    destroy=destroy_bound,
    clean=clean_bound,
    works=may_read_nodes,
)
