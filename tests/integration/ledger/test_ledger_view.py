"""Questions to the ledger, and what `git log` shows of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.ledger.chain import verify_chain
from reconciler.ledger.layout import RestoreKey
from reconciler.ledger.ledger import Entry
from tests.support.gitremote import GitRemote, git
from tests.support.ledgers import (
    adoption,
    failed_outcomes,
    failure,
    instant,
    ledger,
    point,
    prune,
    restore,
    retire,
)

BRANCH = "restore-points/prod"


@pytest.fixture
def remote(tmp_path):
    return GitRemote(tmp_path / "remote.git")


@pytest.fixture
def book(tmp_path, remote):
    return ledger(tmp_path / "book", remote.url)


def append(book, *records):
    return book.append([Entry(record) for record in records])


def test_an_empty_ledger(book):
    """A branch without any record answers every question with nothing."""
    view = book.view()
    assert (view.tip, view.points(), view.applications(), view.restores()) == (None, [], [], {})
    assert view.latest("shop") is view.newest_succeeded("shop") is view.adoption("policies") is None
    assert view.point("shop", "20261123T031700Z") is None
    assert (
        view.failures("shop", "20261123T031700Z")
        == view.retired()
        == list(view.records("PruneRecord"))
        == []
    )
    assert verify_chain(view) == []


def test_points_in_order(book):
    """Points come sorted by application and slot, over months and years; the newest is found by descent."""
    hours = [24 * 40, 0, 24 * 9, 2]
    append(
        book,
        *(point(h) for h in hours),
        point(1, application="shop/web"),
        point(1, application="wiki/_"),
    )
    view = book.view()
    assert view.applications() == ["shop/_", "shop/web", "wiki/_"]
    slots = [entry.slot for entry in view.points("shop")]
    assert slots == sorted(slots)
    assert slots[-1] == view.latest("shop/_").spec.slot == "20270102T031700Z"
    assert [entry.application for entry in view.points()] == ["shop/_"] * 4 + ["shop/web", "wiki/_"]


def test_newest_succeeded_passes_partial_points(book):
    """The newest point and the newest complete one may differ."""
    append(book, point(0), point(1), point(2, phase="Partial"))
    view = book.view()
    assert (view.latest("shop").spec.phase, view.newest_succeeded("shop").spec.slot) == (
        "Partial",
        "20261123T041700Z",
    )


def test_a_view_does_not_change(book):
    """A view stays what it was when the ledger grows."""
    append(book, point(0))
    before = book.view()
    append(book, point(1))
    assert (len(before.points()), len(book.view().points())) == (1, 2)


def test_failures_of_a_slot(book):
    """The attempts at one slot of one application, in order."""
    append(
        book,
        failure(0, attempt=1),
        failure(0, attempt=2),
        failure(1),
        failure(0, application="wiki/_"),
    )
    assert [f.spec.attempt for f in book.view().failures("shop", "20261123T031700Z")] == [1, 2]


def test_the_newest_adoption_is_the_last_written(book):
    """Which state is in force is told by the place in the row, not by clocks, which jump."""
    append(
        book,
        adoption(5, revision="1" * 40),
        adoption(0, revision="2" * 40),
        adoption(7, source="tenant"),
    )
    assert book.view().adoption("policies").spec.revision == "2" * 40
    assert book.view().adoption("tenant").spec.source == "tenant"
    assert book.view().adoption("nobody") is None


def test_records_newest_first(book):
    """Records of a kind come newest first, those of one second by their place, and may be bounded."""
    append(
        book,
        adoption(0),
        adoption(0, source="b"),
        adoption(30 * 24),
        prune(),
        point(3),
        restore("finished"),
    )
    view = book.view()
    assert [r.spec.chain.sequence for r in view.records("AdoptionRecord")] == [3, 2, 1]
    assert len(list(view.records("AdoptionRecord", since=instant(24)))) == 1
    assert [r.kind for r in view.records("PruneRecord")] == ["PruneRecord"]
    assert [r.kind for r in view.records("RestorePoint")] == ["RestorePoint"]
    assert [r.spec.stage for r in view.records("RestoreRecord", since=instant(0))] == ["finished"]


def test_restores_by_attempt(book):
    """Each attempt of each restore, with what is known of it; the platform's namespace is empty."""
    book.accept(restore())
    book.accept(restore(attempt=2))
    book.accept(restore(namespace="", name="all"))
    append(book, restore("finished"))
    states = book.view().restores()
    assert list(states) == [
        RestoreKey("policies", "", "all", 1),
        *(RestoreKey("policies", "shop", "inc-4711", n) for n in (1, 2)),
    ]
    assert states[RestoreKey("policies", "shop", "inc-4711", 1)].finished.spec.phase == "Succeeded"
    assert states[RestoreKey("policies", "shop", "inc-4711", 2)].finished is None


