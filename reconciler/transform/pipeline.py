"""The way of one object from a restore point to the target: TransformSets in order, then namespace mapping.

Within a set: API migration, certificates, storage classes, registries, rules in the order of the file. Each step
sees what the one before made of the object. What comes in is never changed; what comes out shares nothing with
it. A pipeline is made once for a plan, is immutable, and may be used by several threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.clock import format_instant
from reconciler.cluster.port import Discovery
from reconciler.kinds.transformset import TransformSet, TransformSetSpec
from reconciler.objects import Manifest, duplicate
from reconciler.transform.certificates import check_certificate, dismiss_ephemeral
from reconciler.transform.change import Change, Dismissed, Transformed
from reconciler.transform.migrate import migrate
from reconciler.transform.namespaces import map_namespaces
from reconciler.transform.rules import CompiledRule, compile_rules, run_rule
from reconciler.transform.substitutions import map_registries, map_storage_classes


@dataclass(frozen=True)
class _Stage:
    spec: TransformSetSpec
    rules: tuple[CompiledRule, ...]


class Pipeline:
    """What happens to every object of one restore."""

    def __init__(
        self,
        sets: Sequence[TransformSet],
        *,
        discovery: Discovery,
        now: datetime,
        namespaces: Mapping[str, str],
    ) -> None:
        """Compile the sets.

        Args:
            sets: TransformSets, in the order of the request.
            discovery: What the target serves, with the types of CRDs that are restored before
                (`migrate.extend_discovery`).
            now: The instant that certificates and rules are judged by; a plan's, so that it can be repeated.
            namespaces: Captured namespace → namespace in the target.

        Raises:
            TransformError: an expression does not compile.
        """
        self._stages = [_Stage(entry.spec, tuple(compile_rules(entry))) for entry in sets]
        self._discovery = discovery
        self._now = now
        self._namespaces = dict(namespaces)

    def apply(self, manifest: Manifest) -> Transformed:
        """Transform one object; the argument is not changed."""
        changes: list[Change] = []
        try:
            current = duplicate(manifest)
            for stage in self._stages:
                current = self._stage(stage, current, changes)
            current, moved = map_namespaces(current, self._namespaces)
        except Dismissed as end:
            return Transformed(
                None, tuple(changes), verdict=end.verdict, reason=end.reason, message=end.message
            )
        except RecursionError:
            message = "the object is nested too deeply to be transformed"
            return Transformed(None, tuple(changes), "fail", reason="TooDeep", message=message)
        return Transformed(current, (*changes, *moved))

    def _stage(self, stage: _Stage, current: Manifest, changes: list[Change]) -> Manifest:
        spec = stage.spec
        if spec.certificates is not None:
            dismiss_ephemeral(current)
        if spec.migrate is not None:
            changes += migrate(current, discovery=self._discovery, settings=spec.migrate)
        if spec.certificates is not None:
            changes += check_certificate(current, settings=spec.certificates, now=self._now)
        if spec.storage_classes:
            changes += map_storage_classes(current, spec.storage_classes)
        if spec.registries:
            changes += map_registries(current, spec.registries)
        for rule in stage.rules:
            current, made = run_rule(
                rule,
                current,
                discovery=self._discovery,
                params=spec.params,
                now=format_instant(self._now),
                ignore_errors=spec.failure_policy == "Ignore",
            )
            changes += made
        return current
