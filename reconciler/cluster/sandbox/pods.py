"""The kubelet's part: pods become Running, and with `processes` their containers really run.

A pod waits until its claims are bound and what it refers to exists; then its containers start together,
each restarted after a pause. Ready is what the exec probe says.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from asyncio.subprocess import DEVNULL
from pathlib import Path

from reconciler.cluster.sandbox.api import Api
from reconciler.cluster.sandbox.container import Container, LackingError, resolve
from reconciler.cluster.sandbox.fields import Write
from reconciler.cluster.sandbox.state import Entry, Event
from reconciler.cluster.sandbox.status import StatusError
from reconciler.objects import Manifest
from reconciler.objects import field as follow

PODS = ("", "pods")
_NEEDED = {("", "persistentvolumeclaims"), ("", "secrets"), ("", "configmaps")}
_PROBE_S, _RESTART_S = 0.25, 1.0


class Pods:
    """All pods of one sandbox."""

    def __init__(self, api: Api, directory: Path, *, processes: bool) -> None:
        self.api, self.directory, self.processes = api, directory, processes
        self.containers: dict[str, list[Container]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, None] = {}
        api.state.listeners.append(self._observe)

    def _observe(self, event: Event) -> None:
        loop = asyncio.get_running_loop()
        if event.entry.bucket == PODS:
            loop.call_soon(self._sync, event.entry.uid)
        elif event.entry.bucket in _NEEDED:
            for uid in self._waiting:
                loop.call_soon(self._sync, uid)

    def _sync(self, uid: str) -> None:
        entry = self.api.state.by_uid.get(uid)
        if entry is None or entry.is_ending:
            if uid not in self._ending:
                metadata = entry.manifest["metadata"] if entry else {}
                grace_s = metadata.get("deletionGracePeriodSeconds", 0)
                self._ending[uid] = asyncio.create_task(self._end(uid, grace_s))
            return
        if uid in self.containers or entry.manifest["status"]["phase"] != "Pending":
            return
        self._waiting.pop(uid, None)
        try:
            containers = resolve(self.api.state, entry.manifest, self.directory)
        except LackingError as lacking:
            self._waiting[uid] = None
            self._write(uid, {"phase": "Pending", "reason": "Waiting", "message": str(lacking)})
            return
        self.containers[uid] = containers
        if self.processes:
            policy = entry.manifest["spec"]["restartPolicy"]
            self._tasks[uid] = asyncio.create_task(self._run(uid, policy))
        else:
            for container in containers:
                container.running = container.ready = True
            self._report(uid)

    async def _run(self, uid: str, policy: str) -> None:
        containers = self.containers[uid]
        codes = await asyncio.gather(*(self._supervise(uid, c, policy) for c in containers))
        self._write(uid, {"phase": "Failed" if any(codes) else "Succeeded"})

    async def _supervise(self, uid: str, container: Container, policy: str) -> int:
        while True:
            with container.log.open("ab") as log:
                try:
                    process = await container.start(container.argv, out=log)
                except OSError as exc:
                    log.write(f"{exc}\n".encode())
                    code = 127
                else:
                    container.running = True
                    probe = asyncio.create_task(self._probe(uid, container))
                    try:
                        code = await process.wait()
                    finally:
                        probe.cancel()
                    await container.kill(process)
            container.running, container.ready, container.exit_code = False, False, code
            self._report(uid)
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return code
            await asyncio.sleep(_RESTART_S)
            container.restarts += 1

    async def _probe(self, uid: str, container: Container) -> None:
        probe = container.spec.get("readinessProbe") or {}
        command = follow(probe, "exec", "command")
        period_s, limit_s = probe.get("periodSeconds", 10), probe.get("timeoutSeconds", 1)
        while True:
            container.ready = not command or await self._passes(container, command, limit_s)
            self._report(uid)
            if not command:
                return
            await asyncio.sleep(period_s if container.ready else min(period_s, _PROBE_S))

    async def _passes(self, container: Container, command: list[str], limit_s: float) -> bool:
        try:
            process = await container.start(command, out=DEVNULL)
        except OSError:
            return False
        try:
            return await asyncio.wait_for(process.wait(), limit_s) == 0
        except TimeoutError:
            return False
        finally:
            await container.kill(process)

    async def _end(self, uid: str, grace_s: float) -> None:
        containers = self.containers.get(uid, [])
        if task := self._tasks.pop(uid, None):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        left = [(container, process) for container in containers for process in container.processes]
        await asyncio.gather(*(container.kill(process, grace_s) for container, process in left))
        self._waiting.pop(uid, None)
        self.containers.pop(uid, None)
        shutil.rmtree(self.directory / "pods" / uid, ignore_errors=True)
        self.api.held.discard(uid)
        if entry := self.api.state.by_uid.get(uid):
            self.api.finish(entry)
        self._ending.pop(uid, None)

    def _report(self, uid: str) -> None:
        containers = self.containers.get(uid, [])
        ready = str(all(c.ready for c in containers))
        conditions = {"Initialized": "True", "Ready": ready, "ContainersReady": ready}
        status = {
            "phase": "Running",
            "conditions": [{"type": t, "status": s} for t, s in conditions.items()],
            "containerStatuses": [_container_status(c) for c in containers],
        }
        self._write(uid, status | dict.fromkeys(("hostIP", "podIP"), "127.0.0.1"))

    def _write(self, uid: str, status: Manifest) -> None:
        if entry := self.api.state.by_uid.get(uid):
            body = entry.thaw()
            old = {k: v for k, v in body["status"].items() if k not in ("reason", "message")}
            body["status"] = {"startTime": self.api.now()} | old | status
            if status["phase"] == "Running":
                body["spec"]["nodeName"] = "sandbox"
            self.api.write(self.api.row("pods"), entry, body, Write("kubelet", "status"))

    def container(self, entry: Entry, name: str) -> Container:
        """A container that commands can run in, by default the first one; 400 or 500 without one."""
        names = [c["name"] for c in entry.manifest["spec"]["containers"]]
        if (name := name or names[0]) not in names:
            raise StatusError(400, f"container {name} is not valid for pod {entry.key[1]}")
        for container in self.containers.get(entry.uid, []):
            if container.spec["name"] == name and container.running:
                return container
        raise StatusError(500, f'container not found ("{name}")')

    def log(self, namespace: str, name: str, container: str) -> bytes:
        """What a container, by default the first one, wrote to stdout and stderr."""
        entry = self.api.find(self.api.row("pods"), namespace, name)
        for each in self.containers.get(entry.uid, []):
            if container in ("", each.spec["name"]) and each.log.exists():
                return each.log.read_bytes()
        return b""

    async def close(self) -> None:
        """End all processes."""
        for uid in self.containers.keys() - self._ending.keys():
            self._ending[uid] = asyncio.create_task(self._end(uid, 1))
        await asyncio.gather(*self._ending.values())


def _container_status(container: Container) -> Manifest:
    state: Manifest = {"running": {}} if container.running else {"waiting": {}}
    if not container.running and container.exit_code is not None:
        state = {"terminated": {"exitCode": container.exit_code}}
    status = {"name": container.spec["name"], "image": container.spec.get("image", "")}
    status |= {"ready": container.ready, "started": container.running, "state": state}
    return status | {"restartCount": container.restarts, "imageID": "", "lastState": {}}