def test_retiring_is_one_commit(book, remote):
    """The record is added and the files leave in the same commit; digests are kept for prune."""
    append(book, point(0), point(1), point(2))
    kept = book.view().points()[-1]
    append_ids = book.append([retire(book.view(), book.view().points()[:2])])
    book.push()
    assert book.view().points() == [kept]
    status = git(
        remote.path, "diff-tree", "-r", "--name-status", "--no-commit-id", append_ids[0]
    ).split("\n")[:-1]
    assert sorted(line[0] for line in status) == ["A", "D", "D"]
    assert [(r.slot, r.digest) for r in book.view().retired()] == [
        ("20261123T031700Z", "2" * 64),
        ("20261123T041700Z", "2" * 64),
    ]


def test_a_file_that_is_no_record_hides_no_other(book, remote, tmp_path):
    """Strange files on the branch are passed over."""
    append(book, point(0))
    book.push()
    folder = "restore-points/prod/shop/_/2026/11"
    remote.commit(
        {
            f"{folder}/20261123T041700Z.yaml": "kind: Pod\n",
            f"{folder}/README.md": "x",
            "restore-points/prod/notes.yaml": "x",
            "restores/prod/policies/shop/x/one/accepted.yaml": "x",
            "restores/prod/policies/shop/x/1/accepted.yaml": "[",
            "records/prod/2026/11/20261123T041700Z-AdoptionRecord-aaaa.yaml": "[",
            "records/prod/2026/11/20261123T041700Z-CaptureFailure-aaaa.yaml": "x: " + "y" * 70_000,
            "records/prod/2026/11/rubbish.yaml": "[",
        },
        branch=BRANCH,
    )
    book.refresh()
    view = book.view()
    assert len(view.points()) == 2
    assert view.point("shop", "20261123T041700Z") is None
    assert view.latest("shop").spec.slot == "20261123T031700Z"
    assert (
        view.restores(),
        view.adoption("policies"),
        view.failures("shop", "20261123T031700Z"),
    ) == ({}, None, [])
    append(book, point(2))
    book.push()
    assert view.applications() == ["shop/_"]


def test_reading_is_quick(tmp_path, book):
    """The newest point of an application takes no longer for a thousand points than for ten."""
    book.append([Entry(point(n)) for n in range(1000)])
    view = book.view()
    reads = []
    original = view.clone.blob
    view.clone.blob = lambda oid, **kw: reads.append(oid) or original(oid, **kw)
    assert view.latest("shop").spec.slot == view.points("shop")[-1].slot
    assert len(reads) == 1
    assert book.view().latest("shop") is not None
    assert len(reads) == 1


def test_git_log_is_a_story(book, remote):
    """The audit trail reads from the top in plain `git log`, and trailers are Git's own."""
    append(
        book,
        adoption(0),
        point(0),
        failure(1),
        point(1, phase="Partial", outcomes=failed_outcomes(1)),
    )
    book.accept(restore())
    append(book, restore("finished"), retire(book.view(), book.view().points()[:1]).record)
    book.push()
    assert remote.log(BRANCH) == [
        "retire(prod): 1 point of shop",
        "restore(prod/shop): Succeeded inc-4711 attempt 1 in 12 s",
        "restore(prod/shop): accepted inc-4711 attempt 1",
        "capture(prod/shop): Partial 2026-11-23T04:17Z 1.2 GiB (+3.4 MiB)",
        "capture(prod/shop): Failed 2026-11-23T04:17Z ExecFailed",
        "capture(prod/shop): Succeeded 2026-11-23T03:17Z 1.2 GiB (+3.4 MiB)",
        "adopt(prod): policies a1b2c3d, 1 manifest",
    ]
    assert remote.log(BRANCH, "%(trailers:key=Seq,valueonly,separator=%x2C)") == list("7654321")
    assert git(remote.path, "log", "--format=%s", "--grep=^Phase: Failed$", BRANCH).count("\n") == 1
    folder = "restore-points/prod/shop/_"
    assert (
        git(remote.path, "log", "--format=%s", BRANCH, "--", folder).count("capture(prod/shop)")
        == 2
    )
    assert "policies:shop/shop" in git(
        remote.path, "shortlog", "-sn", "--group=trailer:Policy", BRANCH
    )
    assert remote.log(BRANCH, "%an <%ae> %aI")[-1].startswith(
        "backup-reconciler <backup-reconciler@localhost> 2026-11-23T03:17:00"
    )


