"""A node of a test cluster: containerd, the kubelet and kube-proxy in one network namespace.

What mattered on machines without CAP_SYS_RESOURCE and with cgroup v1 stands beside each setting.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import yaml

from tests.cluster.node.build import component
from tests.cluster.node.control import Keys
from tests.cluster.node.images import REGISTRY, archives
from tests.cluster.node.layout import Layout, Node
from tests.cluster.node.network import run
from tests.cluster.node.processes import Processes, started_at, stop_all, wait_until

CGROUPS = Path("/sys/fs/cgroup")


def start_containerd(node: Node, processes: Processes) -> None:
    """containerd with folders of its own."""
    folder = node.folder
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    (folder / "containerd.toml").write_text(_containerd_config(node))
    (folder / "cni" / "10-bridge.conflist").write_text(json.dumps(_cni(node)))
    argv = ["containerd", "--config", folder / "containerd.toml"]
    processes.start(f"containerd-{node.name}", argv, namespace=node.namespace)


def _containerd_config(node: Node) -> str:
    folder = node.folder
    # restrict_oom_score_adj: without it no pod starts where CAP_SYS_RESOURCE is missing.
    return f"""
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{node.containerd}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{REGISTRY}/pause:1"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{folder}/runc"
"""


def _cni(node: Node) -> dict:
    addresses = {
        "type": "host-local",
        "dataDir": str(node.folder / "cni-data"),
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": addresses,
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def import_images(node: Node, processes: Processes) -> None:
    """Give the node every image."""
    wait_until(
        node.containerd.exists,
        what=f"containerd of {node.name} listens",
        within_s=20,
        processes=processes,
    )
    for archive in archives():
        run(
            "ctr",
            "-a",
            str(node.containerd),
            "-n",
            "k8s.io",
            "images",
            "import",
            str(archive),
        )


def start_kubelet(layout: Layout, node: Node, keys: Keys, processes: Processes) -> None:
    """The kubelet, after the cgroup below which its pods live."""
    _make_cgroups(node)
    folder = node.folder
    name = f"system:node:{node.name}"
    hosts = [node.name, node.address]
    pair = keys.authority.sign(
        f"kubelet-{node.name}", name=name, groups=("system:nodes",), hosts=hosts
    )
    kubeconfig = keys.authority.kubeconfig(
        folder / "kubeconfig", name=layout.name, server=layout.server, pair=pair
    )
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pair.certificate),
        "tlsPrivateKeyFile": str(pair.key),
        "containerRuntimeEndpoint": f"unix://{node.containerd}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "resolvConf": "/dev/null",
        "clusterDomain": "cluster.local",
        "clusterDNS": [layout.first.address],
        "podLogsDir": str(folder / "pod-logs"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%"},
        "maxPods": 250,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "4s",
    }
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(config))
    argv = [component("kubelet"), "--config", folder / "kubelet.yaml", "--kubeconfig", kubeconfig]
    argv += ["--root-dir", folder / "kubelet", "--cert-dir", folder / "pki"]
    argv += ["--hostname-override", node.name, "--node-ip", node.address]
    processes.start(f"kubelet-{node.name}", argv, namespace=node.namespace)


def start_proxy(layout: Layout, node: Node, keys: Keys, processes: Processes) -> None:
    """kube-proxy, by nftables of the node's own namespace."""
    kubeconfig = keys.kubeconfig(layout, f"proxy-{node.name}", name="system:kube-proxy", groups=())
    argv = [component("kube-proxy"), "--proxy-mode=nftables", f"--kubeconfig={kubeconfig}"]
    argv += [f"--hostname-override={node.name}", f"--cluster-cidr={layout.pods}"]
    # The table of tracked connections belongs to the machine: its limits stay as they are.
    argv += ["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"]
    argv += ["--conntrack-tcp-timeout-close-wait=0"]
    processes.start(f"kube-proxy-{node.name}", argv, namespace=node.namespace)


# -- cgroups ---------------------------------------------------------------------------------------


def _hierarchies() -> list[Path]:
    """The mounted cgroup v1 hierarchies; the root alone under v2."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()]


def _make_cgroups(node: Node) -> None:
    for hierarchy in _hierarchies():
        made = hierarchy / node.cgroup.lstrip("/")
        made.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            source = hierarchy / name
            if source.exists() and (made / name).exists():
                (made / name).write_text(source.read_text())


def _cgroup_folders(node: Node) -> list[Path]:
    """All cgroups of a node, the innermost first."""
    found = []
    for hierarchy in _hierarchies():
        top = hierarchy / node.cgroup.lstrip("/")
        if top.exists():
            found += [path for path in top.rglob("*") if path.is_dir()] + [top]
    return sorted(found, key=lambda path: -len(path.parts))


# -- the end ---------------------------------------------------------------------------------------


def end_containers(node: Node) -> None:
    """End what runs in the node's cgroups, and containerd's shims that served it."""
    for _ in range(5):
        pids = {
            int(pid)
            for folder in _cgroup_folders(node)
            for pid in (folder / "cgroup.procs").read_text().split()
        }
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not pids:
            break
        time.sleep(0.1)
    stop_all([(pid, started_at(pid)) for pid in _shims(node)], term_s=3)


def _shims(node: Node) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(node.containerd).encode() in argv and b"containerd-shim" in argv[0]:
                found.append(int(entry.name))
    return found


def clean(node: Node) -> None:
    """Unmount what is mounted below the node's folder, and take its cgroups and folder away."""
    below = [
        line.split()[1].replace("\\040", " ")
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[1].startswith(f"{node.folder}/")
    ]
    for mount in sorted(below, key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
    for folder in _cgroup_folders(node):
        try:
            folder.rmdir()
        except OSError:
            continue
    shutil.rmtree(node.folder, ignore_errors=True)
