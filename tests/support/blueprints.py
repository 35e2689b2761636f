"""Blueprints built from short words."""

from __future__ import annotations

from reconciler.kinds.blueprint import Blueprint


def step(name, *command, artifact=None, **more):
    """A phase: a stream when it has an artifact, else an exec."""
    body = {"command": list(command), **more}
    return (
        {"name": name, "stream": {"artifact": artifact, **body}}
        if artifact
        else {"name": name, "exec": body}
    )


def blueprint(name, match, *, namespace=None, covers=(), **actions):
    """A blueprint; each action is a list of phases, or (phases, finally phases)."""

    def action(value):
        phases, last = value if isinstance(value, tuple) else (value, [])
        return {"phases": phases, "finally": last} if last else {"phases": phases}

    actions.setdefault("backup", [step("dump", "true")])
    actions.setdefault("restore", [step("load", "true")])
    return Blueprint.model_validate(
        {
            "apiVersion": "backup.reconciler.dev/v1alpha1",
            "kind": "Blueprint",
            "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
            "spec": {
                "service": name,
                "match": match,
                "covers": list(covers),
                "actions": {k: action(v) for k, v in actions.items()},
            },
        }
    )
