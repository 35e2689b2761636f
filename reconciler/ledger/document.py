"""Records as files: YAML that a person can read in a terminal, bounded, with its place in the row first.

What is too long is cut where the full list is elsewhere: outcomes (failures first) and kinds are in the store's
point object, a plan can be made again.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import yaml
from pydantic import ValidationError

from reconciler.errors import TerminalError
from reconciler.kinds.record import (
    OUTCOMES_MAX,
    RECORD_BYTES_MAX,
    RECORD_KINDS,
    AdoptionRecord,
    Chain,
    Outcome,
    Record,
    RestorePoint,
    RestoreRecord,
)
from reconciler.kinds.writer import to_yaml

ADOPTION_BYTES_MAX = 2 * 1024 * 1024
"""An adoption names every manifest in force with its blob id, and nothing else holds that list."""
PLAN_MAX = 500
_CHAIN = re.compile(
    rb"^  chain:\n    sequence: (\d{1,18})(?:\n    previous: \"?([0-9a-f]{64})\"?)?$", re.MULTILINE
)


class RecordTooLargeError(TerminalError):
    """A record does not fit, whatever is cut."""


class UnreadableRecordError(TerminalError):
    """A file on the ledger branch is no record of a kind that this version knows."""


def sha256(data: bytes) -> str:
    """The digest by which records name each other."""
    return hashlib.sha256(data).hexdigest()


def chained(record: Record, chain: Chain | None) -> Record:
    """The record at this place in the row."""
    spec = record.spec.model_copy(update={"chain": chain})
    return record.model_copy(update={"spec": spec})


def to_bytes(record: Record) -> bytes:
    """The file of a record, cut to fit.

    Raises:
        RecordTooLargeError: it does not fit.
    """
    most = ADOPTION_BYTES_MAX if isinstance(record, AdoptionRecord) else RECORD_BYTES_MAX
    outcomes, plan = OUTCOMES_MAX, PLAN_MAX
    while True:
        data = to_yaml(_cut(record, outcomes=outcomes, plan=plan)).encode()
        if len(data) <= most:
            return data
        if not outcomes and not plan:
            raise RecordTooLargeError(
                f"write {record.kind} {record.metadata.name}: {len(data)} bytes, at most {most} fit"
            )
        # A plan is cut first: it can be made again, outcomes cannot.
        outcomes, plan = (outcomes, plan // 2) if plan else (outcomes // 2, 0)


def _cut(record: Record, *, outcomes: int, plan: int) -> Record:
    update: dict[str, Any] = {}
    if isinstance(record, RestorePoint | RestoreRecord):
        update["outcomes"] = _worst(record.spec.outcomes, outcomes)
    if isinstance(record, RestoreRecord):
        update["plan"] = record.spec.plan[:plan]
        update["aftermath"] = record.spec.aftermath[:outcomes]
    return (
        record.model_copy(update={"spec": record.spec.model_copy(update=update)})
        if update
        else record
    )


def _worst(outcomes: list[Outcome], most: int) -> list[Outcome]:
    order = {"Failed": 0, "Skipped": 1}
    told = [one for one in outcomes if one.result != "Succeeded"]
    return sorted(told, key=lambda one: order[one.result])[:most]


def parse(data: bytes) -> Record:
    """Read a record's file.

    Raises:
        UnreadableRecordError: it is none.
    """
    try:
        document = yaml.load(data, Loader=yaml.CSafeLoader)
        model = RECORD_KINDS[document["kind"]]
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise UnreadableRecordError(f"read record: {place}: {first['msg']}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableRecordError(f"read record: no YAML: {type(error).__name__}") from error
    except (KeyError, TypeError) as error:
        raise UnreadableRecordError("read record: no kind of record that is known") from error


def chain_of(data: bytes) -> Chain | None:
    """The place in the row that a record's file claims, found without reading all of it."""
    found = _CHAIN.search(data)
    if found is None or int(found.group(1)) < 1:
        return None
    return Chain(
        sequence=int(found.group(1)), previous=found.group(2).decode() if found.group(2) else None
    )
