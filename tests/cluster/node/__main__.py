"""`python -m tests.cluster.node build|up|down|run`: a Kubernetes cluster from packages, in namespaces of its own.

`up` prints the kubeconfigs of what it started; `run` starts a cluster, runs a command with
`RECONCILER_TEST_KUBECONFIG` set, and takes the cluster away whatever happened.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster.node import build, control, images, network, storage, worker
from tests.cluster.node.layout import Layout, first_number, run_folder
from tests.cluster.node.processes import Processes, StartError, wait_until

PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "busybox": "busybox-static",
    "debootstrap": "debootstrap",
    "nsenter": "util-linux",
}
SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


def missing() -> str:
    """What keeps a cluster from running on this machine, with how to get it; empty when nothing does."""
    if os.geteuid() != 0:
        return "a test cluster needs root: it makes network namespaces and runs containers"
    lacking = [package for name, package in PROGRAMS.items() if not shutil.which(name)]
    if not Path("/usr/lib/cni/bridge").exists():
        lacking.append("containernetworking-plugins")
    if lacking:
        return f"apt-get install --no-install-recommends {' '.join(lacking)}"
    return "" if shutil.which("go") else build.MISSING


def up(layout: Layout) -> None:
    """Start a cluster, and wait until every node is Ready.

    Raises:
        StartError: a part did not come up; what was started is still there for a look.
    """
    down(layout.cluster)
    layout.folder.mkdir(parents=True)
    processes = Processes(layout.folder)
    network.make(layout)
    keys = control.make_keys(layout)
    api = control.Api(layout, keys)
    kept = {name: (Path("/proc/sys") / name).read_text() for name in SYSCTLS}
    with ThreadPoolExecutor() as pool:
        control.start_etcd(layout, processes)
        control.start_server(layout, keys, processes)
        for node in layout.nodes:
            worker.start_containerd(node, processes)
        imports = [pool.submit(worker.import_images, node, processes) for node in layout.nodes]
        control.wait_for_server(api, processes)
        control.start_controllers(layout, keys, processes)
        control.start_dns(layout, processes)
        for node in layout.nodes:
            worker.start_kubelet(layout, node, keys, processes)
            worker.start_proxy(layout, node, keys, processes)
            storage.start_driver(layout, node, processes)
        storage.make_classes(api)
        storage.start_provisioner(layout, processes)
        storage.make_snapshot_kinds(api, processes)
        storage.start_snapshotter(layout, processes)
        wait_until(
            lambda: api.ready_nodes() == layout.count,
            what="every node is Ready",
            within_s=90,
            processes=processes,
        )
        for done in imports:
            done.result()
    wait_until(
        lambda: api.has("/api/v1/namespaces/default/serviceaccounts/default"),
        what="the default account is there",
        within_s=30,
        processes=processes,
    )
    for name, value in kept.items():
        # The kubelet sets them for the whole machine; it was not asked to.
        (Path("/proc/sys") / name).write_text(value)


def down(cluster: int) -> None:
    """Take a cluster away: its processes, containers, mounts, cgroups, namespaces and folder."""
    names = network.namespaces_of(cluster)
    layout = Layout(cluster, max([1, *(int(name.rpartition("-n")[2]) for name in names)]))
    processes = Processes(layout.folder)
    kubelets = [f"kubelet-{node.name}" for node in layout.nodes]
    containerds = [f"containerd-{node.name}" for node in layout.nodes]
    # Kubelets first, or they start again what is ended; etcd last, because an API server without it
    # waits up to a minute and keeps its port.
    processes.stop(first=kubelets, last=["kube-apiserver", *containerds, "etcd"])
    for node in layout.nodes:
        worker.end_containers(node)
        worker.clean(node)
    network.remove(names, interface=layout.host_interface)
    shutil.rmtree(layout.folder, ignore_errors=True)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.node")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build")
    for verb in ("up", "down", "run"):
        one = verbs.add_parser(verb)
        one.add_argument("--nodes", type=int, default=1, choices=(1, 2, 3))
        one.add_argument("--clusters", type=int, default=2 if verb == "down" else 1, choices=(1, 2))
        if verb == "run":
            one.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit code is 0, or 1 with the reason on stderr, or that of the command run."""
    chosen = _parse(argv)
    lacking = missing()
    if lacking:
        print(f"no test cluster here: {lacking}", file=sys.stderr)
        return 1
    first = first_number()
    clusters = range(first, first + getattr(chosen, "clusters", 1))
    if chosen.verb == "down":
        for number in clusters:
            down(number)
        return 0
    try:
        build.build()
        images.make()
        if chosen.verb == "build":
            return 0
        layouts = [Layout(number, chosen.nodes) for number in clusters]
        if chosen.verb == "run":
            return _run(layouts, [word for word in chosen.command if word != "--"])
        _start(layouts)
    except (build.BuildError, StartError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    for layout in layouts:
        print(f"export RECONCILER_TEST_KUBECONFIG{_suffix(layout)}={layout.kubeconfig}")
    print(f"export PATH={build.component('kubectl').parent}:$PATH")
    return 0


def _start(layouts: list[Layout]) -> None:
    for layout in layouts:
        began = time.monotonic()
        up(layout)
        nodes = "1 node" if layout.count == 1 else f"{layout.count} nodes"
        print(
            f"cluster {layout.name}: {nodes} Ready in {time.monotonic() - began:.1f} s",
            file=sys.stderr,
            flush=True,
        )


def _suffix(layout: Layout) -> str:
    return "" if layout.cluster == first_number() else f"_{layout.cluster - first_number() + 1}"


def _run(layouts: list[Layout], command: list[str]) -> int:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    try:
        _start(layouts)
        environment = os.environ | {
            f"RECONCILER_TEST_KUBECONFIG{_suffix(layout)}": str(layout.kubeconfig)
            for layout in layouts
        }
        environment["PATH"] = f"{build.component('kubectl').parent}:{os.environ['PATH']}"
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        for layout in layouts:
            down(layout.cluster)
        if run_folder().exists() and not any(run_folder().iterdir()):
            run_folder().rmdir()


if __name__ == "__main__":
    sys.exit(main())
