"""Every CEL expression of a manifest, with the names that its place offers, whether it compiles, and whether what it
gives, as far as its text says that, is what its place wants.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.document import Path
from reconciler.kinds.finding import Finding
from reconciler.kinds.model import Kind
from reconciler.kinds.policy import (
    BackupPolicy,
    Capture,
    Guardrail,
    NamedExpression,
    ObjectRule,
    PolicyPreset,
)
from reconciler.kinds.request import Restore
from reconciler.kinds.transformset import TransformSet
from reconciler.source.located import Located

OBJECT = ("object",)
VOLUME = ("volume",)
NAMESPACE = ("namespace",)
SERVICE = ("workload", "pod")
GUARDRAIL = ("object", "variables")
TRANSFORM = ("object", "params", "now", "variables")

WANTED = {"bool": "a boolean", "string": "text", "list": "a list of JSON patch operations"}
RULE_RESULT = "expression-result"
_VARIABLE = re.compile(r"\bvariables\.([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Expressed:
    """An expression: its field, its text, the names it may use, what it must give (empty: anything), and the
    `variables` defined before it.
    """

    where: Path
    text: str
    names: tuple[str, ...]
    wants: str = "bool"
    variables: tuple[str, ...] = ()


def expression_findings(located: Located) -> list[Finding]:
    """Compile every expression of a manifest; `variables` that nobody defines are warned of."""
    from reconciler.cel import CelError, compile_expression
    from reconciler.cel.program import UNSURE

    findings: list[Finding] = []
    for one in expressions(located.kind):
        try:
            result = compile_expression(one.text, variables=one.names).result
        except CelError as error:
            inside = (error.line, error.column)
            findings.append(
                located.finding(one.where, error.message, rule="expression", inside=inside)
            )
            continue
        is_known = result and (result != UNSURE or one.wants == "bool")
        if one.wants and is_known and result != one.wants:
            message = f"expected {WANTED[one.wants]}, the expression gives {result}"
            findings.append(located.finding(one.where, message, rule=RULE_RESULT))
        if "variables" in one.names:
            used = dict.fromkeys(_VARIABLE.findall(one.text))
            unknown = [name for name in used if name not in one.variables]
            findings += [
                located.warning(
                    one.where, f"variables.{name} is not defined before", rule="variable"
                )
                for name in unknown
            ]
    return findings


def expressions(kind: Kind) -> Iterator[Expressed]:
    """Every expression of a manifest, in the order of the file."""
    match kind:
        case BackupPolicy():
            if kind.spec.select.where:
                yield Expressed(("spec", "select", "where"), kind.spec.select.where, NAMESPACE)
            yield from _of_capture(kind.spec.capture)
        case PolicyPreset():
            yield from _of_capture(kind.spec.capture)
        case Guardrail():
            yield from _of_guardrail(kind)
        case TransformSet():
            yield from _of_transform_set(kind)
        case Blueprint():
            yield Expressed(("spec", "match"), kind.spec.match, SERVICE)
        case Restore():
            yield from _of_rules(kind.spec.include.objects, ("spec", "include", "objects"))


def _of_capture(capture: Capture | None) -> Iterator[Expressed]:
    if capture is None:
        return
    yield from _of_rules(capture.include, ("spec", "capture", "include"))
    yield from _of_rules(capture.exclude, ("spec", "capture", "exclude"))
    for index, volume in enumerate(capture.volumes):
        yield Expressed(("spec", "capture", "volumes", index, "where"), volume.where, VOLUME)


def _of_rules(rules: Sequence[ObjectRule], at: Path) -> Iterator[Expressed]:
    for index, rule in enumerate(rules):
        if rule.where:
            yield Expressed((*at, index, "where"), rule.where, OBJECT)


def _of_named(
    entries: Sequence[NamedExpression], at: Path, names: tuple[str, ...], *, wants: str
) -> Iterator[Expressed]:
    for index, entry in enumerate(entries):
        before = tuple(one.name for one in entries[:index])
        yield Expressed((*at, index, "expression"), entry.expression, names, wants, before)


def _of_guardrail(kind: Guardrail) -> Iterator[Expressed]:
    spec = kind.spec
    yield from _of_named(spec.match_conditions, ("spec", "matchConditions"), OBJECT, wants="bool")
    yield from _of_named(spec.variables, ("spec", "variables"), GUARDRAIL, wants="")
    known = tuple(one.name for one in spec.variables)
    for index, validation in enumerate(spec.validations):
        at: Path = ("spec", "validations", index)
        yield Expressed((*at, "expression"), validation.expression, GUARDRAIL, "bool", known)
        if validation.message_expression:
            where = (*at, "messageExpression")
            yield Expressed(where, validation.message_expression, GUARDRAIL, "string", known)


def _of_transform_set(kind: TransformSet) -> Iterator[Expressed]:
    for index, rule in enumerate(kind.spec.rules):
        at: Path = ("spec", "rules", index)
        conditions = tuple(name for name in TRANSFORM if name != "variables")
        where: Path = (*at, "matchConditions")
        yield from _of_named(rule.match_conditions, where, conditions, wants="bool")
        yield from _of_named(rule.variables, (*at, "variables"), TRANSFORM, wants="")
        known = tuple(one.name for one in rule.variables)
        for position, mutation in enumerate(rule.mutations):
            where = (*at, "mutations", position, "jsonPatch", "expression")
            yield Expressed(where, mutation.json_patch.expression, TRANSFORM, "list", known)
        if rule.message_expression:
            yield Expressed(
                (*at, "messageExpression"), rule.message_expression, conditions, "string"
            )
