"""What is served: the rows of a profile's data file and the CRDs registered at run time, as discovery.

A row is one resource at one version. `bucket` says where its objects are stored, so that several versions,
and several groups where a real server does so, show the same objects.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import msgspec

from reconciler.cluster.sandbox.status import StatusError
from reconciler.objects import Manifest, join_api_version

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
Bucket = tuple[str, str]
DATA = files(__package__).joinpath("data")
RULES: dict[str, Any] = msgspec.json.decode(DATA.joinpath("rules.json").read_bytes())
"""What other modules look up about kinds: merge keys, defaults, immutable and required fields, the seed."""


class Row(msgspec.Struct, frozen=True, rename="camel", eq=False):
    """One resource at one version; the fields are those of discovery."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[str, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    stored_in: str | None = None
    custom: bool = False

    @property
    def api_version(self) -> str:
        """`apps/v1`."""
        return join_api_version(self.group, self.version)

    @property
    def bucket(self) -> Bucket:
        """Where the objects are: (group, plural)."""
        return (self.group if self.stored_in is None else self.stored_in, self.plural)

    @property
    def full_kind(self) -> str:
        """`Deployment.apps`, as the rules name kinds."""
        return ".".join(filter(None, (self.kind, self.bucket[0])))


class Profile(msgspec.Struct, rename="camel"):
    """A Kubernetes version as a data file describes it."""

    git_version: str
    major: str
    minor: str
    aggregated_discovery: bool
    rows: list[Row]


class Catalog:
    """The served resources of a profile; they change when CRDs come and go."""

    def __init__(self, profile: str) -> None:
        known = sorted(p.name.removesuffix(".json") for p in DATA.iterdir() if p.name[0].isdigit())
        if profile not in known:
            there = ", ".join(known)
            raise ValueError(f"start the sandbox: no profile {profile!r}; there are {there}")
        data = DATA.joinpath(f"{profile}.json").read_bytes()
        self.profile = msgspec.json.decode(data, type=Profile)
        self.stale: set[str] = set()
        """Group/versions whose (pretended) aggregated server does not answer."""
        self._custom: dict[str, list[Row]] = {}
        self._index()

    def _index(self) -> None:
        self.rows = [*self.profile.rows, *(r for rows in self._custom.values() for r in rows)]
        self._by_path = {(r.group, r.version, r.plural): r for r in self.rows}
        self.by_bucket = {r.bucket: r for r in reversed(self.rows) if r.stored_in is None}

    def row(self, group: str, version: str, plural: str) -> Row:
        """Find what a path names, or raise the 404 of a real server."""
        if (found := self._by_path.get((group, version, plural))) is None:
            raise StatusError(404, "the server could not find the requested resource")
        return found

    def register(self, crd: Manifest) -> None:
        """Serve what a CustomResourceDefinition declares."""
        spec, names = crd["spec"], crd["spec"]["names"]
        self._custom[crd["metadata"]["name"]] = [
            Row(
                spec["group"],
                version["name"],
                names["kind"],
                names["plural"],
                spec["scope"] == "Namespaced",
                subresources=tuple(version.get("subresources") or spec.get("subresources") or ()),
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                custom=True,
            )
            for version in sorted(spec["versions"], key=lambda v: _priority(v["name"]))
            if version.get("served", True)
        ]
        self._index()

    def unregister(self, name: str) -> None:
        """Stop serving what a deleted CustomResourceDefinition declared."""
        self._custom.pop(name, None)
        self._index()

    def _groups(self) -> dict[str, dict[str, list[Row]]]:
        groups: dict[str, dict[str, list[Row]]] = {}
        for row in self.rows:
            groups.setdefault(row.group, {}).setdefault(row.version, []).append(row)
        for name in self.stale:
            group, _, version = name.partition("/")
            groups.setdefault(group, {})[version] = []
        return groups

    def aggregated(self, *, core: bool) -> Manifest:
        """The APIGroupDiscoveryList of `/api` or of `/apis`."""
        items = []
        for group, versions in self._groups().items():
            shown = []
            for version, rows in versions.items():
                entry = {"version": version, "resources": [_aggregated(row) for row in rows]}
                freshness = "Stale" if f"{group}/{version}" in self.stale else "Current"
                shown.append(entry | {"freshness": freshness})
            if (group == "") is core:
                items.append({"metadata": {"name": group} if group else {}, "versions": shown})
        about = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2"}
        return about | {"metadata": {}, "items": items}

    def groups(self) -> Manifest:
        """The APIGroupList of `/apis`."""
        groups = self._groups().items()
        shown = {n: [{"groupVersion": f"{n}/{v}", "version": v} for v in vs] for n, vs in groups}
        named = [{"name": n, "versions": v, "preferredVersion": v[0]} for n, v in shown.items()]
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [g for g in named if g["name"]],
        }

    def resources(self, group: str, version: str) -> Manifest:
        """The APIResourceList of `/api/v1` or `/apis/GROUP/VERSION`."""
        if f"{group}/{version}" in self.stale:
            raise StatusError(503, "the server is currently unable to handle the request")
        if version not in self._groups().get(group, {}):
            raise StatusError(404, "the server could not find the requested resource")
        resources: list[Manifest] = []
        for row in self._groups()[group][version]:
            about = {"namespaced": row.namespaced, "kind": row.kind, "singularName": ""}
            name = {"name": row.plural, "singularName": row.kind.lower(), "verbs": row.verbs}
            resources.append(about | name | _words(row))
            subs = {f"{row.plural}/{sub}": _verbs(sub) for sub in row.subresources}
            resources += [about | {"name": n, "verbs": verbs} for n, verbs in subs.items()]
        listed = {"groupVersion": join_api_version(group, version), "resources": resources}
        return {"kind": "APIResourceList", "apiVersion": "v1", **listed}


def _words(row: Row) -> Manifest:
    words = {"shortNames": row.short_names, "categories": row.categories}
    return {key: value for key, value in words.items() if value}


def _aggregated(row: Row) -> Manifest:
    kind = {"group": row.group, "version": row.version, "kind": row.kind}
    subs = [{"subresource": sub, "verbs": _verbs(sub)} for sub in row.subresources]
    return _words(row) | {
        "resource": row.plural,
        "responseKind": kind,
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.kind.lower(),
        "verbs": row.verbs,
        "subresources": [{"responseKind": kind} | sub for sub in subs],
    }


def _verbs(sub: str) -> list[str]:
    if sub in ("status", "scale", "approval", "finalize"):
        return ["get", "patch", "update"]
    return ["get"] if sub == "log" else ["create"]


def _priority(version: str) -> tuple[int, int, int]:
    """Kubernetes' order of versions: v2, v1, v1beta2, v1beta1, v1alpha1, then other words."""
    found = re.fullmatch(r"v(\d+)(alpha|beta|)(\d*)", version)
    stage = ["", "beta", "alpha"].index(found[2]) if found else 3
    return (stage, -int(found[1]), -int(found[3] or 0)) if found else (stage, 0, 0)
