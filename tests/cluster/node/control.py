"""The control plane of a test cluster, and the API as far as starting it needs."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.node.build import component, program
from tests.cluster.node.certificates import Authority, Pair
from tests.cluster.node.layout import API_PORT, ETCD_PORT, Layout
from tests.cluster.node.processes import Processes, wait_until

ETCD_URL = f"http://127.0.0.1:{ETCD_PORT}"


@dataclass(frozen=True)
class Keys:
    """The certificates and kubeconfigs of one cluster."""

    authority: Authority
    accounts: Path
    server: Pair
    to_kubelets: Pair
    aggregator: Pair
    admin: Pair

    def kubeconfig(self, layout: Layout, file: str, *, name: str, groups: tuple[str, ...]) -> Path:
        """A kubeconfig for one component."""
        pair = self.authority.sign(file, name=name, groups=groups)
        path = layout.folder / "kubeconfigs" / file
        return self.authority.kubeconfig(path, name=layout.name, server=layout.server, pair=pair)


def make_keys(layout: Layout) -> Keys:
    """Make them all anew, the administrator's kubeconfig with them."""
    authority = Authority(layout.folder / "pki")
    hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"]
    hosts += [layout.first.address, layout.service_address, "kubernetes.default.svc.cluster.local"]
    masters = ("system:masters",)
    admin = authority.sign("admin", name="admin", groups=masters)
    authority.kubeconfig(layout.kubeconfig, name=layout.name, server=layout.server, pair=admin)
    return Keys(
        authority=authority,
        accounts=authority.account_key(),
        server=authority.sign("server", name="kube-apiserver", hosts=hosts),
        to_kubelets=authority.sign("to-kubelets", name="kube-apiserver", groups=masters),
        aggregator=authority.sign("aggregator", name="aggregator"),
        admin=admin,
    )


def start_etcd(layout: Layout, processes: Processes) -> None:
    """etcd; what it holds need not survive the machine."""
    peer = "http://127.0.0.1:2380"
    argv = [program("etcd"), "--data-dir", layout.folder / "etcd", "--unsafe-no-fsync"]
    argv += ["--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL]
    argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    argv += ["--initial-cluster", f"default={peer}", "--log-level", "warn"]
    processes.start("etcd", argv, namespace=layout.first.namespace)


def start_server(layout: Layout, keys: Keys, processes: Processes) -> None:
    """The API server."""
    authority = keys.authority.certificate
    flags = {
        "etcd-servers": ETCD_URL,
        "bind-address": "0.0.0.0",
        "advertise-address": layout.first.address,
        "secure-port": API_PORT,
        "cert-dir": layout.folder / "pki",
        "tls-cert-file": keys.server.certificate,
        "tls-private-key-file": keys.server.key,
        "client-ca-file": authority,
        "kubelet-certificate-authority": authority,
        "kubelet-client-certificate": keys.to_kubelets.certificate,
        "kubelet-client-key": keys.to_kubelets.key,
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": keys.accounts,
        "service-account-signing-key-file": keys.accounts,
        "service-cluster-ip-range": layout.services,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "requestheader-client-ca-file": authority,
        "requestheader-allowed-names": "aggregator",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": keys.aggregator.certificate,
        "proxy-client-key-file": keys.aggregator.key,
        "enable-aggregator-routing": "true",
        "shutdown-delay-duration": "0s",
    }
    processes.start(
        "kube-apiserver",
        [component("kube-apiserver"), *_flags(flags)],
        namespace=layout.first.namespace,
    )


def start_controllers(layout: Layout, keys: Keys, processes: Processes) -> None:
    """The controller manager and the scheduler, under the names that their roles are bound to."""
    manager = keys.kubeconfig(
        layout, "controller-manager", name="system:kube-controller-manager", groups=()
    )
    flags = {
        "kubeconfig": manager,
        "authentication-kubeconfig": manager,
        "authorization-kubeconfig": manager,
        "service-account-private-key-file": keys.accounts,
        "root-ca-file": keys.authority.certificate,
        "use-service-account-credentials": "true",
        "cluster-signing-cert-file": keys.authority.certificate,
        "cluster-signing-key-file": keys.authority.key,
        "leader-elect": "false",
        "cert-dir": layout.folder / "pki",
        # Nodes and pods of a test are seen to fail within the test.
        "node-monitor-grace-period": "20s",
        # Many small namespaces come and go at the same time.
        "concurrent-namespace-syncs": 20,
        "kube-api-qps": 200,
        "kube-api-burst": 300,
    }
    argv = [component("kube-controller-manager"), *_flags(flags)]
    processes.start("kube-controller-manager", argv, namespace=layout.first.namespace)
    scheduler = keys.kubeconfig(layout, "scheduler", name="system:kube-scheduler", groups=())
    flags = {
        "kubeconfig": scheduler,
        "authentication-kubeconfig": scheduler,
        "authorization-kubeconfig": scheduler,
        "leader-elect": "false",
        "cert-dir": layout.folder / "pki",
    }
    argv = [component("kube-scheduler"), *_flags(flags)]
    processes.start("kube-scheduler", argv, namespace=layout.first.namespace)


def start_dns(layout: Layout, processes: Processes) -> None:
    """Cluster DNS, at the first node's address."""
    corefile = layout.folder / "Corefile"
    corefile.write_text(
        ". {\n"
        f"    bind {layout.first.address}\n"
        "    errors\n"
        f"    kubernetes cluster.local in-addr.arpa {{\n        kubeconfig {layout.kubeconfig}\n    }}\n"
        "}\n"
    )
    argv = [program("coredns"), "-conf", corefile]
    processes.start("coredns", argv, namespace=layout.first.namespace)


def _flags(flags: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


class Api:
    """Requests of the administrator."""

    def __init__(self, layout: Layout, keys: Keys) -> None:
        self._server = layout.server
        self._context = ssl.create_default_context(cafile=str(keys.authority.certificate))
        self._context.load_cert_chain(str(keys.admin.certificate), str(keys.admin.key))

    def is_ready(self) -> bool:
        """Whether the API server says so."""
        try:
            return self._ask("GET", "/readyz") == b"ok"
        except OSError:
            return False

    def ready_nodes(self) -> int:
        """How many nodes are Ready."""
        nodes = json.loads(self._ask("GET", "/api/v1/nodes"))["items"]
        return sum(
            any(
                c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
            )
            for node in nodes
            if node.get("status", {}).get("conditions")
        )

    def create(self, path: str, manifest: dict[str, Any]) -> None:
        """POST an object; one that is there already is left as it is."""
        try:
            self._ask("POST", path, json.dumps(manifest).encode())
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise

    def has(self, path: str) -> bool:
        """Whether something answers there."""
        try:
            self._ask("GET", path)
        except urllib.error.HTTPError:
            return False
        return True

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            f"{self._server}{path}",
            data=body,
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5, context=self._context) as answer:
            return answer.read()


def wait_for_server(api: Api, processes: Processes) -> None:
    """Until the API server is ready."""
    wait_until(api.is_ready, what="kube-apiserver is ready", within_s=60, processes=processes)
