"""Small policy files."""

from __future__ import annotations

HEAD = "apiVersion: backup.reconciler.dev/v1alpha1\n"


def policy(
    name: str = "shop",
    *,
    namespace: str | None = "shop",
    locations: str = "primary",
    cron: str = "0 * * * *",
    more: str = "",
) -> str:
    space = f", namespace: {namespace}" if namespace else ""
    kept = ", ".join(f"{{name: {one}, retention: {{last: 3}}}}" for one in locations.split(","))
    return (
        f"{HEAD}kind: BackupPolicy\nmetadata: {{name: {name}{space}}}\nspec:\n"
        f"  select: {{namespaces: {{names: [{namespace or 'x'}]}}}}\n"
        f'  schedule: {{cron: "{cron}", timeZone: UTC}}\n  locations: [{kept}]\n{more}'
    )


def location(name: str = "primary", *, url: str = "file:///srv/backup") -> str:
    return f"{HEAD}kind: Location\nmetadata: {{name: {name}}}\nspec: {{url: {url}}}\n"


def hold(name: str = "audit", *, more: str = "") -> str:
    return (
        f"{HEAD}kind: Hold\nmetadata: {{name: {name}}}\nspec:\n  application: shop/_\n  slot: 20261123T031700Z\n"
        f"  reason: audit\n  owner: legal\n{more}"
    )


def guardrail(expression: str, name: str = "rule") -> str:
    return f'{HEAD}kind: Guardrail\nmetadata: {{name: {name}}}\nspec:\n  validations: [{{expression: "{expression}", message: not allowed}}]\n'


BROKEN_POLICY = (
    HEAD + "kind: BackupPolicy\nmetadata: {name: shop, namespace: shop}\nspec: {schedul: {}}\n"
)
NOT_YAML = HEAD + "kind: [\n"
