"""The composition root: settings → adapters → the parts that verbs use.

Nothing else chooses adapters. `Parts` holds what is made on demand: a verb that reads the ledger never
connects to a cluster, one that reads the store alone never opens Git.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click
import structlog
from structlog.typing import EventDict

from reconciler.capture.watches import Watches
from reconciler.clock import Clock, SystemClock
from reconciler.cluster.port import Cluster
from reconciler.daemon.desired import Desired, desire, poll_sources
from reconciler.daemon.locations import Locations, OpenStorage
from reconciler.daemon.reconcile import Reconciler
from reconciler.daemon.settings import (
    Configuration,
    credentials,
    load_configuration,
    passphrase,
)
from reconciler.errors import KeyRejectedError, ReconcilerError, RefusedError, UsageError
from reconciler.git.remote import Remote
from reconciler.ledger.ledger import Ledger
from reconciler.source.adopt import Adoption, SourceSettings
from reconciler.source.poll import Source


@dataclass(frozen=True)
class Seams:
    """What tests put in place of adapters: wrappers that count and fail effects."""

    remote: Remote | None = None
    storage: OpenStorage | None = None
    wrap_cluster: Callable[[Cluster], Cluster] = lambda cluster: cluster


class Parts:
    """The parts of one process, made when they are first used."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        clock: Clock | None = None,
        seams: Seams | None = None,
        is_configured: bool = True,
        may_ask: bool = True,
        is_elsewhere: bool = False,
        is_serving: bool = False,
    ) -> None:
        self.configuration = configuration
        self.is_configured = is_configured
        """False when no configuration is for this cluster: no ledger, no sources, whatever the settings say."""
        self.settings = configuration.settings
        self.clock = clock or SystemClock()
        self._seams = seams or Seams()
        self._said: set[str] = set()
        self._may_ask = may_ask
        self.is_elsewhere = is_elsewhere
        """The cluster was chosen by a context that was typed."""
        self.is_serving = is_serving
        """More than one pass will run: what changes between them is followed."""
        self._typed: dict[str, str] = {}

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger's clone; not yet refreshed."""
        return Ledger(
            directory=self.configuration.work_directory / "ledger",
            url=self.settings.ledger.url,
            cluster=self.settings.cluster.name,
            clock=self.clock,
            remote=self._seams.remote,
        )

    @cached_property
    def sources(self) -> list[Source]:
        """The policy repositories' clones."""
        return [
            Source(
                SourceSettings(
                    name=entry.name,
                    url=entry.url,
                    ref=entry.ref,
                    paths=tuple(entry.paths),
                    kinds=tuple(entry.kinds) if entry.kinds is not None else None,
                    namespaces=tuple(entry.namespaces) if entry.namespaces is not None else None,
                ),
                directory=self.configuration.work_directory / "sources" / entry.name,
                remote=self._seams.remote,
            )
            for entry in self.settings.sources
        ]

    @cached_property
    def locations(self) -> Locations:
        """The stores, opened when used."""
        return Locations(
            passphrase=self._passphrase,
            clock=self.clock,
            grace=self.settings.prune.grace,
            storage=self._seams.storage,
            credentials=partial(credentials, self.configuration),
        )

    def _passphrase(self, location: str) -> str:
        """From where the configuration says, else typed in, once, where somebody can be asked."""
        if location in self._typed:
            return self._typed[location]
        try:
            return passphrase(self.configuration, location)
        except KeyRejectedError:
            entry = self.settings.passphrases.get(location)
            has_file = entry is not None and entry.file is not None
            if has_file or not self._may_ask or not sys.stdin.isatty():
                raise
        prompt = f"Passphrase of location {location}"
        self._typed[location] = str(click.prompt(prompt, hide_input=True, err=True))
        return self._typed[location]

    def connect(self) -> Cluster:
        """Connect to the configured cluster."""
        return self._cluster

    @cached_property
    def _cluster(self) -> Cluster:
        from reconciler.cluster.kubernetes import connect

        entry = self.settings.cluster
        cluster = connect(
            name=entry.name,
            kubeconfig=self.configuration.kubeconfig,
            context=entry.context,
            in_cluster=entry.in_cluster,
        )
        wrapped = self._seams.wrap_cluster(cluster)
        if self.is_elsewhere and self.is_configured:
            self._check_cluster(wrapped)
        return wrapped

    def _check_cluster(self, cluster: Cluster) -> None:
        """Make sure that a context that was typed leads to the cluster whose ledger this is.

        Raises:
            RefusedError: it does not.
        """
        self.refresh()
        view = self.ledger.view()
        newest = [point for name in view.applications() if (point := view.latest(name)) is not None]
        known = max(newest, key=lambda one: one.spec.captured_at, default=None)
        if known is not None and known.spec.cluster_uid != cluster.uid():
            entry = self.settings.cluster
            raise RefusedError(
                f"use context {entry.context}: it leads to cluster {cluster.uid()}, the ledger of {entry.name} "
                f"is of {known.spec.cluster_uid}",
                hint="choose that cluster's configuration with --config",
            )

    @cached_property
    def reconciler(self) -> Reconciler:
        """The passes."""
        return Reconciler(
            settings=self.settings,
            clock=self.clock,
            connect=self.connect,
            ledger=self.ledger,
            sources=self.sources,
            locations=self.locations,
            journal=self.journal,
            watches=self._watches(),
        )

    def _watches(self) -> Watches | None:
        entry = self.settings.watches
        return Watches(proof_every=entry.proof) if self.is_serving and entry.enabled else None

    @property
    def journal(self) -> Path:
        """Where restores without Git are written down; kept apart where no ledger of ours may take them."""
        name = "break-glass.jsonl" if self.is_configured else "break-glass-elsewhere.jsonl"
        return self.configuration.work_directory / name

    def desired(self) -> Desired:
        """What the sources say now, without writing anything. Warnings go to stderr."""
        self.refresh()
        adoptions = self.adoptions()
        for adoption in adoptions:
            if adoption.refused:
                self._warn(f"source {adoption.settings.name}: {adoption.refused}")
        desired = desire(adoptions, cluster=self.settings.cluster.name)
        for kept in desired.kept:
            self._warn(f"{kept}; see `reconciler lint`")
        return desired

    def adoptions(self) -> list[Adoption]:
        """What each source says now; the ledger must have been refreshed."""
        return poll_sources(
            self.sources,
            view=self.ledger.view(),
            clock=self.clock,
            cluster=self.settings.cluster.name,
        )

    def refresh(self) -> None:
        """Fetch the ledger; when its remote is away, what is here locally is used, and that is said."""
        try:
            self.ledger.refresh()
        except ReconcilerError as error:
            if self.ledger.view().tip is None:
                raise
            self._warn(f"{error.message}; using the local copy")

    def _warn(self, text: str) -> None:
        """Say something on stderr, once however often it is met."""
        if text not in self._said:
            self._said.add(text)
            click.echo(f"warning: {text}", err=True)


