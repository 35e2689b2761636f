"""Restores while Git is down: from location and passphrase alone, with a reason, journalled beside the clones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.arguments import EXIT_CODES, VALID_FOR
from reconciler.errors import UsageError
from reconciler.objects import canonical

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts
    from reconciler.restore.plan.entry import Plan
    from reconciler.restore.plan.request import RestoreRequest
    from reconciler.store.port import PointName, Store

IDENTITY_MAX = 160
"""Characters of a restore's name that are for people."""


def break_glass_plan(
    parts: Parts,
    point: str,
    *,
    url: str,
    passphrase_file: Path | None,
    options: dict[str, Any],
) -> Plan:
    """The plan of restoring POINT from the location at URL, as `break_glass_run` would.

    Raises:
        UsageError: a transform set is asked for (those live in Git).
    """
    from reconciler.daemon.restores import runner_settings
    from reconciler.restore.execute.glass import plan_break_glass

    store, request = _found(
        parts, point, (url, passphrase_file), reason="plan", attempt=1, options=options
    )
    return plan_break_glass(
        request,
        stores=lambda _request: [(url, store)],
        cluster=parts.connect(),
        settings=runner_settings(parts.settings),
        clock=parts.clock,
    )


def break_glass_run(
    parts: Parts,
    point: str,
    *,
    url: str | None,
    passphrase_file: Path | None,
    reason: str | None,
    attempt: int,
    watch_after: timedelta | None,
    options: dict[str, Any],
) -> int:
    """Restore POINT from the location at URL; nothing of Git is read or written.

    Raises:
        UsageError: location or reason are missing, or a transform set is asked for (those live in Git).
    """
    from reconciler.cli.plantext import summary
    from reconciler.cli.progress import restoring
    from reconciler.daemon.daemon import stop_on_signals
    from reconciler.daemon.restores import runner_settings
    from reconciler.restore.execute.glass import run_break_glass

    if not url or not reason:
        raise UsageError(
            "restore run: --break-glass needs --location URL and --reason",
            hint=f"reconciler restore run {point} --break-glass --location file:///… --reason …",
        )
    store, request = _found(
        parts, point, (url, passphrase_file), reason=reason, attempt=attempt, options=options
    )
    journal = parts.journal
    journal.parent.mkdir(parents=True, exist_ok=True)
    with restoring() as watch, stop_on_signals() as stop:
        plan, result = run_break_glass(
            request,
            stores=lambda _request: [(url, store)],
            cluster=parts.connect(),
            settings=runner_settings(parts.settings, watch=watch),
            clock=parts.clock,
            journal=journal,
            stop=stop,
        )
    click.echo(summary(plan))
    click.echo(f"{result.phase}: {result.message or plan.point}")
    for outcome in result.outcomes[:20]:
        if outcome.result == "Failed":
            click.echo(f"  {outcome.item}: {outcome.reason} {outcome.message}", err=True)
    click.echo(_last_words(parts, journal), err=True)
    code = EXIT_CODES.get(result.phase, 130)
    if watch_after is not None and result.phase in ("Succeeded", "Partial"):
        found = _watch(parts, request, (url, store), watch_after)
        return code or int(found)
    return code


def _watch(
    parts: Parts, request: RestoreRequest, location: tuple[str, Store], span: timedelta
) -> bool:
    """Wait, then say and journal what others changed of a restore; whether they did."""
    from reconciler.cli.restore import await_aftermath, show_aftermath
    from reconciler.daemon.restores import runner_settings
    from reconciler.restore.execute.glass import watch_break_glass

    if not await_aftermath(parts, span):
        return False
    record = watch_break_glass(
        request,
        stores=lambda _request: [location],
        cluster=parts.connect(),
        settings=runner_settings(parts.settings, watch_after=span),
        clock=parts.clock,
        journal=parts.journal,
    )
    if record is None:
        return False
    show_aftermath(record.spec.message, record.spec.aftermath)
    return bool(record.spec.aftermath)


def _found(
    parts: Parts,
    point: str,
    location: tuple[str, Path | None],
    *,
    reason: str,
    attempt: int,
    options: dict[str, Any],
) -> tuple[Store, RestoreRequest]:
    """Open the location, choose the point, say which goes where, and make the request of it."""
    from reconciler.cli.points import parse_point
    from reconciler.cli.stored import find_in_store, open_location

    if options.get("transforms"):
        raise UsageError(
            "restore: transform sets come from Git and are not at hand from a location alone",
            hint="leave --transform out, or restore with Git",
        )
    store = open_location(*location)
    found = find_in_store(store, parse_point(point), cluster=options.get("from_cluster"))
    cluster = parts.connect()
    uid = cluster.uid()
    request = _request(
        parts, found.name, target_uid=uid, reason=reason, attempt=attempt, options=options
    )
    into = request.spec.to.namespace or found.name.namespace
    click.echo(f"{found.title} → namespace {into} of cluster {cluster.name} (uid {uid})", err=True)
    return store, request


def _last_words(parts: Parts, journal: Path) -> str:
    if parts.is_configured:
        return (
            f"The record is in {journal}; with Git back, the next pass of `reconciler run` with this "
            "configuration takes it into the ledger."
        )
    return (
        f"The record is in {journal}: keep it. No configuration names a ledger of this cluster, so that "
        "nothing else records this restore."
    )


def _request(
    parts: Parts,
    name: PointName,
    *,
    target_uid: str,
    reason: str,
    attempt: int,
    options: dict[str, Any],
) -> RestoreRequest:
    from reconciler.cli.arguments import as_manifest
    from reconciler.clock import format_instant
    from reconciler.kinds.request import RestoreSpec
    from reconciler.restore.plan.request import RestoreRequest

    until = (parts.clock.now() + VALID_FOR).replace(microsecond=0)
    into, contents = options.get("to_namespace"), options.get("contents")
    spec = as_manifest(
        RestoreSpec,
        {
            "attempt": attempt,
            "cluster": parts.settings.cluster.name,
            "reason": reason,
            "notAfter": format_instant(until),
            "from": {"point": name.path, "cluster": name.domain},
            **({"to": {"namespace": into}} if into else {}),
            **({"include": {"contents": list(contents)}} if contents else {}),
            "onConflict": options.get("on_conflict") or "fail",
            "recreate": list(options.get("recreate") or ()),
            "pause": list(options.get("pause") or ()),
        },
        verb="restore run",
    )
    return RestoreRequest(
        source="break-glass",
        namespace="",
        name=_identity(name, target_uid=target_uid, into=into, contents=contents or ()),
        attempt=attempt,
        spec=spec,
        break_glass=True,
    )


def _identity(
    name: PointName, *, target_uid: str, into: str | None, contents: Sequence[str]
) -> str:
    """What the journal and the Lease call this restore: another point, target or choice of contents is another one.

    People read its beginning; the digits at its end stand for all of it, the clusters included.
    """
    into = into or name.namespace
    whole = [name.domain, name.path, target_uid, into, *sorted(set(contents))]
    words = name.path.replace("/_/", "/all/")
    words += f"-into-{into}" if into != name.namespace else ""
    words += f"-only-{'-'.join(sorted(set(contents)))}" if contents else ""
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:IDENTITY_MAX].rstrip("-")
    return f"{slug}-{hashlib.sha256(canonical(whole)).hexdigest()[:8]}"
