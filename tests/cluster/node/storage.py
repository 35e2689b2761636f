"""Volumes of a test cluster: our CSI driver on every node, and the real csi-provisioner."""

from __future__ import annotations

from tests.cluster.node.build import program
from tests.cluster.node.control import Api
from tests.cluster.node.layout import Layout, Node
from tests.cluster.node.processes import Processes, wait_until

DRIVER = "directories.brc.example"
CLASSES = {"directories": "WaitForFirstConsumer", "directories-immediate": "Immediate"}
"""Storage class → binding mode; the first is the default one."""


def start_driver(layout: Layout, node: Node, processes: Processes) -> None:
    """The driver of a node, registered with its kubelet."""
    registry = node.folder / "kubelet" / "plugins_registry"
    registry.mkdir(parents=True, exist_ok=True)
    argv = [program("csidriver"), "-node", node.name, "-registry", registry]
    argv += ["-root", layout.folder / "volumes", "-socket", node.folder / "csi.sock"]
    processes.start(f"csidriver-{node.name}", argv, namespace=node.namespace)


def start_provisioner(layout: Layout, processes: Processes) -> None:
    """What makes volumes for claims, asking the first node's driver."""
    socket = layout.first.folder / "csi.sock"
    wait_until(socket.exists, what="the CSI driver listens", within_s=10, processes=processes)
    argv = [program("provisioner"), "--csi-address", socket, "--kubeconfig", layout.kubeconfig]
    argv += ["--feature-gates=Topology=true", "--strict-topology", "--leader-election=false"]
    processes.start("provisioner", argv, namespace=layout.first.namespace)


def make_classes(api: Api) -> None:
    """The driver's object and its storage classes."""
    spec = {
        "attachRequired": False,
        "fsGroupPolicy": "File",
        "volumeLifecycleModes": ["Persistent"],
    }
    api.create(
        "/apis/storage.k8s.io/v1/csidrivers",
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": DRIVER},
            "spec": spec,
        },
    )
    default = next(iter(CLASSES))
    for name, mode in CLASSES.items():
        is_default = {"storageclass.kubernetes.io/is-default-class": "true"}
        api.create(
            "/apis/storage.k8s.io/v1/storageclasses",
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name, "annotations": is_default if name == default else {}},
                "provisioner": DRIVER,
                "volumeBindingMode": mode,
            },
        )
