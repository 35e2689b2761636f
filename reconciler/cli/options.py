"""Options that several verbs share, with kubectl's names and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import click

from reconciler.errors import UsageError


def _keep_context(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.find_root().ensure_object(dict)["context"] = value


context_option = click.option(
    "--context",
    metavar="NAME",
    expose_value=False,
    callback=_keep_context,
    help="A context of the kubeconfig, instead of the configured one.",
)
"""Before the verb or after it, as in kubectl; `compose.parts_of` takes it into the configuration."""


@dataclass(frozen=True)
class Requirement:
    """One clause of a selector: `key=value`, `key!=value`, `key` or `!key`."""

    key: str
    value: str | None
    is_negated: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy it."""
        is_so = self.key in labels if self.value is None else labels.get(self.key) == self.value
        return is_so != self.is_negated


@dataclass(frozen=True)
class Selector:
    """Clauses that must all hold."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether labels satisfy every clause."""
        return all(one.holds(labels or {}) for one in self.requirements)


def read_selector(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Selector:
    """Read `a=b,c!=d,e,!f`, kubectl's equality-based selectors.

    Raises:
        UsageError: a clause is none of these.
    """
    if not value:
        return Selector()
    return Selector(tuple(_requirement(clause.strip()) for clause in value.split(",")))


def _requirement(clause: str) -> Requirement:
    key, sign, text = clause.partition("!=")
    if not sign:
        key, sign, text = clause.partition("==")
    if not sign:
        key, sign, text = clause.partition("=")
    is_absence = not sign and key.startswith("!")
    key = key.removeprefix("!").strip() if is_absence else key.strip()
    if not key or set(key + text) & set("=!() "):
        raise UsageError(
            f"read selector {clause[:80]!r}: not of the form key=value, key!=value, key or !key",
            hint="for example -l team=shop,tier!=gold",
        )
    is_negated = is_absence or "!=" in clause
    return Requirement(key, text.strip() if sign else None, is_negated)


selector_option = click.option(
    "-l",
    "--selector",
    metavar="LABELS",
    callback=read_selector,
    help="Only those with these labels: key=value,key!=value,key,!key.",
)
