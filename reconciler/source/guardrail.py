"""Guardrails over effective policies, with the meaning that ValidatingAdmissionPolicy gives the same words.

An expression sees `object`: the policy as JSON with its preset filled in and defaults written out. Spans are
given in seconds (`3600s`), which is the form that CEL's `duration()` reads.
"""

from __future__ import annotations

from typing import Any

from reconciler.cel import CelError, compile_expression
from reconciler.kinds.effective import EffectivePolicy
from reconciler.kinds.finding import Finding
from reconciler.kinds.model import API_VERSION, parse_span
from reconciler.kinds.policy import Guardrail, Validation
from reconciler.objects import Manifest
from reconciler.source.expressions import GUARDRAIL, OBJECT


def evaluate_guardrail(
    guardrail: Guardrail, policy: EffectivePolicy, *, line: int = 1, column: int = 1
) -> list[Finding]:
    """Hold a policy against a guardrail: errors for `Deny`, warnings for `Warn`, at the policy's place."""
    spec, name = guardrail.spec, guardrail.metadata.name
    given: dict[str, Any] = {"object": manifest_of(policy)}
    try:
        conditions = [c.expression for c in spec.match_conditions]
        if not all(compile_expression(c, variables=OBJECT).test(given) for c in conditions):
            return []
        messages = []
        given["variables"] = _variables(guardrail, given)
    except CelError as error:
        messages = (
            [] if spec.failure_policy == "Ignore" else [f"cannot be evaluated: {error.message}"]
        )
        return [
            _finding(f"guardrail {name}: {m}", guardrail, policy, line, column) for m in messages
        ]
    for validation in spec.validations:
        try:
            if not compile_expression(validation.expression, variables=GUARDRAIL).test(given):
                messages.append(_message(validation, given))
        except CelError as error:
            if spec.failure_policy == "Fail":
                messages.append(f"cannot be evaluated: {error.message}")
    return [_finding(f"guardrail {name}: {m}", guardrail, policy, line, column) for m in messages]


def manifest_of(policy: EffectivePolicy) -> Manifest:
    """The effective policy as a manifest; what it does not have is absent."""
    spec: dict[str, Any] = {
        "priority": policy.priority,
        "select": _dump(policy.select),
        "capture": _dump(policy.capture),
        "locations": [_dump(one) for one in policy.locations],
        "objectives": _in_seconds(_dump(policy.objectives)),
    }
    if policy.schedule is not None:
        spec["schedule"] = _in_seconds(_dump(policy.schedule))
    if policy.suspend is not None:
        spec["suspend"] = _dump(policy.suspend)
    return {
        "apiVersion": API_VERSION,
        "kind": "BackupPolicy",
        "metadata": _dump(policy.metadata),
        "spec": spec,
    }


def _dump(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _in_seconds(values: dict[str, Any]) -> dict[str, Any]:
    spans = {key: values[key] for key in ("rpo", "rto", "jitter") if key in values}
    return values | {k: f"{int(parse_span(v).total_seconds())}s" for k, v in spans.items()}


def _variables(guardrail: Guardrail, given: dict[str, Any]) -> dict[str, Any]:
    """Compute the variables in order; one that fails is absent, so that only its use is an error."""
    values: dict[str, Any] = {}
    for variable in guardrail.spec.variables:
        program = compile_expression(variable.expression, variables=GUARDRAIL)
        try:
            values[variable.name] = program.evaluate({**given, "variables": values})
        except CelError:
            continue
    return values


def _message(validation: Validation, given: dict[str, Any]) -> str:
    if validation.message_expression:
        program = compile_expression(validation.message_expression, variables=GUARDRAIL)
        try:
            text = program.evaluate(given)
        except CelError:
            text = None
        if isinstance(text, str) and text.strip() and "\n" not in text:
            return text[:500]
    return validation.message or f"failed expression: {validation.expression.strip()[:200]}"


def _finding(
    message: str, guardrail: Guardrail, policy: EffectivePolicy, line: int, column: int
) -> Finding:
    denies = "Deny" in guardrail.spec.validation_actions
    return Finding(
        path=policy.ref.path,
        line=line,
        column=column,
        field="spec",
        message=message,
        severity="error" if denies else "warning",
        rule="guardrail",
    )
