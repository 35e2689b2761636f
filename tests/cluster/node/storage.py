"""Volumes of a test cluster: our CSI driver on every node, the real csi-provisioner, and snapshots with real parts."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.cluster.node.build import module_folders, program
from tests.cluster.node.control import Api
from tests.cluster.node.layout import Layout, Node
from tests.cluster.node.processes import Processes, wait_until

DRIVER = "directories.brc.example"
CLASSES = {"directories": "WaitForFirstConsumer", "directories-immediate": "Immediate"}
"""Storage class → binding mode; the first is the default one."""
SNAPSHOTS = "snapshot.storage.k8s.io"
SNAPSHOT_CLASSES = {"directories": "Delete", "directories-kept": "Retain"}
"""Snapshot class → deletion policy; that which deletes is the default one."""
SNAPSHOT_MODULE = "github.com/kubernetes-csi/external-snapshotter/client/v8"


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
    argv += [
        "--feature-gates=Topology=true",
        "--strict-topology",
        "--leader-election=false",
        "--timeout=5m",
    ]
    processes.start("provisioner", argv, namespace=layout.first.namespace)


def start_snapshotter(layout: Layout, processes: Processes) -> None:
    """What makes snapshots: the controller, and the driver's sidecar."""
    argv = [program("snapshotcontroller"), "--kubeconfig", layout.kubeconfig]
    argv += ["--leader-election=false", "--retry-interval-start=200ms"]
    processes.start("snapshotcontroller", argv, namespace=layout.first.namespace)
    socket = layout.first.folder / "csi.sock"
    argv = [program("snapshotter"), "--csi-address", socket, "--kubeconfig", layout.kubeconfig]
    argv += ["--leader-election=false", "--retry-interval-start=200ms", "--timeout=5m"]
    processes.start("snapshotter", argv, namespace=layout.first.namespace)


def make_snapshot_kinds(api: Api, processes: Processes) -> None:
    """The definitions of snapshots, as their project ships them, and the driver's class."""
    folder = Path(module_folders("definitions")[SNAPSHOT_MODULE]) / "config" / "crd"
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document["kind"] == "CustomResourceDefinition":
                api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", document)
    classes = f"/apis/{SNAPSHOTS}/v1/volumesnapshotclasses"
    wait_until(
        lambda: api.has(classes), what="snapshots are served", within_s=30, processes=processes
    )
    for name, policy in SNAPSHOT_CLASSES.items():
        is_default = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
        api.create(
            classes,
            {
                "apiVersion": f"{SNAPSHOTS}/v1",
                "kind": "VolumeSnapshotClass",
                "metadata": {"name": name, "annotations": is_default if policy == "Delete" else {}},
                "driver": DRIVER,
                "deletionPolicy": policy,
            },
        )


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