def parts_of(ctx: click.Context) -> Parts:
    """The parts for a verb, from `--config`."""
    given = ctx.obj.get("config") if ctx.obj else None
    set_up_logging(verbose=bool(ctx.obj and ctx.obj.get("verbose")))
    configuration = load_configuration(Path(given) if given else None)
    context = ctx.obj.get("context") if ctx.obj else None
    return Parts(_in_context(configuration, context), is_elsewhere=context is not None)


def _in_context(configuration: Configuration, context: str | None) -> Configuration:
    """The configuration with its cluster reached by another context of the kubeconfig."""
    if context is None:
        return configuration
    settings = configuration.settings
    cluster = settings.cluster.model_copy(update={"context": context, "in_cluster": False})
    settings = settings.model_copy(update={"cluster": cluster})
    return replace(configuration, settings=settings)


def parts_without_git(ctx: click.Context) -> Parts:
    """The parts of a restore in an emergency: a configuration is used when there is one, and not needed."""
    from reconciler.daemon.settings import Settings

    context = ctx.obj.get("context") if ctx.obj else None
    try:
        # With a context that was typed the target may be any cluster, of which no ledger of ours may tell.
        return Parts(parts_of(ctx).configuration, is_configured=context is None)
    except UsageError:
        if ctx.obj and ctx.obj.get("config"):
            raise
    nowhere = "file:///nowhere"
    settings = Settings.model_validate(
        {
            "cluster": {"name": "cluster"},
            "sources": [{"name": "none", "url": nowhere}],
            "ledger": {"url": nowhere},
        }
    )
    which = f"the context {context}" if context else "the current context"
    click.echo(f"no configuration: {which} of the kubeconfig is the cluster", err=True)
    bare = Configuration(settings=settings, directory=Path.cwd())
    return Parts(_in_context(bare, context), is_configured=False)


SAID_BY_VERBS = frozenset(
    {
        "phase failed",
        "source refused",
        "location does not open",
        "capture failed",
        "restore not run",
    }
)
"""Events that a verb tells in words of its own; only the daemon, and `--verbose`, log them."""


def _unless_said(_logger: Any, _method: str, event: EventDict) -> EventDict:
    if event["event"] in SAID_BY_VERBS:
        raise structlog.DropEvent
    return event


def set_up_logging(*, verbose: bool, everything: bool = False) -> None:
    """Structured log lines on stderr: JSON, or readable ones on a terminal.

    Verbs log errors only, and none that they tell themselves, unless `--verbose`; the daemon (`everything`) logs
    what it does.
    """
    is_loud = verbose or everything
    level = logging.INFO if is_loud else logging.ERROR
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            *([] if is_loud else [_unless_said]),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