# -- the row ---------------------------------------------------------------------------------------------------------


def tampered(book, remote, files) -> list[str]:
    """What `verify_chain` says after a stranger's commit."""
    remote.commit(files, branch=BRANCH)
    book.refresh()
    return verify_chain(book.view())


SLOT = "restore-points/prod/shop/_/2026/11/20261123T031700Z.yaml"


@pytest.fixture
def row(book, remote):
    append(book, point(0), point(1), point(2))
    book.push()
    return book


def test_an_unbroken_row(row):
    """Three records in a row have nothing to say."""
    assert verify_chain(row.view()) == []


def test_a_rewritten_record_is_found(row, remote):
    """An edit of a record is named with its commit and path."""
    text = remote.read(BRANCH, SLOT).replace("objects: 412", "objects: 1")
    faults = tampered(row, remote, {SLOT: text})
    assert any(f"{SLOT}: was rewritten" in fault for fault in faults)


def test_a_removed_record_is_found(row, remote):
    """A point that leaves without a retirement is named."""
    assert any(
        "removed without a retirement" in fault for fault in tampered(row, remote, {SLOT: None})
    )


def test_a_slipped_in_record_is_found(row, remote):
    """A copy of an earlier record under another name has the wrong place in the row."""
    copy = remote.read(BRANCH, SLOT)
    faults = "\n".join(tampered(row, remote, {SLOT.replace("0317", "0917"): copy}))
    assert "has sequence 1, expected 4" in faults
    assert "belongs at" in faults


def test_a_dropped_record_is_found(row, remote, tmp_path):
    """History rewritten without one record shows a gap, to a reader who never saw the whole."""
    third, _, first = remote.log(BRANCH, "%H")
    message = remote.log(BRANCH, "%B")[0]
    path = "restore-points/prod/shop/_/2026/11/20261123T051700Z.yaml"
    text = remote.read(third, path)
    remote.roll_back(first, branch=BRANCH)
    forged = remote.commit({path: text}, branch=BRANCH)
    tree = git(remote.path, "rev-parse", f"{forged}^{{tree}}").strip()
    signed = git(remote.path, "commit-tree", tree, "-p", first, "-m", message).strip()
    remote.roll_back(signed, branch=BRANCH)
    reader = ledger(tmp_path / "reader", remote.url)
    reader.refresh()
    faults = verify_chain(reader.view())
    assert [fault.partition(": ")[2] for fault in faults] == [
        f"{path}: has sequence 3, expected 2",
        f"{path}: names another record before it than the one that is there",
    ]


def test_a_merge_is_found(row, remote):
    """Records are appended one by one; a merge is a stranger's work."""
    side = remote.commit({"x.yaml": "y"}, branch="side", orphan=True)
    tree = git(remote.path, "rev-parse", f"{BRANCH}^{{tree}}").strip()
    merge = git(remote.path, "commit-tree", tree, "-p", BRANCH, "-p", side, "-m", "merge").strip()
    remote.roll_back(merge, branch=BRANCH)
    row.refresh()
    faults = verify_chain(row.view())
    assert any("is a merge" in fault for fault in faults)


def test_work_goes_on_after_a_strangers_commit(row, remote):
    """A commit without our trailers is passed over when the next place in the row is looked for."""
    remote.commit({"README.md": "hello"}, branch=BRANCH)
    row.refresh()
    append(row, point(3))
    row.push()
    assert row.view().latest("shop").spec.chain.sequence == 4


def test_a_point_of_an_old_clock(book):
    """A failure that a slow clock dated before its slot is still counted."""
    record = failure(3)
    early = record.model_copy(
        update={
            "spec": record.spec.model_copy(update={"failed_at": instant(3) - timedelta(hours=2)})
        }
    )
    append(book, early)
    assert len(book.view().failures("shop", record.spec.slot)) == 1
