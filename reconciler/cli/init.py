"""`reconciler init [DIR]`: a starter policy repository, and the operator's configuration beside it."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.errors import UsageError
from reconciler.kinds.model import DNS_LABEL

CONFIGURATION = """\
# The operator's configuration. It is not part of the policy repository: keep it with the daemon.
cluster: {{name: {cluster}}}                 # context: NAME, kubeconfig: FILE or inCluster: true choose the cluster
sources:
  - {{name: policies, url: "{policies}", ref: main}}
ledger: {{url: "{ledger}"}}
passphrases:
  primary: {{env: RECONCILER_PASSPHRASE}}    # or {{file: PATH}}
"""


@click.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option(
    "--cluster", default="main", show_default=True, help="What the cluster is called in Git."
)
@click.option(
    "--location",
    "location_url",
    metavar="URL",
    help="Where content goes [default: DIR/../backups].",
)
@click.option(
    "--policies", metavar="URL", help="The policy repository's remote [default: DIR itself]."
)
@click.option(
    "--ledger", metavar="URL", help="The ledger's remote [default: the policy repository]."
)
def command(
    directory: Path,
    cluster: str,
    location_url: str | None,
    policies: str | None,
    ledger: str | None,
) -> int:
    """Write a starter policy repository to DIRECTORY, and reconciler.yaml beside it.

    Nothing that is there is overwritten.
    """
    import re

    from reconciler.cli.starter import write_starter

    if not re.match(DNS_LABEL, cluster):
        raise UsageError(
            f"init: {cluster!r} is no name for a cluster", hint="use lower-case letters and digits"
        )
    directory = directory.absolute()
    configuration = directory.parent / "reconciler.yaml"
    if configuration.exists():
        raise UsageError(
            f"init: {configuration} exists", hint="move it away, or choose another directory"
        )
    url = location_url or (directory.parent / "backups").as_uri()
    written = write_starter(directory, cluster=cluster, location_url=url)
    remote = policies or directory.as_uri()
    configuration.write_text(
        CONFIGURATION.format(cluster=cluster, policies=remote, ledger=ledger or remote)
    )
    for path in [*written, configuration]:
        click.echo(path)
    click.echo(
        "next:\n"
        f"  cd {directory} && git init -b main && git add -A && git commit -m 'Protect what is ours'\n"
        f"  reconciler keys init --location {url}\n"
        f"  reconciler --config {configuration} doctor\n"
        f"  reconciler --config {configuration} run --once",
        err=True,
    )
    return 0
