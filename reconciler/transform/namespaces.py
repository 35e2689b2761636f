"""Namespace mapping: everything in an object that names a captured namespace names the target's instead.

Reached are, in the built-in kinds and those of `*.k8s.io`, every field called `namespace` (subjects of role bindings,
services of webhooks and APIServices, `claimRef`, `dataSourceRef`, Gateway routes and grants, parameters of
classes); in custom resources those inside a reference (`…Ref`, `…Refs` and the names in `_REFERENCES`); everywhere
lists called `namespaces`, `matchNames`, selectors on the label `kubernetes.io/metadata.name`, groups and users of
service accounts, a few annotations, and of the built-in kinds the fields that hold the name of a host: `externalName`
of a Service, the URL of a webhook, the host of a probe or rule, search domains of a Pod. A rule about Namespaces by
name (`resourceNames`) counts too. Labels of objects are not renamed.

Text that only looks like it (`web.shop.svc` in env, args, annotations or configuration; a `namespace` of a custom
resource outside a reference) is reported and left alone: nobody but its owner knows what it means.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from reconciler.objects import Manifest, duplicate, group_of, metadata_of
from reconciler.transform.change import Change

BY = "namespace"
WARNINGS_MAX = 20
_NAME_LABEL = "kubernetes.io/metadata.name"
_BUILT_IN = frozenset(("", "apps", "batch", "policy", "autoscaling", "extensions", "events"))
_LISTS = frozenset(("namespaces", "matchNames"))
_FIELDS = frozenset(("targetNamespace", "secretNamespace", "storageNamespace"))
_REFERENCES = frozenset(
    (
        "alertmanagers",
        "configMap",
        "destination",
        "secret",
        "service",
        "serviceAccount",
        "serviceAccounts",
        "subject",
        "subjects",
    )
)
_PLAIN = frozenset(
    (
        "annotations",
        "labels",
        "matchLabels",
        "nodeSelector",
        "selector",
        "hard",
        "limits",
        "requests",
    )
)
"""Maps of free keys, where `namespace` is somebody's label."""
_ANNOTATIONS = (
    "meta.helm.sh/release-namespace",
    "cert-manager.io/inject-ca-from",
    "cert-manager.io/inject-ca-from-secret",
    "nginx.ingress.kubernetes.io/auth-secret",
    "nginx.ingress.kubernetes.io/auth-tls-secret",
    "nginx.ingress.kubernetes.io/proxy-ssl-secret",
)
"""Their values are a namespace, or `namespace/name`."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_URL = re.compile(r"(https?://)([^/:?#]+)(.*)", re.DOTALL)


def map_namespaces(manifest: Manifest, mapping: Mapping[str, str]) -> tuple[Manifest, list[Change]]:
    """Rename namespaces in a copy of an object."""
    moved = {old: new for old, new in mapping.items() if old != new}
    copy = duplicate(manifest)
    if not moved:
        return copy, []
    mapper = _Mapper(copy, moved)
    mapper.run()
    return copy, mapper.changes


class _Mapper:
    """One object's walk."""

    def __init__(self, manifest: Manifest, mapping: Mapping[str, str]) -> None:
        group = group_of(str(manifest.get("apiVersion", "")))
        self._manifest = manifest
        self._mapping = mapping
        self._custom = group not in _BUILT_IN and not group.endswith(".k8s.io")
        names = "|".join(re.escape(name) for name in mapping)
        self._address = re.compile(
            rf"\.(?:{names})\.svc(?![a-z0-9-])|://(?:[^/@\s]*@)?[a-z0-9-]+\.(?:{names})(?![a-z0-9.-])"
        )
        self._warnings = 0
        self._moved: set[str] = set()
        """Paths of host names that were rewritten: where two namespaces swap, they still look like one to move."""
        self.changes: list[Change] = []

    def run(self) -> None:
        manifest, metadata = self._manifest, metadata_of(self._manifest)
        self._field(metadata, "namespace", "metadata.namespace")
        if manifest.get("kind") == "Namespace" and manifest.get("apiVersion") == "v1":
            self._field(metadata, "name", "metadata.name")
            self._label(metadata.get("labels"), "metadata.labels")
        self._annotations(metadata.get("annotations"))
        if manifest.get("kind") == "Secret" and manifest.get("apiVersion") == "v1":
            self._secret(manifest)
            return
        opaque = manifest.get("kind") == "ConfigMap" and manifest.get("apiVersion") == "v1"
        for section, body in manifest.items():
            if section not in ("metadata", "status", "apiVersion", "kind"):
                self._walk(body, section, section, opaque=opaque)

    def _walk(self, value: Any, path: str, key: str, *, opaque: bool) -> None:
        if isinstance(value, str):
            if path not in self._moved and self._address.search(value):
                self._warn(f"{path}: names a service of a mapped namespace; not rewritten")
        elif isinstance(value, list):
            if key in _LISTS and not opaque:
                self._list(value, path)
            for n, inner in enumerate(value):
                self._walk(inner, f"{path}[{n}]", key, opaque=opaque)
        elif isinstance(value, dict):
            if not opaque:
                self._map(value, path, key)
            for name, inner in value.items():
                self._walk(inner, f"{path}.{name}", name, opaque=opaque)

    def _map(self, value: dict[str, Any], path: str, key: str) -> None:
        refers = not self._custom or key in _REFERENCES or key.endswith(("Ref", "Refs"))
        if key in _PLAIN or (key == "parameters" and "kind" not in value):
            pass
        elif refers:
            self._field(value, "namespace", f"{path}.namespace")
        elif self._names(value.get("namespace")):
            self._warn(f"{path}.namespace: is a mapped namespace; not rewritten")
        for name in _FIELDS & value.keys():
            self._field(value, name, f"{path}.{name}")
        for name in [
            name for name in value if name.endswith(("-secret-namespace", "SecretNamespace"))
        ]:
            self._field(value, name, f"{path}.{name}")
        if key == "matchLabels":
            self._label(value, path)
        if value.get("key") == _NAME_LABEL and isinstance(value.get("values"), list):
            self._list(value["values"], f"{path}.values")
        if key == "subjects" and value.get("kind") in ("Group", "User"):
            self._account(value, path)
        if not self._custom:
            self._hosts(value, path, key)
            if key == "rules" and "resourceNames" in value:
                self._rule(value, path)

    def _names(self, value: Any) -> bool:
        return isinstance(value, str) and value in self._mapping

    def _field(self, value: dict[str, Any], name: str, path: str) -> None:
        old = value.get(name)
        if self._names(old):
            value[name] = self._mapping[str(old)]
            self.changes.append(Change(BY, f"{path}: {old} → {value[name]}"))

    def _hosts(self, value: dict[str, Any], path: str, key: str) -> None:
        """Fields that hold a host's name, whole or in a URL."""
        self._host(value, "host", f"{path}.host")
        if key == "spec":
            # Inside a cluster `hook.shop` means the service too, and here nothing but a name can stand.
            self._host(value, "externalName", f"{path}.externalName", is_short=True)
        if key == "clientConfig" and (url := _URL.fullmatch(str(value.get("url", "")))):
            self._replace(value, "url", f"{path}.url", url[1] + self._renamed(url[2]) + url[3])
        if key == "dnsConfig" and isinstance(value.get("searches"), list):
            for n, domain in enumerate(value["searches"]):
                if isinstance(domain, str):
                    where = f"{path}.searches[{n}]"
                    self._replace(value["searches"], n, where, self._renamed(domain, first=0))

    def _host(self, value: dict[str, Any], name: str, path: str, *, is_short: bool = False) -> None:
        if isinstance(value.get(name), str):
            self._replace(value, name, path, self._renamed(value[name], is_short=is_short))

    def _renamed(self, host: str, *, first: int = 1, is_short: bool = False) -> str:
        """`[…].<service>.<namespace>.svc[.<domain>]` with the namespace of the target."""
        labels = host.split(".")
        for at in range(first, len(labels)):
            is_place = labels[at + 1 : at + 2] == ["svc"] or (
                is_short and at == 1 == len(labels) - 1
            )
            if is_place and labels[at] in self._mapping:
                labels[at] = self._mapping[labels[at]]
                break
        return ".".join(labels)

    def _replace(self, holder: Any, key: str | int, path: str, new: str) -> None:
        old = holder[key]
        if new != old:
            holder[key] = new
            self._moved.add(path)
            self.changes.append(Change(BY, f"{path}: {old} → {new}"))

    def _rule(self, rule: dict[str, Any], path: str) -> None:
        """A rule of a ClusterRole for Namespaces by name; of other kinds the names mean something else."""
        resources, names = rule.get("resources"), rule["resourceNames"]
        if not isinstance(resources, list) or not isinstance(names, list):
            return
        of_namespaces = [str(one).split("/")[0] == "namespaces" for one in resources]
        if of_namespaces and all(of_namespaces):
            self._list(names, f"{path}.resourceNames")
        elif any(of_namespaces) and any(self._names(name) for name in names):
            self._warn(
                f"{path}.resourceNames: names a mapped namespace among others; not rewritten"
            )

    def _label(self, labels: Any, path: str) -> None:
        if isinstance(labels, dict):
            self._field(labels, _NAME_LABEL, f"{path}[{_NAME_LABEL}]")

    def _list(self, names: list[Any], path: str) -> None:
        for n, old in enumerate(names):
            if self._names(old):
                names[n] = self._mapping[old]
                self.changes.append(Change(BY, f"{path}[{n}]: {old} → {names[n]}"))

    def _account(self, subject: dict[str, Any], path: str) -> None:
        """`system:serviceaccounts:<namespace>`, `system:serviceaccount:<namespace>:<name>`."""
        parts = str(subject.get("name", "")).split(":")
        if parts[:2] not in (["system", "serviceaccounts"], ["system", "serviceaccount"]):
            return
        if len(parts) > 2 and self._names(parts[2]):
            old, parts[2] = parts[2], self._mapping[parts[2]]
            subject["name"] = ":".join(parts)
            self.changes.append(Change(BY, f"{path}.name: {old} → {parts[2]}"))

    def _annotations(self, annotations: Any) -> None:
        if not isinstance(annotations, dict):
            return
        for name in _ANNOTATIONS:
            old, slash, rest = str(annotations.get(name, "")).partition("/")
            if self._names(old):
                annotations[name] = self._mapping[old] + slash + rest
                what = f"metadata.annotations[{name}]: {old} → {self._mapping[old]}"
                self.changes.append(Change(BY, what))
        for name, value in annotations.items():
            if name != _LAST_APPLIED and self._address.search(str(value)):
                where = f"metadata.annotations[{name}]"
                self._warn(f"{where}: names a service of a mapped namespace; not rewritten")

    def _secret(self, manifest: Manifest) -> None:
        """Say that a value names the old namespace, and never which value."""
        for section in ("data", "stringData"):
            for key, value in (manifest.get(section) or {}).items():
                if not isinstance(value, str):
                    continue
                try:
                    raw = base64.b64decode(value) if section == "data" else value.encode()
                except ValueError:
                    continue
                if self._address.search(raw.decode("utf-8", "replace")):
                    where = f"{section}[{key}]"
                    self._warn(f"{where}: names a service of a mapped namespace; not rewritten")

    def _warn(self, what: str) -> None:
        self._warnings += 1
        if self._warnings <= WARNINGS_MAX:
            self.changes.append(Change(BY, what, warning=True))
        elif self._warnings == WARNINGS_MAX + 1:
            self.changes.append(Change(BY, "… and more of the same", warning=True))
