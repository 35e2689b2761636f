"""Commit messages: read by people, searched by trailers."""

from __future__ import annotations

import pytest

from reconciler.kinds.record import Chain
from reconciler.ledger.message import commit_message, one_line, size, span, trailers_of
from tests.support.ledgers import (
    adoption,
    failed_outcomes,
    failure,
    instant,
    point,
    prune,
    restore,
    retirement,
)

CHAIN = Chain(sequence=7, previous="e" * 64)


def message(record):
    return commit_message(record, chain=CHAIN, digest="d" * 64)


def subject(record):
    return message(record).split("\n")[0]


def test_subjects():
    """The subject says what, where, how it ended, and its size."""
    many = [
        ("shop/_", "20261123T031700Z"),
        ("shop/_", "20261123T041700Z"),
        ("wiki/_", "20261123T031700Z"),
    ]
    assert subject(point()) == "capture(prod/shop): Succeeded 2026-11-23T03:17Z 1.2 GiB (+3.4 MiB)"
    assert (
        subject(point(application="shop/web"))
        == "capture(prod/shop/web): Succeeded 2026-11-23T03:17Z 1.2 GiB (+3.4 MiB)"
    )
    assert subject(failure()) == "capture(prod/shop): Failed 2026-11-23T03:17Z ExecFailed"
    assert subject(retirement(many)) == "retire(prod): 3 points of shop, wiki"
    assert subject(restore()) == "restore(prod/shop): accepted inc-4711 attempt 1"
    assert (
        subject(restore("finished")) == "restore(prod/shop): Succeeded inc-4711 attempt 1 in 12 s"
    )
    assert subject(restore(namespace="")) == "restore(prod/platform): accepted inc-4711 attempt 1"
    assert subject(adoption()) == "adopt(prod): policies a1b2c3d, 1 manifest"
    assert subject(prune()) == "prune(prod/primary): freed 4.8 MiB"


def test_a_whole_message():
    """Subject, a short body that says why, trailers: nothing else."""
    assert message(point(missed_slots=2)) == (
        "capture(prod/shop): Succeeded 2026-11-23T03:17Z 1.2 GiB (+3.4 MiB)\n\n"
        "412 objects, by policy shop/shop of policies, kept at primary.\n"
        "Catches up after 2 missed slots.\n\n"
        "Restore-Point: prod/shop/_/20261123T031700Z\n"
        "Policy: policies:shop/shop\n"
        f"Policy-Commit: a1b2c3d{'0' * 33}\n"
        "Phase: Succeeded\n"
        f"Manifest-Digest: {'d' * 64}\n"
        f"Prev: {'e' * 64}\n"
        "Seq: 7\n"
    )


def test_a_partial_capture_says_what_is_missing():
    """The first thing that was not captured is named, and how many more there are."""
    text = message(
        point(
            phase="Partial", outcomes=failed_outcomes(3), outcome_counts={"Failed/Forbidden": 250}
        )
    )
    assert "Not captured: apps/Deployment/shop/web-0 and 249 more (Forbidden: x" in text.replace(
        "\n", " "
    )


@pytest.mark.parametrize(
    "record",
    [
        point(),
        failure(message="word " * 200),
        restore(),
        restore("finished"),
        adoption(faults=["f" * 500] * 9),
        prune(),
        retirement([("shop/_", "20261123T031700Z")] * 50),
    ],
    ids=lambda r: r.kind,
)
def test_messages_fit_a_terminal(record):
    """Subjects have at most 100 characters, prose lines 72, bodies a few lines."""
    head, *body, trailers = message(record).rstrip("\n").split("\n\n")
    assert len(head) <= 100
    lines = [line for part in body for line in part.split("\n")]
    assert all(len(line) <= 72 or " " not in line for line in lines)
    assert len(lines) <= 25
    assert set(trailers_of(message(record))) >= {"Manifest-Digest", "Prev", "Seq"}
    assert len(trailers.split("\n")) <= 30


def test_no_text_of_a_stranger_makes_a_trailer():
    """A reason or message with line breaks and escapes stays one line of prose."""
    forged = "gone\n\nSeq: 99\nPhase: Succeeded\x1b[31m"
    for record in (failure(message=forged), restore(reason=forged), adoption(faults=[forged])):
        text = message(record)
        assert trailers_of(text)["Seq"] == "7"
        assert "\x1b" not in text
        assert text.count("\nSeq: ") == 1


def test_numbers_for_people():
    """Sizes and spans read well at every magnitude."""
    assert [size(n) for n in (0, 1023, 1024, 3_565_158, 200 * 1024**2, 5 * 1024**4)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "3.4 MiB",
        "200 MiB",
        "5.0 TiB",
    ]
    assert [span(s) for s in (-1, 0.4, 12, 185, 7800)] == [
        "0 s",
        "0 s",
        "12 s",
        "3 min 5 s",
        "2 h 10 min",
    ]
    assert one_line("a\tb\u2028c" + "x" * 400)[:5] == "a b c"


def test_other_outcomes_of_a_restore():
    """A restore that failed says what was not restored, and why it was asked for when accepted."""
    failed = message(
        restore("finished", phase="Failed", outcomes=failed_outcomes(1), finished_at=instant(2))
    )
    assert failed.startswith("restore(prod/shop): Failed inc-4711 attempt 1 in 1 h 0 min\n")
    assert "Not restored: apps/Deployment/shop/web-0" in failed
    assert "Why: INC-4711: orders table dropped" in message(restore())
