"""CEL rules: which objects, under which conditions, what happens to them.

As in MutatingAdmissionPolicy: a condition that is false skips the rule; an error in a condition, a variable or a patch
is answered by `failurePolicy`; a JSON Patch whose `test` does not hold changes nothing and is no error. A rule is
atomic: either all of its mutations happen to an object, or none. It may not change what an object is: kind,
name and namespace (the pipeline's namespace mapping does that).

Expressions read `object`, `params`, `now` (RFC 3339), mutations also `variables.<name>`, which are computed when
first used. A message expression does not see the contents of a Secret.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.cel import CelError, Lazy, Program, compile_expression
from reconciler.cluster.port import Discovery
from reconciler.kinds.transformset import ResourceRule, TransformRule, TransformSet
from reconciler.objects import Manifest, group_of, name_of, namespace_of, version_of
from reconciler.transform.change import Change, Dismissed, TransformError
from reconciler.transform.patch import PatchError, TestFailedError, apply_patch

CONDITION_VARIABLES = ("object", "params", "now")
MUTATION_VARIABLES = (*CONDITION_VARIABLES, "variables")
MESSAGE_MAX = 500


@dataclass(frozen=True)
class CompiledRule:
    """A rule with its programs."""

    by: str
    rule: TransformRule
    conditions: tuple[tuple[str, Program], ...]
    variables: tuple[tuple[str, Program], ...]
    patches: tuple[Program, ...]
    message: Program | None


def expressions(rule: TransformRule) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Every expression of a rule: where it is in the file, its text, the names that it may use."""
    for n, condition in enumerate(rule.match_conditions):
        yield f"matchConditions[{n}].expression", condition.expression, CONDITION_VARIABLES
    for n, variable in enumerate(rule.variables):
        yield f"variables[{n}].expression", variable.expression, MUTATION_VARIABLES
    for n, mutation in enumerate(rule.mutations):
        yield (
            f"mutations[{n}].jsonPatch.expression",
            mutation.json_patch.expression,
            MUTATION_VARIABLES,
        )
    if rule.message_expression is not None:
        yield "messageExpression", rule.message_expression, CONDITION_VARIABLES


def faults(transform_set: TransformSet) -> list[tuple[str, CelError]]:
    """Every expression of a set that does not compile: its field in the file, and why."""
    found: list[tuple[str, CelError]] = []
    for n, rule in enumerate(transform_set.spec.rules):
        for field, text, names in expressions(rule):
            try:
                compile_expression(text, variables=names)
            except CelError as error:
                found.append((f"spec.rules[{n}].{field}", error))
    return found


def compile_rules(transform_set: TransformSet) -> list[CompiledRule]:
    """Compile the rules of a set, in order.

    Raises:
        TransformError: an expression does not compile.
    """
    name = transform_set.metadata.name
    wrong = faults(transform_set)
    if wrong:
        field, error = wrong[0]
        raise TransformError(f"compile TransformSet {name}: {field}: {error}", hint=error.hint)
    compiled = []
    for rule in transform_set.spec.rules:
        patches = [mutation.json_patch.expression for mutation in rule.mutations]
        message = rule.message_expression
        compiled.append(
            CompiledRule(
                by=f"rule/{name}/{rule.name}",
                rule=rule,
                conditions=tuple(
                    (c.name, compile_expression(c.expression, variables=CONDITION_VARIABLES))
                    for c in rule.match_conditions
                ),
                variables=tuple(
                    (v.name, compile_expression(v.expression, variables=MUTATION_VARIABLES))
                    for v in rule.variables
                ),
                patches=tuple(compile_expression(p, variables=MUTATION_VARIABLES) for p in patches),
                message=compile_expression(message, variables=CONDITION_VARIABLES)
                if message is not None
                else None,
            )
        )
    return compiled


def run_rule(
    compiled: CompiledRule,
    manifest: Manifest,
    *,
    discovery: Discovery,
    params: Mapping[str, Any],
    now: str,
    ignore_errors: bool,
) -> tuple[Manifest, list[Change]]:
    """Run one rule on one object; the argument is not changed.

    Raises:
        Dismissed: the rule leaves the object out or refuses it, or failed under `failurePolicy: Fail`.
    """
    if not matches(compiled.rule, manifest, discovery):
        return manifest, []
    activation = {"object": manifest, "params": params, "now": now}
    try:
        if not all(program.test(activation) for _, program in compiled.conditions):
            return manifest, []
        if compiled.rule.action is not None:
            raise _action(compiled, activation)
        return _mutate(compiled, activation)
    except (CelError, PatchError) as error:
        cause = _cause(error, manifest)
        if ignore_errors:
            return manifest, [Change(compiled.by, f"not applied: {cause}", warning=True)]
        raise Dismissed("fail", reason="RuleFailed", message=f"{compiled.by}: {cause}") from None


