"""Where everything of a test cluster is: addresses, folders, names.

A cluster is a number from 1 to 5; its nodes are numbered from 1. Node 1 carries the control plane. Each node is a
network namespace; a bridge in the first one joins them, and one pair of virtual interfaces leads to the
machine, so that tests reach the API server. Nothing else on the machine is touched.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

API_PORT = 6443
ETCD_PORT = 2379
ROOT = Path(__file__).resolve().parents[3]
PARTS = Path(__file__).resolve().parent.parent / "parts"


def cache_folder() -> Path:
    """What is built once and kept: programs and images."""
    chosen = os.environ.get("RECONCILER_CLUSTER_CACHE")
    if chosen:
        return Path(chosen)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "backup-reconciler" / "cluster"


def run_folder() -> Path:
    """What a running cluster writes; short, because paths of sockets are."""
    return Path(os.environ.get("RECONCILER_CLUSTER_RUN") or "/var/lib/brc")


def first_number() -> int:
    """The number of the first cluster; another than 1 leaves clusters alone that run already (1 to 4)."""
    return int(os.environ.get("RECONCILER_CLUSTER_FIRST") or 1)


@dataclass(frozen=True)
class Node:
    """One node of a cluster."""

    cluster: int
    number: int

    @property
    def name(self) -> str:
        """`c1-n1`: its name in the API and that of its network namespace's end."""
        return f"c{self.cluster}-n{self.number}"

    @property
    def namespace(self) -> str:
        """The network namespace."""
        return f"brc-{self.name}"

    @property
    def address(self) -> str:
        """On the bridge."""
        return f"10.77.{self.cluster}.{self.number}"

    @property
    def pods(self) -> str:
        """The addresses of its pods."""
        return f"10.{100 + self.cluster}.{self.number}.0/24"

    @property
    def cgroup(self) -> str:
        """Below each hierarchy: kubelets that shared one would end each other's pods."""
        return f"/brc-{self.name}"

    @property
    def folder(self) -> Path:
        """What its kubelet and containerd write."""
        return run_folder() / f"c{self.cluster}" / f"n{self.number}"

    @property
    def containerd(self) -> Path:
        """containerd's socket."""
        return self.folder / "containerd.sock"


@dataclass(frozen=True)
class Layout:
    """One cluster with so many nodes."""

    cluster: int
    count: int = 1

    @property
    def name(self) -> str:
        """`c1`."""
        return f"c{self.cluster}"

    @property
    def nodes(self) -> list[Node]:
        """Its nodes; the first one carries the control plane."""
        return [Node(self.cluster, number) for number in range(1, self.count + 1)]

    @property
    def first(self) -> Node:
        """The node with the control plane."""
        return self.nodes[0]

    @property
    def folder(self) -> Path:
        """What the cluster writes."""
        return run_folder() / self.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for use from the machine."""
        return self.folder / "kubeconfig"

    @property
    def host_address(self) -> str:
        """The machine's end of the pair."""
        return f"10.77.{self.cluster}.254"

    @property
    def host_interface(self) -> str:
        """The machine's interface."""
        return f"brc-{self.name}"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.first.address}:{API_PORT}"

    @property
    def services(self) -> str:
        """The addresses of Services."""
        return f"10.{95 + self.cluster}.0.0/16"

    @property
    def service_address(self) -> str:
        """The API server as pods see it."""
        return f"10.{95 + self.cluster}.0.1"

    @property
    def pods(self) -> str:
        """The addresses of all pods."""
        return f"10.{100 + self.cluster}.0.0/16"
