"""What a request does to the state: create, update, patch and delete, with a real server's checks.

Controllers write through the same verbs under their own names. Nothing here waits; all of it runs on the
server's event loop.
"""

from __future__ import annotations

import base64
import re
import secrets
import uuid
from dataclasses import replace
from typing import Any

from reconciler.clock import Clock, format_instant
from reconciler.cluster.sandbox import fields, patch
from reconciler.cluster.sandbox.catalog import RULES, Catalog, Row
from reconciler.cluster.sandbox.fields import Write
from reconciler.cluster.sandbox.state import Entry, State
from reconciler.cluster.sandbox.status import StatusError, invalid, success
from reconciler.objects import Manifest
from reconciler.objects import field as follow

_ENDING = ("deletionTimestamp", "deletionGracePeriodSeconds")
_KEPT = ("uid", "creationTimestamp", "generation", *_ENDING)
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_CLASSES = ("storage.k8s.io", "storageclasses")


class Api:
    """The verbs over one state."""

    def __init__(self, catalog: Catalog, state: State, clock: Clock) -> None:
        self.catalog, self.state, self.clock = catalog, state, clock
        self.held: set[str] = set()
        """Uids of terminating pods whose processes have not ended yet."""

    def now(self) -> str:
        """The present second, as metadata writes it."""
        return format_instant(self.clock.now().replace(microsecond=0))

    def row(self, plural: str, group: str = "") -> Row:
        """The preferred row of a resource."""
        return self.catalog.by_bucket[(group, plural)]

    def find(self, row: Row, namespace: str, name: str) -> Entry:
        """One object, or 404."""
        if (entry := self.state.get(row.bucket, namespace, name)) is None:
            resource = f"{row.plural}.{row.group}".rstrip(".")
            raise StatusError(404, f'{resource} "{name}" not found', name=name, kind=row.plural)
        return entry

    def create(self, row: Row, body: Manifest, namespace: str, how: Write) -> Manifest:
        """POST; `body` is taken over."""
        metadata = _checked(row, body, namespace)
        if metadata.get("resourceVersion"):
            raise StatusError(400, "resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(secrets.choice(_ALPHABET) for _ in range(5))
            metadata["name"] = metadata["generateName"][:248] + suffix
        name = metadata.get("name") or ""
        pattern = r"[^/%]+" if row.group == "rbac.authorization.k8s.io" else _NAME
        if len(name) > 253 or not re.fullmatch(pattern, name):
            why = f'Invalid value: "{name}": a lowercase RFC 1123 name is needed'
            raise invalid(row.kind, name, "metadata.name", why)
        if row.namespaced and self.find(self.row("namespaces"), "", namespace).is_ending:
            message = f'{row.plural} "{name}" is forbidden: unable to create new content in '
            message += f"namespace {namespace} because it is being terminated"
            raise StatusError(403, message, causes=[{"reason": "NamespaceTerminating"}])
        if self.state.get(row.bucket, namespace, name):
            message = f'{row.plural} "{name}" already exists'
            raise StatusError(409, message, reason="AlreadyExists", name=name, kind=row.plural)
        for key in (*_KEPT, "managedFields"):
            metadata.pop(key, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": self.now()}
        if "status" in row.subresources:
            body.pop("status", None)
        self._complete(row, body)
        if finalizer := RULES["finalizers"].get(row.full_kind):
            metadata["finalizers"] = [*metadata.get("finalizers", []), finalizer]
        if row.custom or row.group not in RULES["noGenerationGroups"]:
            metadata["generation"] = 1
        self._own({}, body, row, how)
        if row.full_kind == "Service" and body["spec"]["type"] != "ExternalName":
            # Allocated after the owners are noted: nobody owns an address that was not asked for.
            address = f"10.96.{self.state.version // 250 % 250}.{1 + self.state.version % 250}"
            address = body["spec"].setdefault("clusterIP", address)
            body["spec"]["clusterIPs"] = [address]
        return body if how.dry_run else self.state.put(row.bucket, body).manifest

    def _complete(self, row: Row, body: Manifest, old: Manifest | None = None) -> None:
        """Check what is required; fill in what may be left out."""
        kind, metadata = row.full_kind, body["metadata"]
        for path in RULES["required"].get(kind, ()):
            if follow(body, *path.split(".")) in (None, "", [], {}):
                raise invalid(row.kind, metadata["name"], path, "Required value")
        _fill(body, RULES["defaults"].get(kind, {}))
        match kind:
            case "Namespace":
                labels = metadata.get("labels") or {}
                metadata["labels"] = labels | {"kubernetes.io/metadata.name": metadata["name"]}
            case "Service" if old:
                kept = {k: v for k, v in old["spec"].items() if k in ("clusterIP", "clusterIPs")}
                body["spec"] = kept | body["spec"]
            case "Secret":
                for key, text in (body.pop("stringData", None) or {}).items():
                    body.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()
            case "PersistentVolumeClaim" if "storageClassName" not in body["spec"]:
                for entry in self.state.select(_CLASSES):
                    notes = entry.manifest["metadata"].get("annotations") or {}
                    if notes.get("storageclass.kubernetes.io/is-default-class") == "true":
                        body["spec"]["storageClassName"] = entry.key[1]

    def update(self, row: Row, body: Manifest, namespace: str, name: str, how: Write) -> Manifest:
        """PUT, also of a subresource; `body` is taken over."""
        entry = self.find(row, namespace, name)
        sent = _checked(row, body, namespace, name)
        old = entry.manifest
        _guard(row, old, sent)
        strict = row.custom or row.kind in RULES["versionRequired"]
        if strict and not sent.get("resourceVersion"):
            why = "Invalid value: 0: must be specified for an update"
            raise invalid(row.kind, name, "metadata.resourceVersion", why)
        if how.subresource:
            status = {"status": body["status"]} if "status" in body else {}
            body = entry.thaw() | status | {"apiVersion": row.api_version}
        else:
            if "status" in row.subresources:
                body.pop("status", None)
                body |= {"status": old["status"]} if "status" in old else {}
            body["metadata"] |= {k: old["metadata"][k] for k in _KEPT if k in old["metadata"]}
            self._complete(row, body, old)
            _immutable(row, old, body)
        return self.write(row, entry, body, how)

    def write(self, row: Row, entry: Entry, body: Manifest, how: Write) -> Manifest:
        """Store a new state of an object, unless nothing changed; removes it when its end was awaited."""
        old, metadata = entry.manifest | {"apiVersion": body["apiVersion"]}, body["metadata"]
        changed = {k for k in old.keys() | body.keys() if old.get(k) != body.get(k)}
        if changed - {"metadata", "status"} and "generation" in old["metadata"]:
            metadata["generation"] = old["metadata"]["generation"] + 1
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        given = metadata.get("managedFields")
        if given is not None and not how.subresource:
            given = [m for m in given if m]
            old = old | {"metadata": old["metadata"] | {"managedFields": given}}
        self._own(old, body, row, how)
        if how.dry_run or body == entry.manifest | {"apiVersion": body["apiVersion"]}:
            return body
        return self.finish(self.state.put(row.bucket, body))

    def _own(self, old: Manifest, new: Manifest, row: Row, how: Write) -> None:
        unowned = ("status",) if "status" in row.subresources and not how.subresource else ()
        old, seen = ({k: v for k, v in m.items() if k not in unowned} for m in (old, new))
        new["metadata"]["managedFields"] = fields.record(old, seen, how=how, time=self.now())

    def patch(
        self, row: Row, body: Any, namespace: str, name: str, *, style: str, how: Write
    ) -> tuple[Manifest, bool]:
        """PATCH in one of four styles; the flag says that apply created the object."""
        if style == "apply":
            sent = _checked(row, body, namespace, name)
            if sent.get("managedFields"):
                raise StatusError(400, "metadata.managedFields must be nil")
            how = replace(how, applied=set(fields.owned(body)))
            if self.state.get(row.bucket, namespace, name) is None:
                return self.create(row, body, namespace, how), True
        live = self.find(row, namespace, name).thaw() | {"apiVersion": row.api_version}
        if style == "json":
            new = patch.json_patch(live, body)
        elif style == "apply":
            new = fields.apply(live, body, manager=how.manager)
        elif style == "strategic" and row.custom:
            raise StatusError(415, "the body of the request was in an unknown format: strategic")
        else:
            new = patch.merge(live, body, lists=style == "strategic")
        if style != "json" and not (body.get("metadata") or {}).get("resourceVersion"):
            new["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return self.update(row, new, namespace, name, how), False

    def delete(self, row: Row, namespace: str, name: str, options: Manifest) -> Manifest:
        """DELETE: gone at once, or marked when a finalizer, a process or a namespace's contents hold it."""
        entry = self.find(row, namespace, name)
        _guard(row, entry.manifest, options.get("preconditions") or {})
        done = success(name=name, group=row.group, kind=row.plural, uid=entry.uid)
        if options.get("dryRun"):
            return done
        if options.get("propagationPolicy") == "Orphan":
            for child in [self.state.by_uid[u] for u in self.state.dependents.get(entry.uid, ())]:
                orphan = child.thaw()
                owners = orphan["metadata"]["ownerReferences"]
                owners[:] = [o for o in owners if o["uid"] != entry.uid]
                self.state.put(child.bucket, orphan)
        body, grace = entry.thaw(), 0
        metadata = body["metadata"]
        self.held.discard(entry.uid)
        match row.full_kind:
            case "Pod" if options.get("gracePeriodSeconds") != 0:
                grace = body["spec"]["terminationGracePeriodSeconds"]
                grace = options.get("gracePeriodSeconds", grace)
                self.held.add(entry.uid)
            case "Namespace":
                body.setdefault("status", {})["phase"] = "Terminating"
            case "CustomResourceDefinition.apiextensions.k8s.io":
                finalizers = {*(metadata.get("finalizers") or ()), CLEANUP}
                metadata["finalizers"] = sorted(finalizers)
        metadata.setdefault("deletionTimestamp", self.now())
        metadata["deletionGracePeriodSeconds"] = grace
        if self._is_free(body):
            self.state.remove(entry)
            return done
        if body != entry.manifest:
            self.state.put(entry.bucket, body)
        return body

    def _is_free(self, body: Manifest) -> bool:
        waits = body["kind"] == "Namespace" and follow(body, "spec", "finalizers")
        metadata = body["metadata"]
        return not (metadata.get("finalizers") or waits or metadata["uid"] in self.held)

    def finish(self, entry: Entry) -> Manifest:
        """Remove a terminating object that nothing holds any more."""
        free = entry.is_ending and self._is_free(entry.manifest)
        return self.state.remove(entry) if free else entry.manifest


def _checked(row: Row, body: Any, namespace: str, name: str = "") -> Manifest:
    """The metadata of a body that fits its path."""
    if not isinstance(body, dict) or not isinstance(body.setdefault("metadata", {}), dict):
        raise StatusError(400, "the body is not an object with metadata")
    metadata: Manifest = body["metadata"]
    metadata.setdefault("namespace", namespace) if row.namespaced else metadata.pop("namespace", "")
    wanted = {"apiVersion": row.api_version, "kind": row.kind}
    given = {key: body.setdefault(key, value) for key, value in wanted.items()}
    wanted |= {"name": name} if name else {}
    wanted |= {"namespace": namespace} if row.namespaced else {}
    given |= {k: metadata.setdefault(k, v) for k, v in wanted.items() if k in ("name", "namespace")}
    if given != wanted:
        raise StatusError(400, f"the object provided is {given}, the path serves {wanted}")
    for owner in metadata.get("ownerReferences") or ():
        if not {"apiVersion", "kind", "name", "uid"} <= owner.keys():
            why = "Required value: apiVersion, kind, name and uid"
            raise invalid(row.kind, metadata.get("name", ""), "metadata.ownerReferences", why)
    return metadata


def _guard(row: Row, old: Manifest, sent: Manifest) -> None:
    for key in ("uid", "resourceVersion"):
        if sent.get(key) and sent[key] != old["metadata"][key]:
            name = old["metadata"]["name"]
            why = f"Precondition failed: {key}: the object has been modified; read it and try again"
            message = f'Operation cannot be fulfilled on {row.plural} "{name}": {why}'
            raise StatusError(409, message, name=name, kind=row.plural)


def _immutable(row: Row, old: Manifest, new: Manifest) -> None:
    rules: list[str] = RULES["immutable"].get(row.full_kind, [])
    if old.get("immutable") and row.kind in ("Secret", "ConfigMap"):
        rules = [*rules, "immutable", "data", "binaryData"]
    for rule in rules:
        path, _, free = rule.partition(" - ")
        was, now = (follow(m, *path.split("."), default={}) for m in (old, new))
        if free:
            was, now = ({k: v for k, v in m.items() if k not in free.split()} for m in (was, now))
        if was != now:
            raise invalid(row.kind, old["metadata"]["name"], path, "Forbidden: field is immutable")


def _fill(body: Manifest, defaults: Manifest) -> None:
    for key, value in defaults.items():
        if isinstance(value, dict):
            _fill(body.setdefault(key, {}), value)
        else:
            body.setdefault(key, value)
