"""A container as local processes: its environment, its mounts as directories, how it starts and is killed.

Every process leads a session of its own. A mountPath in argv, command and env becomes the directory behind
it, on whole path components, the longest first; file contents are left alone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from reconciler.cluster.sandbox.state import State
from reconciler.objects import Manifest
from reconciler.objects import field as follow


class LackingError(Exception):
    """Something that the pod refers to is not there yet, or is nothing that the sandbox does."""


@dataclass(eq=False)
class Container:
    """One container of a pod, resolved: what to run, where, as whom."""

    spec: Manifest
    argv: list[str]
    env: dict[str, str]
    folder: Path
    mounts: dict[str, str]
    user: dict[str, Any]
    processes: set[Process] = field(default_factory=set)
    running: bool = False
    ready: bool = False
    restarts: int = 0
    exit_code: int | None = None

    @property
    def log(self) -> Path:
        """Where stdout and stderr go."""
        return self.folder / f"{self.spec['name']}.log"

    def local(self, text: str) -> str:
        """Replace mountPaths by the directories behind them."""
        paths = "|".join(re.escape(path) for path in sorted(self.mounts, key=len, reverse=True))
        pattern = rf"(?:(?<=://)|(?<![\w./-]))(?:{paths})(?![\w.-])"
        return re.sub(pattern, lambda match: self.mounts[match[0]], text) if paths else text

    async def start(self, argv: Sequence[str], *, out: IO[bytes] | int, **streams: Any) -> Process:
        """Start a process of this container; OSError when there is no such program."""
        options: dict[str, Any] = {"stdin": DEVNULL, "stdout": out, "stderr": out} | streams
        options |= {"cwd": self.folder, "start_new_session": True} | self.user
        words = [self.local(word) for word in argv]
        env = {name: self.local(value) for name, value in self.env.items()}
        process: Process = await asyncio.create_subprocess_exec(
            words[0], *words[1:], env=env, **options
        )
        self.processes.add(process)
        return process

    async def kill(self, process: Process, grace_s: float = 0) -> None:
        """End a process and the session it leads: TERM, and KILL when it or the grace period ended.

        Its pipes are closed too, whatever is in them: a stream that nobody reads on would keep them open.
        """
        try:
            if grace_s > 0:
                _signal(process, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), grace_s)
            _signal(process, signal.SIGKILL)
            await process.wait()
        finally:
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  # asyncio has no public way
            self.processes.discard(process)


def _signal(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def resolve(state: State, pod: Manifest, root: Path) -> list[Container]:
    """The containers of a pod, volumes written out, environment looked up, or a LackingError."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    folder = root / "pods" / pod["metadata"]["uid"]
    folder.mkdir(parents=True, exist_ok=True)
    asked = spec.get("volumes") or []
    volumes = {v["name"]: _volume(state, namespace, v, root, folder) for v in asked}
    _refuse("initContainers" in spec, "initContainers")
    made = []
    for each in spec["containers"]:
        _refuse(bool(each.keys() & {"envFrom", "workingDir"}), "envFrom and workingDir")
        user = _user((spec.get("securityContext") or {}) | (each.get("securityContext") or {}))
        mounts = {}
        for mount in each.get("volumeMounts") or []:
            _refuse("subPath" in mount, "subPath")
            mounts[mount["mountPath"].rstrip("/")] = str(volumes[mount["name"]])
        for path in (folder, *map(Path, mounts.values())):
            if user and path.stat().st_uid != user["user"]:
                for below in (path, *path.rglob("*")):
                    os.chown(below, user["user"], user["group"], follow_symlinks=False)
        env = _environment(state, pod, each, folder)
        argv = [_expand(w, env) for w in [*(each.get("command") or []), *(each.get("args") or [])]]
        argv = argv if each.get("command") else ["sleep", "infinity"]
        made.append(Container(each, argv, env, folder, mounts, user))
    return made


def _refuse(asked: bool, what: str) -> None:  # noqa: FBT001  # the question that the name asks
    if asked:
        raise LackingError(f"the sandbox does not do this: {what}")


def _user(context: Manifest) -> dict[str, Any]:
    user = context.get("runAsUser")
    if user is None or os.geteuid() != 0:
        return {}
    return {"user": user, "group": context.get("runAsGroup", user), "extra_groups": []}


def _volume(state: State, namespace: str, volume: Manifest, root: Path, folder: Path) -> Path:
    path = folder / "volumes" / str(volume["name"])
    files: dict[str, bytes] = {}
    match volume:
        case {"persistentVolumeClaim": {"claimName": name}}:
            entry = state.get(("", "persistentvolumeclaims"), namespace, name)
            if entry is None or follow(entry.manifest, "status", "phase") != "Bound":
                raise LackingError(f"claim {name!r} is not bound")
            path = root / "volumes" / str(entry.manifest["spec"]["volumeName"])
        case {"configMap": {"items": _}} | {"secret": {"items": _}}:
            _refuse(True, "items of a volume")
        case {"configMap": {"name": name}}:
            files = _data(state, namespace, "configmaps", name)
        case {"secret": {"secretName": name}}:
            files = _data(state, namespace, "secrets", name)
        case _:
            _refuse("emptyDir" not in volume, f"volume {volume['name']!r} of its type")
    path.mkdir(parents=True, exist_ok=True)
    for file_name, content in files.items():
        (path / file_name).write_bytes(content)
    return path


def _data(state: State, namespace: str, plural: str, name: str) -> dict[str, bytes]:
    if (entry := state.get(("", plural), namespace, name)) is None:
        raise LackingError(f'{plural.removesuffix("s")} "{name}" not found')
    plain, coded = entry.manifest.get("data") or {}, entry.manifest.get("binaryData") or {}
    if plural == "secrets":
        plain, coded = {}, plain
    data = {k: v.encode() for k, v in plain.items()}
    return data | {k: base64.b64decode(v) for k, v in coded.items()}


def _environment(state: State, pod: Manifest, spec: Manifest, folder: Path) -> dict[str, str]:
    servers = sorted(str(p) for p in Path("/usr/lib/postgresql").glob("*/bin"))
    path = ":".join([os.environ.get("PATH", os.defpath), *servers])
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    env = {"PATH": path, "HOME": str(folder), "HOSTNAME": name, "LANG": "C.UTF-8"}
    for variable in spec.get("env") or []:
        value = variable.get("value") or ""
        for kind, ref in (variable.get("valueFrom") or {}).items():
            _refuse(kind not in ("secretKeyRef", "configMapKeyRef"), f"env from {kind}")
            plural = kind.removesuffix("KeyRef").lower() + "s"
            data = _data(state, namespace, plural, ref["name"])
            if ref["key"] not in data:
                raise LackingError(f"{plural} {ref['name']!r} has no key {ref['key']!r}")
            value = data[ref["key"]].decode()
        env[variable["name"]] = _expand(value, env)
    return env


def _expand(text: str, env: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: env.get(match[1], match[0]), text)
