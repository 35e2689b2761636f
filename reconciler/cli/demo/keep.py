"""What stays up after the story with `--keep`: the clusters, a daemon for each, and words on how to work with them."""

from __future__ import annotations

import sys

import click

from reconciler.cli.demo.applications import WIKI
from reconciler.cli.demo.stage import Stage
from reconciler.daemon.daemon import stop_on_signals


def stay(stage: Stage, *, branch: str) -> None:
    """Start the daemons, say what to type, and wait for Ctrl-C."""
    for name in stage.configured:
        stage.start_daemon(name)
    first, *others = stage.configured
    click.echo(_words(stage, first, others, branch))
    with stop_on_signals() as stop:
        stop.wait()


def _words(stage: Stage, first: str, others: list[str], branch: str) -> str:
    root, policies = stage.root, stage.policies
    more = "".join(
        f"\n  {name}: KUBECONFIG={root}/{name}.kubeconfig RECONCILER_CONFIG={root}/{name}.yaml"
        for name in others
    )
    real = stage.real.get(first)
    if real is None:
        reach = f"export KUBECONFIG={root}/{first}.kubeconfig"
        note = (
            "  # any kubectl; make objects with\n"
            "                                       # `kubectl apply --validate=false -f FILE`, because\n"
            "                                       # `kubectl create KIND` speaks protobuf, the sandbox does not"
        )
    else:
        reach = f"kubectl config use-context {real.context}"
        note = ""
    return f"""
Everything stays up until Ctrl-C, and a daemon for each cluster looks at Git every few seconds. In another terminal:

  {reach}
  export RECONCILER_CONFIG={root}/{first}.yaml
  alias reconciler='{sys.executable} -m reconciler.cli.main'
  kubectl get all -A                 {note}
  reconciler get apps
  reconciler get points
  reconciler restore plan shop/_/latest --on-conflict update
  reconciler diff shop/_/latest --live
  reconciler verify --all --read-data 100%
  git --git-dir {root}/remotes/ledger.git log {branch}

Lose something and ask for it back by Git; what is pushed is carried out:

  kubectl delete namespace {WIKI}
  reconciler restore new {WIKI}/_/latest --reason 'a try' --name try > {policies}/restores/try.yaml
  git -C {policies} add -A && git -C {policies} commit -m 'Bring the wiki back' && git -C {policies} push origin main
  reconciler get restores            # and {root}/{first}-daemon.log
{f"{chr(10)}The other clusters:{more}{chr(10)}" if others else ""}
The policy repository to work in: {policies}"""
