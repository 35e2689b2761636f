"""What tests ask of passes: how captures ended, what the ledger says, and storage that is at fault."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout

import structlog

from reconciler.cli.compose import Parts, Seams
from reconciler.cli.main import invoke
from reconciler.daemon.settings import load_configuration
from tests.support.command import Answer


class FaultyStorage:
    """Storage whose writes (or everything, with `reads`) raise an error until `error` is taken away."""

    def __init__(self, inner, error, *, reads=False):
        self.inner = inner
        self.error = error
        self.reads = reads
        self.met = 0

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if name not in ("create", "replace", "delete", "read", "entries"):
            return found

        def call(*argv, **rest):
            if self.error is not None and (self.reads or name not in ("read", "entries")):
                self.met += 1
                raise self.error
            return found(*argv, **rest)

        return call


def parts_with(world, *, work="work", storage=None, remote=None, cluster=None):
    """A process of a world whose storage (by URL), Git remote or cluster is another one."""
    path = world.root / f"{work}.yaml"
    path.write_text(
        world.config.read_text().replace("workDirectory: work", f"workDirectory: {work}")
    )
    seams = Seams(
        remote=remote,
        storage=storage or (lambda _url: world.storage),
        wrap_cluster=lambda usual: cluster or usual,
    )
    return Parts(load_configuration(path), clock=world.clock, seams=seams)


def told(report):
    """(application, phase) of every capture of a pass."""
    return sorted((line.application.short, line.phase) for line in report.captured)


def view_of(world, *, work="look"):
    """The ledger as the remote has it."""
    parts = world.parts(work=work)
    parts.ledger.refresh()
    return parts.ledger.view()


def slots(world, application="shop/_"):
    """Slots of the live points that the ledger's remote has for an application."""
    return [entry.slot for entry in view_of(world).points(application)]


def failures(world, slot, *, application="shop/_"):
    """Failure records of a slot, as the remote has them."""
    return [record.spec for record in view_of(world).failures(application, slot)]


def problems(report):
    """Where and what, in one text."""
    return "\n".join(f"{p.where}: {p.message}" for p in report.problems)


def metric(parts, name, **labels):
    """The value of a metric."""
    return parts.reconciler.metrics.registry.get_sample_value(f"reconciler_{name}", labels)


def here(*argv, **environment):
    """Run a command in this process; quicker than a process of its own, with the same answer."""
    out, err = io.StringIO(), io.StringIO()
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = invoke(argv)
    finally:
        structlog.reset_defaults()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
    return Answer(code, out.getvalue(), err.getvalue())
