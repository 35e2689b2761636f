"""Network namespaces of a test cluster, joined by a bridge in the first one.

Only `ip` is used, and `nsenter --net` rather than `ip netns exec`: the latter gives each process a mount
namespace of its own, so that the kubelet and containerd would not see each other's mounts.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.cluster.node.layout import Layout, Node

NETNS = Path("/run/netns")


def run(*argv: str, namespace: str = "", check: bool = True) -> str:
    """Run a short command, in a network namespace when one is named."""
    inside = ["nsenter", f"--net={NETNS / namespace}", "--"] if namespace else []
    done = subprocess.run([*inside, *argv], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def make(layout: Layout) -> None:
    """Make the namespaces, the bridge and the pair that leads to the machine."""
    first = layout.first
    for node in layout.nodes:
        run("ip", "netns", "add", node.namespace)
        run("ip", "link", "set", "lo", "up", namespace=node.namespace)
        # Addresses of Services are local to kube-proxy, and pods of other nodes are reached through routes.
        run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", namespace=node.namespace)
    run("ip", "link", "add", "br0", "type", "bridge", namespace=first.namespace)
    run("ip", "addr", "add", f"{first.address}/24", "dev", "br0", namespace=first.namespace)
    run("ip", "link", "set", "br0", "up", namespace=first.namespace)
    _join(first, layout.host_interface, namespace="", port="host")
    run("ip", "addr", "add", f"{layout.host_address}/24", "dev", layout.host_interface)
    run("ip", "link", "set", layout.host_interface, "up")
    for node in layout.nodes[1:]:
        _join(first, "eth0", namespace=node.namespace, port=node.name)
        run("ip", "addr", "add", f"{node.address}/24", "dev", "eth0", namespace=node.namespace)
        run("ip", "link", "set", "eth0", "up", namespace=node.namespace)
    for node in layout.nodes:
        # What tests serve on the machine's end answers pods; the route goes with the interface.
        run("ip", "route", "add", node.pods, "via", node.address, "dev", layout.host_interface)
        # Nothing leaves: an address that is nobody's here is refused at once.
        run("ip", "route", "add", "unreachable", "default", namespace=node.namespace)
        for other in layout.nodes:
            if other != node:
                run(
                    "ip", "route", "add", other.pods, "via", other.address, namespace=node.namespace
                )


def _join(first: Node, name: str, *, namespace: str, port: str) -> None:
    """A pair: `name` in a namespace (or on the machine), its other end a port of the bridge."""
    spare = f"brcp-{first.cluster}"
    run("ip", "link", "add", spare, "type", "veth", "peer", "name", f"{spare}p")
    run("ip", "link", "set", f"{spare}p", "netns", first.namespace)
    run("ip", "link", "set", f"{spare}p", "name", port, namespace=first.namespace)
    run("ip", "link", "set", port, "master", "br0", "up", namespace=first.namespace)
    if namespace:
        run("ip", "link", "set", spare, "netns", namespace)
        run("ip", "link", "set", spare, "name", name, namespace=namespace)
    else:
        run("ip", "link", "set", spare, "name", name)


def remove(layout_names: list[str], *, interface: str) -> None:
    """Take the namespaces away; their interfaces go with them, and so does the machine's end."""
    run("ip", "link", "del", interface, check=False)
    for name in layout_names:
        run("ip", "netns", "del", name, check=False)


def namespaces_of(cluster: int) -> list[str]:
    """The namespaces of a cluster that exist, also after a half-made start."""
    listed = json.loads(run("ip", "-j", "netns", "list") or "[]")
    return [entry["name"] for entry in listed if entry["name"].startswith(f"brc-c{cluster}-n")]