def matches(rule: TransformRule, manifest: Manifest, discovery: Discovery) -> bool:
    """Whether the match constraints of a rule take an object, as it is now."""
    api_version, kind = str(manifest.get("apiVersion", "")), str(manifest.get("kind", ""))
    group, version = group_of(api_version), version_of(api_version)
    plural = _plural(discovery, group, kind, version)

    def takes(entry: ResourceRule) -> bool:
        return (
            _in(group, entry.api_groups)
            and _in(version, entry.api_versions)
            and _in(plural, entry.resources)
            and (not entry.resource_names or name_of(manifest) in entry.resource_names)
        )

    constraints = rule.match_constraints
    return any(map(takes, constraints.resource_rules)) and not any(
        map(takes, constraints.exclude_resource_rules)
    )


def _in(value: str, allowed: list[str]) -> bool:
    return "*" in allowed or value in allowed


def _plural(discovery: Discovery, group: str, kind: str, version: str) -> str:
    """As the target calls it; by the rules of English for what it does not serve."""
    served = discovery.find(group, kind, version) or discovery.find(group, kind)
    if served is not None:
        return served.plural
    word = kind.lower()
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


class _Variables(Lazy):
    """`variables` of a rule: computed when first used, in the order of the file."""

    def __init__(self, programs: Mapping[str, Program], activation: Mapping[str, Any]) -> None:
        super().__init__()
        self._programs = programs
        self._activation = {**activation, "variables": self}
        self._running: set[str] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._programs

    def __iter__(self) -> Iterator[str]:
        return iter(self._programs)

    def __len__(self) -> int:
        return len(self._programs)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # a plain view will do
        return {name: self[name] for name in self._programs}.items()

    def __getitem__(self, name: str) -> Any:
        if not super().__contains__(name):
            if name in self._running:
                raise CelError(f"variable {name!r} is made from itself")
            self._running.add(name)
            try:
                self[name] = self._programs[name].evaluate(self._activation)
            except CelError as error:
                message = f"variable {name!r}: {error.message}"
                raise CelError(message, line=error.line, column=error.column) from None
        return super().__getitem__(name)


def _mutate(compiled: CompiledRule, activation: Mapping[str, Any]) -> tuple[Manifest, list[Change]]:
    manifest: Manifest = activation["object"]
    changes: list[Change] = []
    for program in compiled.patches:
        seen = {**activation, "object": manifest}
        seen["variables"] = _Variables(dict(compiled.variables), seen)
        operations = program.evaluate(seen)
        try:
            patched = apply_patch(manifest, operations)
        except TestFailedError:
            return activation["object"], []
        _check_identity(manifest, patched)
        manifest = patched
        changes += [Change(compiled.by, line) for line in _said(operations, manifest)]
    return manifest, changes


_SAID: dict[str, Callable[[str, str], str]] = {
    "add": lambda path, _: f"{path}: added",
    "replace": lambda path, _: f"{path}: replaced",
    "remove": lambda path, _: f"{path}: removed",
    "move": lambda path, source: f"{source}: moved to {path}",
    "copy": lambda path, source: f"{source}: copied to {path}",
}


def _said(operations: Sequence[Mapping[str, str]], manifest: Manifest) -> Iterator[str]:
    """One line for each edit, without values. A path can be computed, so those of a Secret are not shown."""
    for operation in operations:
        say = _SAID.get(operation["op"])
        if say and _is_secret(manifest):
            yield f"{operation['op']} in the Secret"
        elif say:
            yield say(operation["path"], operation.get("from", ""))


def _cause(error: CelError | PatchError, manifest: Manifest) -> str:
    if isinstance(error, PatchError) and _is_secret(manifest):
        return "the patch does not fit the Secret"
    return str(error)[:MESSAGE_MAX]


def _is_secret(manifest: Manifest) -> bool:
    return manifest.get("kind") == "Secret"


def _check_identity(before: Manifest, after: Any) -> None:
    if not isinstance(after, dict) or not isinstance(after.get("metadata"), dict):
        raise PatchError("apply patch: the result is no object with metadata")
    same = (
        before.get("kind") == after.get("kind")
        and name_of(before) == name_of(after)
        and namespace_of(before) == namespace_of(after)
        and isinstance(after.get("apiVersion"), str)
    )
    if not same:
        raise PatchError("apply patch: a rule may not change kind, name or namespace")


def _action(compiled: CompiledRule, activation: Mapping[str, Any]) -> Dismissed:
    message = ""
    if compiled.message is not None:
        told = compiled.message.evaluate({**activation, "object": _veil(activation["object"])})
        if not isinstance(told, str):
            raise CelError("messageExpression must give a string")
        message = " ".join(told.split())
    message = message[:MESSAGE_MAX] or f"by {compiled.by}"
    if compiled.rule.action == "Skip":
        return Dismissed("skip", reason="SkippedByRule", message=message)
    return Dismissed("fail", reason="RefusedByRule", message=message)


def _veil(manifest: Manifest) -> Manifest:
    if not _is_secret(manifest):
        return manifest
    veiled = dict(manifest)
    for section in ("data", "stringData"):
        if isinstance(veiled.get(section), dict):
            veiled[section] = dict.fromkeys(veiled[section], "")
    metadata = dict(veiled.get("metadata") or {})
    metadata.pop("annotations", None)
    veiled["metadata"] = metadata
    return veiled
