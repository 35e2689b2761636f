"""What a restore verb is asked for, as a request: the Restore in a file, or a point with options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.cli.arguments import VALID_FOR
from reconciler.errors import FindingsError, UsageError

if TYPE_CHECKING:
    from reconciler.cli.compose import Parts
    from reconciler.daemon.desired import Desired
    from reconciler.kinds.request import Restore
    from reconciler.restore.plan.request import RestoreRequest

MANIFEST_BYTES_MAX = 256 * 1024
_MANIFESTS = (".yaml", ".yml")


def is_file(what: str) -> bool:
    """Whether POINT|FILE names a file.

    Raises:
        UsageError: it can only be a file, and is not there.
    """
    if Path(what).is_file():
        return True
    if what.endswith(_MANIFESTS) or what.startswith((".", "/")):
        raise UsageError(
            f"read {what}: no such file",
            hint="name a file with a Restore, or a point such as shop/_/latest",
        )
    return False


def request_of_file(parts: Parts, path: Path, *, source: str | None = None) -> RestoreRequest:
    """Read one Restore manifest, as the request of the source that it belongs to.

    Raises:
        FindingsError: the file has faults.
        UsageError: it holds something else, is for another cluster, or may be of several sources.
    """
    from reconciler.daemon.desired import Requested
    from reconciler.daemon.restores import request_of
    from reconciler.kinds.loader import load
    from reconciler.kinds.request import Restore

    with path.open("rb") as file:
        loaded = load(str(path), file.read(MANIFEST_BYTES_MAX + 1))
    errors = [finding for finding in loaded.findings if finding.severity == "error"]
    if errors:
        raise FindingsError("\n".join(str(finding) for finding in errors), hint="mend the file")
    restores = [entry.kind for entry in loaded.manifests if isinstance(entry.kind, Restore)]
    if len(restores) != 1:
        raise UsageError(
            f"read {path}: it holds {len(restores)} Restore manifests, expected one",
            hint="`reconciler restore new POINT --reason …` prints one",
        )
    restore = restores[0]
    if restore.spec.cluster != parts.settings.cluster.name:
        raise UsageError(
            f"read {path}: it is for cluster {restore.spec.cluster}, the configuration for "
            f"{parts.settings.cluster.name}",
            hint="choose the other cluster's configuration with --config",
        )
    desired = parts.desired()
    name = _source_of(parts, path, restore, desired=desired, given=source)
    entry = next(one for one in parts.settings.sources if one.name == name)
    confined = tuple(entry.namespaces or ())
    requested = Requested(source=name, revision="", restore=restore, namespaces=confined)
    return request_of(requested, desired)


def _source_of(
    parts: Parts, path: Path, restore: Restore, *, desired: Desired, given: str | None
) -> str:
    """The source is part of a request's identity: with a wrong one the same request would run twice.

    The source that has the manifest in force, else the one that the file's working tree is a checkout of.
    """
    names = [entry.name for entry in parts.settings.sources]
    if given is not None:
        if given not in names:
            raise UsageError(
                f"read --source {given}: there is none", hint=f"one of {', '.join(names)}"
            )
        return given
    if len(names) == 1:
        return names[0]
    merged = {one.source for one in desired.restores if one.restore.identity == restore.identity}
    found = merged or _checked_out(parts, path)
    if len(found) != 1:
        raise UsageError(
            f"read {path}: it may be of any of the sources {', '.join(sorted(found) or names)}",
            hint="say which with --source, so that it runs once, by hand or merged",
        )
    return found.pop()


def _checked_out(parts: Parts, path: Path) -> set[str]:
    """The sources whose repository, and folders in it, a file lies in."""
    from reconciler.git.checkout import checkout_of
    from reconciler.source.tree import plain_path

    checkout = checkout_of(path)
    if checkout is None:
        return set()
    return {
        entry.name
        for entry in parts.settings.sources
        if entry.url.rstrip("/") in checkout.urls
        and any(
            not plain_path(folder) or f"{checkout.path}/".startswith(f"{plain_path(folder)}/")
            for folder in entry.paths
        )
    }


def request_of_point(
    parts: Parts, point: str, *, reason: str, attempt: int, options: dict[str, Any]
) -> RestoreRequest:
    """Make a request of a point and what was typed beside it; nobody merged it, so its source is `cli`.

    Raises:
        UsageError: there is no such point or TransformSet, or an option has a value that it may not have.
    """
    from reconciler.cli.arguments import as_manifest
    from reconciler.kinds.request import RestoreSpec
    from reconciler.restore.plan.request import RestoreRequest

    desired = parts.desired()
    spec = as_manifest(
        RestoreSpec,
        {**spec_of_point(parts, point, reason=reason, options=options), "attempt": attempt},
        verb="restore run",
    )
    known = desired.transforms_for(None)
    missing = [name for name in spec.transforms if name not in known]
    if missing:
        raise UsageError(
            f"restore: no TransformSet is called {', '.join(missing)}",
            hint=f"those in force are: {', '.join(sorted(known)) or 'none'}",
        )
    return RestoreRequest(
        source="cli",
        namespace="",
        name=f"{spec.from_.point.replace('/', '-').replace('_', 'all').lower()}-{parts.clock.now():%H%M%S}",
        attempt=attempt,
        spec=spec,
        transforms=tuple(known[name] for name in spec.transforms),
    )


def spec_of_point(
    parts: Parts, point: str, *, reason: str, options: dict[str, Any]
) -> dict[str, Any]:
    """The spec of a request; the point is resolved now, so that it stays the one that was looked at."""
    from reconciler.cli.points import find_record, parse_point
    from reconciler.clock import format_instant

    wanted = parse_point(point)
    parts.refresh()
    record = find_record(parts.ledger.view(options.get("from_cluster")), wanted)
    origin: dict[str, Any] = {"point": f"{record.spec.application}/{record.spec.slot}"}
    if options.get("from_cluster"):
        origin["cluster"] = options["from_cluster"]
    if record.spec.locations:
        origin["digest"] = record.spec.locations[0].digest
        origin["location"] = record.spec.locations[0].name
    return {
        "cluster": parts.settings.cluster.name,
        "reason": reason,
        "notAfter": format_instant((parts.clock.now() + VALID_FOR).replace(microsecond=0)),
        "from": origin,
        **({"to": {"namespace": options["to_namespace"]}} if options.get("to_namespace") else {}),
        **({"include": {"contents": list(options["contents"])}} if options.get("contents") else {}),
        "onConflict": options.get("on_conflict") or "fail",
        **({"recreate": list(options["recreate"])} if options.get("recreate") else {}),
        **({"pause": list(options["pause"])} if options.get("pause") else {}),
        "transforms": list(options.get("transforms") or ()),
    }
