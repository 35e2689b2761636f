"""Expressions a second: ours, celpy's interpreter, and two compiled engines where they are installed.

Three rules over a Deployment of 3 KB, loops over lists of 1,000 items, and a bank of forty rules for one object. Input
conversion counts: a rule meets an object once. Each engine is measured in turns within one run.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from typing import Any

RULES = {
    "R1 compare": "object.kind == 'Deployment' && object.spec.replicas > 2",
    "R2 all": "object.spec.template.spec.containers.all(c, c.image.startsWith('registry.example/'))",
    "R3 patch": (
        "[{'op': 'replace', 'path': '/spec/replicas', 'value': 1}]"
        " + object.spec.template.spec.containers.map(c, {'op': 'add', 'path': '/x/' + c.name,"
        " 'value': has(c.tty) ? 'tty' : (c.image.contains(':') ? c.image : c.image + ':latest')})"
    ),
    "1,000 items all": "items.all(i, i.n >= 0 && i.name.startsWith('item-'))",
    "1,000 items filter": "items.filter(i, i.n % 7 == 3).map(i, i.name + '/x')",
}
BANK = [
    rule.replace("'Deployment'", f"'Deployment{n or ''}'").replace("> 2", f"> {n}")
    for n in range(20)
    for rule in (RULES["R1 compare"], RULES["R2 all"])
]
SECONDS = 0.4
TURNS = 3


def activation() -> dict[str, Any]:
    """An object of about 3 KB, and 1,000 items."""
    containers = [
        {
            "name": f"c{n}",
            "image": f"registry.example/team/app-{n}:1.{n}",
            "env": [{"name": f"KEY_{k}", "value": f"value-{k}" * 3} for k in range(12)],
            "ports": [{"containerPort": 8080 + n, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        }
        for n in range(3)
    ]
    labels = {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop"}
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": labels},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }
    return {"object": made, "items": [{"n": n, "name": f"item-{n}"} for n in range(1000)]}


Make = Callable[[list[str]], Callable[[dict[str, Any]], list[Any]]]
"""Compiles rules; what it gives evaluates them all for one activation, conversion of the input included."""


def ours(rules: list[str]) -> Callable[[dict[str, Any]], list[Any]]:
    """This engine."""
    from reconciler.cel import compile_expression

    programs = [compile_expression(rule, variables=("object", "items")) for rule in rules]
    return lambda given: [program.evaluate(given) for program in programs]


def celpy_interpreter(rules: list[str]) -> Callable[[dict[str, Any]], list[Any]]:
    """cel-python's own evaluator."""
    import celpy
    from celpy.adapter import CELJSONEncoder, json_to_cel

    environment = celpy.Environment()
    programs = [environment.program(environment.compile(rule)) for rule in rules]

    def run(given: dict[str, Any]) -> list[Any]:
        converted = {name: json_to_cel(value) for name, value in given.items()}
        return [CELJSONEncoder.to_python(program.evaluate(converted)) for program in programs]

    return run


def cel_expr_python(rules: list[str]) -> Callable[[dict[str, Any]], list[Any]]:
    """Google's C++ engine."""
    from cel_expr_python import cel  # type: ignore[import-not-found]

    environment = cel.NewEnv(variables={"object": cel.Type.DYN, "items": cel.Type.DYN})
    programs = [environment.compile(rule) for rule in rules]

    def run(given: dict[str, Any]) -> list[Any]:
        converted = environment.Activation(given)
        return [program.eval(converted).plain_value() for program in programs]

    return run


def common_expression_language(rules: list[str]) -> Callable[[dict[str, Any]], list[Any]]:
    """The Rust engine."""
    import cel  # type: ignore[import-not-found]

    programs = [cel.compile(rule) for rule in rules]

    def run(given: dict[str, Any]) -> list[Any]:
        converted = cel.Context(given)
        return [program.execute(converted) for program in programs]

    return run


ENGINES: dict[str, tuple[Make, str]] = {
    "ours": (ours, "reconciler"),
    "celpy": (celpy_interpreter, "celpy"),
    "cel-expr-python": (cel_expr_python, "cel_expr_python"),
    "common-expression-language": (common_expression_language, "cel"),
}


def rate(run: Callable[[dict[str, Any]], list[Any]], given: dict[str, Any]) -> float:
    """Evaluations a second."""
    count, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < SECONDS:
        run(given)
        count += 1
    return count / taken


def main() -> dict[str, dict[str, float]]:
    """Measure every engine that is installed on every rule; the same values are asserted first."""
    given = activation()
    only = {"object": {"object": given["object"], "items": []}, "items": given}
    print(f"object of {len(json.dumps(given['object']))} bytes")
    engines = {
        name: make for name, (make, module) in ENGINES.items() if importlib.util.find_spec(module)
    }
    found: dict[str, dict[str, float]] = {}
    for name, rules in [*((name, [rule]) for name, rule in RULES.items()), ("bank of 40", BANK)]:
        inputs = only["items" if "items" in name else "object"]
        best: dict[str, float] = {}
        expected = ours(rules)(inputs)
        for engine, make in engines.items():
            try:
                run = make(rules)
                if run(inputs) != expected:
                    print(f"  {name}: {engine} gives another value")
                    continue
            except Exception as error:  # noqa: BLE001  an engine that cannot is said, not measured
                print(f"  {name}: {engine} fails: {type(error).__name__} {str(error)[:60]}")
                continue
            best[engine] = max(rate(run, inputs) for _ in range(TURNS))
        found[name] = best
        base = best.get("celpy", 0.0)
        shown = "   ".join(
            f"{engine} {value:,.0f}/s" + (f" ({value / base:.0f} ×)" if base else "")
            for engine, value in best.items()
        )
        print(f"{name:20} {shown}", flush=True)
    return found


if __name__ == "__main__":
    main()
