"""`reconciler run`: the daemon, or one pass."""

from __future__ import annotations

import click

from reconciler.cli.options import context_option
from reconciler.clock import format_instant


@click.command("run")
@click.option("--once", is_flag=True, help="Run one pass, print what it did, and end.")
@context_option
@click.pass_context
def command(ctx: click.Context, once: bool) -> int:
    """Run the daemon: poll sources, capture what is due, carry out restores, retire, record.

    SIGTERM ends it cleanly between two effects. Health, readiness and metrics are served on the address
    under `health` of the configuration.
    """
    from reconciler.cli.compose import parts_of, set_up_logging
    from reconciler.daemon.daemon import stop_on_signals

    parts = parts_of(ctx)
    if once:
        from reconciler.cli.passes import print_report

        with stop_on_signals() as stop:
            report = parts.reconciler.run_pass(stop=stop)
        print_report(report)
        return 130 if stop.is_set() else report.exit_code
    set_up_logging(verbose=True, everything=True)
    return _serve(parts)


def _serve(parts: object) -> int:
    from reconciler.cli.compose import Parts
    from reconciler.daemon.daemon import Daemon, stop_on_signals
    from reconciler.daemon.health import HealthServer
    from reconciler.daemon.heap import share_one_heap
    from reconciler.daemon.timer import TimerClock

    assert isinstance(parts, Parts)
    share_one_heap()
    with TimerClock() as clock, stop_on_signals() as stop:
        serving = Parts(
            parts.configuration,
            clock=clock,
            may_ask=False,
            is_elsewhere=parts.is_elsewhere,
            is_serving=True,
        )
        daemon = Daemon(serving.reconciler, clock=clock, poll=serving.settings.poll)
        listen = serving.settings.health
        with HealthServer(
            host=listen.host,
            port=listen.port,
            metrics=serving.reconciler.metrics,
            health=daemon.health,
        ) as server:
            click.echo(
                f"{format_instant(clock.now())} reconciling {serving.settings.cluster.name}; "
                f"health on http://{listen.host}:{server.port}/healthz",
                err=True,
            )
            try:
                daemon.run(stop=stop)
            finally:
                serving.reconciler.close()
    return 0
