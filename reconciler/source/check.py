"""Checks of manifests against each other: references, schedules, expressions, ties, guardrails.

`check` looks at the manifests of one source; `known` are those of other sources that they may refer to. Nothing
here needs a cluster. Findings of severity error keep a manifest out of force, warnings do not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from types import MappingProxyType

from reconciler.clock import format_instant
from reconciler.kinds.document import Path
from reconciler.kinds.effective import EffectivePolicy, effective
from reconciler.kinds.explanation import suggest
from reconciler.kinds.finding import Finding
from reconciler.kinds.model import format_span
from reconciler.kinds.platform import Cluster
from reconciler.kinds.policy import BackupPolicy, Guardrail, PolicyPreset, Schedule
from reconciler.kinds.record import PolicyRef
from reconciler.kinds.request import Hold, Restore
from reconciler.source.advice import policy_advice, promise_advice
from reconciler.source.expressions import expression_findings
from reconciler.source.located import Located
from reconciler.source.ties import tie_findings
from reconciler.source.timetable import CronFaultError, longest_gap

__all__ = ["Located", "check", "check_remnants", "effective_policies", "evaluate_guardrail"]

CONCLUDED = frozenset({"no-location", "no-schedule", "rpo"})
"""Rules that conclude something from what a policy and its preset do not say."""
_SUPPLIES = re.compile(r"spec(\.(schedule|locations|preset|objectives)\b.*|\.[^.\[]+|\[.*)?")
"""Fields whose absence such a rule could take for silence; a misspelt one beside them may be meant for any."""


def check(
    manifests: Sequence[Located],
    *,
    known: Sequence[Located] = (),
    faulty: Mapping[str, str] = MappingProxyType({}),
    now: datetime | None = None,
) -> dict[str, list[Finding]]:
    """Check manifests against each other.

    Args:
        manifests: those of one source.
        known: those of other sources, which these may refer to; they are not checked.
        faulty: identity → place of documents with faults: who refers to one is told so.
        now: for what depends on time (a Restore or Hold that is over); left out without it.

    Returns:
        Identity → findings, only for manifests that have any.
    """
    return _Check(manifests, known=known, faulty=faulty, now=now).run()


def check_remnants(
    remnants: Sequence[Located],
    *,
    manifests: Sequence[Located],
    known: Sequence[Located] = (),
    faulty: Mapping[str, str] = MappingProxyType({}),
    now: datetime | None = None,
) -> list[Finding]:
    """Check what can be checked of documents with faults, so that all of them are told at once.

    Left out is what a fault may have caused, what is concluded from a field that is absent, and guardrails, which
    are held against whole policies.
    """
    run = _Check(manifests, known=known, faulty=faulty, now=now)
    return [finding for one in remnants for finding in run.check_rest(one)]


def effective_policies(
    manifests: Sequence[Located],
    *,
    known: Sequence[Located] = (),
    refs: Mapping[str, PolicyRef] | None = None,
) -> list[EffectivePolicy]:
    """Fill presets into policies; `refs` says by identity which form of which file each policy is."""
    presets = {
        one.kind.metadata.name: one.kind
        for one in (*known, *manifests)
        if isinstance(one.kind, PolicyPreset)
    }
    return [
        _effective(one, one.kind, presets.get(one.kind.spec.preset or ""), refs or {})
        for one in manifests
        if isinstance(one.kind, BackupPolicy)
    ]


def evaluate_guardrail(
    guardrail: Guardrail, policy: EffectivePolicy, *, line: int = 1, column: int = 1
) -> list[Finding]:
    """Hold a policy against a guardrail; see `source/guardrail.py`."""
    from reconciler.source.guardrail import evaluate_guardrail as evaluate

    return evaluate(guardrail, policy, line=line, column=column)


def _effective(
    located: Located,
    policy: BackupPolicy,
    preset: PolicyPreset | None,
    refs: Mapping[str, PolicyRef],
) -> EffectivePolicy:
    space, name = policy.metadata.namespace, policy.metadata.name
    ref = refs.get(policy.identity) or PolicyRef(
        source="",
        path=located.path,
        name=f"{space}/{name}" if space else name,
        revision="",
        blob="",
    )
    return effective(policy, preset, ref=ref)


class _Check:
    """One run over a source's manifests."""

    def __init__(
        self,
        manifests: Sequence[Located],
        *,
        known: Sequence[Located],
        faulty: Mapping[str, str],
        now: datetime | None,
    ) -> None:
        self._manifests = manifests
        self._now = now
        self._faulty = faulty
        self._names: dict[str, dict[tuple[str | None, str], Located]] = defaultdict(dict)
        for one in (*known, *manifests):
            metadata = one.kind.metadata
            key = (metadata.namespace, metadata.name)
            self._names[type(one.kind).__name__].setdefault(key, one)
        self._findings: dict[str, list[Finding]] = defaultdict(list)

    def run(self) -> dict[str, list[Finding]]:
        """Do every check."""
        self._duplicates()
        for located in self._manifests:
            self._add(located, self._alone(located))
        for identity, finding in tie_findings(self._manifests):
            self._findings[identity].append(finding)
        self._guardrails()
        return dict(self._findings)

    def check_rest(self, located: Located) -> Iterator[Finding]:
        """Check what is left of a document with faults."""
        rest = located.rest
        assert rest is not None, "a remnant says what was taken out of it"
        identity = located.kind.identity
        whole = next((one for one in self._manifests if one.kind.identity == identity), None)
        if whole is not None and rest.is_named:
            yield _twice(located, whole)
        concluded = CONCLUDED if any(_SUPPLIES.match(one) for one in rest.removed) else frozenset()
        for finding in self._alone(located):
            if finding.rule not in concluded and rest.is_sound(finding.field):
                yield finding

    def _alone(self, located: Located) -> Iterator[Finding]:
        """The checks of one manifest against those that it names."""
        yield from expression_findings(located)
        match located.kind:
            case BackupPolicy() as policy:
                yield from self._policy(located, policy)
                yield from policy_advice(located, policy, self._clusters_known())
            case PolicyPreset() as preset:
                yield from self._preset(located, preset)
                yield from promise_advice(located, preset)
            case Restore() as restore:
                yield from self._restore(located, restore)
            case Hold() as hold:
                yield from self._hold(located, hold)

    def _add(self, located: Located, findings: Sequence[Finding] | Iterator[Finding]) -> None:
        found = list(findings)
        if found:
            self._findings[located.kind.identity] += found

    def _duplicates(self) -> None:
        first: dict[str, Located] = {}
        for located in self._manifests:
            identity = located.kind.identity
            other = first.setdefault(identity, located)
            if other is not located:
                self._add(located, [_twice(located, other)])

    def _policy(self, located: Located, policy: BackupPolicy) -> Iterator[Finding]:
        spec = policy.spec
        yield from self._confined(located, policy)
        yield from self._clusters(located, policy)
        preset = self._lookup("PolicyPreset", spec.preset) if spec.preset else None
        if spec.preset and preset is None:
            yield self._unknown(located, ("spec", "preset"), "PolicyPreset", spec.preset)
        yield from self._locations(located, [one.name for one in spec.locations or []])
        if spec.schedule is not None:
            yield from _cron(located, spec.schedule)
        if self._now and spec.suspend and spec.suspend.until <= self._now:
            message = f"ended at {format_instant(spec.suspend.until)}; remove it"
            yield located.warning(("spec", "suspend", "until"), message, rule="ended")
        yield from self._blueprints(located, policy)
        if not spec.preset or preset is not None:
            yield from self._whole(located, policy, preset)

    def _whole(
        self, located: Located, policy: BackupPolicy, preset: Located | None
    ) -> Iterator[Finding]:
        """The checks of a policy with its preset filled in."""
        spec = policy.spec
        whole = _effective(
            located,
            policy,
            preset.kind if preset and isinstance(preset.kind, PolicyPreset) else None,
            {},
        )
        if not whole.locations:
            message = "keeps content nowhere; give locations here or in the preset"
            yield located.finding(("spec",), message, rule="no-location")
        if not spec.locations:
            unknown = [
                one.name for one in whole.locations if not self._lookup("Location", one.name)
            ]
            for name in unknown:
                message = f"its preset names the unknown location {name}"
                yield located.finding(("spec", "preset"), message, rule="unknown-location")
        if whole.schedule is None:
            message = "no schedule, here or in the preset: captures are only made by hand"
            yield located.warning(("spec",), message, rule="no-schedule")
        else:
            yield from self._recovery_point(located, whole)

    def _confined(self, located: Located, policy: BackupPolicy) -> Iterator[Finding]:
        home, select = policy.metadata.namespace, policy.spec.select.namespaces
        if home is None or select is None or not select.names:
            return
        if not any(fnmatchcase(home, pattern) for pattern in select.names):
            message = f"selects nothing: this policy is confined to its namespace {home}"
            where: Path = ("spec", "select", "namespaces", "names")
            yield located.finding(where, message, rule="confined")

    def _clusters(self, located: Located, policy: BackupPolicy) -> Iterator[Finding]:
        chosen, clusters = policy.spec.select.clusters, self._names["Cluster"]
        if chosen is None or not clusters:
            return
        for index, pattern in enumerate(chosen.names):
            if not any(fnmatchcase(name, pattern) for _, name in clusters):
                message = f"no Cluster is called {pattern}"
                where: Path = ("spec", "select", "clusters", "names", index)
                yield located.warning(where, message, rule="unknown-cluster")

    def _clusters_known(self) -> list[Cluster]:
        kinds = (one.kind for one in self._names["Cluster"].values())
        return [kind for kind in kinds if isinstance(kind, Cluster)]

    def _locations(self, located: Located, names: Sequence[str]) -> Iterator[Finding]:
        for index, name in enumerate(names):
            where: Path = ("spec", "locations", index, "name")
            if not self._lookup("Location", name):
                yield self._unknown(located, where, "Location", name)
            if name in names[:index]:
                yield located.finding(where, f"location {name} is given twice", rule="duplicate")

    def _recovery_point(self, located: Located, policy: EffectivePolicy) -> Iterator[Finding]:
        rpo = policy.objectives.rpo
        if not rpo or policy.schedule is None:
            return
        try:
            gap = longest_gap(policy.schedule.cron)
        except CronFaultError:
            return
        if gap > rpo:
            message = (
                f"captures are up to {format_span(gap)} apart (cron {policy.schedule.cron!r}), "
                f"more than the promised {format_span(rpo)}"
            )
            yield located.warning(("spec", "objectives", "rpo"), message, rule="rpo")

    def _blueprints(self, located: Located, policy: BackupPolicy) -> Iterator[Finding]:
        capture, home = policy.spec.capture, policy.metadata.namespace
        if capture is None or capture.blueprints == "auto":
            return
        known = self._names["Blueprint"]
        visible = {name for space, name in known if home is None or space in (None, home)}
        for index, name in enumerate(capture.blueprints):
            if name not in visible:
                where: Path = ("spec", "capture", "blueprints", index)
                yield self._unknown(located, where, "Blueprint", name)

    def _preset(self, located: Located, preset: PolicyPreset) -> Iterator[Finding]:
        yield from self._locations(located, [one.name for one in preset.spec.locations or []])
        if preset.spec.schedule is not None:
            yield from _cron(located, preset.spec.schedule)

    def _restore(self, located: Located, restore: Restore) -> Iterator[Finding]:
        spec, home = restore.spec, restore.metadata.namespace
        for index, name in enumerate(spec.transforms):
            if not self._lookup("TransformSet", name, home):
                where: Path = ("spec", "transforms", index)
                yield self._unknown(located, where, "TransformSet", name)
        if spec.from_.location and not self._lookup("Location", spec.from_.location):
            where = ("spec", "from", "location")
            yield self._unknown(located, where, "Location", spec.from_.location)
        if self._names["Cluster"] and not self._lookup("Cluster", spec.cluster):
            yield self._unknown(located, ("spec", "cluster"), "Cluster", spec.cluster)
        if home is not None and spec.to.namespace not in (None, home):
            message = f"this restore is confined to its namespace {home}"
            yield located.finding(("spec", "to", "namespace"), message, rule="confined")
        if home is not None and spec.from_.point.split("/")[0] != home:
            message = (
                f"a point outside of {home} needs a grant, which this version does not support"
            )
            yield located.finding(("spec", "from", "point"), message, rule="confined")
        if self._now and spec.not_after <= self._now:
            message = "lies in the past: nothing will be started"
            yield located.warning(("spec", "notAfter"), message, rule="ended")

    def _hold(self, located: Located, hold: Hold) -> Iterator[Finding]:
        spec, home = hold.spec, hold.metadata.namespace
        if home is not None and spec.application.split("/")[0] != home:
            message = f"this hold is confined to its namespace {home}"
            yield located.finding(("spec", "application"), message, rule="confined")
        if spec.cluster and self._names["Cluster"] and not self._lookup("Cluster", spec.cluster):
            yield self._unknown(located, ("spec", "cluster"), "Cluster", spec.cluster)
        if spec.since and spec.upto and spec.since > spec.upto:
            message = "ends before it begins: no point is held"
            yield located.finding(("spec", "upto"), message, rule="empty-range")
        if self._now and spec.until and spec.until <= self._now and spec.release is None:
            message = f"ended at {format_instant(spec.until)}: nothing is held any more"
            yield located.warning(("spec", "until"), message, rule="ended")

    def _guardrails(self) -> None:
        guardrails = [
            one.kind
            for one in self._names["Guardrail"].values()
            if isinstance(one.kind, Guardrail) and not self._is_broken(one)
        ]
        if not guardrails:
            return
        everything = [one for kind in self._names.values() for one in kind.values()]
        policies = [one for one in self._manifests if isinstance(one.kind, BackupPolicy)]
        for located, policy in zip(
            policies, effective_policies(policies, known=everything), strict=True
        ):
            if any(
                one.rule == "unknown-preset"
                for one in self._findings.get(located.kind.identity, ())
            ):
                continue
            found = [
                finding
                for one in guardrails
                for finding in evaluate_guardrail(
                    one, policy, line=located.line, column=located.column
                )
            ]
            if found and located.marks:
                # Only now, because looking up a place reads the document again.
                line, column = located.marks.place(("spec",))
                found = [replace(one, line=line, column=column) for one in found]
            self._add(located, found)

    def _is_broken(self, located: Located) -> bool:
        return any(one.is_error for one in self._findings.get(located.kind.identity, ()))

    def _lookup(self, kind: str, name: str, namespace: str | None = None) -> Located | None:
        """What a manifest of this namespace means by a name: its own namespace's, else the platform's."""
        known = self._names[kind]
        return known.get((namespace, name)) or known.get((None, name))

    def _unknown(self, located: Located, where: Path, kind: str, name: str) -> Finding:
        rule = f"unknown-{kind.lower().removeprefix('policy')}"
        space = located.kind.metadata.namespace
        for identity in (f"{kind}/{space}/{name}", f"{kind}/{name}"):
            if identity in self._faulty:
                message = f"the {kind} {name} has faults itself, at {self._faulty[identity]}"
                return located.finding(where, message, rule=rule)
        names = [known for _, known in self._names[kind]]
        hint = suggest(name, names) or (
            f", expected one of {', '.join(names[:8])}" if names else ""
        )
        return located.finding(where, f"there is no {kind} called {name}{hint}", rule=rule)


def _twice(located: Located, first: Located) -> Finding:
    message = (
        f"{located.kind.identity} is defined twice, first at {first.place}; remove one of them"
    )
    return located.finding(("metadata", "name"), message, rule="duplicate")


def _cron(located: Located, schedule: Schedule) -> Iterator[Finding]:
    try:
        longest_gap(schedule.cron)
    except CronFaultError as error:
        yield located.finding(("spec", "schedule", "cron"), str(error), rule="cron")
