"""Which objects of a plan a dead webhook would refuse, and which only have to wait for it.

A webhook is brought up by the restore when the plan has a workload that its Service selects. Then what it would
refuse waits for that workload. What the workload itself needs cannot wait for it: such an object, and every one that
no workload of the plan helps, is blocked with the reason `WebhookUnavailable`. A server's own refusal in
the dry run counts more than a rule that seems to match, and so does its consent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.cluster.port import Discovery, ResourceType
from reconciler.objects import Manifest, ObjectKey, labels_of, pod_spec_of, version_of
from reconciler.objects import field as field_of
from reconciler.restore.plan.entry import WRITES, Entry, decided
from reconciler.restore.plan.gates import Asked, Gate, Gates, namespace_labels
from reconciler.restore.plan.live import Live
from reconciler.restore.plan.objection import UNAVAILABLE
from reconciler.restore.plan.order import is_workload

_HINT = "bring up its pods, or delete the configuration, then restore again"
_PAUSED_HINT = "take its workload out of spec.pause, or leave the object out"
_NAMED_MAX = 10
_OPERATIONS: dict[str, tuple[str, ...]] = {
    "create": ("CREATE",),
    "update": ("UPDATE",),
    "recreate": ("DELETE", "CREATE"),
}
"""What a server is asked to do for a verdict."""


@dataclass
class Obstacles:
    """The dead webhooks of a target, against one plan."""

    gates: Gates
    entries: Sequence[Entry]
    live: Live
    discovery: Discovery
    stopped: Mapping[ObjectKey, str] = field(default_factory=dict)
    """Objects whose dry run a webhook did not answer → its name."""

    def __post_init__(self) -> None:
        self._by_key = {entry.target: entry for entry in self.entries}
        self._refused: dict[str, list[str]] = {}
        self._helpers: dict[str, list[ObjectKey]] = {}
        self._closures: dict[ObjectKey, frozenset[ObjectKey]] = {}

    def settle(self) -> list[Entry]:
        """Block what a dead webhook would refuse, and let wait what only has to wait."""
        return [self._settle(entry) for entry in self.entries]

    def warnings(self) -> list[str]:
        """What a person should know of the target's admission; complete after `settle`."""
        told = []
        for gate, names in self._refused.items():
            more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
            listed = ", ".join(names[:_NAMED_MAX])
            told.append(f"{UNAVAILABLE}: {gate} would refuse {listed}{more}")
        if self.gates.policies:
            names = list(self.gates.policies)
            told.append(
                f"admission policies are in force ({', '.join(names[:_NAMED_MAX])}); "
                "objects that could not be tried may be refused by them"
            )
        if self.gates.unknown:
            told.append(f"whether webhooks stand in the way is not known: {self.gates.unknown}")
        return told

    def refusal_of(self, entry: Entry) -> str:
        """Which dead webhook would refuse an object when it is created; empty when none."""
        found = self._in_the_way(entry, "DELETE", "CREATE")
        gates = [gate for gate in found if not gate.is_conditional]
        stuck = next((gate for gate in gates if not self._waits_for(entry, gate)), None)
        return f"{stuck} does not answer" if stuck else ""

    def _settle(self, entry: Entry) -> Entry:
        if entry.verdict not in WRITES or entry.desired is None:
            return entry
        for gate in self._in_the_way(entry, *_OPERATIONS[entry.verdict]):
            helpers = self._waits_for(entry, gate)
            is_certain = entry.target in self.stopped or not gate.is_conditional
            if helpers:
                names = ", ".join(map(str, helpers))
                entry = replace(
                    entry,
                    needs=tuple(dict.fromkeys((*entry.needs, *helpers))),
                    awaits=tuple(dict.fromkeys((*entry.awaits, *helpers))),
                    notes=(*entry.notes, f"waits for {names}: {gate} does not answer now"),
                )
            elif is_certain:
                self._tell(gate, str(entry.target))
                return decided(
                    entry,
                    verdict="blocked",
                    reason=UNAVAILABLE,
                    message=f"{gate} would refuse it: {gate.service} has no ready endpoint"
                    + (" while spec.pause holds its pods back" if gate.is_paused else ""),
                    hint=_PAUSED_HINT if gate.is_paused else _HINT,
                )
            else:
                self._tell(gate, f"{entry.target} (unless its match conditions leave it out)")
                note = f"{gate} does not answer, and refuses it unless its match conditions leave it out"
                entry = replace(entry, notes=(*entry.notes, note))
        return self._with_pods(entry)

    def _with_pods(self, entry: Entry) -> Entry:
        """Say when a workload may be written, but its pods may not."""
        for gate in self._stops_pods_of(entry):
            if not self._waits_for(entry, gate):
                self._tell(gate, f"the pods of {entry.target}")
                note = f"{UNAVAILABLE}: {gate} does not answer, and would refuse its pods"
                entry = replace(entry, notes=(*entry.notes, note))
        return entry

    def _in_the_way(self, entry: Entry, *operations: str) -> list[Gate]:
        webhook = self.stopped.get(entry.target)
        if webhook and (gate := self.gates.named(webhook)) is not None:
            return [gate]
        desired, there = entry.desired, self.live.get(entry.target)
        kind = self._kind(entry.target, desired) if desired is not None else None
        if kind is None or desired is None:
            return []
        found: dict[str, Gate] = {}
        for operation in operations:
            # A dry run tries what is written, by the webhooks that answer now; that the old form may be deleted it
            # does not say.
            is_tried = entry.is_tried and operation != "DELETE"
            manifest = there if operation == "DELETE" else desired
            if manifest is None:
                continue
            live = there if operation == "UPDATE" else None
            asked = Asked(kind, manifest, operation, self._labels(entry.target), live)
            found |= {
                str(gate): gate
                for gate in self.gates.in_the_way_of(asked)
                if gate.is_paused or not is_tried
            }
        return list(found.values())

    def _stops_pods_of(self, entry: Entry) -> Iterator[Gate]:
        template = _template_of(entry)
        kind = self.discovery.find("", "Pod")
        if template is None or kind is None or entry.target.kind == "Pod":
            return
        asked = Asked(kind, template, "CREATE", self._labels(entry.target))
        yield from self.gates.in_the_way_of(asked)

    def _kind(self, key: ObjectKey, manifest: Manifest) -> ResourceType | None:
        return self.discovery.find(key.group, key.kind, version_of(manifest["apiVersion"]))

    def _labels(self, key: ObjectKey) -> dict[str, str] | None:
        """The labels by which a webhook selects namespaces; a Namespace is judged by its own."""
        is_space = key.kind == "Namespace" and not key.group
        if not key.namespace and not is_space:
            return None
        space = key if is_space else ObjectKey("", "Namespace", "", key.namespace)
        planned = self._by_key.get(space)
        manifest = self.live.get(space)
        if planned is not None and planned.desired is not None and planned.verdict in WRITES:
            manifest = planned.desired
        return namespace_labels(manifest, space.name)

    def _waits_for(self, entry: Entry, gate: Gate) -> list[ObjectKey]:
        """The workloads of the plan that bring a webhook up, and can do so without this object."""
        name = str(gate)
        if name not in self._helpers:
            self._helpers[name] = list(self._find_helpers(gate))
        return [key for key in self._helpers[name] if entry.target not in self._closure(key)]

    def _find_helpers(self, gate: Gate) -> Iterator[ObjectKey]:
        planned = self._by_key.get(gate.service)
        service = planned.desired if planned is not None else self.live.get(gate.service)
        selector = field_of(service or {}, "spec", "selector")
        if not selector:
            return
        for entry in self.entries:
            key, template = entry.target, _template_of(entry)
            is_coming = entry.verdict in {*WRITES, "unchanged"}
            if not is_coming or template is None or key.namespace != gate.service.namespace:
                continue
            labels = labels_of(template)
            is_selected = all(labels.get(name) == value for name, value in selector.items())
            has_pods = field_of(entry.desired or {}, "spec", "replicas", default=1)
            if is_selected and has_pods and gate not in list(self._stops_pods_of(entry)):
                yield key

    def _closure(self, key: ObjectKey) -> frozenset[ObjectKey]:
        """An object with all that it needs, directly or not."""
        if key not in self._closures:
            found: set[ObjectKey] = set()
            queue = [key]
            while queue:
                one = queue.pop()
                if one not in found:
                    found.add(one)
                    queue.extend(self._by_key[one].needs if one in self._by_key else ())
            self._closures[key] = frozenset(found)
        return self._closures[key]

    def _tell(self, gate: Gate, name: str) -> None:
        self._refused.setdefault(str(gate), []).append(name)


def _template_of(entry: Entry) -> Manifest | None:
    """The pods that a workload makes, as far as a webhook's selectors look at them."""
    if entry.desired is None or pod_spec_of(entry.desired) is None or not is_workload(entry.target):
        return None
    if entry.target.kind == "Pod":
        return entry.desired
    spec = field_of(entry.desired, "spec", default={})
    if entry.target.kind == "CronJob":
        spec = field_of(spec, "jobTemplate", "spec", default={})
    return {"metadata": field_of(spec, "template", "metadata", default={})}


def kinds_of(entries: Iterable[Entry], discovery: Discovery) -> list[ResourceType]:
    """The kinds that a plan writes."""
    found = {
        kind
        for entry in entries
        if entry.verdict in WRITES and entry.desired is not None
        if (kind := discovery.find(entry.target.group, entry.target.kind)) is not None
    }
    return sorted(found, key=str)
