"""The demo's policy repository: the starter of `reconciler init`, pointed at the demo's location."""

from __future__ import annotations

from pathlib import Path

from reconciler.cli.starter import write_starter
from reconciler.kinds.model import API_VERSION
from reconciler.kinds.request import Restore
from reconciler.kinds.writer import to_yaml


def write_policies(
    directory: Path, *, location_url: str, postgres: bool, cluster: str
) -> list[Path]:
    """Write the starter, with the blueprint of the database that the shop runs on."""
    blueprint = "postgresql" if postgres else "sqlite"
    written = write_starter(
        directory, cluster=cluster, location_url=location_url, blueprints=(blueprint,)
    )
    return sorted(
        path for path in written if path.suffix == ".yaml" and ".schemas" not in path.parts
    )


def restore_manifest(
    *,
    name: str,
    cluster: str,
    point: str,
    not_after: str,
    reason: str,
    from_cluster: str | None = None,
    transforms: list[str] | None = None,
) -> str:
    """A Restore manifest, as a person would propose it in a pull request."""
    origin = {"point": point, **({"cluster": from_cluster} if from_cluster else {})}
    return to_yaml(
        Restore.model_validate(
            {
                "apiVersion": API_VERSION,
                "kind": "Restore",
                "metadata": {"name": name},
                "spec": {
                    "attempt": 1,
                    "cluster": cluster,
                    "reason": reason,
                    "notAfter": not_after,
                    "from": origin,
                    "transforms": transforms or [],
                },
            }
        )
    )
