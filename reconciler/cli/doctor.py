"""`reconciler doctor`: is everything reachable, permitted and configured? Reads only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.options import context_option
from reconciler.errors import ReconcilerError

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `state` is ok, warning or fault."""

    what: str
    state: str
    message: str = ""
    hint: str = ""


_MARKS = {"ok": ("✔", "green"), "warning": ("!", "yellow"), "fault": ("✗", "red")}


@click.command("doctor")
@context_option
@click.pass_context
def command(ctx: click.Context) -> int:
    """Check configuration, sources, ledger, locations, cluster, permissions and leftovers.

    Ends with 1 when something is at fault.
    """
    from reconciler.cli.compose import parts_of

    parts = parts_of(ctx)
    worst = 0
    for check in _checks(parts):
        sign, colour = _MARKS[check.state]
        tail = f": {check.message}" if check.message else ""
        click.echo(f"{click.style(sign, fg=colour)} {check.what}{tail}")
        if check.hint:
            click.echo(f"    next: {check.hint}")
        worst |= check.state == "fault"
    return int(worst)


def _checks(parts: Parts) -> Iterator[Check]:
    yield Check("configuration", "ok", str(parts.configuration.directory))
    if shutil.which("git") is None:
        yield Check(
            "git program", "warning", "not installed", "install git: the ledger's clone stays small"
        )
    steps: tuple[Callable[[Parts], Iterator[Check]], ...] = (_git, _locations, _cluster)
    for step in steps:
        try:
            yield from step(parts)
        except ReconcilerError as error:
            yield Check(step.__name__.strip("_"), "fault", error.message, error.hint)


def _git(parts: Parts) -> Iterator[Check]:
    from reconciler.ledger.chain import verify_chain

    parts.ledger.refresh()
    view = parts.ledger.view()
    problems = verify_chain(view)
    if problems:
        yield Check(
            "ledger chain", "fault", problems[0], "compare with another clone: git log, git fsck"
        )
    else:
        yield Check("ledger", "ok", f"{parts.ledger.branch}, {len(view.points())} points")
    for key, state in view.restores().items():
        if state.accepted is not None and state.finished is None:
            yield Check(
                "restore",
                "warning",
                f"{key.name} attempt {key.attempt} was accepted and has not ended",
                "a merged one goes on at the next pass; else run a new one",
            )
    if parts.ledger.pending:
        yield Check("ledger", "warning", f"{parts.ledger.pending} commits wait to be pushed")
    refused = [adoption for adoption in parts.adoptions() if adoption.refused]
    for adoption in refused:
        yield Check(
            f"source {adoption.settings.name}",
            "fault",
            adoption.refused,
            "look at its url, ref and history; the last good state stays in force",
        )
    desired = parts.desired()
    errors = [finding for finding in desired.findings if finding.severity == "error"]
    for finding in errors[:10]:
        yield Check("source", "fault", str(finding), "mend it and run `reconciler lint`")
    if not errors:
        yield Check(
            "sources", "ok", f"{len(desired.policies)} policies, {len(desired.restores)} restores"
        )


def _locations(parts: Parts) -> Iterator[Check]:
    desired = parts.desired()
    if not desired.locations:
        yield Check("locations", "fault", "no Location manifest", "add one under locations/")
    for location in desired.locations:
        name = location.metadata.name
        try:
            store = parts.locations.open(location)
        except ReconcilerError as error:
            yield Check(f"location {name}", "fault", error.message, error.hint)
            continue
        yield Check(f"location {name}", "ok", f"opens; {sum(1 for _ in store.points())} points")
        yield from _free_space(name, location.spec.url)


def _coverage(parts: Parts) -> Iterator[Check]:
    from reconciler.daemon.survey import survey

    desired = parts.desired()
    found = survey(
        parts.connect(),
        desired=desired,
        settings=parts.settings,
        view=parts.ledger.view(),
        clock=parts.clock,
    )
    yield Check("coverage", "ok", f"{len(found.coverage.covered)} applications are covered")
    for fault in found.coverage.faults:
        yield Check("coverage", "fault", fault, "mend the policy, or the object that is named")
    for note in found.notes(desired, view=parts.ledger.view()):
        yield Check("coverage", "warning", note, "see `reconciler get apps`")


def _free_space(name: str, url: str) -> Iterator[Check]:
    usage = shutil.disk_usage(Path(url.removeprefix("file://")))
    if usage.free < usage.total * 0.05:
        yield Check(
            f"location {name}",
            "warning",
            f"{usage.free * 100 // usage.total} % of the disk is free",
        )


def _held_back(parts: Parts) -> Iterator[Check]:
    """What restores hold back: of one that goes on it is in order, of one that died it is left over."""
    from reconciler.restore.execute.pausing import held_back

    cluster = parts.connect()
    for one in held_back(cluster, cluster.discover()):
        how = "suspended" if one.key.kind == "CronJob" else "scaled to 0"
        yield Check(
            "held back",
            "warning",
            f"{one.key} is {how} by restore {one.mark.restore}",
            f"that restore releases it at its end, or when it is resumed; by hand: {one.command}",
        )


def _cluster(parts: Parts) -> Iterator[Check]:
    from reconciler.cluster.claimpod import list_leftover_pods
    from reconciler.cluster.permissions import RULES, check_permissions
    from reconciler.volumes.alive import who_lives
    from reconciler.volumes.ours import list_leftovers

    cluster = parts.connect()
    discovery = cluster.discover()
    yield Check(f"cluster {cluster.name}", "ok", f"{discovery.server_version}, uid {cluster.uid()}")
    for group, why in discovery.faults.items():
        yield Check(f"API {group}", "warning", f"not available: {why}", "captures will be Partial")
    yield from _coverage(parts)
    missing = check_permissions(cluster, RULES, parts.settings.lease_namespace)
    if missing is None:
        yield Check("permissions", "warning", "not checked: the server does not review access")
    elif missing:
        yield Check(
            "permissions",
            "fault",
            f"missing: {', '.join(missing[:8])}",
            "grant them (deploy/rbac.yaml)",
        )
    else:
        yield Check("permissions", "ok")
    yield from _held_back(parts)
    left_behind = list_leftovers(cluster, discovery, living=lambda: who_lives(cluster, discovery))
    for left in left_behind:
        yield Check(
            "leftover",
            "warning",
            f"{left} of an interrupted run",
            "the next capture removes it",
        )
    for pod in list_leftover_pods(cluster, discovery):
        yield Check(
            "leftover", "warning", f"pod {pod} of an interrupted run", "the next restore removes it"
        )
