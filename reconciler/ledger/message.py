"""Commit messages of the ledger: a subject to scan, a few lines that say why, trailers to search.

    capture(prod/shop): Succeeded 2026-11-23T03:17Z 1.2 GiB (+3.4 MiB)

    412 objects and 2 contents, by policy shop of source policies, kept at primary and offsite.

    Restore-Point: prod/shop/_/20261123T031700Z
    Phase: Succeeded
    …

Trailers are Git's: `git log --grep='^Phase: Failed$'`, `git log --format='%(trailers:key=Seq,valueonly)'`.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from reconciler.clock import parse_instant
from reconciler.kinds.record import (
    AdoptionRecord,
    CaptureFailure,
    Chain,
    Outcome,
    PolicyRef,
    PruneRecord,
    Record,
    RestorePoint,
    RestoreRecord,
    RetirementRecord,
)
from reconciler.ledger import layout

LINE = 72
TEXT_MAX = 300
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TRAILER = re.compile(r"^([A-Z][A-Za-z-]*): (.*)$")


def commit_message(record: Record, *, chain: Chain, digest: str) -> str:
    """The message of the commit that adds a record; `digest` is that of its file."""
    subject, body, trailers = _told(record)
    trailers += [("Manifest-Digest", digest)]
    trailers += [("Prev", chain.previous)] if chain.previous else []
    trailers += [("Seq", str(chain.sequence))]
    lines = [line for text in body for line in textwrap.wrap(one_line(text), LINE)]
    parts = [
        one_line(subject),
        "\n".join(lines),
        "\n".join(f"{k}: {one_line(v)}" for k, v in trailers),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def trailers_of(message: str) -> dict[str, str]:
    """The trailers in the last paragraph of a message; the last of a repeated key counts."""
    last = message.rstrip("\n").rpartition("\n\n")[2]
    found = [_TRAILER.fullmatch(line) for line in last.split("\n")]
    return {match.group(1): match.group(2) for match in found if match}


def _told(record: Record) -> tuple[str, list[str], list[tuple[str, str]]]:
    match record:
        case RestorePoint():
            return _capture(record)
        case CaptureFailure():
            return _failure(record)
        case RestoreRecord():
            return _restore(record)
        case RetirementRecord():
            return _retirement(record)
        case PruneRecord():
            return _prune(record)
        case AdoptionRecord():
            return _adoption(record)


def _capture(record: RestorePoint) -> tuple[str, list[str], list[tuple[str, str]]]:
    spec = record.spec
    added = max((copy.added_bytes for copy in spec.locations), default=0)
    subject = (
        f"capture({spec.cluster}/{short(spec.application)}): {spec.phase} {_minute(spec.scheduled_for)} "
        f"{size(spec.full_bytes)} (+{size(added)})"
    )
    what = count(spec.objects, "object")
    if spec.artifacts:
        what += f" and {count(len(spec.artifacts), 'content')}"
    how = f", by policy {spec.policy.name} of {spec.policy.source}" if spec.policy else ""
    how += ", asked for by hand" if spec.manual else ""
    where = f", kept at {listed([copy.name for copy in spec.locations])}" if spec.locations else ""
    body = [f"{what}{how}{where}."]
    if spec.missed_slots:
        body.append(f"Catches up after {count(spec.missed_slots, 'missed slot')}.")
    if spec.attempt > 1:
        body.append(f"Attempt {spec.attempt} at this slot.")
    body += _not_captured(spec.outcomes, spec.outcome_counts)
    point = f"{spec.cluster}/{layout.application_path(spec.application)}/{spec.slot}"
    return subject, body, [("Restore-Point", point), *_policy(spec.policy), ("Phase", spec.phase)]


def _not_captured(outcomes: Sequence[Outcome], counts: dict[str, int]) -> list[str]:
    """The failures, by number and by their first."""
    failed = [one for one in outcomes if one.result == "Failed"]
    if not failed:
        return []
    many = sum(n for key, n in counts.items() if key.startswith("Failed/")) or len(failed)
    first = failed[0]
    more = f" and {many - 1} more" if many > 1 else ""
    why = f": {first.message}" if first.message else ""
    return [f"Not captured: {first.item}{more} ({first.reason}{why})."]


def _failure(record: CaptureFailure) -> tuple[str, list[str], list[tuple[str, str]]]:
    spec = record.spec
    place = f"{spec.cluster}/{short(spec.application)}"
    subject = f"capture({place}): Failed {_minute(_slot(spec.slot, spec.failed_at))} {spec.reason}"
    body = [spec.message, f"Attempt {spec.attempt} at this slot; no restore point was made."]
    application = f"{spec.cluster}/{layout.application_path(spec.application)}"
    trailers = [("Application", application), ("Slot", spec.slot)]
    return subject, body, [*trailers, *_policy(spec.policy), ("Phase", "Failed")]


def _restore(record: RestoreRecord) -> tuple[str, list[str], list[tuple[str, str]]]:
    spec = record.spec
    place = f"{spec.cluster}/{spec.namespace or 'platform'}"
    which = f"{spec.name} attempt {spec.attempt}"
    phase = spec.phase or "Accepted"
    if spec.stage == "accepted":
        subject = f"restore({place}): accepted {which}"
        body = [f"Brings back {spec.point}." if spec.mode == "Run" else f"Plans {spec.point}."]
        body += [f"Why: {spec.reason}"]
        body += ["Run without Git (break glass)."] if spec.break_glass else []
    elif spec.stage == "watched":
        subject = f"restore({place}): looked again at {which}"
        body = [spec.message]
        body += [f"{one.what}: {one.object} {', '.join(one.fields)}" for one in spec.aftermath[:10]]
    else:
        end = spec.finished_at or spec.accepted_at
        took = span((end - spec.accepted_at).total_seconds())
        subject = f"restore({place}): {phase} {which} in {took}"
        body = [
            f"{spec.point}: {_verdicts(spec.verdicts)}." if spec.verdicts else f"From {spec.point}."
        ]
        body += [spec.message] if spec.message else []
        body += _not_captured(spec.outcomes, {}) if spec.phase != "Succeeded" else []
        body = [text.replace("Not captured: ", "Not restored: ") for text in body]
    restore = "/".join([spec.source, spec.namespace or layout.WHOLE, spec.name, str(spec.attempt)])
    trailers = [("Restore", restore), ("Restore-Point", spec.point)]
    trailers += [("Policy-Commit", spec.revision)] if spec.revision else []
    return subject, body, [*trailers, ("Phase", phase)]


def _retirement(record: RetirementRecord) -> tuple[str, list[str], list[tuple[str, str]]]:
    spec = record.spec
    names = sorted({short(one.point.rpartition("/")[0]) for one in spec.points})
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    subject = f"retire({spec.cluster}): {count(len(spec.points), 'point')} of {shown or 'nothing'}"
    reasons = Counter(one.reason for one in spec.points)
    body = [f"{listed([f'{n} {reason}' for reason, n in sorted(reasons.items())])}."]
    body += ["Their content stays in the store until prune frees it."]
    return subject, body, [("Retired", one.point) for one in spec.points[:20]]


def _prune(record: PruneRecord) -> tuple[str, list[str], list[tuple[str, str]]]:
    spec = record.spec
    subject = f"prune({spec.cluster}/{spec.location}): freed {size(spec.freed_bytes)}"
    body = [
        f"Deleted {count(spec.points_deleted, 'point')} and {count(spec.packs_deleted, 'pack')}."
    ]
    return subject, body, [("Location", spec.location)]


def _adoption(record: AdoptionRecord) -> tuple[str, list[str], list[tuple[str, str]]]:
    spec = record.spec
    manifests = count(len(spec.manifests), "manifest")
    subject = f"adopt({spec.cluster}): {spec.source} {spec.revision[:7]}, {manifests}"
    stale = [one.identity for one in spec.manifests if one.stale]
    body = [f"In force from {spec.url} {spec.ref}."]
    if stale:
        shown = ", ".join(stale[:5]) + (f" and {len(stale) - 5} more" if len(stale) > 5 else "")
        body.append(f"In an earlier form: {shown}.")
    body += [f"Fault: {fault}" for fault in spec.faults[:3]]
    body += [f"… and {len(spec.faults) - 3} more faults."] if len(spec.faults) > 3 else []
    return subject, body, [("Source", spec.source), ("Policy-Commit", spec.revision)]


def _policy(policy: PolicyRef | None) -> list[tuple[str, str]]:
    if policy is None:
        return []
    return [("Policy", f"{policy.source}:{policy.name}"), ("Policy-Commit", policy.revision)]


def _verdicts(verdicts: dict[str, int]) -> str:
    return listed([f"{number} {verdict}" for verdict, number in sorted(verdicts.items())])


def _slot(text: str, otherwise: datetime) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        return otherwise


def _minute(instant: datetime) -> str:
    form = "%Y-%m-%dT%H:%M:%SZ" if instant.second else "%Y-%m-%dT%H:%MZ"
    return instant.strftime(form)


def short(application: str) -> str:
    """`shop/_` → `shop`."""
    return application.removesuffix(f"/{layout.WHOLE}")


def size(count_bytes: int) -> str:
    """`1.2 GiB`."""
    value, unit = float(count_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit and value < 100 else f"{value:.0f} {_UNITS[unit]}"


def span(seconds: float) -> str:
    """`12 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = max(0, round(seconds))
    hours, minutes, left = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def count(number: int, noun: str) -> str:
    """`1 object`, `412 objects`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(words: Sequence[Any]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last


def one_line(text: str) -> str:
    """Text on one line, bounded, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= TEXT_MAX else line[: TEXT_MAX - 1] + "…"
