"""Run the actions of a blueprint: typed phases in order, then the `finally` phases whatever happened.

`exec` phases run a command; `stream` phases move bytes between a command and whoever keeps artifacts: out on
`backup`, in on `restore`. Errors name the blueprint and the phase, keep the family of what went wrong (again or
not), and carry nothing that a command printed but what the stream layer lets through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import structlog

from reconciler.blueprint import streams
from reconciler.blueprint.stop import StoppedError, check_stop
from reconciler.cluster.port import ApiError, Cluster, ExecBrokenError, ExecTarget, UnavailableError
from reconciler.errors import ReconcilerError, TerminalError, TransientError
from reconciler.kinds.blueprint import Action, Blueprint, ExecPhase, Phase, StreamPhase

Sink = Callable[[str, Iterator[bytes]], None]
"""Takes an artifact's name and its bytes, and reads them to the end."""
Opener = Callable[[str], Iterator[bytes]]
"""Opens the bytes of an artifact by its name."""

_log = structlog.get_logger(__name__)
_COMMAND_ERRORS = (
    streams.StreamCutError,
    streams.CommandFailedError,
    streams.CommandTimeoutError,
    streams.NoShellError,
    streams.OutputTooLargeError,
    ApiError,
    ExecBrokenError,
    UnavailableError,
)


class ActionFailedError(TerminalError):
    """A phase failed in a way that trying again does not change."""


class ActionBrokenError(TransientError):
    """A phase was cut short; it may work when tried again."""


def backup(
    blueprint: Blueprint,
    *,
    cluster: Cluster,
    target: ExecTarget,
    sink: Sink,
    stop: threading.Event | None = None,
) -> None:
    """Make the artifacts and hand each to `sink` while it is being made.

    Raises:
        ActionFailedError, ActionBrokenError: a phase failed. What `sink` raises comes through as it is.
    """
    run = _Run(blueprint, cluster=cluster, target=target, verb="backup", sink=sink)
    run.action(blueprint.spec.actions.backup, stop=stop)


def restore(
    blueprint: Blueprint,
    *,
    cluster: Cluster,
    target: ExecTarget,
    open_artifact: Opener,
    stop: threading.Event | None = None,
) -> None:
    """Load the artifacts into the service.

    Raises:
        ActionFailedError, ActionBrokenError: a phase failed. What `open_artifact` raises comes through as it is.
    """
    run = _Run(
        blueprint, cluster=cluster, target=target, verb="restore", open_artifact=open_artifact
    )
    run.action(blueprint.spec.actions.restore, stop=stop)


def quiesce(
    blueprint: Blueprint,
    *,
    cluster: Cluster,
    target: ExecTarget,
    stop: threading.Event | None = None,
) -> bool:
    """Make the service hold still; False when the blueprint has nothing to do for that.

    Raises:
        ActionFailedError, ActionBrokenError: a phase failed; `resume` is due all the same.
    """
    return _commands(blueprint, "quiesce", cluster=cluster, target=target, stop=stop)


def resume(blueprint: Blueprint, *, cluster: Cluster, target: ExecTarget) -> bool:
    """Let the service go on; cannot be stopped, because a service must not stay quiesced.

    Raises:
        ActionFailedError, ActionBrokenError: a phase failed.
    """
    return _commands(blueprint, "resume", cluster=cluster, target=target, stop=None)


def verify(
    blueprint: Blueprint,
    *,
    cluster: Cluster,
    target: ExecTarget,
    stop: threading.Event | None = None,
) -> bool:
    """Ask the service whether its data is whole; False when the blueprint does not say how.

    Raises:
        ActionFailedError, ActionBrokenError: it is not, or could not be asked.
    """
    return _commands(blueprint, "verify", cluster=cluster, target=target, stop=stop)


def _commands(
    blueprint: Blueprint,
    verb: Literal["quiesce", "resume", "verify"],
    *,
    cluster: Cluster,
    target: ExecTarget,
    stop: threading.Event | None,
) -> bool:
    action: Action | None = getattr(blueprint.spec.actions, verb)
    if action is None:
        return False
    _Run(blueprint, cluster=cluster, target=target, verb=verb).action(action, stop=stop)
    return True


class _Run:
    """One action of one blueprint in one pod."""

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        cluster: Cluster,
        target: ExecTarget,
        verb: str,
        sink: Sink | None = None,
        open_artifact: Opener | None = None,
    ) -> None:
        self._name = blueprint.metadata.name
        self._cluster = cluster
        self._target = target
        self._verb = verb
        self._sink = sink
        self._open = open_artifact

    def action(self, action: Action, *, stop: threading.Event | None) -> None:
        """Run phases, then the `finally` phases; the first error of the former counts before the latter's."""
        try:
            self._phases(action.phases, stop=stop)
        except BaseException:
            try:
                self._each(action.finally_)
            except ReconcilerError as error:
                # The first failure is the one to report; this one would hide it.
                _log.warning("finally phase failed too", action=self._verb, reason=error.reason)
            raise
        self._each(action.finally_)

    def _phases(self, phases: Sequence[Phase], *, stop: threading.Event | None) -> None:
        for phase in phases:
            check_stop(stop)
            self._phase(phase, stop=stop)

    def _each(self, phases: Sequence[Phase]) -> None:
        """Run every phase even when one before it failed; cannot be stopped."""
        first: ReconcilerError | None = None
        for phase in phases:
            try:
                self._phase(phase, stop=None)
            except ReconcilerError as error:
                first = first or error
        if first:
            raise first

    def _phase(self, phase: Phase, *, stop: threading.Event | None) -> None:
        try:
            if phase.exec is not None:
                self._exec(phase.exec, stop=stop)
            elif phase.stream is not None:
                self._stream(phase.stream, stop=stop)
        except streams.CommandStoppedError as error:
            raise StoppedError(error.message) from error
        except _COMMAND_ERRORS as error:
            family = ActionBrokenError if isinstance(error, TransientError) else ActionFailedError
            raise family(
                f"{self._verb} with blueprint {self._name}: phase {phase.name}: {error.message}",
                hint=error.hint,
                reason=error.reason,
            ) from error

    def _in(self, container: str | None) -> ExecTarget:
        return replace(self._target, container=container) if container else self._target

    def _exec(self, phase: ExecPhase, *, stop: threading.Event | None) -> None:
        target = self._in(phase.container)
        streams.run(self._cluster, target, phase.command, timeout=phase.timeout, stop=stop)

    def _stream(self, phase: StreamPhase, *, stop: threading.Event | None) -> None:
        target = self._in(phase.container)
        if self._sink is not None:
            chunks = streams.pull(
                self._cluster, target, phase.command, timeout=phase.timeout, stop=stop
            )
            self._sink(phase.artifact, chunks)
        elif self._open is not None:
            streams.push(
                self._cluster,
                target,
                phase.command,
                self._open(phase.artifact),
                timeout=phase.timeout,
                stop=stop,
            )
        else:
            raise ActionFailedError(
                f"{self._verb} with blueprint {self._name}: stream phases outside backup and restore "
                "are not supported by this version",
                reason="NotSupported",
            )
