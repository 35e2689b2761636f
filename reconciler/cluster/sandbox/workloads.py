"""The one workload controller: Deployments and StatefulSets get their pods.

A Deployment gets a ReplicaSet per template (the newest has the replicas, the others none), a ReplicaSet its
pods; a StatefulSet gets its ordinals in order, each with its claims. A pod of another template is deleted
and comes back from the new one.
"""

from __future__ import annotations

import hashlib
from typing import Any

from reconciler.cluster.sandbox.lifecycle import CLAIMS, PODS, Lifecycle
from reconciler.cluster.sandbox.state import Entry, encode
from reconciler.objects import Manifest
from reconciler.objects import field as follow

_SETS = ("apps", "replicasets")
_HASH, _REVISION = "pod-template-hash", "controller-revision-hash"


class Workloads:
    """The controller of one sandbox."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.lifecycle, self.state = lifecycle, lifecycle.state
        lifecycle.looks["apps", "deployments"] = self._deployment
        lifecycle.looks[_SETS] = self._replica_set
        lifecycle.looks["apps", "statefulsets"] = self._stateful_set

    def _children(self, owner: Entry, bucket: tuple[str, str]) -> list[Entry]:
        found = [self.state.by_uid[u] for u in self.state.dependents.get(owner.uid, ())]
        return sorted((e for e in found if e.bucket == bucket), key=lambda e: e.key)

    def _create(
        self, bucket: tuple[str, str], owner: Manifest, metadata: Manifest, spec: Manifest
    ) -> None:
        reference = {k: owner[k] for k in ("apiVersion", "kind")}
        reference |= {k: owner["metadata"][k] for k in ("name", "uid")}
        reference |= {"controller": True, "blockOwnerDeletion": True}
        body = {"metadata": metadata | {"ownerReferences": [reference]}, "spec": spec}
        self.lifecycle.create(bucket, owner["metadata"]["namespace"], body)

    def _status(self, entry: Entry, pods: list[Entry], **more: Any) -> None:
        ready = sum(map(_is_ready, pods))
        counts = {"replicas": len(pods), "readyReplicas": ready, "availableReplicas": ready} | more
        entry = self.state.by_uid[entry.uid]
        counts["observedGeneration"] = entry.manifest["metadata"]["generation"]
        self.lifecycle.store(entry, entry.thaw() | {"status": counts}, status=True)

    def _deployment(self, entry: Entry, body: Manifest) -> None:
        if entry.is_ending:
            return
        spec, template = body["spec"], body["spec"]["template"]
        label = {_HASH: _digest(template)}
        sets = self._children(entry, _SETS)
        if not any(_label(each, _HASH) == label[_HASH] for each in sets):
            inner = {"template": template | {"metadata": _labelled(template, label)}}
            labels = follow(spec, "selector", "matchLabels", default={}) | label
            inner |= {"replicas": spec["replicas"], "selector": {"matchLabels": labels}}
            name = {"name": f"{entry.key[1]}-{label[_HASH]}"}
            self._create(_SETS, body, _labelled(template, label) | name, inner)
            return
        for each in sets:
            wanted = spec["replicas"] if _label(each, _HASH) == label[_HASH] else 0
            if each.manifest["spec"]["replicas"] != wanted:
                changed = each.thaw()
                changed["spec"]["replicas"] = wanted
                self.lifecycle.store(each, changed)
        pods = [pod for each in sets for pod in self._children(each, PODS) if _is_active(pod)]
        updated = sum(_label(pod, _HASH) == label[_HASH] for pod in pods)
        enough = sum(map(_is_ready, pods)) >= spec["replicas"]
        done = enough and updated == spec["replicas"]
        shown = [("Available", enough, "MinimumReplicasAvailable")]
        shown += [("Progressing", True, "NewReplicaSetAvailable" if done else "ReplicaSetUpdated")]
        conditions = [{"type": t, "status": str(on), "reason": why} for t, on, why in shown]
        self._status(entry, pods, updatedReplicas=updated, conditions=conditions)

    def _replica_set(self, entry: Entry, body: Manifest) -> None:
        if entry.is_ending:
            return
        wanted, template = body["spec"]["replicas"], body["spec"]["template"]
        pods = [pod for pod in self._children(entry, PODS) if _is_active(pod)]
        for _ in range(wanted - len(pods)):
            metadata = _labelled(template, {}) | {"generateName": f"{entry.key[1]}-"}
            self._create(PODS, body, metadata, dict(template["spec"]))
        self.lifecycle.delete(*sorted(pods, key=_is_ready)[: max(0, len(pods) - wanted)])
        self._status(entry, [pod for pod in self._children(entry, PODS) if _is_active(pod)])

    def _stateful_set(self, entry: Entry, body: Manifest) -> None:
        if entry.is_ending:
            return
        name, spec = entry.key[1], body["spec"]
        revision = f"{name}-{_digest(spec['template'])}"
        pods = {pod.key[1]: pod for pod in self._children(entry, PODS)}
        wanted = [f"{name}-{ordinal}" for ordinal in range(spec["replicas"])]
        missing = next((n for n in wanted if n not in pods), "")
        waiting = [n for n in pods if not (_is_ready(pods[n]) and _is_active(pods[n]))]
        surplus = sorted(pods.keys() - set(wanted), key=lambda n: int(n.rpartition("-")[2]))
        old = [n for n in wanted if n in pods and _label(pods[n], _REVISION) != revision]
        if missing and not set(waiting) & set(wanted[: wanted.index(missing)]):
            self._ordinal(body, missing, revision)
        elif (leaving := (surplus or old)[-1:]) and all(_is_active(pods[n]) for n in pods):
            self.lifecycle.delete(pods[leaving[0]])
        present = [pod for pod in self._children(entry, PODS) if _is_active(pod)]
        updated = sum(_label(pod, _REVISION) == revision for pod in present)
        counts = {"updatedReplicas": updated, "currentReplicas": updated}
        self._status(entry, present, **counts, currentRevision=revision, updateRevision=revision)

    def _ordinal(self, owner: Manifest, name: str, revision: str) -> None:
        template, namespace = owner["spec"]["template"], owner["metadata"]["namespace"]
        labels = {"apps.kubernetes.io/pod-index": name.rpartition("-")[2], _REVISION: revision}
        labels["statefulset.kubernetes.io/pod-name"] = name
        spec = template["spec"] | {"hostname": name}
        volumes = {v["name"]: v for v in spec.get("volumes") or []}
        selector = follow(owner, "spec", "selector", "matchLabels", default={})
        for claim in owner["spec"].get("volumeClaimTemplates") or []:
            volume = claim["metadata"]["name"]
            made = _labelled(claim, selector) | {"name": f"{volume}-{name}"}
            source = {"persistentVolumeClaim": {"claimName": made["name"]}}
            volumes[volume] = {"name": volume} | source
            if self.state.get(CLAIMS, namespace, made["name"]) is None:
                body = {"metadata": made, "spec": dict(claim["spec"])}
                self.lifecycle.create(CLAIMS, namespace, body)
        spec |= {"volumes": list(volumes.values())} if volumes else {}
        self._create(PODS, owner, _labelled(template, labels) | {"name": name}, spec)


def _digest(template: Manifest) -> str:
    return hashlib.sha256(encode(template)).hexdigest()[:10]


def _labelled(source: Manifest, labels: dict[str, str]) -> Manifest:
    metadata = source.get("metadata") or {}
    kept = {"annotations": metadata["annotations"]} if metadata.get("annotations") else {}
    return kept | {"labels": (metadata.get("labels") or {}) | labels}


def _label(entry: Entry, name: str) -> str:
    return str((entry.manifest["metadata"].get("labels") or {}).get(name, ""))


def _is_active(pod: Entry) -> bool:
    return not pod.is_ending and pod.manifest["status"].get("phase") not in ("Succeeded", "Failed")


def _is_ready(pod: Entry) -> bool:
    conditions = pod.manifest["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
