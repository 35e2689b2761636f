"""Pod Security Standards, checked without a server: for a namespace that is still to be made.

Where the namespace exists the server is asked instead (`pods`). Checked are the controls of `baseline` and
`restricted` in their newest form, for pods of Linux; a check that is not here passes.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.objects import Manifest, field

ENFORCE = "pod-security.kubernetes.io/enforce"
_BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_RESTRICTED_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)


def violations(spec: Manifest, level: str) -> list[str]:
    """What in a pod spec a level forbids, in the words of its fields."""
    if level not in ("baseline", "restricted"):
        return []
    found = list(_baseline(spec))
    if level == "restricted":
        found += _restricted(spec)
    return found


def _containers(spec: Manifest) -> Iterator[dict[str, Any]]:
    for part in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(part) or []


def _baseline(spec: Manifest) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield name
    for volume in spec.get("volumes") or []:
        if "hostPath" in volume:
            yield f"hostPath volume {volume.get('name')}"
    if field(spec, "securityContext", "seccompProfile", "type") == "Unconfined":
        yield "seccompProfile Unconfined"
    for container in _containers(spec):
        context: dict[str, Any] = container.get("securityContext") or {}
        name = str(container.get("name"))
        if context.get("privileged"):
            yield f"privileged container {name}"
        if any(port.get("hostPort") for port in container.get("ports") or []):
            yield f"hostPort of container {name}"
        if context.get("procMount") not in (None, "Default"):
            yield f"procMount of container {name}"
        if field(context, "seccompProfile", "type") == "Unconfined":
            yield f"seccompProfile Unconfined of container {name}"
        added = set(field(context, "capabilities", "add", default=[]))
        if added - _BASELINE_CAPABILITIES:
            yield f"capabilities {', '.join(sorted(added - _BASELINE_CAPABILITIES))} of container {name}"


def _restricted(spec: Manifest) -> Iterator[str]:
    for volume in spec.get("volumes") or []:
        kinds = {key for key in volume if key != "name"}
        if kinds and not kinds & _RESTRICTED_VOLUMES and "hostPath" not in kinds:
            yield f"volume {volume.get('name')} of a kind that is not allowed"
    whole = spec.get("securityContext") or {}
    if whole.get("runAsUser") == 0:
        yield "runAsUser=0"
    for container in _containers(spec):
        yield from _restricted_container(container, whole)


def _restricted_container(container: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    context: Mapping[str, Any] = container.get("securityContext") or {}
    name = container.get("name")
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"allowPrivilegeEscalation != false of container {name}"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield f"capabilities.drop without ALL of container {name}"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"capabilities.add of container {name}"
    if context.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True:
        yield f"runAsNonRoot != true of container {name}"
    if context.get("runAsUser") == 0:
        yield f"runAsUser=0 of container {name}"
    profile = context.get("seccompProfile") or whole.get("seccompProfile") or {}
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"seccompProfile of container {name}"
