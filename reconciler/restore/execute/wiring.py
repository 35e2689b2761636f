"""The graph in which a plan is carried out: a step for each object and content, and what each comes after.

Two things say so. What an object *needs* comes before it: its namespace, its owner, the claims, Secrets, ConfigMaps and
account of its pods, the definition of its kind, the workload whose webhook would refuse it, the workloads behind the
Service that it points at. Everything else follows the levels of `order.Level`: an object waits for the levels
below its own, and one that needs something of a later level moves up there, alone, with what needs it.

An owner of a later level than what it owns (a custom resource and the Deployment that its operator made of it) is the
one need that is left out: written first, a live operator would make the Deployment a second time. The reference is
set when both are there. Needs that go round in a circle are broken at one place, always the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler.objects import Manifest, ObjectKey, field, labels_of, pod_spec_of
from reconciler.restore.execute.walk import Lane
from reconciler.restore.plan.contents import VOLUME
from reconciler.restore.plan.entry import WRITES, ContentEntry, Entry, Plan
from reconciler.restore.plan.order import Level, is_workload, services_of

Act = Literal["write", "stand", "ready", "release", "fill", "load", "standing", "level"]
_LANES: dict[Act, Lane] = {
    "write": "write",
    "level": "write",
    "stand": "wait",
    "ready": "wait",
    "standing": "wait",
    "release": "content",
    "fill": "content",
    "load": "content",
}
_DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
_CLAIM = ("", "PersistentVolumeClaim")
_RELEASE = "release"


@dataclass(frozen=True)
class Node:
    """One step.

    write: an object; stand: wait until a definition is served or a claim bound; ready: wait for one workload;
    release: delete workloads that hold claims which are to be filled; fill, load: contents; standing: wait for all
    workloads; level: everything of the levels below is done.
    """

    act: Act
    level: Level
    after: frozenset[str] = frozenset()
    key: ObjectKey | None = None
    contents: tuple[ContentEntry, ...] = ()

    @property
    def lane(self) -> Lane:
        """The threads that it runs on."""
        return _LANES[self.act]


def wire(plan: Plan) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """The steps of a plan by name, and the needs that were left out because they went round in a circle."""
    return _Wiring(plan).wire()


class _Wiring:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._by_key = {entry.target: entry for entry in plan.entries}
        self._nodes: dict[str, Node] = {}
        self._needs: dict[str, list[str]] = {}
        self._fills: dict[ObjectKey, list[str]] = {}
        self._loads: dict[str, list[str]] = {}
        self._helpers = {key for entry in plan.entries for key in entry.awaits}
        self._definitions = dict(self._find_definitions())
        self._backers: dict[ObjectKey, tuple[ObjectKey, ...]] = {}

    def wire(self) -> tuple[dict[str, Node], list[tuple[str, str]]]:
        self._add_contents()
        for entry in self._plan.entries:
            self._add_entry(entry)
        for entry in self._plan.entries:
            self._needs[_write(entry.target)] = list(dict.fromkeys(self._before(entry)))
        self._add("standing", Node("standing", Level.STANDING), [])
        order, dropped = _sorted(self._needs)
        levels: dict[str, Level] = {}
        left_out = set(dropped)
        for name in order:
            needs = [need for need in self._needs[name] if (name, need) not in left_out]
            own = self._nodes[name].level
            levels[name] = max([own, *(levels[need] for need in needs)])
            self._needs[name] = needs
        return self._with_levels(levels), dropped

    def _with_levels(self, levels: Mapping[str, Level]) -> dict[str, Node]:
        """Between two levels one step that waits for all of the first."""
        members: dict[Level, list[str]] = {}
        for name, level in levels.items():
            members.setdefault(level, []).append(name)
        wired: dict[str, Node] = {}
        before: frozenset[str] = frozenset()
        for level in sorted(members):
            gate = f"level {level.name}"
            wired[gate] = Node("level", level, before)
            for name in members[level]:
                node = self._nodes[name]
                after = frozenset((gate, *self._needs[name]))
                wired[name] = Node(node.act, level, after, node.key, node.contents)
            before = frozenset((gate, *members[level]))
        wired["end"] = Node("level", max(members, default=Level.SELF_ACTING), before)
        return wired

    def _add(self, name: str, node: Node, needs: list[str]) -> None:
        self._nodes[name] = node
        self._needs[name] = needs

    def _add_entry(self, entry: Entry) -> None:
        key = entry.target
        self._add(_write(key), Node("write", entry.level, key=key), [])
        if (key.group, key.kind) in (_DEFINITION, _CLAIM) and entry.verdict in WRITES:
            self._add(f"stand {key.path}", Node("stand", entry.level, key=key), [_write(key)])

    def _add_contents(self) -> None:
        groups: dict[tuple[ObjectKey, str], list[ContentEntry]] = {}
        self._add(_RELEASE, Node("release", Level.LETTING_GO), [])
        for content in self._plan.contents:
            if content.name.startswith(VOLUME):
                name = f"fill {content.name}"
                self._fills.setdefault(content.into, []).append(name)
                node = Node("fill", Level.VOLUMES, key=content.into, contents=(content,))
                self._add(name, node, [_RELEASE, *self._claim_stands(content.into)])
            else:
                groups.setdefault((content.into, content.name.split("/")[1]), []).append(content)
        for (into, blueprint), contents in groups.items():
            name = f"load {into.path} {blueprint}"
            self._loads.setdefault(into.namespace, []).append(name)
            node = Node("load", Level.LOADS, key=into, contents=tuple(contents))
            self._add(name, node, [_write(into)] if into in self._by_key else [])

    def _claim_stands(self, claim: ObjectKey) -> list[str]:
        entry = self._by_key.get(claim)
        if entry is None:
            return []
        return [f"stand {claim.path}" if entry.verdict in WRITES else _write(claim)]

    def _settled(self, key: ObjectKey) -> Iterator[str]:
        """After which steps an object can be leant on."""
        entry = self._by_key.get(key)
        stands = f"stand {key.path}"
        if entry is not None:
            yield stands if stands in self._nodes else _write(key)
        yield from self._fills.get(key, ())

    def _ready(self, key: ObjectKey) -> Iterator[str]:
        """After which step a workload of the plan is Ready; waited for only when something asks."""
        entry, name = self._by_key.get(key), f"ready {key.path}"
        if entry is not None and name not in self._nodes:
            self._add(name, Node("ready", entry.level, key=key), [_write(key)])
        if entry is not None:
            yield name

    def _before(self, entry: Entry) -> Iterator[str]:
        if entry.verdict not in WRITES:
            return
        for need in entry.needs:
            there = self._by_key.get(need)
            if there is None or there.level <= entry.level or need in entry.awaits:
                yield from self._settled(need)
        for workload in entry.awaits:
            yield from self._ready(workload)
        definition = self._definitions.get((entry.target.group, entry.target.kind))
        if definition is not None:
            yield from self._settled(definition.target)
            yield from self._ready_behind(definition)
        if entry.level == Level.GATES:
            yield from self._ready_behind(entry)
        is_helper = entry.target in self._helpers
        if is_workload(entry.target) and entry.level > Level.LOADS and not is_helper:
            yield from self._loads.get(entry.target.namespace, ())

    def _ready_behind(self, entry: Entry) -> Iterator[str]:
        """The workloads that answer for the Services which an object points at, when they are Ready."""
        if entry.verdict not in WRITES or entry.desired is None:
            return
        for service in services_of(entry.desired):
            if service not in self._backers:
                self._backers[service] = tuple(self._find_backers(service))
            for workload in self._backers[service]:
                yield from self._ready(workload)

    def _find_backers(self, service: ObjectKey) -> Iterator[ObjectKey]:
        planned = self._by_key.get(service)
        selector = field((planned.desired if planned else None) or {}, "spec", "selector")
        if not selector:
            return
        for entry in self._plan.entries:
            key, desired = entry.target, entry.desired or {}
            is_coming = entry.verdict in {*WRITES, "unchanged"} and is_workload(key)
            if not is_coming or key.namespace != service.namespace or not pod_spec_of(desired):
                continue
            template = desired if key.kind == "Pod" else field(desired, "spec", "template")
            labels = labels_of(template or {})
            if all(labels.get(name) == value for name, value in selector.items()):
                yield key

    def _find_definitions(self) -> Iterator[tuple[tuple[str, str], Entry]]:
        for entry in self._plan.entries:
            if (entry.target.group, entry.target.kind) == _DEFINITION and entry.desired:
                spec: Manifest = entry.desired.get("spec") or {}
                yield (spec.get("group", ""), field(spec, "names", "kind", default="")), entry


def _write(key: ObjectKey) -> str:
    return f"write {key.path}"


def _sorted(needs: Mapping[str, Iterable[str]]) -> tuple[list[str], list[tuple[str, str]]]:
    """The steps, needs first, and what was left out so that there is such an order."""
    order: list[str] = []
    dropped: list[tuple[str, str]] = []
    is_open: dict[str, bool] = {}
    for root in needs:
        if root in is_open:
            continue
        is_open[root] = True
        path = [(root, iter(needs[root]))]
        while path:
            name, rest = path[-1]
            for need in rest:
                if need not in is_open:
                    is_open[need] = True
                    path.append((need, iter(needs[need])))
                    break
                if is_open[need]:
                    dropped.append((name, need))
            else:
                is_open[name] = False
                order.append(name)
                path.pop()
    return order, dropped
