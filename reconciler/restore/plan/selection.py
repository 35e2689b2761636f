"""Which part of a restore point is asked for: include rules over objects and names of contents.

An expression that fails on an object takes the object in, and the plan warns: leaving something out of a
restore because of a mistake in a rule is worse than showing one entry too many in the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from reconciler.cel import CelError, compile_expression
from reconciler.errors import UsageError
from reconciler.kinds.policy import ObjectRule
from reconciler.kinds.request import Include
from reconciler.objects import Manifest, ObjectKey, annotations_of, labels_of
from reconciler.restore.plan.strip import LAST_APPLIED
from reconciler.store.port import Content


class Selection:
    """The include rules of a request, compiled once."""

    def __init__(self, include: Include) -> None:
        self._clauses = [_Clause(rule) for rule in include.objects]
        self._contents = include.contents
        self.is_whole = not include.objects
        """Whether all objects are asked for."""

    def has(self, captured: Manifest) -> bool:
        """Whether an object is asked for."""
        return self.is_whole or any(clause.matches(captured) for clause in self._clauses)

    def names_exactly(self, key: ObjectKey) -> bool:
        """Whether a rule names this one object by kind and full name, without patterns."""
        return any(
            key.kind in clause.rule.kinds and key.name in clause.rule.names
            for clause in self._clauses
        )

    def contents(self, contents: Sequence[Content]) -> list[Content] | None:
        """The contents asked for by name; None when the request does not say.

        A content is named by its full name, by a pattern over it, or by one of its parts: the claim, the
        workload or the artifact.

        Raises:
            UsageError: a name matches nothing in the point.
        """
        if self._contents is None:
            return None
        for name in self._contents:
            if not any(_is_named(content.name, name) for content in contents):
                known = ", ".join(content.name for content in contents) or "none"
                raise UsageError(
                    f"select content {name}: the restore point has no such content",
                    hint=f"contents of this point: {known[:1000]}",
                )
        return [c for c in contents if any(_is_named(c.name, name) for name in self._contents)]

    def warnings(self) -> list[str]:
        """What went wrong in expressions."""
        return [
            f"include: `where` failed on {clause.failures} objects, which are taken in: {clause.problem}"
            for clause in self._clauses
            if clause.failures
        ]


class Recreations:
    """The objects that a request names one by one as to be recreated (`spec.recreate`)."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {name: _parsed(name) for name in names}

    def has(self, key: ObjectKey) -> bool:
        """Whether an object of the target is named."""
        return any(_means(named, key) for named in self._names.values())

    def warnings(self, targets: Iterable[ObjectKey]) -> list[str]:
        """Names that mean nothing in the plan."""
        known = list(targets)
        return [
            f"spec.recreate names {name}, which is not in the plan"
            for name, named in self._names.items()
            if not any(_means(named, key) for key in known)
        ]


def _parsed(name: str) -> ObjectKey:
    kind, _, place = name.partition("/")
    namespace, _, own = place.rpartition("/")
    return ObjectKey(kind.partition(".")[2], kind.partition(".")[0], namespace, own)


def _means(named: ObjectKey, key: ObjectKey) -> bool:
    is_kind = (named.group, named.kind, named.name) == (key.group, key.kind, key.name)
    return is_kind and named.namespace in ("", key.namespace)


def _is_named(content: str, name: str) -> bool:
    parts = content.split("/")
    workloads = [part.partition(".")[2] for part in parts if "." in part]
    return fnmatchcase(content, name) or name in parts[1:] or name in workloads


class _Clause:
    def __init__(self, rule: ObjectRule) -> None:
        self.rule = rule
        self.failures = 0
        self.problem = ""
        self._where = compile_expression(rule.where, variables=("object",)) if rule.where else None

    def matches(self, captured: Manifest) -> bool:
        rule, key = self.rule, ObjectKey.of(captured)
        if rule.groups and key.group not in rule.groups:
            return False
        if rule.kinds and key.kind not in rule.kinds:
            return False
        if rule.names and not any(fnmatchcase(key.name, name) for name in rule.names):
            return False
        labels = labels_of(captured)
        if any(labels.get(label) != value for label, value in rule.match_labels.items()):
            return False
        if self._where is None:
            return True
        try:
            return self._where.test({"object": _without_secrets(captured)})
        except CelError as error:
            self.failures += 1
            self.problem = str(error)[:200]
            return True


def _without_secrets(manifest: Manifest) -> Manifest:
    """A Secret with its keys but not its values, so that no expression can tell what they are."""
    if manifest.get("kind") != "Secret" or manifest.get("apiVersion") != "v1":
        return manifest
    hidden = dict(manifest)
    for part in ("data", "stringData"):
        if isinstance(hidden.get(part), dict):
            hidden[part] = dict.fromkeys(hidden[part], "")
    if LAST_APPLIED in annotations_of(manifest):
        kept = {k: v for k, v in annotations_of(manifest).items() if k != LAST_APPLIED}
        hidden["metadata"] = {**manifest["metadata"], "annotations": kept}
    return hidden
